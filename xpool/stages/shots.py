"""Count shot changes: ``data/<setting>/shots/<benchmark>.csv``."""

import logging

log = logging.getLogger(__name__)


def main() -> None:
    """Count the shot changes of each video.

    Example: xpool shots
    """
    from xpool.data.frame_cache import FrameCache
    from xpool.data.shots import count_shots
    from xpool.project import paths
    from xpool.project.params import read, setting
    from xpool.project.workspace import replacing

    for benchmark in read("benchmarks", list[str]):
        counts = count_shots(FrameCache(paths.frames(setting(), benchmark)), benchmark)
        destination = paths.shots(setting(), benchmark)
        with replacing(destination) as file:
            counts.to_csv(file, index=False)
        log.info("%s: %d videos", destination, len(counts))
