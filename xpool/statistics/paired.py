"""Two methods on the same queries: difference, interval, test, effect size, smallest effect seen.

Works on per-query figures, see ``xpool.statistics.bootstrap``, and reads no files. A difference is
always the second method minus the first. Each result names its test:

- one run each, R@K, one caption a video, nothing tied: exact McNemar;
- one run each otherwise, means (R@K, MnR): sign-flip permutation, a video's captions together;
- medians, and several seeds: the bootstrap that also gives the interval. Flipping signs per query
  would ignore the variance over seeds, and three seeds are too few to permute.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from xpool.statistics.bootstrap import LEVEL, REPLICATES, confidence, estimate, is_recall, quantiles

POWER = 0.8
# Signs drawn at a time: bounds the memory whatever the number of flips.
BLOCK = 2**22
MCNEMAR = "exact McNemar"
SIGN_FLIP = "sign-flip permutation over videos"
BOOTSTRAP = "bootstrap over videos"
BOOTSTRAP_SEEDS = "bootstrap over videos, Student's t over seeds"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The second method against the first, in one metric and direction."""

    first: float
    second: float
    delta: float
    """``second - first``, in the metric's unit: points of percent, or ranks."""
    ci_low: float
    ci_high: float
    p_value: float
    """Two-sided p-value against no difference, before any correction."""
    test: str
    """Name of the test that gave ``p_value``."""
    n_queries: int
    n_videos: int
    n_seeds: int
    won: int
    """Queries that the second method answers better (mean over seeds)."""
    lost: int
    cohen_h: float | None
    """Effect size of R@K, positive if the second is better; None for ranks."""
    detectable: float | None
    """Smallest true difference that 80 % of such comparisons would find; None for a median."""


def compare(
    first: NDArray[Any],
    second: NDArray[Any],
    cluster: NDArray[Any],
    metric: str,
    rng: np.random.Generator,
    replicates: int = REPLICATES,
) -> Comparison:
    """Return the paired comparison of two methods in one metric.

    Args:
        first: ``(seed, query)`` of :func:`xpool.statistics.bootstrap.per_query`.
        second: the same for the other method, with queries and seeds in the same order.
        cluster: ``(query,)`` video of each query.
        metric: one of :data:`xpool.metrics.METRICS`.
        rng: source of the replicates.
        replicates: bootstrap replicates, and random sign flips.

    Raises:
        ValueError: the shapes do not fit each other.

    Example:
        >>> first, second = 100.0 * np.array([[[1, 0, 0, 0, 1, 0]], [[1, 1, 1, 1, 1, 0]]])
        >>> found = compare(first, second, np.arange(6), "R@1", np.random.default_rng(0))
        >>> found.won, found.lost, found.p_value, found.test
        (3, 0, 0.25, 'exact McNemar')
    """
    if first.ndim != 2 or first.shape != second.shape or cluster.shape != first.shape[1:]:
        raise ValueError(
            "expected two (seed, query) of one shape and cluster (query,); "
            f"got {first.shape}, {second.shape} and {cluster.shape}"
        )
    draws = confidence(second, cluster, metric, rng, minus=first, replicates=replicates)
    low, high = quantiles(draws)
    difference = second - first
    n_videos = len(np.unique(cluster))
    binary = is_recall(metric) and bool(np.isin([first, second], (0, 100)).all())
    if len(first) > 1:
        test, p_value = BOOTSTRAP_SEEDS, bootstrap_p(draws)
    elif metric == "MdR":
        test, p_value = BOOTSTRAP, bootstrap_p(draws)
    elif binary and n_videos == first.shape[1]:
        test, p_value = MCNEMAR, mcnemar(int((difference > 0).sum()), int((difference < 0).sum()))
    else:
        test, p_value = SIGN_FLIP, sign_flip(difference[0], cluster, rng, replicates)
    before, after = estimate(first, metric), estimate(second, metric)
    better = np.sign(difference.mean(axis=0)) * (1 if is_recall(metric) else -1)
    return Comparison(
        first=before,
        second=after,
        delta=after - before,
        ci_low=low,
        ci_high=high,
        p_value=p_value,
        test=test,
        n_queries=first.shape[1],
        n_videos=n_videos,
        n_seeds=len(first),
        won=int((better > 0).sum()),
        lost=int((better < 0).sum()),
        cohen_h=cohen_h(before, after) if is_recall(metric) else None,
        detectable=None if metric == "MdR" else detectable_difference(difference, cluster),
    )


def mcnemar(won: int, lost: int) -> float:
    """Return the exact two-sided p-value of a query being as likely won as lost.

    Example:
        >>> round(mcnemar(38, 27), 2)
        0.21
    """
    from scipy import stats  # slow to import; many comparisons need no such test

    if won == lost == 0:
        return 1.0
    return float(stats.binomtest(won, won + lost).pvalue)


