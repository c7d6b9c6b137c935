"""Queries won and lost, by the number of shot changes of the video that they look for.

Reads nothing; ``xpool.statistics`` gives the outcomes. X-Pool's claim is that a text picks its
frames in a video that shows several things: then its wins must lie where videos have cuts.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xpool.bootstrap import interval
from xpool.shots import quantile_bins

BINS = 4
COLUMNS = (
    "shots_low", "shots_high", "n_queries", "n_videos", "won", "lost", "net", "ci_low", "ci_high",
)  # fmt: skip


def wins_by_shots(
    outcome: NDArray[Any],
    video: NDArray[Any],
    shots: NDArray[Any],
    rng: np.random.Generator,
    replicates: int,
) -> pd.DataFrame:
    """Return won and lost queries in up to four bins of shot changes, each of about equal size.

    Args:
        outcome: ``(query,)`` 1 won, -1 lost, 0 neither.
        video: ``(query,)`` the video of each.
        shots: ``(query,)`` that video's shot changes.
        rng: source of the bootstrap's replicates, which draw videos.
        replicates: how many.

    Returns:
        Columns shots_low, shots_high, n_queries, n_videos, and in percent of the bin's queries won,
        lost, net (won less lost) with its 95 % interval ci_low, ci_high; seeds taken as they are.

    Example:
        >>> table = wins_by_shots(
        ...     np.array([1, -1, 1, 1]), np.arange(4), np.array([0, 0, 3, 3]),
        ...     np.random.default_rng(0), 100,
        ... )
        >>> table[["shots_low", "shots_high", "won", "lost", "net"]].to_numpy().tolist()
        [[0.0, 0.0, 50.0, 50.0, 0.0], [3.0, 3.0, 100.0, 0.0, 100.0]]
    """
    of_query, bounds = quantile_bins(shots, BINS)
    rows = []
    for place, (low, high) in enumerate(bounds):
        here = of_query == place
        # on the scale of R@K: a win counts 100, a loss 0, a draw 50
        points = 50 * (1 + outcome[here][None].astype(float))
        found = interval(points, video[here], "R@1", rng, replicates)
        rows.append(
            {
                "shots_low": low,
                "shots_high": high,
                "n_queries": int(here.sum()),
                "n_videos": len(np.unique(video[here])),
                "won": 100 * float((outcome[here] > 0).mean()),
                "lost": 100 * float((outcome[here] < 0).mean()),
                "net": 2 * found.estimate - 100,
                "ci_low": 2 * found.low - 100,
                "ci_high": 2 * found.high - 100,
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))
