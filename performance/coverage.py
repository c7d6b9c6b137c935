"""How often the intervals cover, and the tests raise a false alarm, where the truth is known.

Simulates ranks of retrieval runs like X-Pool's on MSR-VTT and MSVD, computes their intervals and
tests with ``xpool.statistics.bootstrap`` and ``xpool.statistics.paired``, and prints one table.
Rows marked * show what *not* to do. Takes about ten minutes on an idle core.

``make bench`` runs 60 simulations a case.

Run: ``python -m performance.coverage`` (``--simulations 100`` is faster).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from scipy import special

from performance.measure import Row
from xpool.metrics import METRICS
from xpool.project.command import run_alone
from xpool.project.seeds import seed_for
from xpool.statistics import paired, verdict
from xpool.statistics.bootstrap import estimate, interval, is_recall

GALLERY = 1000
SIMULATIONS = 500
FEW_SIMULATIONS = 60
# Fewer replicates than for a real table; the ends of an interval are 2 % of its width noisier.
DRAWS = 1000
ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class World:
    """Ranks with a known distribution: ``floor(exp(level + spread * z))``, from 1 to 1,000.

    ``z`` is normal with variance 1: the sum of what the video, the caption, the seed, the method's
    taste and chance add to the difficulty of a query.
    """

    n_videos: int = 1000
    captions: tuple[int, int] = (1, 1)
    """Fewest and most captions a video."""
    n_seeds: int = 1
    seed_points: float = 0.0
    """Standard deviation over seeds of R@1, in points."""
    video: float = 0.0
    """Share of the variance that the captions of a video have in common."""
    taste: float = 0.05
    """Share that belongs to a method and is the same in all its runs."""
    chance: float = 0.05
    """Share that belongs to a single run."""
    level: float = 0.84
    """With ``spread``: R@1 46.6, R@10 81.7, MdR 2, MnR 9.9: near X-Pool on MSR-VTT."""
    spread: float = 1.72

    def below(self, rank: NDArray[Any] | float) -> NDArray[np.float64]:
        """Return the probability of a rank up to ``rank``."""
        return np.asarray(special.ndtr((np.log(np.asarray(rank) + 1.0) - self.level) / self.spread))

    def truth(self, metric: str) -> float:
        """Return the metric over infinitely many queries and seeds (MdR: over queries)."""
        if is_recall(metric):
            return float(100 * self.below(float(metric.removeprefix("R@"))))
        until = self.below(np.arange(1, GALLERY))
        return float(1 + np.sum(until < 0.5) if metric == "MdR" else 1 + np.sum(1 - until))

    def draw(self, rng: np.random.Generator, n_methods: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return ranks ``(method, seed, query)`` of equally good methods, and ``(query,)`` videos.

        The seed's share is ``seed_points`` in the unit of ``z``, by the slope of R@1.
        """
        low, high = self.captions
        cluster = np.repeat(np.arange(self.n_videos), rng.integers(low, high + 1, self.n_videos))
        edge = (np.log(2) - self.level) / self.spread
        slope = 100 * np.exp(-(edge**2) / 2) / np.sqrt(2 * np.pi)
        seed = (self.seed_points / slope) ** 2
        own = 1 - self.video - self.taste - self.chance - seed
        n, shape = len(cluster), (n_methods, self.n_seeds)
        z = (
            np.sqrt(self.video) * rng.standard_normal(self.n_videos)[cluster]
            + np.sqrt(own) * rng.standard_normal(n)
            + np.sqrt(self.taste) * rng.standard_normal((n_methods, 1, n))
            + np.sqrt(seed) * rng.standard_normal((*shape, 1))
            + np.sqrt(self.chance) * rng.standard_normal((*shape, n))
        )
        ranks = np.floor(np.exp(self.level + self.spread * z))
        return np.clip(ranks, 1, GALLERY), cluster


MSRVTT = World()
LSMDC = World(level=2.14, spread=2.17)  # R@1 25, MdR 8
MSVD = World(n_videos=670, captions=(20, 63), video=0.4)
SMALL = World(n_videos=100, level=-1.2, spread=1.0)  # R@1 97: a mini benchmark near its ceiling


def seeds(n: int, points: float, world: World = MSRVTT) -> World:
    """Return a world with several seeds."""
    return replace(world, n_seeds=n, seed_points=points)


def values(ranks: NDArray[Any], metric: str) -> NDArray[np.float64]:
    """Return ``(seed, query)`` figures of one method's ranks, without ties."""
    if is_recall(metric):
        return np.asarray(100.0 * (ranks <= int(metric.removeprefix("R@"))))
    return np.asarray(ranks, dtype=float)


@dataclass(frozen=True, kw_only=True)
class Shares:
    """One line of the table: shares of simulations in percent, None where they do not apply."""

    case: str
    covered: float | None = None
    rejected: float | None = None


def one_method(name: str, world: World, metric: str, n: int, naive: str = "") -> Shares:
    """Return how often the interval of one method's metric covers its truth.

    Args:
        name: name of the case, which seeds the simulation.
        world: distribution that is simulated.
        metric: one of :data:`xpool.metrics.METRICS`.
        n: simulations.
        naive: ``captions`` draws captions instead of videos, ``seeds`` ignores the variance over
            seeds, and empty does neither.
    """
    rng = np.random.default_rng(seed_for("coverage", name, metric))
    truth, covered = world.truth(metric), 0
    for _ in range(n):
        ranks, cluster = world.draw(rng, 1)
        figures = values(ranks[0], metric)
        if naive == "captions":
            cluster = np.arange(len(cluster))
        if naive == "seeds":
            figures = figures.mean(axis=0, keepdims=True)
        found = interval(figures, cluster, metric, rng, DRAWS)
        covered += found.low <= truth <= found.high
    return Shares(case=f"{'* ' if naive else ''}{name}, {metric}", covered=100 * covered / n)


