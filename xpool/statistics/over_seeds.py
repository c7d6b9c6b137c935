"""Intervals over seeds and videos, and the smallest difference that they could find.

Works on a bootstrap over videos and reads no files. A figure has three variances:

- over the videos, for these runs (the bootstrap's): hundreds of videos, well known;
- of the runs' own figures over their number: from often three runs, so Student's t;
- what chance in single queries makes of one run or another. It is part of both of the others and
  is counted once.

``docs/results/statistics.md`` has the formulas, and how often the intervals cover.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

LEVEL = 0.95
POWER = 0.8
ROUNDING = 1e-9
"""Figures of runs that lie no farther apart are equal but for the last digits of floats."""
LEAST_SEEDS = 2.0
"""The seeds' own variance is taken as at least so many times what chance in single queries makes.

Runs that agree by luck would else give an interval that covers less often than it says. With 2, it
covers 94 to 96 % in the quarter of tables whose runs agree most, with two runs to five and a spread
over seeds of 1 point of R@1 on 1,000 queries (1.5 points: 88 to 93 %); where seeds make no
difference it then covers 99 %. No factor gives 95 in both.
"""

SURE = 0.75
"""Share of the estimated degrees of freedom that the smallest detectable difference relies on.

They are too many where runs agree by luck. With 0.75, such a difference is found in 75 to 84 % of
tables, with two runs to five and a spread over seeds from 0 to 1.5 points of R@1.
"""


@dataclass(frozen=True, kw_only=True)
class Error:
    """Variances of a figure that is a mean over runs, or the difference of two such."""

    videos: float
    """Over the videos, for these runs."""
    chance: float
    """The part of ``videos`` that differs from run to run."""
    seeds: tuple[float, ...]
    """Variance of the runs' figures over their number; one a method, 0 for a single run."""
    runs: tuple[int, ...]
    """Number of runs, one a method."""
    n_cluster: int

    @classmethod
    def of(
        cls,
        together: NDArray[np.float64],
        drawn: Sequence[NDArray[np.float64]],
        of_seed: Sequence[NDArray[np.float64]],
        n_cluster: int,
    ) -> "Error":
        """Return the variances of a bootstrap over videos.

        Seeds of two methods are not paired: equal numbers mean nothing to different methods.

        Args:
            together: ``(replicate,)`` the figure in each draw.
            drawn: ``(replicate, seed)`` of each method: the figure of each run in each draw.
            of_seed: ``(seed,)`` of each method: the figure of each run on all videos.
            n_cluster: number of videos.
        """
        chance = 0.0
        for draws in drawn:
            n_seed = draws.shape[1]
            if n_seed > 1:
                apart = draws - draws.mean(axis=1, keepdims=True)
                chance += float(apart.var(axis=0).sum()) / (n_seed - 1) / n_seed
        return cls(
            videos=float(together.var()),
            chance=chance,
            seeds=tuple(
                float(runs.var(ddof=1)) / len(runs) if np.ptp(runs) > ROUNDING else 0.0
                for runs in of_seed
            ),
            runs=tuple(map(len, of_seed)),
            n_cluster=n_cluster,
        )

    @property
    def shared(self) -> float:
        """Variance over the videos of what all runs of a method have in common."""
        return max(0.0, self.videos - self.chance)

    @property
    def total(self) -> float:
        """Variance over videos and seeds."""
        return self.shared + sum(self.seeds)

    @property
    def least(self) -> float:
        """Least variance that an interval stands for, never below that over the videos alone."""
        return self.videos + LEAST_SEEDS * self.chance

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the total variance: Welch and Satterthwaite's.

        Source:
            Welch 1947 (Biometrika 34): variances that differ, each with its own degrees of freedom.
        """
        parts = [(self.shared, max(1, self.n_cluster - 1))]
        parts += [(v, n - 1) for v, n in zip(self.seeds, self.runs, strict=True) if n > 1]
        weight = sum(variance**2 / freedom for variance, freedom in parts)
        return self.total**2 / weight if weight > 0 else float(max(1, self.n_cluster - 1))


def quantiles_over_seeds(sample: NDArray[np.float64], error: Error) -> NDArray[np.float64]:
    r"""Return ``(replicate,)``, ascending: quantiles of a figure's deviation from its estimate.

    With :math:`V` the total variance, :math:`w` the share of it that the videos have, :math:`B_u`
    the bootstrap's quantile in standard units and :math:`T_u`, :math:`z_u` those of Student's t and
    the normal, the quantile at :math:`u` is the one farther from 0 of

    .. math:: \sqrt{V} \left(w B_u \frac{T_u}{z_u} + (1 - w) T_u\right)
        \quad\text{and}\quad \sqrt{V_\text{least}} B_u

    Args:
        sample: ``(replicate,)``, ascending: the bootstrap's deviations from the estimate.
        error: the variances.
    """
    shape = sample / np.sqrt(error.videos) if error.videos > 0 else np.zeros(len(sample))
    least = np.sqrt(error.least) * shape
    if error.total == 0:
        return np.asarray(least)
    at = (np.arange(len(sample)) + 0.5) / len(sample)
    student, normal = special.stdtrit(error.freedom, at), special.ndtri(at)
    stretch = np.divide(student, normal, out=np.ones(len(at)), where=normal != 0)
    share = error.shared / error.total
    wide = np.sqrt(error.total) * (share * shape * stretch + (1 - share) * student)
    farther = np.where(at < 0.5, np.minimum(wide, least), np.maximum(wide, least))
    return np.maximum.accumulate(farther)


def detectable_over_seeds(error: Error) -> float:
    """Return the smallest true difference that :data:`POWER` of such comparisons find.

    Two-sided at 5 %. The spread of other runs will be estimated anew, and the spread at hand is an
    estimate too: both are averaged over.
    """
    step = 4 * np.log2(max(1.0, SURE * error.freedom))  # tabulated at quarters of an octave
    before, part = int(step), step % 1
    needed = (1 - part) * _standard_errors(before) + part * _standard_errors(before + 1)
    by_t = needed * np.sqrt(error.total)
    by_least = special.ndtri((1 + LEVEL) / 2) * np.sqrt(error.least)
    by_least += special.ndtri(POWER) * np.sqrt(max(error.total, error.videos))
    return float(max(by_t, by_least))


@lru_cache(maxsize=256)
def _standard_errors(step: int) -> float:
    """Return how many estimated standard errors a t-test finds in :data:`POWER` of cases.

    Averages the power, a noncentral t probability, over the estimate of the standard error.

    Args:
        step: quarters of an octave of the degrees of freedom.
    """
    freedom = 2 ** (step / 4)
    at = (np.arange(50) + 0.5) / 50
    estimated = np.sqrt(special.chdtri(freedom, at) / freedom)
    critical = special.stdtrit(freedom, (1 + LEVEL) / 2)
    low, high = 0.0, 64.0
    for _ in range(20):
        middle = (low + high) / 2
        missed = special.nctdtr(freedom, middle * estimated, critical)
        missed = np.nan_to_num(missed)  # NaN where it underflows
        low, high = (low, middle) if 1 - missed.mean() > POWER else (middle, high)
    return high
