"""How often the intervals cover, and the tests raise a false alarm, where the truth is known.

Simulates ranks of retrieval runs like X-Pool's on MSR-VTT and MSVD, computes their intervals and
tests with ``xpool.statistics.bootstrap`` and ``xpool.statistics.paired``, and prints one table.
Rows marked * show what *not* to do. Takes about ten minutes on an idle core.

``make bench`` runs 60 simulations a case.

Run: ``python -m performance.simulations.coverage`` (``--simulations 100`` is faster).
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
from xpool.metrics import METRICS, REPORTED
from xpool.project.command import run_alone
from xpool.project.seeds import seed_for
from xpool.statistics import paired, verdict
from xpool.statistics.bootstrap import estimate, interval, is_recall
from xpool.statistics.files.rank_files import DIRECTIONS
from xpool.statistics.paired import holm

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
    """Standard deviation over seeds of R@1, in points, beside chance in single queries."""
    uneven: float = 1.0
    """The second method's standard deviation over seeds, as a multiple of the first's."""
    video: float = 0.0
    """Share of the variance that the captions of a video have in common."""
    taste: float = 0.05
    """Share that belongs to a method and is the same in all its runs."""
    chance: float = 0.05
    """Share that belongs to a single run."""
    level: float = 0.84
    """Mean of the logarithm of a query's rank; with ``spread`` it gives R@1 46.6, R@10 81.7, MdR 2,
    MnR 9.9: near X-Pool on MSR-VTT."""
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

    def draw(
        self, rng: np.random.Generator, n_methods: int, lead: float = 0.0
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return ranks ``(method, seed, query)`` and ``(query,)`` videos.

        The seed's share is ``seed_points`` in the unit of ``z``, by the slope of R@1. All methods
        are equally good, but that the last leads by ``lead`` points of R@1.
        """
        low, high = self.captions
        cluster = np.repeat(np.arange(self.n_videos), rng.integers(low, high + 1, self.n_videos))
        edge = (np.log(2) - self.level) / self.spread
        slope = 100 * np.exp(-(edge**2) / 2) / np.sqrt(2 * np.pi)
        scale = np.array([1.0, self.uneven, 1.0])[:n_methods, None, None]
        seed = (self.seed_points * scale / slope) ** 2
        own = 1 - self.video - self.taste - self.chance - seed
        n, shape = len(cluster), (n_methods, self.n_seeds)
        z = (
            np.sqrt(self.video) * rng.standard_normal(self.n_videos)[cluster]
            + np.sqrt(own) * rng.standard_normal((1, 1, n))
            + np.sqrt(self.taste) * rng.standard_normal((n_methods, 1, n))
            + np.sqrt(seed) * rng.standard_normal((*shape, 1))
            + np.sqrt(self.chance) * rng.standard_normal((*shape, n))
        )
        better = special.ndtri(special.ndtr(edge) + lead / 100) - edge
        z[-1] -= better
        ranks = np.floor(np.exp(self.level + self.spread * z))
        return np.clip(ranks, 1, GALLERY), cluster


MSRVTT = World()
LSMDC = World(level=2.14, spread=2.17)  # R@1 25, MdR 8
MSVD = World(n_videos=670, captions=(20, 63), video=0.4)
RARE = World(n_videos=200, level=4.69, spread=1.72)  # R@1 1
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
    quiet_covered: float | None = None
    """The same in the quarter of simulations whose runs lie closest together."""
    quiet_rejected: float | None = None
    found: float | None = None
    """Differences as large as the smallest detectable one that are found; 80 is the goal."""
    contradicted: float | None = None
    """Intervals that exclude 0 where the test does not reject, or the other way round."""


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
    truth, outcomes = world.truth(metric), []
    for _ in range(n):
        ranks, cluster = world.draw(rng, 1)
        figures = values(ranks[0], metric)
        spread = apart(figures, metric)
        if naive == "captions":
            cluster = np.arange(len(cluster))
        if naive == "seeds":
            figures = figures.mean(axis=0, keepdims=True)
        found = interval(figures, cluster, metric, rng, DRAWS)
        outcomes.append((spread, found.low <= truth <= found.high))
    covered = np.array(outcomes)
    return Shares(
        case=f"{'* ' if naive else ''}{name}, {metric}",
        covered=100 * covered[:, 1].mean(),
        quiet_covered=100 * quiet(covered)[:, 1].mean() if world.n_seeds > 1 else None,
    )