def two_methods(name: str, world: World, metric: str, n: int, naive: str = "") -> Shares:
    """Return how often the interval covers a true difference of 0, and how often its test rejects.

    Arguments as :func:`one_method`.
    """
    rng = np.random.default_rng(seed_for("coverage", "paired", name, metric))
    covered, rejected, test = 0, 0, ""
    for _ in range(n):
        ranks, cluster = world.draw(rng, 2)
        first, second = (values(of_method, metric) for of_method in ranks)
        if naive == "captions":
            cluster = np.arange(len(cluster))
        if naive == "seeds":
            first, second = first.mean(axis=0, keepdims=True), second.mean(axis=0, keepdims=True)
        found = paired.compare(first, second, cluster, metric, rng, DRAWS)
        covered += found.ci_low <= 0 <= found.ci_high
        rejected += found.p_value < ALPHA
        test = found.test
    return Shares(
        case=f"{'* ' if naive else ''}{name}, {metric} ({test})",
        covered=100 * covered / n,
        rejected=100 * rejected / n,
    )


def published(name: str, world: World, n: int) -> Shares:
    """Return how often a published run of the same method is called lower or higher."""
    rng = np.random.default_rng(seed_for("coverage", "published", name))
    wrong = 0
    for _ in range(n):
        ranks, _ = replace(world, n_seeds=world.n_seeds + 1).draw(rng, 1)
        runs = np.array([estimate(run[None], "R@1") for run in values(ranks[0], "R@1")])
        word = verdict.verdict(runs[1:], runs[0], ranks.shape[2]).word
        wrong += word in {"lower", "higher"}
    return Shares(case=f"{name}, R@1 (verdict on one more run)", rejected=100 * wrong / n)


ONE, HARD = "1 run × 1,000 queries", "1 run × 1,000 hard queries"
MANY = "1 run × 670 videos, 27,800 captions"


def cases(n: int) -> list[Callable[[], Shares]]:
    """Return the cases of the table, each to be called."""
    found: list[Callable[[], Shares]] = []

    def add(row: Callable[..., Shares], *arguments: Any) -> None:
        found.append(partial(row, *arguments))

    for metric in METRICS:
        add(one_method, ONE, MSRVTT, metric, n)
    for metric in ("R@1", "MdR", "MnR"):
        add(one_method, HARD, LSMDC, metric, n)
        add(two_methods, HARD, LSMDC, metric, n)
    add(one_method, "1 run × 100 queries near the ceiling", SMALL, "R@1", n)
    for metric in ("R@1", "MdR", "MnR"):
        add(one_method, MANY, MSVD, metric, n // 2)
    add(one_method, MANY, MSVD, "R@1", n // 2, "captions")
    for n_seeds, points in ((2, 0.5), (3, 0.0), (3, 0.5), (3, 1.0), (5, 0.5), (5, 1.0)):
        name = f"{n_seeds} seeds ± {points} × 1,000 queries"
        add(one_method, name, seeds(n_seeds, points), "R@1", n)
        add(two_methods, name, seeds(n_seeds, points), "R@1", n)
    name = "3 seeds ± 1.0 × 1,000 queries"
    for metric in ("MdR", "MnR"):
        add(one_method, name, seeds(3, 1.0), metric, n)
        add(two_methods, name, seeds(3, 1.0), metric, n)
    add(one_method, name, seeds(3, 1.0), "R@1", n, "seeds")
    add(two_methods, name, seeds(3, 1.0), "R@1", n, "seeds")
    many = "3 seeds ± 0.5 × 670 videos, 27,800 captions"
    add(two_methods, many, seeds(3, 0.5, MSVD), "R@1", n // 2)
    for metric in ("R@1", "R@10", "MdR", "MnR"):
        add(two_methods, ONE, MSRVTT, metric, n)
    for metric in ("R@1", "MnR"):
        add(two_methods, MANY, MSVD, metric, n // 2)
    add(two_methods, MANY, MSVD, "R@1", n // 2, "captions")
    for n_seeds in (1, 3, 5):
        add(published, f"{n_seeds} run(s) ± 0.7", seeds(n_seeds, 0.7), n)
    return found


def rows(device: torch.device) -> list[Row]:
    """Return all cases with few simulations as rows of ``make bench``, whatever the device.

    With 60 simulations, a share of 95 % is exact to 5.5 points either way.
    """
    return [
        Row(what=f"{kind}: {shares.case}", value=share, unit="%", note=f"nominal: {nominal} %")
        for shares in (case() for case in cases(FEW_SIMULATIONS))
        for kind, share, nominal in (
            ("covered", shares.covered, 95),
            ("rejected", shares.rejected, 5),
        )
        if share is not None
    ]


def line(row: Shares) -> str:
    """Return a line of the Markdown table."""
    covered, rejected = (
        "" if share is None else f"{share:.1f}" for share in (row.covered, row.rejected)
    )
    return f"| {row.case} | {covered} | {rejected} |"


def main(
    simulations: Annotated[int, typer.Option(help="Simulations a case.")] = SIMULATIONS,
) -> None:
    """Print the table, each line as soon as it is known."""
    print("| case | 95 % interval covers, % | 5 % test rejects, % |\n|---|--:|--:|")
    for case in cases(simulations):
        print(line(case()), flush=True)


if __name__ == "__main__":
    run_alone(main)
