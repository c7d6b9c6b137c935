"""Embed a benchmark's frames and captions: ``data/<setting>/embeddings/<benchmark>/``."""

import logging
from typing import Annotated

import typer

log = logging.getLogger(__name__)


def main(
    benchmark: Annotated[str, typer.Option(help="A benchmark that has cached frames.")],
) -> None:
    """Embed frames and captions, for frozen towers.

    Runs that read frames need none; the folder then stays empty.

    Example: xpool embeddings --benchmark msrvtt
    """
    import shutil

    from xpool.data.frame_cache import FrameCache, FramesParams
    from xpool.data.manifest import read_manifest, read_videos
    from xpool.data.videos.features import are_features
    from xpool.data.videos.features import read as read_array
    from xpool.encoders.base import best_device, open_encoder
    from xpool.encoders.embed import EmbeddingsParams, embed, embed_beside, warn_of_small_frames
    from xpool.project import paths
    from xpool.project.params import read, setting
    from xpool.project.progress import progress

    destination = paths.embeddings(setting(), benchmark)
    if read("train.reads", str) != "embeddings":
        shutil.rmtree(destination, ignore_errors=True)
        destination.mkdir(parents=True)
        log.info("%s: left empty, because train.reads is frames", destination)
        return
    params = read("embeddings", EmbeddingsParams)
    frames = read("frames", FramesParams)
    encoder = open_encoder(paths.encoder(setting())).to(best_device()).eval()
    texts = read_manifest(paths.manifest(setting(), benchmark))
    listed = read_videos(paths.manifest(setting(), benchmark))
    if are_features(listed):
        raw = paths.raw(setting(), benchmark)
        arrays = ((video_id, read_array(raw, path, encoder.dim)) for video_id, path in listed)
        embed_beside(encoder, texts, arrays, params, destination)
        return
    warn_of_small_frames(encoder, frames.short_side_px)
    cache = FrameCache(paths.frames(setting(), benchmark))
    cache.verify()
    texts = texts[texts["video_id"].isin(set(cache.video_ids))].reset_index(drop=True)
    video_ids = progress(cache.video_ids, f"{benchmark} videos")
    videos = ((video_id, *cache.stored(video_id)) for video_id in video_ids)
    embed(encoder, texts, videos, params, frames.antialias, cache.decoder, destination)