def two_methods(name: str, world: World, metric: str, n: int, naive: str = "") -> Shares:
    """Return how often the interval covers a true difference of 0, and how often its test rejects.

    Each simulation's smallest detectable difference is then the true one of another. Arguments as
    :func:`one_method`.
    """
    rng = np.random.default_rng(seed_for("coverage", "paired", name, metric))

    def compared(lead: float) -> tuple[paired.Comparison, float]:
        ranks, cluster = world.draw(rng, 2, lead)
        first, second = (values(of_method, metric) for of_method in ranks)
        spread = apart(first, metric) + apart(second, metric)
        if naive == "captions":
            cluster = np.arange(len(cluster))
        if naive == "seeds":
            first, second = first.mean(axis=0, keepdims=True), second.mean(axis=0, keepdims=True)
        return paired.compare(first, second, cluster, metric, rng, DRAWS), spread

    outcomes, test = [], ""
    for _ in range(n):
        one, spread = compared(0.0)
        covers, rejects = one.ci_low <= 0 <= one.ci_high, one.p_value < ALPHA
        found = np.nan
        if metric == "R@1" and not naive and one.detectable is not None:
            found = compared(one.detectable)[0].p_value < ALPHA
        outcomes.append((spread, covers, rejects, covers == rejects, found))
        test = one.test
    everything = np.array(outcomes, dtype=float)
    means, still = 100 * everything.mean(axis=0), 100 * quiet(everything).mean(axis=0)
    several = world.n_seeds > 1
    return Shares(
        case=f"{'* ' if naive else ''}{name}, {metric} ({test})",
        covered=means[1],
        rejected=means[2],
        contradicted=means[3],
        found=None if np.isnan(means[4]) else means[4],
        quiet_covered=still[1] if several else None,
        quiet_rejected=still[2] if several else None,
    )


def apart(figures: NDArray[Any], metric: str) -> float:
    """Return how far the runs of one method lie apart: the variance of their figures."""
    return float(np.var([estimate(run[None], metric) for run in figures]))


