"""Decode a benchmark's videos once: ``data/<setting>/frames/<benchmark>/``."""

import logging
from typing import Annotated

import typer

log = logging.getLogger(__name__)


def main(
    benchmark: Annotated[str, typer.Option(help="A benchmark that has a manifest.")],
) -> None:
    """Decode a benchmark's videos once, into a few files.

    A killed run continues where it was, and ends with the same bytes. 2 cores decode about 5,000
    frames of 320 x 240 a second: MSR-VTT's 10,000 videos take about a quarter of an hour.

    Example: xpool frames --benchmark msrvtt
    """
    import shutil

    from xpool.data.frame_cache import FrameCache, FramesParams
    from xpool.data.manifest import read_videos
    from xpool.data.packing import pack
    from xpool.data.videos import features
    from xpool.project import paths
    from xpool.project.command import available_cores
    from xpool.project.fingerprints import fingerprint
    from xpool.project.params import read, setting
    from xpool.project.workspace import publish, replacing, work_folder

    params = read("frames", FramesParams)
    raw, destination = paths.raw(setting(), benchmark), paths.frames(setting(), benchmark)
    videos = read_videos(paths.manifest(setting(), benchmark))
    if features.are_features(videos):
        shutil.rmtree(destination, ignore_errors=True)
        with replacing(destination / features.LENGTHS) as file:
            features.lengths(raw, videos).to_csv(file, index=False)
        log.info("%s: no frames, because features stand for the videos", destination)
        return
    files = [raw / path for _, path in videos]
    digest = fingerprint([params.about_pixels(), videos], files, code=["xpool.data.packing"])
    with work_folder("frames", f"{setting()}-{benchmark}", digest) as work:
        cache = pack(work, videos, raw, params, min(available_cores(), len(videos)))
        publish(cache, destination)
        shutil.rmtree(work)
    log.info("%s: %d videos", destination, len(FrameCache(destination)))
