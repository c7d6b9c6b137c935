"""Count the shot changes of each video: ``data/<setting>/shots/<benchmark>.csv``.

At a cut, the colour histograms of neighbouring cached frames intersect little. Several cuts between
the same two frames count once, so more cached frames give a finer count.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xpool.data.frame_cache import FrameCache
from xpool.project.errors import InputError
from xpool.project.progress import progress

LEVELS = 4
"""Levels of each colour channel: 64 bins in all."""
LEAST_CHANGE = 0.5
"""Least share of pixels that change bin at a cut; motion within a scene changes far fewer."""


def shot_changes(pixels: NDArray[np.uint8]) -> int:
    """Return the number of cuts between neighbouring frames.

    Args:
        pixels: ``(frame, height, width, 3)``, in temporal order.

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


def count_shots(cache: FrameCache, title: str) -> pd.DataFrame:
    """Count the shot changes of all videos of a cache.

    Args:
        cache: the frames of a benchmark.
        title: title of the progress bar.

    Returns:
        Columns video_id, shot_changes.
    """
    rows = [
        (video_id, shot_changes(cache.stored(video_id)[0]))
        for video_id in progress(cache.video_ids, f"{title} videos")
    ]
    return pd.DataFrame(rows, columns=["video_id", "shot_changes"])


def quantile_bins(
    values: NDArray[Any], bins: int
) -> tuple[NDArray[np.int64], list[tuple[int, int]]]:
    """Divide integers into bins of about equal size; equal values stay together.

    Args:
        values: one for each video.
        bins: number of bins; repeated values may give fewer.

    Returns:
        The bin of each value, and the least and greatest value of each bin.

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
        InputError: the file is absent.
    """
    if not path.is_file():
        raise InputError(f"{path}: not found; run `dvc repro shots`")
    return pd.read_csv(path, index_col="video_id", dtype={"video_id": str})["shot_changes"]
