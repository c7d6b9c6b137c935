"""[step 7] How sure every figure is, and whether methods differ by more than noise.

Reads the ranks of each cell that params.yaml lists, the looks of its training, and the shot changes
of each video. Writes under ``results/<setting>/statistics/``

- ``cells.csv``: each metric of each method, with its 95 % interval over seeds and queries;
- ``comparisons.csv``: every pair of methods of a benchmark, on the same queries and seeds;
- ``wins.csv``: which queries X-Pool answers better than a baseline, by the video's shot changes;
- ``selection.csv``: what each rule of selection gives, from the looks of each run.

``docs/statistics.md`` explains intervals and tests. Mini benchmarks: 20 s.

Run: ``python -m xpool.statistics``
"""

import argparse
import itertools
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, fields

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xpool import looks, paths
from xpool.bootstrap import METRICS, estimate, interval, is_recall, per_query
from xpool.command import InputError, run
from xpool.compare import DIRECTIONS, matched
from xpool.metrics import Ranks
from xpool.paired import Comparison, compare, holm
from xpool.params import read, setting
from xpool.queries import Queries
from xpool.queries import read as read_ranks
from xpool.seeds import seed_for
from xpool.selection_bias import COLUMNS as OF_SELECTION
from xpool.selection_bias import selection_rows
from xpool.shots import read_shots
from xpool.verdict import effective_queries
from xpool.wins import COLUMNS, wins_by_shots
from xpool.workspace import replacing

# Bootstrap replicates: the ends of an interval are then sure to a few hundredths of its width.
REPLICATES = 4_000
# And at least so many for each comparison of a table: the smallest p-value that Holm's correction
# leaves is then 0.02, so that a table of many methods can still find something.
REPLICATES_PER_TEST = 100
COMPARED = ("R@1", "R@5", "R@10", "MdR", "MnR")
"""What the tables print; each further one would make Holm's correction stricter."""
Runs = dict[str, dict[str, list[Ranks]]]
"""Ranks by direction and method, a seed each, all of the same queries in the same order."""
log = logging.getLogger(__name__)


def read_runs(
    setting: str, benchmark: str, methods: Sequence[str], seeds: Sequence[int]
) -> tuple[Runs, dict[str, NDArray[np.str_]]]:
    """Return the ranks of all runs on a benchmark, and ``(query,)`` the video of each query.

    Raises:
        InputError: a run is missing, or has other queries than the first.
    """
    runs: Runs = {direction: {method: [] for method in methods} for direction in DIRECTIONS}
    first: dict[str, Queries] = {}
    first_file = paths.rank_file(setting, methods[0], benchmark, seeds[0])
    for method, seed in itertools.product(methods, seeds):
        file = paths.rank_file(setting, method, benchmark, seed)
        if not file.is_file():
            raise InputError(f"{file}: not found; run 'dvc repro' to make it")
        both = read_ranks(file, None)
        for direction in DIRECTIONS:
            if direction not in both:
                raise InputError(
                    f"{file}: no {direction} queries; run 'dvc repro' to make it again"
                )
            before = first.setdefault(direction, both[direction])
            after = matched(before, both[direction], (str(first_file), str(file)))
            runs[direction][method].append(after.ranks)
    return runs, {direction: queries.video for direction, queries in first.items()}


def cells(benchmark: str, runs: Runs, video: dict[str, NDArray[np.str_]]) -> pd.DataFrame:
    """Return every metric of every method, with its interval.

    Returns:
        Columns benchmark, method, direction, metric, mean, std (sample deviation over seeds, NaN
        for one), n_seeds, ci_low, ci_high and n_independent: for R@K the number of independent
        queries that would be as sure, see :func:`xpool.verdict.effective_queries`.
    """
    rows = []
    for direction, method, metric in _figures(runs):
        values, cluster = _values(runs[direction][method], metric), video[direction]
        rng = _generator(benchmark, method, direction, metric)
        found = interval(values, cluster, metric, rng, REPLICATES)
        of_seed = [estimate(one[None], metric) for one in values]
        rows.append(
            {
                "benchmark": benchmark,
                "method": method,
                "direction": direction,
                "metric": metric,
                "mean": found.estimate,
                "std": np.std(of_seed, ddof=1) if len(of_seed) > 1 else np.nan,
                "n_seeds": len(of_seed),
                "ci_low": found.low,
                "ci_high": found.high,
                "n_independent": effective_queries(values, cluster, metric)
                if is_recall(metric)
                else np.nan,
            }
        )
    return pd.DataFrame(rows)


