r"""How likely the comparison of two methods is to find a difference in R@1, before any run.

Works on a few numbers and reads no files. It is the power of :mod:`xpool.statistics.paired`, at the
values that a pilot has measured. In the unit of shares, with n queries, K runs a method, D the true
difference, P the share of queries that a run of the one method and a run of the other answer
differently, Q that of two runs of one method, and S the standard deviation of R@1 over runs:

.. math::
    V_\text{chance} = Q / n K \qquad
    V_\text{shared} = (P - D^2 - Q) / n \qquad
    V = V_\text{shared} + 2 S^2 / K

**Several runs each.** The comparison finds the difference that it sees, d, if it exceeds
:math:`c = \max(t \hat V^{1/2}, z (V_\text{shared} + 3 V_\text{chance})^{1/2})`, where
:math:`\hat V` has the two estimated variances over runs, :math:`S^2 \chi^2_{K-1} / (K-1)` each, and
t their degrees of freedom (:class:`xpool.statistics.over_seeds.Error`). d is normal around D with
variance V and independent of :math:`\hat V`. The power is the mean of
:math:`\Phi((D - c) / V^{1/2})` over :math:`\hat V`. For one variance with fixed degrees of freedom
this mean is the noncentral t probability.

**One run each.** Exact McNemar takes the two runs for the methods, so the seeds are luck: the power
is the mean of :func:`xpool.statistics.one_run.mcnemar_power` over the difference of the runs,
normal around D with variance :math:`2 (S^2 - Q / 2n)`.

Source:
    Johnson, Kotz and Balakrishnan 1995, Continuous Univariate Distributions 2, ch. 31: the power of
    a t-test as a mean over the estimated variance. Satterthwaite 1946 (Biometrics Bulletin 2): the
    degrees of freedom. ``performance/simulations/power.py`` holds both cases against the comparison
    itself.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from xpool.statistics.one_run import ALPHA, mcnemar_power
from xpool.statistics.over_seeds import POWER, Error

MIDPOINTS = 40
"""Quantiles that stand for a distribution. Twice as many move no power by 0.2 points."""
MOST_SEEDS = 1024
RANGE = 0.8
"""Probability of the range of a measured spread."""


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """Figures of two methods' R@1 in runs that are there, from which the power follows."""

    queries: float
    """Independent queries: fewer than the captions where these cluster by video."""
    discordance: float
    """Share of queries that a run of one method and a run of the other answer differently."""
    within: float
    """Share of queries that two runs of one method answer differently."""
    spread: float
    """Standard deviation of a method's R@1 over runs, in points, with chance in single queries."""

    @property
    def chance(self) -> float:
        """Variance of one run's R@1 that comes from chance in single queries, in points squared."""
        return 1e4 * self.within / 2 / self.queries

    @property
    def of_a_run(self) -> float:
        """Variance of one run's R@1 on given queries, in points squared; chance is in it."""
        return max(self.spread**2, self.chance)

    def shared(self, difference: float) -> float:
        """Return the variance that the runs share, of two methods that lie ``difference`` apart."""
        share = difference / 100
        discordance = max(self.discordance, abs(share))
        return max(0.0, 1e4 * (discordance - share**2) / self.queries - 2 * self.chance)


def pilot_of(first: NDArray[Any], second: NDArray[Any], cluster: NDArray[Any]) -> Pilot:
    """Return what two methods show of their R@1.

    Two queries that answer differently count 1, and where the right answer ties, the square of the
    difference of the two chances. The spread is the root of the mean variance of the two methods.

    Args:
        first: ``(seed, query)`` of :func:`xpool.statistics.bootstrap.per_query` for R@1.
        second: the same for the other method, queries in the same order.
        cluster: ``(query,)`` video of each query.

    Returns:
        The measured values; ``within`` and ``spread`` are NaN with one run each.

    Example:
        >>> first = 100.0 * np.array([[1, 0, 0, 0], [1, 1, 0, 0]])
        >>> second = 100.0 * np.array([[1, 1, 1, 0], [1, 1, 1, 0]])
        >>> pilot = pilot_of(first, second, np.arange(4))
        >>> round(pilot.queries, 1), pilot.discordance, pilot.within, round(pilot.spread, 1)
        (4.0, 0.375, 0.125, 12.5)
    """
    numbers = np.unique(cluster, return_inverse=True)[1]
    apart, variance, spread_out = [], [], []
    for one, other in itertools.product(first, second):
        difference = (other - one) / 100
        apart.append(np.mean(difference**2))
        spread_out.append(np.var(difference))
        centred = np.bincount(numbers, weights=difference - difference.mean())
        variance.append(np.sum(centred**2) / len(difference) ** 2)
    inside = [
        np.mean((one - other) ** 2) / 1e4
        for runs in (first, second)
        for one, other in itertools.combinations(runs, 2)
    ]
    several = min(len(first), len(second)) > 1
    over_runs = [runs.mean(axis=1).var(ddof=1) for runs in (first, second)] if several else []
    clustered = float(np.sum(spread_out) / np.sum(variance)) if np.any(variance) else 0.0
    return Pilot(
        queries=clustered or float(len(np.unique(cluster))),
        discordance=float(np.mean(apart)),
        within=float(np.mean(inside)) if several else np.nan,
        spread=float(np.sqrt(np.mean(over_runs))) if several else np.nan,
    )


