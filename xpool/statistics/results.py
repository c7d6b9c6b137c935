"""The statistics of a benchmark: intervals, comparisons, wins and selection.

Six tables, from the ranks of all runs, their evaluations during training, the captions, and the
shot changes of each video:

- ``cells``: each metric of each method, with its 95 % interval over seeds and queries;
- ``comparisons``: every pair of methods, on the same queries and seeds;
- ``wins``: queries that X-Pool answers better than a baseline, by the video's shot changes. If
  texts choose frames in videos that show several things, the wins lie where videos have cuts;
- ``selection``: what each selection rule gives, from the evaluations of each run;
- ``slices``, ``interactions``: R@1 and X-Pool's lead by attributes of the queries, see
  :mod:`xpool.statistics.slices`.

``docs/results/statistics.md`` explains intervals and tests.
"""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xpool.data.shots import quantile_bins, read_shots
from xpool.metrics import GRADED, METRICS, REPORTED, Ranks, ranks
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.made import made
from xpool.project.seeds import seed_for
from xpool.statistics.bootstrap import estimate, interval, is_recall, per_query
from xpool.statistics.files.queries import Queries, matched
from xpool.statistics.files.queries import read as read_ranks
from xpool.statistics.files.rank_files import DIRECTIONS
from xpool.statistics.paired import Comparison, compare, holm
from xpool.statistics.proportion import effective_queries
from xpool.statistics.ranks import rank_table, read_similarity, video_of_text
from xpool.statistics.selection_bias import COLUMNS as SELECTION_COLUMNS
from xpool.statistics.selection_bias import selection_rows
from xpool.statistics.slices.attributes import SlicesParams, query_attributes
from xpool.statistics.slices.effects import interactions, slices
from xpool.training import evaluations

# Bootstrap replicates; the ends of an interval are then exact to a few hundredths of its width.
REPLICATES = 4_000
# At least so many for each comparison of a table: the smallest p-value after Holm's correction is
# then 0.02, so that a table of many methods can still find a difference.
REPLICATES_PER_TEST = 100
# Time grows with the square of the methods already. Beyond seven methods bootstraps can no longer
# pass the correction over a whole table; in a column they can, up to 22 methods.
MOST_REPLICATES = 10_000
BINS = 4
"""Bins of shot changes."""
WINS_COLUMNS = (
    "shots_low", "shots_high", "n_queries", "n_videos", "won", "lost", "net", "ci_low", "ci_high",
)  # fmt: skip
Runs = dict[str, dict[str, list[Ranks]]]
"""Ranks by direction and method, one a seed, all of the same queries in the same order."""


def read_runs(
    setting: str, benchmark: str, methods: Sequence[str], seeds: Sequence[int]
) -> tuple[Runs, dict[str, Queries]]:
    """Return the ranks of all runs on a benchmark, and the queries of the first run.

    Raises:
        InputError: a run is missing, or its queries differ from the first run's.
    """
    runs: Runs = {direction: {method: [] for method in methods} for direction in DIRECTIONS}
    first: dict[str, Queries] = {}
    first_file = paths.rank_file(setting, methods[0], benchmark, seeds[0])
    for method, seed in itertools.product(methods, seeds):
        file = paths.rank_file(setting, method, benchmark, seed)
        both = read_ranks(made(file), None)
        for direction in DIRECTIONS:
            if direction not in both:
                raise InputError(
                    f"{file}: no {direction} queries; run 'dvc repro' to make it again"
                )
            before = first.setdefault(direction, both[direction])
            after = matched(before, both[direction], (str(first_file), str(file)))
            runs[direction][method].append(after.ranks)
    return runs, first


