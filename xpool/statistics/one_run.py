"""Two runs on the same queries: a test over the videos, and the interval that goes with it.

Works on arrays and reads no files. The test rejects exactly where the 95 % interval excludes 0:

- R@K, one caption a video, nothing tied: exact McNemar, and the score interval at its level;
- other means: random flips of the sign of each video, which test every shift of the mean at once.

One run each says nothing about other seeds.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from xpool.statistics.over_seeds import LEVEL, POWER

ALPHA = 1 - LEVEL
# Signs drawn at a time: bounds the memory whatever the number of flips.
BLOCK = 2**22
BISECTIONS = 50
FEWEST = 6
"""Discordant queries, all one way, that exact McNemar needs: 2 / 2**6 < 0.05."""


@dataclass(frozen=True, kw_only=True)
class Tested:
    """A two-sided p-value against no difference, and the 95 % interval of the difference."""

    p_value: float
    low: float
    high: float


def mcnemar(won: int, lost: int) -> float:
    """Return the exact two-sided p-value of a query being as likely won as lost.

    Example:
        >>> round(mcnemar(38, 27), 2)
        0.21
    """
    return float(min(1.0, 2 * special.bdtr(min(won, lost), won + lost, 0.5)))


def most_lost(discordant: NDArray[Any], alpha: float = ALPHA) -> NDArray[np.float64]:
    """Return how many of the discordant queries may be lost for McNemar's test to find a gain.

    -1 where none may be lost, since there are too few: at 5 % fewer than :data:`FEWEST`.

    Example:
        >>> most_lost(np.array([5, 6, 9])).tolist()
        [-1.0, 0.0, 1.0]
    """
    below = _most_lost_below(1 << int(discordant.max()).bit_length(), alpha)
    return np.asarray(below[discordant])


@lru_cache(maxsize=64)
def _most_lost_below(n: int, alpha: float) -> NDArray[np.float64]:
    """Return ``(n,)``: :func:`most_lost` of 0 to n - 1; inverting the binomial is slow."""
    discordant = np.maximum(1, np.arange(n))
    return np.asarray(np.ceil(special.bdtrik(alpha / 2, discordant, 0.5)) - 1)


def discordant_test(won: int, lost: int, n_query: int) -> Tested:
    """Return exact McNemar, and the score interval of the difference, as shares of the queries.

    The interval's quantile is the test's critical value for this number of discordant queries, so
    both say the same of 0. It is a little wider than at 1.96 standard errors.

    Args:
        won: queries that the second method alone answers.
        lost: queries that the first method alone answers.
        n_query: number of queries.

    Source:
        Tango 1998 (Statistics in Medicine 17): score interval of a paired difference.

    Example:
        >>> found = discordant_test(38, 27, 1000)
        >>> round(found.p_value, 2), round(found.low, 3), round(found.high, 3)
        (0.21, -0.005, 0.028)
    """
    discordant = max(1, won + lost)  # none leaves the interval of one: at most 4 in n_query + 4
    fewest = discordant - 2 * float(most_lost(np.array(discordant)))  # won - lost that is found
    quantile = (fewest - 1) / np.sqrt(discordant)

    def standard_errors(shift: float) -> float:
        """Return by how many standard errors the observed difference exceeds ``shift``."""
        at = n_query * shift
        linear = (2 * n_query - won + lost) * shift - won - lost
        root = np.sqrt(max(0.0, linear**2 + 8 * n_query * lost * shift * (1 - shift)))
        variance = (root - linear) / 2 + at * (1 - shift)
        gap = won - lost - at
        if variance <= 0:
            return float(np.copysign(np.inf, gap)) if gap else 0.0
        return float(gap / np.sqrt(variance))

    def end(sign: int) -> float:
        inside, outside = (won - lost) / n_query, float(sign)
        for _ in range(BISECTIONS):
            middle = (inside + outside) / 2
            if abs(standard_errors(middle)) <= quantile:
                inside = middle
            else:
                outside = middle
        return inside

    low, high = end(-1), end(1)
    p_value = mcnemar(won, lost)
    return Tested(p_value=p_value, low=low, high=high)


def sign_flip(
    difference: NDArray[Any],
    cluster: NDArray[Any],
    rng: np.random.Generator,
    replicates: int,
) -> Tested:
    """Return the test of a mean paired difference by random flips of its sign, and its interval.

    All queries of a video flip together. The observed signs count as one of the flips, so the
    p-value is never 0 and the test is valid at any number of flips. A flip is as extreme as what
    was observed for all shifts between the means of the videos that it flips and that it leaves, so
    the flips give the interval too: all shifts that the test does not reject. SciPy's
    ``permutation_test`` permutes indices, which is 5 times slower with 670 videos and gives no
    interval.

    Args:
        difference: ``(query,)``.
        cluster: ``(query,)`` video of each query.
        rng: source of the flips.
        replicates: number of flips.

    Source:
        Phipson and Smyth 2010 (arXiv 1603.05766): (1 + flips as extreme) / (1 + flips). Hartigan
        1969 (JASA 64): intervals from the means of random subsets.
    """
    numbers = np.unique(cluster, return_inverse=True)[1]
    of_video = np.stack(
        [np.bincount(numbers, weights=difference), np.bincount(numbers).astype(float)], axis=1
    )
    total, slack = of_video.sum(axis=0), 1e-9 * np.abs(of_video[:, 0]).sum()
    widest = float(np.abs(of_video[:, 0] / of_video[:, 1]).max())
    rows = max(1, BLOCK // len(of_video))
    below, above = [], []
    for start in range(0, replicates, rows):
        n = min(rows, replicates - start)
        kept = rng.integers(2, size=(n, len(of_video)), dtype=np.int8).astype(float) @ of_video
        means = []
        for sums in (kept, total - kept):
            sums[np.abs(sums[:, 0]) <= slack, 0] = 0
            some = sums[:, 1] > 0
            means.append(np.divide(sums[:, 0], sums[:, 1], out=np.full(n, np.nan), where=some))
        # all videos or none flipped: as extreme for every shift that the videos span
        below.append(np.nan_to_num(np.minimum(*means), nan=-widest))
        above.append(np.nan_to_num(np.maximum(*means), nan=widest))
    lows, highs = np.sort(np.concatenate(below)), np.sort(np.concatenate(above))
    extreme = replicates - int((lows > 0).sum()) - int((highs < 0).sum())
    rank = int(np.ceil(ALPHA * (1 + replicates) - 1e-9)) - 1
    low, high = (lows[rank - 1], highs[-rank]) if rank else (-widest, widest)
    return Tested(p_value=(1 + extreme) / (1 + replicates), low=float(low), high=float(high))


def detectable(difference: NDArray[Any], cluster: NDArray[Any], unit: float) -> float | None:
    """Return the smallest true difference of a mean that :data:`POWER` of such comparisons find.

    This is the power of exact McNemar for as many discordant videos as the differences at hand are
    worth, on this number of videos. So nothing is claimed that fewer than :data:`FEWEST` videos
    would show.

    Args:
        difference: ``(query,)``.
        cluster: ``(query,)`` video of each query.
        unit: difference of a query that differs, if none does: 100 for R@K, 1 for ranks.

    Returns:
        The difference in the metric's unit; None where no difference would be found, with five
        videos or fewer.

    Example:
        >>> discordant = np.array([100.0] * 38 + [-100.0] * 27 + [0.0] * 935)
        >>> round(detectable(discordant, np.arange(1000), 100.0), 1)
        2.3
        >>> round(detectable(100.0 * (np.arange(1000) < 1), np.arange(1000), 100.0), 1)
        0.8
    """
    numbers = np.unique(cluster, return_inverse=True)[1]
    sums = np.abs(np.bincount(numbers, weights=difference)) / len(difference)
    if sums.any():
        one = float((sums**2).sum() / sums.sum())  # what a discordant video contributes
        discordant = float(sums.sum()) / one
    else:
        one, discordant = unit / len(difference), 0.0
    net = _detectable_net(discordant, len(sums))
    return None if net is None else net * one


def _detectable_net(discordant: float, n_video: int) -> float | None:
    """Return the smallest expected ``won - lost`` that exact McNemar finds in :data:`POWER`.

    Args:
        discordant: expected number of discordant videos where there is no difference.
        n_video: number of videos; the number of discordant ones is binomial.
    """
    low, high = float(FEWEST), float(n_video)
    if n_video < FEWEST:
        return None
    for _ in range(20):
        middle = (low + high) / 2
        found = mcnemar_power(discordant, middle, n_video) > POWER
        low, high = (low, middle) if found else (middle, high)
    return high


def mcnemar_power(discordant: float, net: float, n_query: int, alpha: float = ALPHA) -> float:
    """Return how often exact McNemar finds that the second of two runs is better.

    The number of discordant queries is binomial, and so is the number of those that are lost.

    Args:
        discordant: expected number of discordant queries; at least ``net`` are.
        net: expected won less lost.
        n_query: number of queries.
        alpha: two-sided level of the test.

    Example:
        >>> round(mcnemar_power(65, 23, 1000), 2)
        0.79
    """
    expected = max(discordant, abs(net))
    reach = 8 * np.sqrt(expected) + 8
    counts = np.arange(max(0, int(expected - reach)), min(n_query, int(expected + reach)) + 1)
    share = min(1.0, expected / n_query)
    before = special.bdtr(np.maximum(counts - 1, 0), n_query, share) * (counts > 0)
    exactly = special.bdtr(counts, n_query, share) - before
    tolerated, lost = most_lost(counts, alpha), (1 - net / expected) / 2 if expected else 0.5
    return float(exactly @ np.where(tolerated < 0, 0, special.bdtr(tolerated, counts, lost)))
