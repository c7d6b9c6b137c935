"""Inputs of the results page: metrics, statistics and training curves.

Whatever does not fit ``params.yaml`` is refused.
"""

import math
from collections.abc import Sequence

import pandas as pd

from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.made import read_made
from xpool.report.protocol import DIRECTIONS, METRICS, Protocol, methods_of, narrowed
from xpool.statistics.ranks import scope

MAY_BE_EMPTY = ("selection", "slices", "interactions", "external")
"""Statistics without rows where nothing was trained, nothing is listed, or bins are few."""
DUPLICATES = ("R@1 dup", "dup")
"""Metrics of captions that several videos share: see :func:`xpool.statistics.ranks.metrics_of`."""


def there(protocols: Sequence[Protocol]) -> list[Protocol]:
    """Return the protocols of the runs that the stage ``ranks`` found.

    Args:
        protocols: of all that params.yaml lists.

    Raises:
        InputError: the stage has not run.
    """
    table = read_made(paths.metrics_table(protocols[0].setting))
    cells = set(table[["benchmark", "method", "seed"]].itertuples(index=False, name=None))
    listed = {(p.benchmark, method, seed) for p in protocols for method, seed in p.runs()}
    return narrowed(protocols, scope(cells & listed))


def read_statistics(name: str, protocols: Sequence[Protocol]) -> pd.DataFrame:
    """Return a table of the stage ``statistics`` for the benchmarks and methods in params.yaml.

    Args:
        name: cells, comparisons, wins, selection, slices or interactions, of which
            :mod:`xpool.statistics.results` lists the columns; or external, of
            :mod:`xpool.statistics.files.external`.
        protocols: what is compared.

    Raises:
        InputError: the file is missing, or was made for other methods or seeds.
    """
    file = paths.statistics(protocols[0].setting) / f"{name}.csv"
    again = "run 'dvc repro' to make it again"
    table = read_made(file)
    seeds = {p.benchmark: len(p.seeds) for p in protocols}
    methods = set(methods_of(protocols))
    kept = table["benchmark"].isin(seeds)
    if "n_seeds" in table:
        expected = table["benchmark"].map(seeds)
        for of_table, number in zip(table["n_seeds"][kept], expected[kept], strict=True):
            if of_table != number:
                raise InputError(
                    f"{file}: of {of_table} seeds, and params.yaml lists {number:.0f}; {again}"
                )
    for column in ("method", "against"):
        if column in table:
            kept &= table[column].isin(methods)
    found = table[kept].reset_index(drop=True)
    if name in MAY_BE_EMPTY:
        return found
    side = "method" if name == "cells" else "against"
    have = set(zip(found["benchmark"], found[side], strict=True))
    for protocol in sorted(protocols, key=lambda one: one.benchmark):
        if name == "wins" and "features" in protocol.options:
            continue  # nobody knows the cuts of their videos
        others = set(protocol.methods)
        if name != "cells":  # what X-Pool is held against
            others = others - {"xpool"} if "xpool" in others else set()
        for method in sorted(others):
            if (protocol.benchmark, method) not in have:
                raise InputError(f"{file}: nothing of {method} on {protocol.benchmark}; {again}")
    return found


def read_metrics(protocols: Sequence[Protocol]) -> pd.DataFrame:
    """Return the metrics of exactly the cells that params.yaml lists.

    Returns:
        Columns as :mod:`xpool.statistics.ranks` writes them, among them benchmark, method, seed,
        direction, metric, value, n_text and n_video.

    Raises:
        InputError: a figure is missing, repeated or not finite, or the file was made under another
            selection rule.
    """
    file = paths.metrics_table(protocols[0].setting)
    table = read_made(file)
    keys = ["benchmark", "method", "seed", "direction", "metric"]
    columns = [*keys, "value", "selection", "n_text", "n_video", "mixed", "imported"]
    if absent := [column for column in columns if column not in table]:
        raise InputError(f"{file}: no column {absent[0]}; run 'dvc repro' to make it again")
    figures = table.set_index(keys)
    if figures.index.has_duplicates:
        twice = figures.index[figures.index.duplicated()][0]
        raise InputError(f"{file}: {' '.join(map(str, twice))} is there twice; run 'dvc repro'")
    wanted = [
        (protocol.benchmark, method, seed, direction, metric)
        for protocol in protocols
        for method, seed in protocol.runs()
        for direction in DIRECTIONS
        for metric in (*METRICS, "R@50", "tied", *(DUPLICATES if direction == "t2v" else ()))
    ]
    values = figures["value"].reindex(pd.MultiIndex.from_tuples(wanted, names=keys))
    for cell, value in zip(wanted, values, strict=True):
        if not math.isfinite(value):
            benchmark, method, seed, direction, metric = cell
            raise InputError(
                f"{file}: no {direction} {metric} of {method} on {benchmark} with seed {seed}; "
                "run 'dvc repro' to compute it"
            )
    found = figures.loc[values.index].reset_index()
    if stray := set(found["selection"]) - {protocols[0].selection}:
        raise InputError(
            f"{file}: made with selection {stray.pop()!r}, and params.yaml says "
            f"{protocols[0].selection!r}; run 'dvc repro' to make it again"
        )
    return found


def read_curves(protocols: Sequence[Protocol]) -> pd.DataFrame:
    """Return all training curves: benchmark, method, seed, step, epoch, loss, R@1.

    R@1 is text-to-video on the split that the selection rule uses, NaN if it uses none.

    Raises:
        InputError: a run has no curve.
    """
    cells = [(p, method, seed) for p in protocols for method, seed in p.runs()]
    parts = []
    for protocol, method, seed in cells:
        folder = paths.training(protocol.setting, method, protocol.benchmark, seed)
        curve = read_made(folder / "curve.csv").reindex(columns=["step", "epoch", "loss", "R@1"])
        parts.append(curve.assign(benchmark=protocol.benchmark, method=method, seed=seed))
    return pd.concat(parts, ignore_index=True)
