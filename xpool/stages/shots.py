"""Count shot changes: ``data/<setting>/shots/<benchmark>.csv``."""

import logging

log = logging.getLogger(__name__)


def main() -> None:
    """Count the shot changes of each video.

    Example: xpool shots
    """
    from xpool.data.shots import shots_of
    from xpool.project import paths
    from xpool.project.params import read, setting
    from xpool.project.workspace import replacing

    for benchmark in read("benchmarks", list[str]):
        counts = shots_of(paths.frames(setting(), benchmark))
        destination = paths.shots(setting(), benchmark)
        with replacing(destination) as file:
            counts.to_csv(file, index=False)
        log.info("%s: %d videos", destination, len(counts))