def quiet(outcomes: NDArray[Any]) -> NDArray[Any]:
    """Return the quarter of the simulations whose first column, the spread, is smallest."""
    return np.asarray(outcomes[np.argsort(outcomes[:, 0], kind="stable")[: -(-len(outcomes) // 4)]])


def false_marks(name: str, world: World, n: int) -> list[Shares]:
    """Return how many tables of three equally good methods have a mark, in the table and a column.

    A table has both directions, five metrics and three pairs. Two pairs are with X-Pool, whose
    differences are marked. Both directions have seeds and videos of their own here, which makes
    marks a little likelier than in a table.
    """
    rng = np.random.default_rng(seed_for("coverage", "marks", name))
    pairs = ((0, 1), (0, 2), (1, 2))
    marks = []
    for _ in range(n):
        columns = []
        for _direction in DIRECTIONS:
            ranks, cluster = world.draw(rng, 3)
            for metric in REPORTED:
                figures = [values(of_method, metric) for of_method in ranks]
                p_values = [
                    paired.compare(figures[a], figures[b], cluster, metric, rng, DRAWS).p_value
                    for a, b in pairs
                ]
                columns.append(holm(np.array(p_values))[:2] < ALPHA)
        marks.append((columns[0].any(), np.any(columns)))
    of_column, of_table = 100 * np.mean(marks, axis=0)
    three = 100 * (1 - (1 - of_table / 100) ** 3)
    return [
        Shares(case=f"{name}: † in the primary column, t2v R@1", rejected=of_column),
        Shares(case=f"{name}: † anywhere in a table of ten columns", rejected=of_table),
        Shares(case=f"{name}: † anywhere in three such tables", rejected=three),
    ]


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
MARKS = "three equal methods, 3 seeds ± 0.3 × 300 queries"
MARKED = World(n_videos=300)


def cases(n: int) -> list[partial[Shares]]:
    """Return the cases of the table, each to be called."""
    found: list[partial[Shares]] = []

    def add(row: Callable[..., Shares], *arguments: Any) -> None:
        found.append(partial(row, *arguments))

    for metric in METRICS:
        add(one_method, ONE, MSRVTT, metric, n)
    for metric in ("R@1", "MdR", "MnR"):
        add(one_method, HARD, LSMDC, metric, n)
        add(two_methods, HARD, LSMDC, metric, n)
    for metric in ("R@1", "MnR"):
        add(one_method, "1 run × 100 queries near the ceiling", SMALL, metric, n)
    for n_query in (60, 300):
        world = World(n_videos=n_query)
        add(one_method, f"1 run × {n_query} queries", world, "MnR", n)
    for metric in ("R@1", "MdR", "MnR"):
        add(one_method, MANY, MSVD, metric, n // 2)
    add(one_method, MANY, MSVD, "R@1", n // 2, "captions")
    for n_seeds in (2, 3, 5):
        for points in (0.0, 0.3, 1.0, 1.5):
            name = f"{n_seeds} seeds ± {points} × 1,000 queries"
            add(one_method, name, seeds(n_seeds, points), "R@1", n)
            add(two_methods, name, seeds(n_seeds, points), "R@1", n)
    unlike = replace(seeds(3, 0.3), uneven=3.3)
    add(two_methods, "3 seeds ± 0.3 against 3 ± 1.0 × 1,000 queries", unlike, "R@1", n)
    name = "3 seeds ± 1.0 × 1,000 queries"
    for metric in ("MdR", "MnR"):
        add(one_method, name, seeds(3, 1.0), metric, n)
        add(two_methods, name, seeds(3, 1.0), metric, n)
    add(one_method, name, seeds(3, 1.0), "R@1", n, "seeds")
    add(two_methods, name, seeds(3, 1.0), "R@1", n, "seeds")
    many = "3 seeds ± 0.3 × 670 videos, 27,800 captions"
    add(two_methods, many, seeds(3, 0.3, MSVD), "R@1", n // 2)
    add(one_method, "2 seeds ± 0.0 × 200 queries at 1 %", seeds(2, 0.0, RARE), "R@1", n)
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
            ("covered where runs agree", shares.quiet_covered, 95),
            ("rejected where runs agree", shares.quiet_rejected, 5),
            ("detectable differences found", shares.found, 80),
        )
        if share is not None
    ]


HEADS = (
    "case", "95 % interval covers, %", "5 % test rejects, %", "covers where runs agree, %",
    "rejects where runs agree, %", "finds the detectable, %", "interval against p, %",
)  # fmt: skip


def line(row: Shares) -> str:
    """Return a line of the Markdown table."""
    shares = (
        row.covered, row.rejected, row.quiet_covered, row.quiet_rejected, row.found,
        row.contradicted,
    )  # fmt: skip
    cells = ["" if share is None else f"{share:.1f}" for share in shares]
    return f"| {' | '.join([row.case, *cells])} |"


def main(
    simulations: Annotated[int, typer.Option(help="Simulations a case.")] = SIMULATIONS,
    only: Annotated[str, typer.Option(help="Cases whose name has this.")] = "",
) -> None:
    """Print the table, each line as soon as it is known."""
    print(f"| {' | '.join(HEADS)} |\n|---|{'--:|' * (len(HEADS) - 1)}")
    for case in cases(simulations):
        if only in case.args[0]:
            print(line(case()), flush=True)
    if only in MARKS:
        for row in false_marks(MARKS, seeds(3, 0.3, MARKED), simulations // 2):
            print(line(row), flush=True)


if __name__ == "__main__":
    run_alone(main)
