"""How often the comparison finds a true difference, and what `xpool power` says of it.

Simulates ranks of two methods that lie a known difference apart, runs the project's comparison on
them (``xpool.statistics.paired``), and holds the share of finds against
``xpool.statistics.power``. Prints one table, in about ten minutes on an idle core.

``make bench`` runs 60 simulations a case.

Run: ``python -m performance.simulations.power`` (``--simulations 200`` is faster).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated

import numpy as np
import torch
import typer

from performance.measure import Row
from performance.simulations.coverage import ALPHA, FEW_SIMULATIONS, MSVD, World, values
from xpool.project.command import run_alone
from xpool.project.seeds import seed_for
from xpool.statistics.paired import compare
from xpool.statistics.power import Pilot, pilot_of, power

SIMULATIONS = 1000
# Fewer replicates than for a real table; the ends of an interval are 4 % of its width noisier.
DRAWS = 500
MANY = 400_000
"""Queries of the one large pilot from which the shares of a case are taken."""
NEAR, FAR = World(taste=0.01, chance=0.02), World(taste=0.15, chance=0.1)
"""Two methods that mostly answer alike, and two that do not; by default they lie between."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Two methods with a true difference, compared with a number of runs each."""

    world: World
    difference: float
    """Points of R@1."""
    comparisons: int = 1
    """Comparisons that Holm's correction is for; this one is the first that it judges."""

    @property
    def alpha(self) -> float:
        """Level of the comparison."""
        return ALPHA / self.comparisons


def _of(
    world: World, queries: int, n_seeds: int, points: float, difference: float, comparisons: int = 1
) -> Case:
    world = replace(world, n_videos=queries, n_seeds=n_seeds, seed_points=points)
    return Case(world=world, difference=difference, comparisons=comparisons)


CASES = (
    _of(World(), 1000, 1, 0.0, 3.0),
    _of(World(), 1000, 1, 1.0, 4.0),
    _of(NEAR, 1000, 1, 0.0, 2.0),
    _of(World(), 1000, 2, 0.3, 4.0),
    _of(World(), 1000, 3, 0.0, 2.0),
    _of(World(), 1000, 3, 0.5, 3.0),
    _of(FAR, 1000, 3, 1.0, 4.0),
    _of(NEAR, 1000, 5, 0.3, 1.5),
    _of(World(), 1000, 5, 1.0, 2.0),
    _of(World(), 200, 3, 0.5, 6.0),
    _of(World(), 2000, 3, 0.3, 2.0),
    _of(World(), 1000, 3, 0.5, 4.0, 3),
    _of(MSVD, 670, 3, 0.5, 2.0),
)


@cache
def pilot(case: Case) -> Pilot:
    """Return the true values of a case: shares of one large pilot, and the spread behind it."""
    world = case.world
    rng = np.random.default_rng(seed_for("power", "pilot", repr(case)))
    many = replace(world, n_seeds=2, n_videos=MANY // (1 if world.captions == (1, 1) else 40))
    ranks, cluster = many.draw(rng, 2, case.difference)
    first, second = (values(of_method, "R@1") for of_method in ranks)
    large = pilot_of(first, second, cluster)
    queries = large.queries * world.n_videos / many.n_videos
    spread = np.sqrt(world.seed_points**2 + 1e4 * large.within / 2 / queries)
    return replace(large, queries=queries, spread=float(spread))


def found(case: Case, n: int) -> float:
    """Return the percent of simulated comparisons that find the better method."""
    rng = np.random.default_rng(seed_for("power", "found", repr(case)))
    finds = 0
    for _ in range(n):
        ranks, cluster = case.world.draw(rng, 2, case.difference)
        first, second = (values(of_method, "R@1") for of_method in ranks)
        one = compare(first, second, cluster, "R@1", rng, DRAWS)
        finds += one.p_value < case.alpha and one.delta > 0
    return 100 * finds / n


def said(case: Case) -> float:
    """Return what the model of the power says, in percent."""
    return 100 * power(pilot(case), case.difference, case.world.n_seeds, case.alpha)


def name(case: Case) -> str:
    """Return the case in words."""
    world = case.world
    captions = "" if world.captions == (1, 1) else " videos with many captions"
    seeds = f"{world.n_seeds} seed{'s' if world.n_seeds > 1 else ''} ± {world.seed_points}"
    holm = f", Holm over {case.comparisons}" if case.comparisons > 1 else ""
    return f"{seeds} × {world.n_videos:,}{captions or ' queries'}{holm}"


def rows(device: torch.device) -> Iterator[Row]:
    """Yield all cases with few simulations as rows of ``make bench``, whatever the device.

    With 60 simulations, a share of 50 % is exact to 13 points either way.
    """
    for case in CASES:
        what = f"found: {name(case)}, {case.difference} points"
        share, note = found(case, FEW_SIMULATIONS), "baseline: what xpool power says"
        yield Row(what=what, value=share, unit="%", baseline=said(case), note=note)


HEADS = (
    "case", "discordance, %", "within, %", "spread, points", "difference, points", "found, %",
    "`xpool power` says, %",
)  # fmt: skip


def main(
    simulations: Annotated[int, typer.Option(help="Simulations a case.")] = SIMULATIONS,
) -> None:
    """Print the table, each line as soon as it is known."""
    print(f"| {' | '.join(HEADS)} |\n|---|{'--:|' * (len(HEADS) - 1)}")
    for case in CASES:
        known = pilot(case)
        figures = (
            100 * known.discordance, 100 * known.within, known.spread, case.difference,
            found(case, simulations), said(case),
        )  # fmt: skip
        cells = [f"{figure:.1f}" for figure in figures]
        print(f"| {' | '.join([name(case), *cells])} |", flush=True)


if __name__ == "__main__":
    run_alone(main)
