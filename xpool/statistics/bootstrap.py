"""Confidence intervals of retrieval metrics, over queries (by video) and seeds.

Works on arrays and reads no files: ``values (seed, query)``, one figure a query and run as
:func:`per_query` gives it, and ``cluster (query,)``, the video of each query. Captions of one video
are not independent, so videos are drawn and not captions. All runs answer the same queries.

Two sources of error behave differently and are kept apart: what the runs share about the queries
comes from hundreds of clusters, a bootstrap; the spread over seeds comes from often three, for
which ``xpool.statistics.over_seeds`` has Student's t. With one seed only the first remains, and the
interval says nothing about other seeds; that of R@K is then the exact binomial one.
``docs/results/statistics.md`` has the formulas and how often the intervals cover.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from xpool.metrics import GRADED, Ranks
from xpool.statistics.over_seeds import LEVEL, ROUNDING, Error, quantiles_over_seeds
from xpool.statistics.proportion import share_interval

REPLICATES = 10_000
# Elements of a block of cluster weights: bounds the memory, and fits into a processor's cache.
BLOCK = 2**18


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and its two-sided interval, in the metric's unit."""

    estimate: float
    low: float
    high: float


def per_query(ranks: Ranks, metric: str) -> NDArray[np.float64]:
    """Return ``(query,)``: what each query contributes to a metric.

    For R@K the chance in percent that the right answer is among the first K, over the orders of
    ties; for MdR and MnR the rank; for nDCG@10 and MRR the gain in percent. The metric is their
    mean (MdR: median).

    Example:
        >>> import numpy as np
        >>> tied = Ranks(query=np.arange(2), n_greater=np.array([0, 3]), n_tied=np.array([2, 1]))
        >>> per_query(tied, "R@1").tolist(), per_query(tied, "MnR").tolist()
        ([50.0, 0.0], [1.5, 4.0])
    """
    if metric in GRADED:
        return ranks.gain(metric)
    if not is_recall(metric):
        return ranks.rank
    return ranks.hits(int(metric.removeprefix("R@")))


def is_recall(metric: str) -> bool:
    """Return whether a metric is one of R@K: in percent, higher is better."""
    return metric.startswith("R@")


def estimate(values: NDArray[Any], metric: str) -> float:
    """Return the metric: median (MdR) or mean over queries, then the mean over seeds."""
    over_queries = np.median if metric == "MdR" else np.mean
    return float(np.mean(over_queries(values, axis=1)))


def interval(
    values: NDArray[Any],
    cluster: NDArray[Any],
    metric: str,
    rng: np.random.Generator,
    replicates: int = REPLICATES,
) -> Interval:
    """Return a metric and its 95 % interval.

    R@K of one run has the exact binomial interval of
    :func:`xpool.statistics.proportion.share_interval`. Over several runs that of their mean is the
    least that their interval spans.

    Args:
        values: ``(seed, query)`` of :func:`per_query`.
        cluster: ``(query,)`` video of each query.
        metric: one of :data:`xpool.metrics.METRICS` or :data:`xpool.metrics.GRADED`.
        rng: source of the replicates.
        replicates: bootstrap replicates.

    Example:
        >>> import numpy as np
        >>> hits = 100.0 * (np.arange(1000) < 469)[None]
        >>> found = interval(hits, np.arange(1000), "R@1", np.random.default_rng(0))
        >>> round(found.estimate, 1), round(found.low), round(found.high)
        (46.9, 44, 50)
    """
    middle = estimate(values, metric)
    if is_recall(metric):
        low, high = share_interval(values.mean(axis=0), cluster, LEVEL)
        if len(values) == 1:
            return Interval(estimate=middle, low=low, high=high)
    else:
        low, high = middle, middle
    draws, _ = with_error(values, cluster, metric, rng, replicates=replicates)
    ends = quantiles(draws)
    in_percent = is_recall(metric) or metric in GRADED
    least, most = (0.0, 100.0) if in_percent else (1.0, np.inf)
    return Interval(
        estimate=middle,
        low=max(min(low, ends[0]), least),
        high=min(max(high, ends[1]), most),
    )


