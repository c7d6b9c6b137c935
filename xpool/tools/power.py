"""The command ``xpool power``: what a comparison can find, before anything is trained.

The pilot is any two methods of the results in force; values given by hand replace the pilot's. The
model is in :mod:`xpool.statistics.power`.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from xpool.project.errors import InputError

# The modules that compute are imported where they are used, so that --help answers at once.
if TYPE_CHECKING:
    from xpool.statistics.power import Pilot

BY_HAND = "--queries, --discordance and --seed-spread"
NEEDED = {"queries", "discordance", "spread"}
FAR = 10.0
"""Points from which a lead makes many queries discordant by itself."""


def main(
    method_difference: Annotated[
        float,
        typer.Option(min=0.01, max=100, help="True difference in t2v R@1 to be found, in points."),
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Planned runs of each method.")],
    benchmark: Annotated[str | None, typer.Option(help="Benchmark of the pilot.")] = None,
    pilot: Annotated[str, typer.Option(help="One method of the pilot.")] = "xpool",
    against: Annotated[str, typer.Option(help="The other method of the pilot.")] = "mean_pool",
    queries: Annotated[
        int | None, typer.Option(min=1, help="By hand: number of queries, one a video.")
    ] = None,
    discordance: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="By hand: percent of queries that only one of two "
                     "runs answers, a run of each method."),
    ] = None,
    within: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="By hand: the same percent for two runs of one method; "
                     "0 if no pilot says more, with which the power is least."),
    ] = None,
    seed_spread: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="By hand: standard deviation of a method's R@1 over "
                     "seeds, in points."),
    ] = None,
    holm: Annotated[
        int, typer.Option(min=1, help="Comparisons that Holm's correction is for.")
    ] = 1,
) -> None:  # fmt: skip
    """Say how likely a difference is to be found.

    Queries, discordance and spread over seeds come from the results of the setting in force. Values
    by hand replace them; with --queries, --discordance and --seed-spread no results are needed.

    Example: xpool power --benchmark msrvtt --method-difference 2.0 --seeds 3

    Example: xpool power --queries 1000 --discordance 13 --seed-spread 0.9 --method-difference 2.0
    --seeds 3
    """
    from dataclasses import asdict

    from xpool.statistics.power import Pilot

    shares = {"discordance": discordance, "within": within}
    given = {name: share / 100 for name, share in shares.items() if share is not None}
    counts = {"queries": queries, "spread": seed_spread}
    given |= {name: float(count) for name, count in counts.items() if count is not None}
    measured, runs, heading = {}, 1, "By hand:"
    if not set(given) >= NEEDED:
        found, runs, heading = _measured(benchmark, pilot, against, "spread" in given)
        measured = asdict(found)
    unknown = {"within": 0.0} if runs == 1 else {}
    known = Pilot(**(measured | unknown | given))
    print(heading)
    spread_runs = 1 if "spread" in given else runs
    lines = [*_values(known), "", *_found(known, method_difference, seeds, holm, spread_runs)]
    if unknown.keys() - given:
        lines.append(
            "Without --within, two seeds are taken to answer the same queries. Where they do not, "
            "several runs find more than is said here."
        )
    print("\n".join(lines))


def _measured(
    benchmark: str | None, pilot: str, against: str, spread_given: bool
) -> tuple["Pilot", int, str]:
    """Return what the results in force show, the number of runs of each method, and a heading.

    Raises:
        InputError: an argument is missing or unknown, or there are no such results.
    """
    import numpy as np

    from xpool.project.params import read, setting
    from xpool.report.protocol import SYNTHETIC, method_name
    from xpool.statistics.bootstrap import per_query
    from xpool.statistics.power import pilot_of
    from xpool.statistics.results import read_runs

    if benchmark is None:
        raise InputError(f"--benchmark names the pilot's; without a pilot, give {BY_HAND}")
    methods = ["xpool", *read("baselines", list[str])]
    for option, name, known in (
        ("--benchmark", benchmark, read("benchmarks", list[str])),
        ("--pilot", pilot, methods),
        ("--against", against, methods),
    ):
        if name not in known:
            raise InputError(f"{option} {name}: not in params.yaml, which lists {', '.join(known)}")
    if pilot == against:
        raise InputError(f"--against {against}: the same as --pilot; a pilot is of two methods")
    seeds = sorted(read("seeds", list[int]))
    if len(seeds) == 1 and not spread_given:
        raise InputError(
            "params.yaml seeds: one seed shows no spread; list two or more, or give --seed-spread"
        )
    try:
        runs, queries = read_runs(setting(), benchmark, [against, pilot], seeds)
    except InputError as error:
        raise InputError(f"{error}, or give {BY_HAND}") from error
    first, second = (
        np.stack([per_query(of_seed, "R@1") for of_seed in runs["t2v"][name]])
        for name in (against, pilot)
    )
    lead = second.mean() - first.mean()
    mark = f"{SYNTHETIC}. " if setting() == "mini" else ""
    heading = (
        f"{mark}Pilot on {benchmark}, {_runs(len(seeds))}: {method_name(pilot)} with t2v R@1 "
        f"{second.mean():.1f}, {method_name(against)} with {first.mean():.1f}."
    )
    if abs(lead) > FAR:
        heading += (
            f" They lie {abs(lead):.1f} points apart, so more queries are discordant than between "
            "closer methods, and closer methods are told apart more easily than is said here."
        )
    return pilot_of(first, second, queries["t2v"].video), len(seeds), heading


def _values(known: "Pilot") -> Iterator[str]:
    """Yield a line for each value that the power follows from."""
    yield f"  queries      {known.queries:8,.0f}    each of another video, or worth as much"
    yield f"  discordance  {100 * known.discordance:8.1f} %  answered by one of two methods only"
    yield f"  within       {100 * known.within:8.1f} %  answered by one of two seeds only"
    yield f"  seed spread  {known.spread:8.2f}    points of R@1, standard deviation"


def _found(
    known: "Pilot", difference: float, seeds: int, holm: int, spread_runs: int
) -> Iterator[str]:
    """Yield the answer, a sentence a line.

    Args:
        known: what the power follows from.
        difference: true difference in points.
        seeds: runs of each method.
        holm: comparisons that are corrected for.
        spread_runs: runs of each method behind the spread; 1 if it was given.
    """
    from dataclasses import replace

    from xpool.statistics.one_run import ALPHA
    from xpool.statistics.power import power, spread_range

    alpha = ALPHA / holm
    chance = power(known, difference, seeds, alpha)
    yield (
        f"A true difference of {difference:g} points in t2v R@1 is found in {_percent(chance)} of "
        f"comparisons with {_runs(seeds)}."
    )
    if seeds == 1:
        equal = 2 * power(known, 0.0, 1, alpha)
        yield (
            "One run each: luck with the seeds passes for the methods. Of equal methods, "
            f"{_percent(equal)} are found to differ."
        )
    if spread_runs > 1:
        low, high = spread_range(known.spread, spread_runs)
        least, most = (
            _percent(power(replace(known, spread=spread), difference, seeds, alpha))
            for spread in (high, low)
        )
        yield (
            f"{_runs(spread_runs).capitalize()} show the spread only roughly: in 80 % of pilots "
            f"like this it is {low:.2f} to {high:.2f} points, and the power {least} to {most}."
        )
    yield _needed(known, difference, alpha)
    yield (
        "Level: 5 % two-sided, for one comparison that is declared beforehand."
        if holm == 1
        else f"Level: 5 % two-sided over {holm} comparisons with Holm's correction, whose first "
        f"step asks for p < {alpha:.2g}."
    )


def _needed(known: "Pilot", difference: float, alpha: float) -> str:
    """Say how many runs the usual power takes, or which limit the queries set."""
    from xpool.statistics.over_seeds import POWER
    from xpool.statistics.power import MOST_SEEDS, ceiling, queries_needed, seeds_needed

    needed, most = seeds_needed(known, difference, alpha), ceiling(known, difference, alpha)
    if needed is not None:
        return f"{_percent(POWER)} take {_runs(needed)}."
    if most >= POWER:
        return f"{_percent(POWER)} take more than {MOST_SEEDS:,} runs each."
    return (
        f"No number of seeds gives {_percent(POWER)}: these queries allow {_percent(most)}, and "
        f"{_percent(POWER)} take more than {queries_needed(known, difference, alpha):,} such "
        "queries."
    )


def _runs(n: int) -> str:
    return "one run each" if n == 1 else f"{n} runs each"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
