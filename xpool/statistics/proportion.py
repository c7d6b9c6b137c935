"""Exact interval of a share of queries, on as many queries as they are worth.

Captions of one video are hit or missed together, and a bootstrap sees no spread where hardly any
video misses: with 100 of 100 hit it gives [100, 100]. The binomial interval needs no spread.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

ASSUMED = 2.0
"""How many videos are assumed to miss as a whole, beside those seen, when the size of a miss is
estimated. With less than two, one more miss could raise the interval's low end; brute force over
uneven clusters, in tests/statistics/test_proportion.py, finds no case with two."""


def effective_queries(values: NDArray[Any], cluster: NDArray[Any]) -> float:
    """Return how many independent queries would give R@K the sampling error that it has.

    MSVD's 27,763 captions are worth far fewer. With one caption a video that is hit or missed, it
    is the number of queries. The spread of the misses over videos tells; where few videos miss, it
    is not known, and the number is near that of the videos.

    Args:
        values: ``(seed, query)`` of :func:`xpool.statistics.bootstrap.per_query`, in percent.
        cluster: ``(query,)`` video of each query.

    Source:
        The design effect of a cluster sample, as in Korn and Graubard 1998 (Survey Methodology 24),
        with :data:`ASSUMED` videos added to numerator and denominator.

    Example:
        >>> hits = np.array([[100.0, 0.0, 100.0, 0.0]])
        >>> effective_queries(hits, np.arange(4))
        4.0
        >>> round(effective_queries(np.repeat(hits, 3, axis=1), np.repeat(np.arange(4), 3)), 6)
        4.0
    """
    shares = values / 100
    mean, n_query = float(shares.mean()), shares.shape[1]
    numbers, sizes = np.unique(cluster, return_inverse=True, return_counts=True)[1:]
    videos = n_query**2 / float(np.sum(sizes.astype(float) ** 2))  # videos of equal size
    deviations = shares - shares.mean(axis=1, keepdims=True)
    sums = np.stack([np.bincount(numbers, weights=of_run) for of_run in deviations])
    variance = float(np.mean(np.sum(sums**2, axis=1))) / n_query**2
    spread = mean * (1 - mean) + ASSUMED / videos
    return float(spread / (variance + ASSUMED / videos**2))


def share_interval(
    values: NDArray[Any], cluster: NDArray[Any], level: float
) -> tuple[float, float]:
    """Return the two-sided interval of R@K of one run, in percent.

    It covers at least as often as the level says where each video has one caption, whatever the
    true share, and both ends fall with each further miss.

    Args:
        values: ``(query,)`` in percent.
        cluster: ``(query,)`` video of each query.
        level: e.g. 0.95.

    Source:
        Clopper and Pearson 1934 (Biometrika 26), with a fractional number of hits.

    Example:
        >>> hits = np.full(100, 100.0)
        >>> [round(end, 1) for end in share_interval(hits, np.arange(100), 0.95)]
        [96.4, 100.0]
        >>> hits[0] = 0
        >>> [round(end, 1) for end in share_interval(hits, np.arange(100), 0.95)]
        [94.6, 100.0]
    """
    tail = (1 - level) / 2
    n = effective_queries(values[None], cluster)
    hits = n * float(values.mean()) / 100
    misses = n * float(100 - values.mean()) / 100
    low = special.betaincinv(hits, misses + 1, tail) if hits > 0 else 0.0
    high = special.betaincinv(hits + 1, misses, 1 - tail) if misses > 0 else 1.0
    return 100 * float(low), 100 * float(high)