def quantiles(sample: NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of the two-sided interval at :data:`LEVEL`."""
    low, high = np.quantile(sample, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def with_error(
    values: NDArray[Any],
    cluster: NDArray[Any],
    metric: str,
    rng: np.random.Generator,
    minus: NDArray[Any] | None = None,
    replicates: int = REPLICATES,
) -> tuple[NDArray[np.float64], Error]:
    """Return quantiles of the metric's confidence distribution, and the variances behind them.

    With one seed it is the percentile bootstrap, but for the mean rank or gain of one method, whose
    quantiles are Hall's (:meth:`_Means.skewed`). BCa covers less where a few queries make most of
    the difference of two mean ranks. With several see
    :func:`xpool.statistics.over_seeds.quantiles_over_seeds`.

    Args:
        values: ``(seed, query)`` of :func:`per_query`.
        cluster: ``(query,)`` video of each query.
        metric: one of :data:`xpool.metrics.METRICS`.
        rng: source of the replicates.
        minus: ``(seed, query)`` of another method on the same queries, with seeds of its own; the
            draws are then of the difference ``values - minus``.
        replicates: bootstrap replicates.

    Returns:
        The quantiles ``(replicate,)``, ascending, and the variances.
    """
    kind = _Medians if metric == "MdR" else _Means
    terms = [kind.of(of_method, cluster) for of_method in (values, minus) if of_method is not None]
    n_cluster = len(np.unique(cluster))
    of_seed = [term.weighted(np.ones((1, n_cluster)))[0] for term in terms]
    blocks = [
        [term.weighted(weights) for term in terms]
        for weights in _drawn_weights(n_cluster, replicates, rng)
    ]
    drawn = [np.concatenate(of_term) for of_term in zip(*blocks, strict=True)]
    means = [draws.mean(axis=1) for draws in drawn]
    together = means[0] - means[1] if minus is not None else means[0]  # (replicate,)
    middle = of_seed[0].mean() - (of_seed[1].mean() if minus is not None else 0.0)
    sample = np.sort(together)
    if minus is None and isinstance(terms[0], _Means) and not is_recall(metric):
        sample = middle + terms[0].skewed(replicates)
    error = Error.of(together, drawn, of_seed, n_cluster)
    if max(error.runs) == 1:
        return sample, error
    return middle + quantiles_over_seeds(sample - middle, error), error


def resampled_means(
    values: NDArray[Any], cluster: NDArray[Any], rng: np.random.Generator, replicates: int
) -> NDArray[np.float64]:
    """Return ``(replicate, row)``: means over the queries of clusters drawn with replacement.

    Args:
        values: ``(row, query)``; each draw takes the same clusters for all rows.
        cluster: ``(query,)`` video of each query.
        rng: source of the replicates.
        replicates: how many.
    """
    means = _Means.of(values, cluster)
    drawn = _drawn_weights(len(np.unique(cluster)), replicates, rng)
    return np.concatenate([means.weighted(weights) for weights in drawn])


def _drawn_weights(
    n_cluster: int, replicates: int, rng: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    """Yield blocks ``(replicate, cluster)`` of how often each cluster was drawn."""
    rows = max(1, BLOCK // n_cluster)
    for start in range(0, replicates, rows):
        n = min(rows, replicates - start)
        drawn = rng.integers(n_cluster, size=(n, n_cluster))
        drawn += n_cluster * np.arange(n)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=n * n_cluster)
        yield counts.reshape(n, n_cluster).astype(np.float64)


@dataclass(frozen=True)
class _Means:
    """Means over the queries of weighted clusters."""

    sums: NDArray[np.float64]
    """``(cluster, seed)``"""
    sizes: NDArray[np.float64]
    """``(cluster,)``"""

    @classmethod
    def of(cls, values: NDArray[Any], cluster: NDArray[Any]) -> "_Means":
        numbers = np.unique(cluster, return_inverse=True)[1]
        sums = [np.bincount(numbers, weights=of_seed) for of_seed in values]
        return cls(np.stack(sums, axis=1).astype(float), np.bincount(numbers).astype(float))

    def weighted(self, weights: NDArray[Any]) -> NDArray[np.float64]:
        """Return the statistic ``(replicate, seed)`` for weights ``(replicate, cluster)``."""
        return np.asarray((weights @ self.sums) / (weights @ self.sizes)[:, None])

    def skewed(self, n: int) -> NDArray[np.float64]:
        r"""Return ``(n,)``, ascending: quantiles of the deviation of the mean over runs.

        Few queries of high rank make most of a mean rank and of its variance. The percentile
        bootstrap then ends too low, and covers 90 % in place of 95. With :math:`s` the standard
        error and :math:`g` the skewness of the mean, :math:`g(T) = T + gT^2/3 + g^2T^3/27 + g/6`
        of the studentised mean is nearly normal, so the quantile at :math:`u` is
        :math:`-s\,g^{-1}(z_{1-u})`. Both moments count the video farthest from the mean twice:
        a sample shows too little of a heavy tail.

        Source:
            Hall 1992 (J. R. Statist. Soc. B 54), On the removal of skewness by transformation.
        """
        of_cluster = self.sums.mean(axis=1)
        apart = of_cluster - of_cluster.sum() / self.sizes.sum() * self.sizes
        apart = np.append(apart, apart[np.argmax(np.abs(apart))])
        spread = np.sqrt(np.sum(apart**2))
        if spread == 0:
            return np.zeros(n)
        skewness = float(np.sum(apart**3) / spread**3)
        normal = special.ndtri((np.arange(n) + 0.5) / n)
        reach = normal
        if abs(skewness) > ROUNDING:
            reach = 3 * (1 - np.cbrt(1 - skewness * (normal + skewness / 6))) / skewness
        return np.asarray(spread / self.sizes.sum() * reach)


@dataclass(frozen=True)
class _Medians:
    """Exact medians over the queries of weighted clusters, by counting each distinct value.

    Ranks take few distinct values, so the counts stay small (MSVD: 670 clusters, 1,339 ranks).
    """

    levels: NDArray[np.float64]
    """``(level,)`` distinct values, ascending."""
    counts: NDArray[np.float32]
    """``(seed, cluster, level)``; whole numbers, exact in float32 up to 16 million queries."""

    @classmethod
    def of(cls, values: NDArray[Any], cluster: NDArray[Any]) -> "_Medians":
        numbers = np.unique(cluster, return_inverse=True)[1]
        levels, level = np.unique(values, return_inverse=True)
        n_cluster, n_level = numbers.max() + 1, len(levels)
        cell = numbers * n_level + level.reshape(values.shape)  # (seed, query)
        counts = [np.bincount(c, minlength=n_cluster * n_level) for c in cell]
        shaped = np.reshape(counts, (len(values), n_cluster, n_level))
        return cls(levels.astype(float), shaped.astype(np.float32))

    def weighted(self, weights: NDArray[Any]) -> NDArray[np.float64]:
        """Return the statistic ``(replicate, seed)`` for weights ``(replicate, cluster)``."""
        medians = []
        for of_seed in self.counts:
            below = np.cumsum(weights.astype(np.float32) @ of_seed, axis=1)
            n = below[:, -1:]
            lower = np.argmax(below >= np.floor((n + 1) / 2), axis=1)
            upper = np.argmax(below >= np.floor(n / 2) + 1, axis=1)
            medians.append((self.levels[lower] + self.levels[upper]) / 2)
        return np.stack(medians, axis=1)