def cells(benchmark: str, runs: Runs, video: dict[str, NDArray[np.str_]]) -> pd.DataFrame:
    """Return every metric of every method, with its interval.

    Returns:
        Columns benchmark, method, direction, metric, mean, std (sample deviation over seeds, NaN
        for one), n_seeds, ci_low, ci_high and n_independent: for R@K, see
        :func:`xpool.statistics.proportion.effective_queries`.
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
                "n_independent": effective_queries(values, cluster)
                if is_recall(metric)
                else np.nan,
            }
        )
    return pd.DataFrame(rows)


def intervals_of(benchmark: str, method: str, scored: Path) -> pd.DataFrame:
    """Return every metric of one run with its interval over the test videos, as :func:`cells` does.

    Args:
        benchmark: short name of its benchmark.
        method: short name of its method.
        scored: the folder of its similarity.

    Raises:
        InputError: the run has not been scored.
    """
    matrix, texts, videos = read_similarity(scored)
    both = ranks(matrix, video_of_text(texts, videos))
    of_query = rank_table(both, texts, videos).groupby("direction")["video_id"]
    video = {str(direction): ids.to_numpy(np.str_) for direction, ids in of_query}
    return cells(benchmark, {name: {method: [one]} for name, one in both.items()}, video)


def comparisons(benchmark: str, runs: Runs, video: dict[str, NDArray[np.str_]]) -> pd.DataFrame:
    """Compare every pair of methods, since any may be the best, in every metric of the tables.

    Returns:
        Columns benchmark, direction, metric, method, against, those of
        :class:`xpool.statistics.paired.Comparison` (``delta`` is method minus against), and the
        p-value after Holm's correction: p_column over the pairs of the same column of a table
        (direction and metric), p_table over all rows. X-Pool is always ``method``.
    """
    methods = sorted(next(iter(runs.values())), key=lambda method: (method == "xpool", method))
    pairs = list(itertools.combinations(methods, 2))
    wanted = REPLICATES_PER_TEST * len(pairs) * len(runs) * len(REPORTED)
    replicates = min(max(REPLICATES, wanted), MOST_REPLICATES)
    rows = []
    for direction, metric, (against, method) in itertools.product(runs, REPORTED, pairs):
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
        Columns benchmark, against, and those of :func:`wins_by_shots`. No row where features stand
        for videos, whose cuts nobody knows.

    Raises:
        InputError: a video is not in the table.
    """
    missing = sorted(set(video["t2v"]) - set(shots.index))
    if missing:
        raise InputError(
            f"video {missing[0]} of {benchmark} has no count of shot changes; run 'dvc repro shots'"
        )
    of_query = shots.loc[list(video["t2v"])].to_numpy()
    parts = [pd.DataFrame(columns=["benchmark", "against", *WINS_COLUMNS])]
    compared = "xpool" in runs["t2v"] and not np.isnan(of_query).any()
    others = sorted(set(runs["t2v"]) - {"xpool"}) if compared else []
    for against in others:
        ours, theirs = (_values(runs["t2v"][name], "MnR") for name in ("xpool", against))
        better = np.sign((theirs - ours).mean(axis=0))
        rng = _generator(benchmark, against)
        found = wins_by_shots(better, video["t2v"], of_query, rng, REPLICATES)
        found.insert(0, "benchmark", benchmark)
        found.insert(1, "against", against)
        parts.append(found)
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)


