"""Marks and bold cells for differences that are more than noise, and their explanation.

Works on the tables that the stage ``statistics`` wrote.
"""

import pandas as pd

from xpool.report.protocol import LOWER_IS_BETTER, method_name

LEVEL = 0.05
DIFFERS, DIFFERS_IN_TABLE = "†", "‡"
FALSE_MARKS = "one table in 14 and one set of three tables in 5 has a †"
"""Measured with three equal methods and three seeds, see performance/results/coverage.md."""
_FIGURE = ["benchmark", "method", "direction", "metric"]


def standing(cells: pd.DataFrame, comparisons: pd.DataFrame) -> pd.DataFrame:
    """Return the cells with what the comparisons say about each.

    Args:
        cells: from :func:`xpool.report.results.inputs.read_statistics`.
        comparisons: from the same function.

    Returns:
        The same rows with further columns: ``p_value``, ``p_column``, ``p_table`` and
        ``detectable`` of the comparison with X-Pool (NaN for X-Pool); ``mark``; and ``best``,
        whether the cell has the best mean or does not differ from it after Holm's correction over
        the column. If there is one method only, it is not best.
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
        for index, method in zip(rows.index, methods, strict=True):
            best[index] = len(methods) > 1 and (*key, frozenset((first, method))) not in apart
    return found.assign(best=pd.Series(best))


def marks_in_words(comparisons: pd.DataFrame) -> str:
    """Return the sentences of a caption that explain bold cells and marks, if any.

    Args:
        comparisons: those on one benchmark; none if there is one method only.
    """
    if comparisons.empty:
        return ""
    tests = ", ".join(sorted(set(comparisons["test"])))
    return (
        f"{DIFFERS} differs from {method_name('xpool')} (p < {LEVEL} by {tests}; Holm's correction "
        f"over the pairs of methods in a column); {DIFFERS_IN_TABLE} also with the correction over "
        f"all {len(comparisons)} comparisons of the table. Bold: best mean of ours, and all that "
        f"do not differ from it in the sense of {DIFFERS}. Primary column: text to video R@1; "
        f"among equal methods, {FALSE_MARKS} by luck somewhere."
    )


def detectable_in_words(comparisons: pd.DataFrame) -> list[str]:
    """Return the note that says which difference in R@1 could have been found, if any.

    Args:
        comparisons: those on one benchmark.
    """
    rows = comparisons[(comparisons["method"] == "xpool") & (comparisons["metric"] == "R@1")]
    parts = []
    for direction, of_direction in rows.groupby("direction", sort=False):
        named = of_direction["against"].map(method_name)
        sizes = ["none" if pd.isna(size) else f"{size:.1f}" for size in of_direction["detectable"]]
        reach = ", ".join(f"{size} ({name})" for size, name in zip(sizes, named, strict=True))
        parts.append(f"{direction} {reach}")
    if not parts:
        return []
    return [
        f"Smallest true difference in R@1 from {method_name('xpool')} that 80 % of such "
        f"comparisons would find, in points and before the correction: {'; '.join(parts)}."
    ]
