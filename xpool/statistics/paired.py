"""Two methods on the same queries: difference, interval, test, effect size, smallest effect seen.

Works on per-query figures, see ``xpool.statistics.bootstrap``, and reads no files. A difference is
always the second method minus the first. Each result names its test:

- one run each, means (R@K, MnR): exact McNemar or flips of sign, ``xpool.statistics.one_run``;
- one run each, medians: the bootstrap that also gives the interval;
- several runs a method: the bootstrap over videos and Student's t over seeds, whose interval is
  never narrower than that of one run with the same mean figures, nor its p-value smaller.

The test rejects at 5 % exactly where the 95 % interval excludes 0. Flipping signs for each query
would ignore the variance over seeds, and three seeds are too few to permute.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpool.statistics.bootstrap import REPLICATES, estimate, is_recall, quantiles, with_error
from xpool.statistics.one_run import Tested, detectable, discordant_test, sign_flip
from xpool.statistics.over_seeds import detectable_over_seeds

MCNEMAR = "exact McNemar"
SIGN_FLIP = "sign-flip permutation over videos"
BOOTSTRAP = "bootstrap over videos"
BOOTSTRAP_SEEDS = "bootstrap over videos, Welch's t over seeds"


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
    """Smallest true difference that 80 % of such comparisons would find at p < 0.05; None for a
    median, and with five videos or fewer, which show nothing."""


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
        second: the same for the other method, queries in the same order; its seeds are its own.
        cluster: ``(query,)`` video of each query.
        metric: one of :data:`xpool.metrics.METRICS`.
        rng: source of the replicates.
        replicates: bootstrap replicates, and random sign flips.

    Raises:
        ValueError: the shapes do not fit each other, or one run stands against several.

    Example:
        >>> first, second = 100.0 * np.array([[[1, 0, 0, 0, 1, 0]], [[1, 1, 1, 1, 1, 0]]])
        >>> found = compare(first, second, np.arange(6), "R@1", np.random.default_rng(0))
        >>> found.won, found.lost, found.p_value, found.test
        (3, 0, 0.25, 'exact McNemar')
    """
    shapes = [one.shape for one in (first, second)]
    if any(len(shape) != 2 or shape[1:] != cluster.shape for shape in shapes):
        raise ValueError(
            "expected two (seed, query) on the same queries and cluster (query,); "
            f"got {first.shape}, {second.shape} and {cluster.shape}"
        )
    if min(len(first), len(second)) == 1 < max(len(first), len(second)):
        raise ValueError(
            f"{len(first)} against {len(second)} runs: one run says nothing of its seeds; expected "
            "one run each, or two or more each"
        )
    n_seeds = min(len(first), len(second))
    difference = second.mean(axis=0) - first.mean(axis=0)  # (query,)
    tests: list[str] = []
    tested: list[Tested] = []
    reach: list[float | None] = []
    if n_seeds > 1 or metric == "MdR":
        draws, error = with_error(second, cluster, metric, rng, first, replicates)
        low, high = quantiles(draws)
        tests.append(BOOTSTRAP_SEEDS if n_seeds > 1 else BOOTSTRAP)
        tested.append(Tested(p_value=bootstrap_p(draws), low=low, high=high))
        reach.append(detectable_over_seeds(error))
    if metric != "MdR":
        test, over_videos = _over_videos(difference, cluster, metric, rng, replicates)
        tests.append(test)
        tested.append(over_videos)
        reach.append(detectable(difference, cluster, 100.0 if is_recall(metric) else 1.0))
    before, after = estimate(first, metric), estimate(second, metric)
    better = np.sign(difference) * (1 if is_recall(metric) else -1)
    return Comparison(
        first=before,
        second=after,
        delta=after - before,
        ci_low=min(one.low for one in tested),
        ci_high=max(one.high for one in tested),
        p_value=max(one.p_value for one in tested),
        test=tests[0],
        n_queries=first.shape[1],
        n_videos=len(np.unique(cluster)),
        n_seeds=n_seeds,
        won=int((better > 0).sum()),
        lost=int((better < 0).sum()),
        cohen_h=cohen_h(before, after) if is_recall(metric) else None,
        detectable=None if metric == "MdR" or None in reach else max(filter(None, reach)),
    )


def _over_videos(
    difference: NDArray[Any],
    cluster: NDArray[Any],
    metric: str,
    rng: np.random.Generator,
    replicates: int,
) -> tuple[str, Tested]:
    """Return the test of a mean difference over the videos, and its name.

    Args:
        difference: ``(query,)``.
        cluster: ``(query,)`` video of each query.
        metric: a metric that is a mean.
        rng: source of the flips.
        replicates: number of flips.
    """
    alone = is_recall(metric) and len(np.unique(cluster)) == len(cluster)
    if not (alone and np.isin(difference, (-100, 0, 100)).all()):
        return SIGN_FLIP, sign_flip(difference, cluster, rng, replicates)
    won, lost = int((difference > 0).sum()), int((difference < 0).sum())
    found = discordant_test(won, lost, len(difference))
    return MCNEMAR, Tested(p_value=found.p_value, low=100 * found.low, high=100 * found.high)


def bootstrap_p(draws: NDArray[Any]) -> float:
    """Return the two-sided p-value that goes with the interval of the same draws.

    Below 0.05 exactly where the interval of :func:`xpool.statistics.bootstrap.quantiles` excludes
    0.

    Args:
        draws: ``(replicate,)``, ascending.
    """

    def share(above: NDArray[Any]) -> float:
        """Return the level up to which the quantiles of ascending draws are 0 or less."""
        n = int(np.searchsorted(above, 0, side="right"))
        if n in (0, len(above)):
            return n / len(above)
        return float((n - 1 + above[n - 1] / (above[n - 1] - above[n])) / (len(above) - 1))

    smaller = min(share(draws), share(-draws[::-1]))
    return float(min(1.0, max(2 * smaller, 2 / (1 + len(draws)))))


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
