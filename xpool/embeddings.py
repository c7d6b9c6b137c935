"""[step 3] Frames and captions to cached embeddings: ``data/<setting>/embeddings/<benchmark>/``.

The towers see each frame and each caption once; a frozen-encoder run then costs seconds. All frames
of the cache are embedded, so that a study of frame counts reads subsets and encodes nothing twice.

Run: ``python -m xpool.embeddings --benchmark msrvtt``
"""

import argparse
import logging
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from xpool import paths, transforms
from xpool.captions import read_manifest
from xpool.command import run
from xpool.device import best_device
from xpool.embedding_cache import write_text_transformer
from xpool.encoder import Encoder, embed_images, embed_texts, open_encoder
from xpool.frame_cache import FrameCache, FramesParams
from xpool.params import Section, read, setting
from xpool.workspace import WORK, publish, write_json

log = logging.getLogger(__name__)


class EmbeddingsParams(Section):
    """``embeddings`` in ``params.yaml``."""

    batch_size: int = Field(ge=1)
    """Images or captions in one pass of a tower."""


Frames = tuple[str, NDArray[np.uint8], NDArray[np.integer[Any]], int]
"""A video's id, ``(frame, h, w, 3)`` pixels, which frames of it they are, and its length."""


def embed(
    encoder: Encoder,
    texts: pd.DataFrame,
    videos: Iterable[Frames],
    batch_size: int,
    antialias: bool,
    destination: Path,
) -> None:
    """Write what ``xpool.embedding_cache`` reads.

    Args:
        encoder: on its device, in eval mode.
        texts: split, video_id, caption_id and caption of each text.
        videos: the frames of each video, in the order in which they are kept.
        batch_size: images or captions in one pass of a tower.
        antialias: see ``frames.antialias``.
        destination: folder, replaced when all is written.
    """
    folder = WORK / "embeddings" / destination.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    n_video = embed_frames(encoder, videos, batch_size, antialias, folder)
    text = embed_texts(encoder, texts["caption"].tolist(), batch_size)
    np.save(folder / "text.npy", text.numpy())
    texts[["split", "video_id", "caption_id", "caption"]].to_parquet(folder / "texts.parquet")
    write_text_transformer(encoder.text_transformer(), folder / "text_transformer.safetensors")
    write_json(
        folder / "summary.json",
        {
            "texts": len(text),
            "videos": n_video,
            "dim": encoder.dim,
            "logit_scale": float(encoder.logit_scale.detach()),
        },
    )
    publish(folder, destination)
    log.info("%s: %d texts, %d videos embedded", destination, len(text), n_video)


def embed_frames(
    encoder: Encoder, videos: Iterable[Frames], batch_size: int, antialias: bool, folder: Path
) -> int:
    """Write ``frames.npy`` and ``videos.parquet`` of a cache; return the number of videos.

    Args:
        encoder: on its device, in eval mode.
        videos: see :func:`embed`.
        batch_size: images in one pass of the tower.
        antialias: see ``frames.antialias``.
        folder: of the unfinished cache.
    """
    index = []

    def pixels_of_each() -> Iterator[Tensor]:
        start = 0
        for video_id, pixels, indices, video_frames in videos:
            index.append((video_id, start, video_frames, np.asarray(indices, np.int32)))
            start += len(pixels)
            yield transforms.evaluation(torch.tensor(pixels), encoder.size_px, antialias)

    np.save(folder / "frames.npy", embed_images(encoder, pixels_of_each(), batch_size).numpy())
    columns = ["video_id", "start", "video_frames", "indices"]
    pd.DataFrame(index, columns=columns).to_parquet(folder / "videos.parquet")
    return len(index)


def main() -> None:
    """Embed one benchmark with the prepared encoder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--benchmark", required=True)
    benchmark = parser.parse_args().benchmark
    params = read("embeddings", EmbeddingsParams)
    antialias = read("frames", FramesParams).antialias
    encoder = open_encoder(paths.encoder(setting())).to(best_device()).eval()
    cache = FrameCache(paths.frames(setting(), benchmark))
    cache.verify()
    texts = read_manifest(paths.manifest(setting(), benchmark))
    texts = texts[texts["video_id"].isin(set(cache.video_ids))].reset_index(drop=True)
    videos = (
        (video_id, *cache.stored(video_id))
        for video_id in tqdm(cache.video_ids, f"{benchmark} videos")
    )
    destination = paths.embeddings(setting(), benchmark)
    embed(encoder, texts, videos, params.batch_size, antialias, destination)


if __name__ == "__main__":
    run(main)
