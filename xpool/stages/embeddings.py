"""Embed a benchmark's frames and captions: ``data/<setting>/embeddings/<benchmark>/``."""

from typing import Annotated

import typer


def main(
    benchmark: Annotated[str, typer.Option(help="A benchmark that has cached frames.")],
) -> None:
    """Embed a benchmark's frames and captions, for frozen towers.

    Example: xpool embeddings --benchmark msrvtt
    """
    from xpool.data.frame_cache import FrameCache, FramesParams
    from xpool.data.manifest import read_manifest
    from xpool.encoders.base import best_device, open_encoder
    from xpool.encoders.embed import EmbeddingsParams, embed
    from xpool.project import paths
    from xpool.project.params import read, setting
    from xpool.project.progress import progress

    batch_size = read("embeddings", EmbeddingsParams).batch_size
    antialias = read("frames", FramesParams).antialias
    encoder = open_encoder(paths.encoder(setting())).to(best_device()).eval()
    cache = FrameCache(paths.frames(setting(), benchmark))
    cache.verify()
    texts = read_manifest(paths.manifest(setting(), benchmark))
    texts = texts[texts["video_id"].isin(set(cache.video_ids))].reset_index(drop=True)
    video_ids = progress(cache.video_ids, f"{benchmark} videos")
    videos = ((video_id, *cache.stored(video_id)) for video_id in video_ids)
    embed(encoder, texts, videos, batch_size, antialias, paths.embeddings(setting(), benchmark))
