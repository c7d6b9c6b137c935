"""Cached embeddings of a benchmark as frozen-encoder runs read them, in memory."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from xpool.command import InputError
from xpool.frame_cache import FramesParams
from xpool.interfaces import TextTransformer
from xpool.sampling import positions_for


class EmbeddingCache:
    """What the embeddings step wrote.

    Attributes:
        texts: rows of the manifest whose video has frames; row i belongs to ``text[i]``.
        text: ``(text, dim)`` raw embeddings.
        logit_scale: the encoder's, as it starts.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "summary.json").is_file():
            raise InputError(
                f"{folder}: no cached embeddings; run `dvc repro embeddings@{folder.name}`"
            )
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        self.logit_scale: float = summary["logit_scale"]
        self.dim: int = summary["dim"]
        self.texts = pd.read_parquet(folder / "texts.parquet")
        self.text = torch.from_numpy(np.load(folder / "text.npy"))
        self._index = pd.read_parquet(folder / "videos.parquet").set_index("video_id")
        self._frames = torch.from_numpy(np.load(folder / "frames.npy"))
        self._folder = folder

    def frames(
        self, video_ids: Sequence[str], count: int, params: FramesParams
    ) -> tuple[Tensor, Tensor]:
        """Return ``(video, count, dim)`` raw embeddings and their ``(video, count)`` mask.

        Raises:
            InputError: the cache does not hold a frame that the sampling rule asks for.
        """
        rows, masks = [], []
        for video_id, start, video_frames, indices in zip(
            video_ids,
            *(self._index.loc[list(video_ids), c] for c in ("start", "video_frames", "indices")),
            strict=True,
        ):
            positions, mask = positions_for(
                np.asarray(indices),
                int(video_frames),
                count,
                params.sampling,
                params.seed,
                str(video_id),
                params.short_videos,
            )
            rows.append(start + positions)
            masks.append(mask)
        return self._frames[np.stack(rows)], torch.from_numpy(np.stack(masks))

    def text_transformer(self) -> TextTransformer:
        """Return the encoder's text transformer, for methods that start from it."""
        return read_text_transformer(self._folder / "text_transformer.safetensors")


def write_text_transformer(transformer: TextTransformer, path: Path) -> None:
    """Save as safetensors, so that frozen-encoder runs need not open the encoder."""
    tensors = {"position": transformer.position} | {
        f"{number}.{name}": value
        for number, layer in enumerate(transformer.layers)
        for name, value in layer.items()
    }
    about = json.dumps({"heads": transformer.heads, "activation": transformer.activation})
    # one key: safetensors writes several in another order each time
    save_file(
        {k: v.contiguous().cpu() for k, v in tensors.items()}, path, metadata={"about": about}
    )


def read_text_transformer(path: Path) -> TextTransformer:
    """Read what :func:`write_text_transformer` wrote."""
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"])
    tensors = load_file(path)
    position = tensors.pop("position")
    layers: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, rest = name.partition(".")
        layers.setdefault(int(number), {})[rest] = value
    return TextTransformer(
        position=position,
        layers=[layers[number] for number in sorted(layers)],
        heads=about["heads"],
        activation=about["activation"],
    )
