"""Count the shot changes of each video: ``data/<setting>/shots/<benchmark>.csv``.

A cut shows in the colours: between neighbouring frames of the cache the intersection of their
colour histograms drops. What is counted are drops between the frames that the cache holds, so that
a cut is seen whatever lies between them, but two cuts between two neighbours count once: the more
frames are cached, the finer the count.

Run: ``python -m xpool.shots``
"""

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from xpool import paths
from xpool.command import InputError, run
from xpool.frame_cache import FrameCache
from xpool.params import read, setting
from xpool.workspace import replacing

LEVELS = 4
"""Of each colour channel: 64 bins."""
LEAST_CHANGE = 0.5
"""Share of the pixels that change bin at a cut; motion within a scene changes far fewer."""
log = logging.getLogger(__name__)


def shot_changes(pixels: NDArray[np.uint8]) -> int:
    """Return how many cuts there are between neighbouring frames.

    Args:
        pixels: ``(frame, height, width, 3)``, in the order of time.

    Example:
        >>> black, white = np.zeros((2, 4, 4, 3), np.uint8), np.full((3, 4, 4, 3), 255, np.uint8)
        >>> shot_changes(np.concatenate([black, white, black]))
        2
    """
    bins = (pixels // (256 // LEVELS)).reshape(len(pixels), -1, 3).astype(np.int64)
    codes = (bins[..., 0] * LEVELS + bins[..., 1]) * LEVELS + bins[..., 2]  # (frame, pixel)
    shares = np.stack([np.bincount(frame, minlength=LEVELS**3) for frame in codes])
    shares = shares / codes.shape[1]
    kept = np.minimum(shares[:-1], shares[1:]).sum(axis=1)
    return int((1 - kept >= LEAST_CHANGE).sum())


def quantile_bins(
    values: NDArray[Any], bins: int
) -> tuple[NDArray[np.int64], list[tuple[int, int]]]:
    """Cut whole numbers into bins of about equal size; equal values stay together.

    Args:
        values: one a video.
        bins: how many bins at most; fewer where values repeat.

    Returns:
        The bin of each value, and each bin's least and greatest value.

    Example:
        >>> of_value, bounds = quantile_bins(np.array([0, 0, 0, 1, 2, 7]), 3)
        >>> of_value.tolist(), bounds
        ([0, 0, 0, 1, 2, 2], [(0, 0), (1, 1), (2, 7)])
    """
    inner = np.quantile(values, np.arange(1, bins) / bins, method="lower")
    edges = np.unique(inner)
    of_value = np.searchsorted(edges, values, side="left")
    used = np.unique(of_value)
    of_value = np.searchsorted(used, of_value)
    bounds = [
        (int(values[of_value == b].min()), int(values[of_value == b].max()))
        for b in range(len(used))
    ]
    return of_value.astype(np.int64), bounds


def read_shots(path: Path) -> pd.Series:
    """Return the shot changes by video id.

    Raises:
        InputError: the step has not run.
    """
    if not path.is_file():
        raise InputError(f"{path}: not found; run `dvc repro shots`")
    return pd.read_csv(path, index_col="video_id", dtype={"video_id": str})["shot_changes"]


def main() -> None:
    """Count the shot changes of all videos of each benchmark."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    for benchmark in read("benchmarks", list[str]):
        cache = FrameCache(paths.frames(setting(), benchmark))
        rows = [
            (video_id, shot_changes(cache.stored(video_id)[0]))
            for video_id in tqdm(cache.video_ids, f"{benchmark} videos")
        ]
        destination = paths.shots(setting(), benchmark)
        with replacing(destination) as file:
            pd.DataFrame(rows, columns=["video_id", "shot_changes"]).to_csv(file, index=False)
        log.info("%s: %d videos", destination, len(rows))


if __name__ == "__main__":
    run(main)