def wins_by_shots(
    outcome: NDArray[Any],
    video: NDArray[Any],
    shots: NDArray[Any],
    rng: np.random.Generator,
    replicates: int,
) -> pd.DataFrame:
    """Return won and lost queries in up to :data:`BINS` bins of shot changes of about equal size.

    Args:
        outcome: ``(query,)`` 1 won, -1 lost, 0 neither.
        video: ``(query,)`` video of each query.
        shots: ``(query,)`` shot changes of that video.
        rng: source of the bootstrap's replicates, which draw videos.
        replicates: how many.

    Returns:
        Columns shots_low, shots_high, n_queries, n_videos, and in percent of the bin's queries won,
        lost, net (won less lost) with its 95 % interval ci_low, ci_high, for these seeds.

    Example:
        >>> table = wins_by_shots(
        ...     np.array([1, -1, 1, 1]), np.arange(4), np.array([0, 0, 3, 3]),
        ...     np.random.default_rng(0), 100,
        ... )
        >>> table[["shots_low", "shots_high", "won", "lost", "net"]].to_numpy().tolist()
        [[0.0, 0.0, 50.0, 50.0, 0.0], [3.0, 3.0, 100.0, 0.0, 100.0]]
    """
    of_query, bounds = quantile_bins(shots, BINS)
    rows = []
    for index, (low, high) in enumerate(bounds):
        here = of_query == index
        # on the scale of R@K: a win counts 100, a loss 0, a draw 50
        points = 50 * (1 + outcome[here][None].astype(float))
        found = interval(points, video[here], "R@1", rng, replicates)
        rows.append(
            {
                "shots_low": low,
                "shots_high": high,
                "n_queries": int(here.sum()),
                "n_videos": len(np.unique(video[here])),
                "won": 100 * float((outcome[here] > 0).mean()),
                "lost": 100 * float((outcome[here] < 0).mean()),
                "net": 2 * found.estimate - 100,
                "ci_low": 2 * found.low - 100,
                "ci_high": 2 * found.high - 100,
            }
        )
    return pd.DataFrame(rows, columns=list(WINS_COLUMNS))


def selection(
    setting: str, benchmark: str, methods: Sequence[str], seeds: Sequence[int]
) -> pd.DataFrame:
    """Return what each selection rule gives, run by run.

    Returns:
        Columns benchmark, method, seed, and those of
        :func:`xpool.statistics.selection_bias.selection_rows`.

    Raises:
        InputError: a run has no evaluations.
    """
    rows = []
    for method in methods:
        logs = {
            seed: evaluations.read(paths.training(setting, method, benchmark, seed))
            for seed in seeds
        }
        draws = seed_for("statistics", "selection", benchmark, method)
        found = selection_rows(logs, draws, REPLICATES)
        rows += [{"benchmark": benchmark, "method": method} | row for row in found]
    return pd.DataFrame(rows, columns=["benchmark", "method", "seed", *SELECTION_COLUMNS])


def _figures(runs: Runs) -> list[tuple[str, str, str]]:
    stored = (*METRICS, *GRADED)
    return [(d, method, metric) for d in runs for method in runs[d] for metric in stored]


def _values(ranks: Sequence[Ranks], metric: str) -> NDArray[np.float64]:
    """Return ``(seed, query)``: what each query contributes to a metric."""
    return np.stack([per_query(of_seed, metric) for of_seed in ranks])


def _generator(*scope: str) -> np.random.Generator:
    return np.random.default_rng(seed_for("statistics", *scope))


def results_of(
    setting: str,
    benchmark: str,
    methods: Sequence[str],
    seeds: Sequence[int],
    slicing: SlicesParams,
) -> dict[str, pd.DataFrame]:
    """Return the six tables of one benchmark, by the names of their files.

    Args:
        setting: the setting in force.
        benchmark: short name of a benchmark.
        methods: short names; without X-Pool, the tables of what it adds are empty.
        seeds: seeds of the runs.
        slicing: section ``slices``.

    Raises:
        InputError: a run is missing, the runs do not fit each other, or a file of attributes is
            wrong.
    """
    runs, queries = read_runs(setting, benchmark, methods, seeds)
    video = {direction: of_direction.video for direction, of_direction in queries.items()}
    attributes = query_attributes(setting, benchmark, queries["t2v"].ids, slicing)
    if "xpool" not in methods:
        attributes = attributes.iloc[:, :0]
    hits = {method: _values(ranks, "R@1") for method, ranks in runs["t2v"].items()}
    return {
        "cells": cells(benchmark, runs, video),
        "comparisons": comparisons(benchmark, runs, video),
        "wins": wins(benchmark, runs, video, read_shots(paths.shots(setting, benchmark))),
        "selection": selection(setting, benchmark, methods, seeds),
        "slices": slices(benchmark, hits, video["t2v"], attributes),
        "interactions": interactions(benchmark, hits, video["t2v"], attributes),
    }
