"""Count the shot changes of each video: ``data/<setting>/shots/<benchmark>.csv``.

At a cut, the colour histograms of neighbouring cached frames intersect little. Several cuts between
the same two frames count once, so more cached frames give a finer count. The table also has each
video's length in frames, which only a decoder knows.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xpool.data.frame_cache import FrameCache
from xpool.data.videos.features import LENGTHS
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
        Columns video_id, shot_changes, video_frames.
    """
    rows = []
    for video_id in progress(cache.video_ids, f"{title} videos"):
        pixels, _, video_frames = cache.stored(video_id)
        rows.append((video_id, shot_changes(pixels), video_frames))
    return pd.DataFrame(rows, columns=["video_id", "shot_changes", "video_frames"])


def shots_of(folder: Path) -> pd.DataFrame:
    """Return :func:`count_shots` of a benchmark's cached frames.

    Where features stand for the videos, nobody knows their cuts: ``shot_changes`` is empty, and
    ``video_frames`` counts the rows of an array.

    Args:
        folder: the cached frames of a benchmark.
    """
    if (folder / LENGTHS).is_file():
        arrays = pd.read_csv(folder / LENGTHS, dtype={"video_id": str})
        arrays["shot_changes"] = np.nan
        return arrays[["video_id", "shot_changes", "video_frames"]]
    return count_shots(FrameCache(folder), folder.name)


def quantile_bins(
    values: NDArray[Any], bins: int
) -> tuple[NDArray[np.int64], list[tuple[Any, Any]]]:
    """Divide numbers into bins of about equal size; equal values stay together.

    Args:
        values: one for each video or query.
        bins: number of bins; repeated values may give fewer. If there are no more distinct values,
            each is a bin.

    Returns:
        The bin of each value, and the least and greatest value of each bin.

    Example:
        >>> of_value, bounds = quantile_bins(np.array([0, 0, 0, 1, 2, 7]), 3)
        >>> of_value.tolist(), bounds
        ([0, 0, 0, 1, 2, 2], [(0, 0), (1, 1), (2, 7)])
    """
    edges = np.unique(values)
    if len(edges) > bins:
        edges = np.unique(np.quantile(values, np.arange(1, bins) / bins, method="lower"))
    of_value = np.searchsorted(edges, values, side="left")
    used = np.unique(of_value)
    of_value = np.searchsorted(used, of_value)
    bounds = [
        (values[of_value == b].min().item(), values[of_value == b].max().item())
        for b in range(len(used))
    ]
    return of_value.astype(np.int64), bounds


def read_shots(path: Path) -> pd.Series:
    """Return the shot changes by video id.

    Raises:
        InputError: the file is absent.
    """
    return _column(path, "shot_changes")


def read_lengths(path: Path) -> pd.Series:
    """Return the lengths in frames by video id.

    Raises:
        InputError: the file is absent, or an earlier version made it.
    """
    return _column(path, "video_frames")


def _column(path: Path, name: str) -> pd.Series:
    if not path.is_file():
        raise InputError(f"{path}: not found; run `dvc repro shots`")
    table = pd.read_csv(path, index_col="video_id", dtype={"video_id": str})
    if name not in table:
        raise InputError(f"{path}: no column {name}; run `dvc repro shots` to make it again")
    return table[name]