def comparisons(benchmark: str, runs: Runs, video: dict[str, NDArray[np.str_]]) -> pd.DataFrame:
    """Return every pair of methods in every metric of the tables: any of them may be the best.

    Returns:
        Columns benchmark, direction, metric, method, against, those of
        :class:`xpool.paired.Comparison` (``delta`` is method minus against), and the p-value by
        Holm's correction: p_column over the pairs of the same column of a table (direction and
        metric), p_table over all rows. X-Pool is always ``method``.
    """
    methods = sorted(next(iter(runs.values())), key=lambda method: (method == "xpool", method))
    pairs = list(itertools.combinations(methods, 2))
    replicates = max(REPLICATES, REPLICATES_PER_TEST * len(pairs) * len(runs) * len(COMPARED))
    rows = []
    for direction, metric, (against, method) in itertools.product(runs, COMPARED, pairs):
        first, second = (_values(runs[direction][name], metric) for name in (against, method))
        rng = _generator(benchmark, method, against, direction, metric)
        found = compare(first, second, video[direction], metric, rng, replicates)
        where = {"benchmark": benchmark, "direction": direction, "metric": metric}
        rows.append(where | {"method": method, "against": against} | asdict(found))
    names = [field.name for field in fields(Comparison)]
    keys = ["benchmark", "direction", "metric", "method", "against"]
    table = pd.DataFrame(rows, columns=[*keys, *names])
    p_values = table["p_value"].astype(float)
    columns = p_values.groupby([table["direction"], table["metric"]])
    return table.assign(
        p_column=columns.transform(lambda of_column: holm(of_column.to_numpy())),
        p_table=holm(p_values.to_numpy()),
    )


def wins(
    benchmark: str, runs: Runs, video: dict[str, NDArray[np.str_]], shots: pd.Series
) -> pd.DataFrame:
    """Return X-Pool's wins over each baseline in text-to-video, by the video's shot changes.

    Returns:
        Columns benchmark, against, and those of :func:`xpool.wins.wins_by_shots`.

    Raises:
        InputError: a video has no count.
    """
    missing = sorted(set(video["t2v"]) - set(shots.index))
    if missing:
        raise InputError(
            f"video {missing[0]} of {benchmark} has no count of shot changes; run 'dvc repro shots'"
        )
    of_query = shots.loc[list(video["t2v"])].to_numpy()
    ours = _values(runs["t2v"]["xpool"], "MnR")
    parts = [pd.DataFrame(columns=["benchmark", "against", *COLUMNS])]
    for against in sorted(set(runs["t2v"]) - {"xpool"}):
        theirs = _values(runs["t2v"][against], "MnR")
        better = np.sign((theirs - ours).mean(axis=0))
        rng = _generator(benchmark, against)
        found = wins_by_shots(better, video["t2v"], of_query, rng, REPLICATES)
        found.insert(0, "benchmark", benchmark)
        found.insert(1, "against", against)
        parts.append(found)
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)


def selection(
    here: str, benchmark: str, methods: Sequence[str], seeds: Sequence[int]
) -> pd.DataFrame:
    """Return what each rule of selection gives, run by run.

    Args:
        here: the setting.
        benchmark: which.
        methods: by their short names.
        seeds: of the runs.

    Returns:
        Columns benchmark, method, seed, and those of :func:`xpool.selection_bias.selection_rows`.

    Raises:
        InputError: a run has no looks.
    """
    rows = []
    for method, seed in itertools.product(methods, seeds):
        folder = paths.training(here, method, benchmark, seed)
        rng = _generator("selection", benchmark, method, str(seed))
        found = selection_rows(*looks.read(folder), rng, REPLICATES)
        rows += [{"benchmark": benchmark, "method": method, "seed": seed} | row for row in found]
    return pd.DataFrame(rows, columns=["benchmark", "method", "seed", *OF_SELECTION])


def _figures(runs: Runs) -> list[tuple[str, str, str]]:
    return [(d, method, metric) for d in runs for method in runs[d] for metric in METRICS]


def _values(ranks: Sequence[Ranks], metric: str) -> NDArray[np.float64]:
    """Return ``(seed, query)``: what each query adds to a metric."""
    return np.stack([per_query(of_seed, metric) for of_seed in ranks])


def _generator(*scope: str) -> np.random.Generator:
    return np.random.default_rng(seed_for("statistics", *scope))


def main() -> None:
    """Run the step over all cells of params.yaml."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    begun, here = time.monotonic(), setting()
    methods = sorted(["xpool", *read("baselines", list[str])])
    seeds = sorted(read("seeds", list[int]))
    names = ("cells", "comparisons", "wins", "selection")
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in names}
    for benchmark in sorted(read("benchmarks", list[str])):
        runs, video = read_runs(here, benchmark, methods, seeds)
        tables["cells"].append(cells(benchmark, runs, video))
        tables["comparisons"].append(comparisons(benchmark, runs, video))
        tables["wins"].append(
            wins(benchmark, runs, video, read_shots(paths.shots(here, benchmark)))
        )
        tables["selection"].append(selection(here, benchmark, methods, seeds))
    for name, parts in tables.items():
        with replacing(paths.statistics(here) / f"{name}.csv") as file:
            pd.concat(parts).to_csv(file, index=False, lineterminator="\n")
    log.info("wrote %s in %.0f s", paths.statistics(here), time.monotonic() - begun)


if __name__ == "__main__":
    run(main)
