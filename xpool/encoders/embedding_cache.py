"""Cached embeddings of a benchmark, for runs with a frozen encoder."""

import json
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from xpool.blocks.words import Words
from xpool.data.frame_cache import FramesParams, Mapped
from xpool.data.sampling import positions_for
from xpool.encoders.text_transformer import read_text_transformer
from xpool.pooling import TextTransformer
from xpool.project.errors import InputError

WORDS = "words.bin"
"""File of the words' embeddings: float32 ``(word of all texts, dim)``, without a header. Digests of
a cache leave it out (``xpool.project.digests``): encoder and captions, which count, make it."""


class EmbeddingCache:
    """The files that the stage ``embeddings`` wrote.

    Attributes:
        texts: rows of the manifest whose video has frames; row i belongs to ``text[i]``.
        text: ``(text, dim)`` raw embeddings.
        logit_scale: the encoder's initial contrastive scale, as a logarithm.
        dim: width of the embeddings.
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
        self._mapped = Mapped()
        # "c": a private copy of what is written, and none of what is read
        self._frames = self._tensor(np.load(folder / "frames.npy", mmap_mode="c"))
        self._folder = folder

    def _tensor(self, array: np.memmap) -> Tensor:
        self._mapped.add(cast(mmap.mmap, array.base))
        return torch.from_numpy(array)

    def frames(self, rows: Tensor) -> Tensor:
        """Return ``(video, frame, dim)`` raw embeddings, by rows of :meth:`sampled`."""
        self.note_read(rows.numel(), len(rows))
        return self._frames[rows]

    def note_read(self, rows: int, places: int) -> None:
        """Note that rows of frames or words are about to be read, of so many videos or texts."""
        self._mapped.note_read(rows * self.dim * self._frames.element_size(), places)

    def sampled(
        self, video_ids: Sequence[str], count: int, params: FramesParams
    ) -> tuple[Tensor, Tensor]:
        """Return the ``(video, count)`` rows of sampled frames for :meth:`frames`, and their mask.

        Raises:
            InputError: the cache lacks a frame that the sampling rule needs.
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
        return torch.from_numpy(np.stack(rows)), torch.from_numpy(np.stack(masks))

    def words(self) -> Words:
        """Return the words of each row of :attr:`texts`, from a file that is read as it is needed.

        Whoever takes values batch after batch calls :meth:`note_read` before each.

        Raises:
            InputError: the cache has none.
        """
        file = self._folder / WORDS
        if not file.is_file():
            raise InputError(
                f"{file}: not found; a method wants words: set embeddings.words in params.yaml to "
                f"true, and run `dvc repro embeddings@{self._folder.name}`"
            )
        values = self._tensor(np.memmap(file, np.float32, "c")).reshape(-1, self.dim)
        count = torch.tensor(self.texts["n_tokens"].to_numpy(np.int64))
        if int(count.sum()) != len(values):
            raise InputError(
                f"{file}: {len(values)} words, but texts.parquet beside it counts "
                f"{int(count.sum())}; run `dvc repro embeddings@{self._folder.name}`"
            )
        return Words.of(values, count)

    def text_transformer(self) -> TextTransformer:
        """Return the encoder's text transformer, for methods that start from it."""
        return read_text_transformer(self._folder / "text_transformer.safetensors")
