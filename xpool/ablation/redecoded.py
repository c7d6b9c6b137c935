"""Embeddings of a benchmark's videos as another decoder reads them, for the study ``variance``.

``decord`` bundles an older FFmpeg than PyAV. ``pyav_bt709`` reads the colours as BT.709, as
software for HD video may; FFmpeg reads unlabelled ones as BT.601. The videos of ``pyav``, the
pipeline's decoder, are embedded again too, so that only the pixels differ: only the frames that a
run sees are embedded, and other batches round differently. No video of the test split is read.

Reads raw videos, manifest and cached embeddings, whose texts it keeps.
"""

import fcntl
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch

from xpool.data.frame_cache import FrameCache, FramesParams
from xpool.data.manifest import read_videos
from xpool.data.packing import pack
from xpool.data.videos import decode, decode_decord
from xpool.data.videos.decode import Decoded
from xpool.encoders.base import best_device, open_encoder
from xpool.encoders.embed import EmbeddingsParams, embed_frames
from xpool.encoders.embedding_cache import WORDS, EmbeddingCache
from xpool.project import paths
from xpool.project.command import available_cores
from xpool.project.params import read, setting
from xpool.training.recipes import TrainParams

Decoder = Literal["pyav", "decord", "pyav_bt709"]
COPIED = ("text_transformer.safetensors", "summary.json")
"""Files of the cached embeddings besides texts and frames."""


JOBS: dict[Decoder, Callable[..., Decoded]] = {
    "pyav": decode.decode,
    "decord": decode_decord.decode,
    "pyav_bt709": partial(decode.decode, colours="ITU709"),
}


def redecoded(benchmark: str, decoder: Decoder, work: Path) -> Path:
    """Return a folder for ``xpool.encoders.embedding_cache``; make it at the first call.

    Several processes may ask at once: one makes it, and the others wait.

    Args:
        benchmark: its name.
        decoder: its name.
        work: folder that the processes share, for one state of code, params and data.
    """
    done = work / decoder
    work.mkdir(parents=True, exist_ok=True)
    with (work / f"{decoder}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # freed with the process, however it ends
        if not done.is_dir():
            unfinished = work / f"{decoder}.unfinished"
            unfinished.mkdir(exist_ok=True)
            _embed(benchmark, JOBS[decoder], unfinished).rename(done)
            shutil.rmtree(unfinished)
    return done


def _embed(benchmark: str, job: Callable[..., Decoded], work: Path) -> Path:
    cached = paths.embeddings(setting(), benchmark)
    texts = pd.read_parquet(cached / "texts.parquet")
    judged = (texts["split"] != "test").to_numpy()
    frames = _decoded(benchmark, set(texts["video_id"][judged]), job, work)
    kept = judged & texts["video_id"].isin(frames.video_ids).to_numpy()

    embedded = work / "embeddings"
    shutil.rmtree(embedded, ignore_errors=True)
    embedded.mkdir()
    for name in COPIED:
        shutil.copy(cached / name, embedded / name)
    texts[kept].reset_index(drop=True).to_parquet(embedded / "texts.parquet")
    np.save(embedded / "text.npy", np.load(cached / "text.npy")[kept])
    if (cached / WORDS).is_file():
        words = EmbeddingCache(cached).words()[torch.from_numpy(kept)].alone()
        words.values.numpy().tofile(embedded / WORDS)
    videos = ((video_id, *frames.stored(video_id)) for video_id in frames.video_ids)
    encoder = open_encoder(paths.encoder(setting())).to(best_device()).eval()
    batch_size = read("embeddings", EmbeddingsParams).batch_size
    embed_frames(encoder, videos, batch_size, read("frames", FramesParams).antialias, embedded)
    return embedded


def _decoded(
    benchmark: str, video_ids: set[str], job: Callable[..., Decoded], work: Path
) -> FrameCache:
    params = read("frames", FramesParams)
    seen = {"counts": [read("train", TrainParams).frames], "rules": [params.sampling]}
    manifest = paths.manifest(setting(), benchmark)
    videos = [video for video in read_videos(manifest) if video[0] in video_ids]
    return FrameCache(
        pack(
            work,
            videos,
            paths.raw(setting(), benchmark),
            params.model_copy(update=seen),
            min(available_cores(), len(videos)),
            job,
        )
    )
