"""Intervals of the rows with post-processing, and R@1 by the number of queries that come together.

Two tables, from the files that :mod:`xpool.statistics.post_processing.ranks` wrote:

- ``post_processing``: each metric of each method after each listed post-processing, with its 95 %
  interval over seeds and queries, as ``cells`` has them of the methods alone;
- ``together``: text-to-video R@1 by the number of queries that arrive together.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.made import made, read_made
from xpool.project.seeds import seed_for
from xpool.statistics.bootstrap import interval
from xpool.statistics.ranks import Scope
from xpool.statistics.results import REPLICATES, cells, read_runs, results_of
from xpool.statistics.slices.attributes import SlicesParams


def all_results_of(
    benchmark: str,
    setting: str,
    there: Scope,
    slicing: SlicesParams,
    post_processed: bool,
) -> dict[str, pd.DataFrame]:
    """Return the tables of :func:`xpool.statistics.results.results_of`, and those of this module.

    Args:
        benchmark: short name of a benchmark.
        setting: the setting in force.
        there: what is compared.
        slicing: section ``slices``.
        post_processed: whether there are rows with post-processing.
    """
    methods, seeds = there[benchmark]
    found = results_of(setting, benchmark, methods, seeds, slicing)
    return found | (post_results_of(setting, benchmark, methods, seeds) if post_processed else {})


def post_results_of(
    setting: str, benchmark: str, methods: Sequence[str], seeds: Sequence[int]
) -> dict[str, pd.DataFrame]:
    """Return both tables of one benchmark, by the names of their files.

    Args:
        setting: the setting in force.
        benchmark: short name of a benchmark.
        methods: short names.
        seeds: seeds of the runs.

    Returns:
        ``post_processing``: the columns of :func:`xpool.statistics.results.cells`, and
        post_processing, label, needs_queries and arguments. ``together``: benchmark, method,
        post_processing, label, n_queries, n_texts, mean, n_seeds, ci_low, ci_high.

    Raises:
        InputError: a run is missing, or the runs do not fit each other.
    """
    members = read_made(paths.post_processing_labels(setting))
    names = {
        paths.post_processed(method, member): (method, member)
        for method, member in itertools.product(methods, members["post_processing"])
    }
    runs, queries = read_runs(setting, benchmark, list(names), seeds)
    video = {direction: of_direction.video for direction, of_direction in queries.items()}
    found = cells(benchmark, runs, video)
    found["post_processing"] = [names[name][1] for name in found["method"]]
    found["method"] = [names[name][0] for name in found["method"]]
    needing = members[members["needs_queries"]]
    rows = [
        {"benchmark": benchmark, "method": method, **row}
        for method, member in itertools.product(methods, needing.to_dict("records"))
        for row in _together(setting, benchmark, method, member, seeds)
    ]
    return {
        "post_processing": found.merge(members, on="post_processing", validate="many_to_one"),
        "together": pd.DataFrame(rows, columns=list(TOGETHER_COLUMNS)),
    }


TOGETHER_COLUMNS = (
    "benchmark", "method", "post_processing", "label", "n_queries", "n_texts", "mean", "n_seeds",
    "ci_low", "ci_high",
)  # fmt: skip


def _together(
    setting: str, benchmark: str, method: str, member: dict[Any, Any], seeds: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each number of queries that arrive together."""
    name = member["post_processing"]
    files = [paths.together_file(setting, method, name, benchmark, seed) for seed in seeds]
    tables = [pd.read_parquet(made(file)) for file in files]
    keys = ["caption_id", "video_id"]
    for file, table in zip(files, tables, strict=True):
        if not table[keys].equals(tables[0][keys]) or set(table) != set(tables[0]):
            raise InputError(f"{file}: other texts than in {files[0]}; run 'dvc repro'")
    for count in (str(column) for column in tables[0] if column not in keys):
        hits = np.stack([table[count].to_numpy(float) for table in tables])
        draws = seed_for("statistics", "together", benchmark, method, name, count)
        rng = np.random.default_rng(draws)
        between = interval(hits, tables[0]["video_id"].to_numpy(str), "R@1", rng, REPLICATES)
        yield {
            "post_processing": name,
            "label": member["label"],
            "n_queries": int(count),
            "n_texts": hits.shape[1],
            "mean": between.estimate,
            "n_seeds": len(seeds),
            "ci_low": between.low,
            "ci_high": between.high,
        }
