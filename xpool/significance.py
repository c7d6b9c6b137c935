"""Which differences of a table are more than noise: marks, ties with the best, and how to say so.

Reads ``results/<setting>/statistics/``, which the step ``statistics`` wrote.
"""

from collections.abc import Sequence

import pandas as pd

from xpool import paths
from xpool.command import InputError
from xpool.protocol import Protocol, method_name

LEVEL = 0.05
DIFFERS, DIFFERS_IN_TABLE = "†", "‡"
LOWER_IS_BETTER = ("MdR", "MnR")
_FIGURE = ["benchmark", "method", "direction", "metric"]


def read_statistics(name: str, protocols: Sequence[Protocol]) -> pd.DataFrame:
    """Return one table of the step, without benchmarks and methods that params.yaml left out.

    Args:
        name: cells, comparisons, wins or selection; ``xpool.statistics`` has their columns.
        protocols: what is compared.

    Raises:
        InputError: the file is missing, or made for other methods or seeds.
    """
    file = paths.statistics(protocols[0].setting) / f"{name}.csv"
    again = "run 'dvc repro' to make it again"
    if not file.is_file():
        raise InputError(f"{file}: not found; run 'dvc repro' to make it")
    table = pd.read_csv(file, float_precision="round_trip")
    seeds = len(protocols[0].seeds)
    if "n_seeds" in table and (table["n_seeds"] != seeds).any():
        found = table["n_seeds"][table["n_seeds"] != seeds].iloc[0]
        raise InputError(f"{file}: of {found} seeds, and params.yaml lists {seeds}; {again}")
    benchmarks, methods = {p.benchmark for p in protocols}, set(protocols[0].methods)
    kept = table["benchmark"].isin(benchmarks)
    for column in ("method", "against"):
        if column in table:
            kept &= table[column].isin(methods)
    found = table[kept].reset_index(drop=True)
    if name == "selection":  # empty where nothing was trained
        return found
    side = "method" if name == "cells" else "against"
    others = methods if name == "cells" else methods - {"xpool"}
    have = set(zip(found["benchmark"], found[side], strict=True))
    for benchmark in sorted(benchmarks):
        for method in sorted(others):
            if (benchmark, method) not in have:
                raise InputError(f"{file}: nothing of {method} on {benchmark}; {again}")
    return found


def standing(cells: pd.DataFrame, comparisons: pd.DataFrame) -> pd.DataFrame:
    """Return the cells with what the comparisons say of each.

    Args:
        cells: of :func:`read_statistics`.
        comparisons: of :func:`read_statistics`.

    Returns:
        The same rows with further columns: ``p_value``, ``p_column``, ``p_table`` and
        ``detectable`` of the comparison with X-Pool (NaN for X-Pool); ``mark``; and ``best``,
        whether it has the best mean or does not differ from that after Holm's correction over the
        column. Of one method none is best.
    """
    against = comparisons[comparisons["method"] == "xpool"].drop(columns="method")
    against = against.rename(columns={"against": "method"})
    columns = [*_FIGURE, "p_value", "p_column", "p_table", "detectable"]
    found = cells.merge(against[columns], on=_FIGURE, how="left", validate="one_to_one")
    found["mark"] = ""
    found.loc[found["p_column"] < LEVEL, "mark"] = DIFFERS
    found.loc[found["p_table"] < LEVEL, "mark"] = DIFFERS_IN_TABLE
    apart = {
        (row.benchmark, row.direction, row.metric, frozenset((row.method, row.against)))
        for row in comparisons[comparisons["p_column"] < LEVEL].itertuples()
    }
    best: dict[int, bool] = {}
    for key, rows in found.groupby(["benchmark", "direction", "metric"], sort=False):
        _, _, metric = key
        means, methods = rows["mean"].to_numpy(), rows["method"].tolist()
        first = methods[means.argmin() if metric in LOWER_IS_BETTER else means.argmax()]
        for place, method in zip(rows.index, methods, strict=True):
            best[place] = len(methods) > 1 and (*key, frozenset((first, method))) not in apart
    return found.assign(best=pd.Series(best))


def marks_in_words(comparisons: pd.DataFrame) -> str:
    """Return the sentences of a caption that explain bold cells and marks; of one method none.

    Args:
        comparisons: of one benchmark.
    """
    if comparisons.empty:
        return ""
    tests = ", ".join(sorted(set(comparisons["test"])))
    return (
        f"{DIFFERS} differs from {method_name('xpool')} (p < {LEVEL} by {tests}; Holm's correction "
        f"over the pairs of methods in a column); {DIFFERS_IN_TABLE} also with the correction over "
        f"all {len(comparisons)} comparisons of the table. Bold: best mean of ours, and all that "
        f"do not differ from it in the sense of {DIFFERS}."
    )


def detectable_in_words(comparisons: pd.DataFrame) -> list[str]:
    """Return the note that says which difference in R@1 could have been found at all.

    Args:
        comparisons: of one benchmark.
    """
    rows = comparisons[(comparisons["method"] == "xpool") & (comparisons["metric"] == "R@1")]
    parts = []
    for direction, of_direction in rows.groupby("direction", sort=False):
        reach = ", ".join(
            f"{row.detectable:.1f} ({method_name(str(row.against))})"
            for row in of_direction.itertuples()
        )
        parts.append(f"{direction} {reach}")
    if not parts:
        return []
    return [
        f"Smallest true difference in R@1 from {method_name('xpool')} that 80 % of such "
        f"comparisons would find, in points and before the correction: {'; '.join(parts)}."
    ]
