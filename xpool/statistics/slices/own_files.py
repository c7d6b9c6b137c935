"""Read attributes of the user's own: a csv file of the folder ``attributes/``.

Its first line names the columns: ``caption_id`` or ``video_id``, as the manifest has them, and one
or more attributes. A column of numbers is cut into bins; any other has categories. A cell may be
empty, and rows may be missing; rows of other splits are passed over.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from xpool.project.errors import InputError
from xpool.project.params import PARAMS_FILE

KEYS = ("caption_id", "video_id")
MOST_CATEGORIES = 12


def read_own(path: Path, manifest: pd.DataFrame, queries: pd.DataFrame) -> dict[str, pd.Series]:
    """Return the values of each attribute for the queries; NaN where there is none.

    Args:
        path: the file.
        manifest: of the benchmark, all splits.
        queries: its rows for the test queries, in their order.

    Raises:
        InputError: the file is missing or no such table; names the row or the column.
    """
    table = _table(path)
    key, *more = [name for name in KEYS if name in table] or [""]
    if not key:
        raise InputError(
            f"{path}: no column {' or '.join(KEYS)}; it has {', '.join(map(str, table))}"
        )
    if more:
        raise InputError(f"{path}: has the columns {' and '.join(KEYS)}; delete one")
    if len(table.columns) == 1:
        raise InputError(f"{path}: no attribute; expected a column beside {key}")
    ids = table[key]
    for wrong, problem in (
        (ids.isna(), "is empty"),
        (ids.duplicated(), "is there twice"),
        (~ids.isin(manifest[key]), "is not in the manifest"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(f"{path} row {row + 2}: {key} {ids.iloc[row]} {problem}")
    of_query = table.set_index(key).reindex(queries[key]).reset_index(drop=True)
    return {str(name): _values(path, str(name), of_query[name]) for name in of_query}


def _table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(
            f"{path}: not found; put it there, or take it out of slices.files in {PARAMS_FILE}"
        )
    try:
        lines = pd.read_csv(
            path, header=None, dtype=str, skipinitialspace=True, encoding="utf-8-sig"
        )
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        why = " ".join(str(error).split())
        raise InputError(f"{path}: not a csv that pandas can read ({why})") from None
    names = lines.iloc[0].fillna("").str.strip()
    for wrong, problem in ((names == "", "has no name"), (names.duplicated(), "is there twice")):
        if wrong.any():
            column = int(np.argmax(wrong))
            raise InputError(f"{path}: column {names.iloc[column] or column + 1} {problem}")
    table = lines.iloc[1:].reset_index(drop=True)
    cells = {name: table[column].str.strip() for column, name in names.items()}
    return pd.DataFrame(cells)


def _values(path: Path, name: str, cells: pd.Series) -> pd.Series:
    """Return a column as numbers if all its cells are, else as categories."""
    if cells.isna().all():
        raise InputError(f"{path}: column {name}: no test query has a value")
    numbers = pd.to_numeric(cells, errors="coerce")
    if np.isfinite(numbers[cells.notna()]).all():
        return numbers.astype(float)
    n_categories = cells.nunique()
    if n_categories > MOST_CATEGORIES:
        raise InputError(
            f"{path}: column {name}: {n_categories} categories; expected {MOST_CATEGORIES} or "
            "fewer, or numbers"
        )
    return cells