def power(pilot: Pilot, difference: float, n_seeds: int, alpha: float = ALPHA) -> float:
    """Return the probability that the comparison finds the second method better.

    Args:
        pilot: what is known of the methods.
        difference: true difference in R@1, in points.
        n_seeds: runs of each method.
        alpha: two-sided level at which the comparison is judged.

    Example:
        >>> pilot = Pilot(queries=1000, discordance=0.13, within=0.09, spread=0.9)
        >>> [round(power(pilot, 2.0, n), 2) for n in (1, 3, 10)]
        [0.41, 0.34, 0.7]
    """
    if n_seeds == 1:
        return _of_one_run(pilot, difference, alpha)
    queries = round(pilot.queries)
    shared, run = pilot.shared(difference), pilot.of_a_run / n_seeds
    chance = 2 * pilot.chance / n_seeds
    estimated = special.chdtri(n_seeds - 1, _midpoints()) / (n_seeds - 1) * run
    critical = []
    for seeds in itertools.product(estimated, repeat=2):
        error = Error(
            videos=shared + chance, chance=chance, seeds=seeds, runs=(n_seeds, n_seeds),
            n_cluster=queries,
        )  # fmt: skip
        by_t = special.stdtrit(error.freedom, 1 - alpha / 2) * np.sqrt(error.total)
        critical.append(max(by_t, special.ndtri(1 - alpha / 2) * np.sqrt(error.least)))
    return _beyond(difference - np.array(critical), shared + 2 * run)


def _of_one_run(pilot: Pilot, difference: float, alpha: float) -> float:
    """Return the power of exact McNemar, averaged over the luck of the two seeds."""
    queries = round(pilot.queries)
    seeds = 2 * (pilot.of_a_run - pilot.chance)
    differences = difference + np.sqrt(seeds) * special.ndtri(_midpoints())
    discordant = pilot.discordance * queries
    return float(
        np.mean([mcnemar_power(discordant, d / 100 * queries, queries, alpha) for d in differences])
    )


def ceiling(pilot: Pilot, difference: float, alpha: float = ALPHA) -> float:
    """Return the power with any number of seeds: only the queries are left to chance."""
    shared = pilot.shared(difference)
    critical = special.stdtrit(max(1.0, pilot.queries - 1), 1 - alpha / 2) * np.sqrt(shared)
    return _beyond(np.array(difference - critical), shared)


def seeds_needed(pilot: Pilot, difference: float, alpha: float = ALPHA) -> int | None:
    """Return the fewest runs of each method, two or more, with a power of :data:`POWER`.

    Returns:
        None where :data:`MOST_SEEDS` are not enough.
    """
    few, enough = 1, 2
    while power(pilot, difference, enough, alpha) < POWER:
        few, enough = enough, 2 * enough
        if enough > MOST_SEEDS or ceiling(pilot, difference, alpha) < POWER:
            return None
    while enough - few > 1:
        middle = (few + enough) // 2
        found = power(pilot, difference, middle, alpha) >= POWER
        few, enough = (few, middle) if found else (middle, enough)
    return enough


def queries_needed(pilot: Pilot, difference: float, alpha: float = ALPHA) -> int:
    """Return how many queries like the pilot's have a :func:`ceiling` of :data:`POWER`."""
    errors = special.ndtri(1 - alpha / 2) + special.ndtri(POWER)  # that the difference spans
    return int(np.ceil(pilot.queries * pilot.shared(difference) * (errors / difference) ** 2))


def spread_range(spread: float, n_seeds: int) -> tuple[float, float]:
    """Return the range that holds the true spread over seeds in :data:`RANGE` of pilots.

    Args:
        spread: root of the mean variance of two methods.
        n_seeds: runs of each.

    Example:
        >>> low, high = spread_range(1.0, 3)
        >>> round(low, 2), round(high, 2)
        (0.72, 1.94)
    """
    freedom = 2 * (n_seeds - 1)
    ends = special.chdtri(freedom, [(1 - RANGE) / 2, (1 + RANGE) / 2])
    low, high = spread * np.sqrt(freedom / ends)
    return float(low), float(high)


def _midpoints() -> NDArray[np.float64]:
    return (np.arange(MIDPOINTS) + 0.5) / MIDPOINTS


def _beyond(excess: NDArray[np.float64], variance: float) -> float:
    """Return how often a normal deviation of this variance is above minus ``excess``, on average.

    Args:
        excess: true difference less each critical value.
        variance: of the difference that a comparison sees.
    """
    if variance == 0:
        return float(np.mean(excess > 0))
    return float(np.mean(special.ndtr(excess / np.sqrt(variance))))