def sign_flip(
    difference: NDArray[Any],
    cluster: NDArray[Any],
    rng: np.random.Generator,
    replicates: int = REPLICATES,
) -> float:
    """Return the two-sided p-value of a mean paired difference, by random flips of its sign.

    All queries of a video flip together. The observed signs count as one of the flips, so the
    p-value is never 0 and the test is valid at any number of flips. SciPy's ``permutation_test``
    permutes indices, which is 5 times slower with 670 videos and over 10 times with 27,763.

    Args:
        difference: ``(query,)``.
        cluster: ``(query,)`` video of each query.
        rng: source of the flips.
        replicates: number of flips.

    Source:
        Phipson and Smyth 2010 (arXiv 1603.05766): (1 + flips as extreme) / (1 + flips).
    """
    sums = np.bincount(np.unique(cluster, return_inverse=True)[1], weights=difference)
    sums = sums[sums != 0]  # a flip leaves zeros as they are
    observed, slack = abs(sums.sum()), 1e-9 * np.abs(sums).sum()
    rows = max(1, BLOCK // max(1, len(sums)))
    extreme = 0
    for start in range(0, replicates, rows):
        n = min(rows, replicates - start)
        signs = 1.0 - 2.0 * rng.integers(2, size=(n, len(sums)), dtype=np.int8)
        extreme += int((np.abs(signs @ sums) >= observed - slack).sum())
    return (1 + extreme) / (1 + replicates)


def bootstrap_p(draws: NDArray[Any]) -> float:
    """Return the two-sided p-value that goes with the interval of the same draws.

    Below 0.05 exactly where the 95 % interval excludes 0, up to the resolution of the draws.
    """
    n_below, n_above = int((draws <= 0).sum()), int((draws >= 0).sum())
    return min(1.0, 2 * (1 + min(n_below, n_above)) / (1 + len(draws)))


def holm(p_values: NDArray[Any]) -> NDArray[np.float64]:
    """Return p-values adjusted for a whole table.

    Taking those below 0.05 as found gives a false find in at most one table in 20.

    Args:
        p_values: ``(test,)``; NaN where there is no test, and stays NaN.

    Source:
        Holm 1979 (Scand. J. Statist. 6): step-down Bonferroni, valid for dependent tests.

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03])).round(2).tolist()
        [0.03, 0.06, 0.06]
    """
    adjusted = np.full(len(p_values), np.nan)
    order = np.argsort(p_values)[: int(np.isfinite(p_values).sum())]  # NaN sort last
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p_values[order] * factors))
    return adjusted


def cohen_h(first: float, second: float) -> float:
    """Return the effect size of two R@K in percent: 0.2 small, 0.5 medium, 0.8 large.

    On the arcsine scale, a step near 0 or 100 % is as large as the same step in the middle.

    Source:
        Cohen 1988, Statistical Power Analysis, ch. 6.

    Example:
        >>> round(cohen_h(48.0, 49.1), 3)
        0.022
    """
    angles = 2 * np.arcsin(np.sqrt(np.array([first, second]) / 100))
    return float(angles[1] - angles[0])


def standard_errors(values: NDArray[Any], cluster: NDArray[Any]) -> tuple[float, float]:
    """Return the standard errors of a mean over queries and seeds: from queries, and from seeds.

    The closed form of what :func:`xpool.statistics.bootstrap.confidence` weighs: what the seeds
    share about the clusters, and the spread of the seeds' means. The squares add up.

    Args:
        values: ``(seed, query)``.
        cluster: ``(query,)`` video of each query.
    """
    n_seed, n_query = values.shape
    numbers = np.unique(cluster, return_inverse=True)[1]
    of_query, of_seed = values.mean(axis=0), values.mean(axis=1)

    def of_clusters(deviations: NDArray[Any]) -> float:
        """Return the variance of a mean over queries from their deviations."""
        sums = np.bincount(numbers, weights=deviations) / n_query
        return float((sums**2).sum() * len(sums) / (len(sums) - 1))

    queries = of_clusters(of_query - of_query.mean())
    if n_seed == 1:
        return float(np.sqrt(queries)), 0.0
    rest = values - of_query - of_seed[:, None] + of_query.mean()
    interaction = sum(of_clusters(of_run) for of_run in rest) / (n_seed - 1) / n_seed
    return float(np.sqrt(max(0.0, queries - interaction))), float(
        np.sqrt(of_seed.var(ddof=1) / n_seed)
    )


def detectable_difference(difference: NDArray[Any], cluster: NDArray[Any]) -> float:
    """Return the smallest true difference that such a comparison finds in 80 % of cases.

    Two-sided at 5 %, for these queries and seeds and the observed spread of the paired differences.
    A comparison that finds nothing does not rule out a smaller difference than this.

    Args:
        difference: ``(seed, query)`` of a metric that is a mean.
        cluster: ``(query,)`` video of each query.

    Example:
        >>> discordant = np.array([[100.0] * 38 + [-100.0] * 27 + [0.0] * 935])
        >>> round(detectable_difference(discordant, np.arange(1000)), 1)
        2.3
    """
    queries, seeds = (error**2 for error in standard_errors(difference, cluster))
    if queries + seeds == 0:
        return 0.0
    levels = np.array([(1 + LEVEL) / 2, POWER])
    reach = queries * special.ndtri(levels).sum()
    if seeds > 0:
        reach += seeds * special.stdtrit(len(difference) - 1, levels).sum()
    return float(reach / np.sqrt(queries + seeds))
