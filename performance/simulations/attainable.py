"""How evenly any interval could cover that knows no more than these runs.

Two methods of a few runs each are compared. Their difference is normal, the spread that the runs
show says nothing about it, and the interval reaches h(s) to both sides, where s is the sum of both
methods' variances over the runs. Whatever rises with s may be h: this looks for the one whose
coverage lies nearest to 95 % in each quarter of the tables by s, at each of several true spreads.
If even that one is far from it, no rule does better without knowledge of further runs.

Prints one table, in a minute on an idle core. The least is that of several starts of a local
search, so a little less may be possible.

Run: ``python -m performance.simulations.attainable``
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from xpool.project.command import run_alone
from xpool.statistics.over_seeds import LEVEL

SHARED, CHANCE = 0.43, 0.5
"""Variances in squared points of R@1 over 1,000 queries: of the difference, by what all runs of a
method share, and of one run, by chance in single queries. Two runs of one method then answer 10 %
of the queries differently, runs of two methods 14.3 %."""
WIDEST = 5.0
"""Logarithm of the farthest that an interval may reach, in points."""
KNOTS, STARTS, POINTS = 14, 6, 600
SPREADS = ([0.0, 0.5, 1.0], [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5], [0.0, 0.5, 1.0, 1.5, 2.0, 2.5])
"""True standard deviations over seeds, in points of R@1."""
SEEDS = (2, 3, 5)


class Tables(NamedTuple):
    """The tables at one true spread."""

    shown: NDArray[np.float64]
    """``(4 * POINTS,)`` the values of s, ascending and equally likely."""
    variance: float
    """Of the difference."""


def tables(seeds: int, spread: float) -> Tables:
    """Return the tables of two methods with so many runs each."""
    one = CHANCE + spread**2
    freedom = 2 * (seeds - 1)
    at = (np.arange(4 * POINTS) + 0.5) / (4 * POINTS)
    shown = one * stats.chi2.ppf(at, freedom) / (seeds - 1)
    return Tables(shown, SHARED + 2 * one / seeds)


def coverage(half: NDArray[np.float64], variance: float) -> NDArray[np.float64]:
    """Return the coverage in each quarter, of intervals that reach ``half`` to both sides."""
    inside = 2 * special.ndtr(half / np.sqrt(variance)) - 1
    return np.asarray(inside.reshape(4, -1).mean(axis=1))


def most_even(seeds: int, spreads: list[float]) -> NDArray[np.float64]:
    """Return ``(spread, quarter)``: the coverage of the best rule that was found."""
    cases = [tables(seeds, spread) for spread in spreads]
    knots = np.linspace(np.log(0.025), np.log(cases[-1].shown[-1]), KNOTS)

    def covered(found: NDArray[np.float64]) -> NDArray[np.float64]:
        rule = found[0] + np.concatenate([[0], np.cumsum(found[1:-1] ** 2)])  # squares: it rises
        rule = np.minimum(rule, WIDEST)
        halves = [np.exp(np.interp(np.log(case.shown), knots, rule)) for case in cases]
        return np.array(
            [coverage(half, case.variance) for half, case in zip(halves, cases, strict=True)]
        )

    def slack(found: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((found[-1] - np.abs(covered(found) - LEVEL)).ravel())

    random, best = np.random.default_rng(0), np.zeros((len(spreads), 4))
    for _ in range(STARTS):
        start = np.append(random.uniform(0.1, 0.5, KNOTS), 0.04)
        constraint = {"type": "ineq", "fun": slack}
        found = optimize.minimize(
            lambda tried: tried[-1], start, constraints=[constraint],
            method="SLSQP", options={"maxiter": 300},
        )  # fmt: skip
        best = min(best, covered(found.x), key=lambda rows: np.abs(rows - LEVEL).max())
    return best


def main() -> None:
    """Print the table, each line as soon as it is known."""
    print("| runs a method | spreads over seeds, points | lowest quarter, % | highest, % |")
    print("|--:|---|--:|--:|")
    for seeds in SEEDS:
        for spreads in SPREADS:
            found = 100 * most_even(seeds, spreads)
            ends = f"{spreads[0]:g} to {spreads[-1]:g}"
            print(f"| {seeds} | {ends} | {found.min():.1f} | {found.max():.1f} |", flush=True)


if __name__ == "__main__":
    run_alone(main)
