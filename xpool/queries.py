"""The rank of every query of a run, from our own files or from those of another code base.

Reads one of

- a run's folder ``results/<setting>/similarity/<method>/<benchmark>/<seed>/``, or its ranks
  ``results/<setting>/ranks/<method>/<benchmark>/<seed>.parquet``;
- a similarity matrix ``(text, video)``, higher is nearer, as ``.npy`` or as ``.csv`` without a
  header. A square matrix means that text i belongs to video i;
- a rank file ``.csv`` with columns ``query_id`` and ``rank`` (from 1), and if there are any
  ``direction`` (t2v or v2t), ``video_id`` (of a t2v query), ``n_greater`` and ``n_tied``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xpool.command import InputError
from xpool.metrics import Ranks, ranks
from xpool.ranks import read_cell, video_of_text


@dataclass(frozen=True, kw_only=True)
class Queries:
    """The queries of one direction, and where the right answer of each stands."""

    ids: NDArray[np.str_]
    """``(query,)`` names; the number of the row or column where a file gives none."""
    video: NDArray[np.str_]
    """``(query,)`` the video of each: queries of one video are not independent."""
    ranks: Ranks
    named: bool
    """Whether the file names its queries."""
    n_candidates: int | None
    """Videos that a query chooses from; None where a file does not say."""

    def take(self, order: NDArray[Any]) -> "Queries":
        """Return the queries in another order."""
        moved = Ranks(
            query=np.arange(len(order)),
            n_greater=self.ranks.n_greater[order],
            n_tied=self.ranks.n_tied[order],
        )
        return Queries(
            ids=self.ids[order],
            video=self.video[order],
            ranks=moved,
            named=self.named,
            n_candidates=self.n_candidates,
        )


def read(path: Path, owners: NDArray[np.int64] | None) -> dict[str, Queries]:
    """Return the queries of each direction that a file has; see the module's description.

    Args:
        path: file or folder.
        owners: ``(text,)`` video of each text, by :func:`read_owners`; None where the file says.

    Raises:
        InputError: the file is none of the above, or broken: which file, and which row.
    """
    if path.is_dir():
        _expect_no_owners(path, owners)
        matrix, texts, videos = read_cell(path)
        captions = (texts["caption_id"].to_numpy(str), videos["video_id"].to_numpy(str))
        return _of_matrix(path, matrix, video_of_text(texts, videos), captions)
    if not path.is_file():
        raise InputError(f"{path}: not found")
    if path.suffix == ".parquet":
        return _of_table(path, _table(path), owners, ("direction", "video_id"))
    if path.suffix == ".npy":
        return _of_matrix(path, _load(path), owners, None)
    if path.suffix == ".csv":
        with path.open(encoding="utf-8-sig") as file:
            head = [name.strip() for name in file.readline().split(",")]
        if {"query_id", "rank"} & set(head):
            return _of_table(path, _table(path), owners, ())
        return _of_matrix(path, _parse(path), owners, None)
    raise InputError(
        f"{path}: expected a run's folder, a .parquet of ranks, or a matrix (.npy, .csv) or rank "
        "file (.csv with columns query_id and rank)"
    )


def read_owners(path: Path) -> NDArray[np.int64]:
    """Return ``(text,)`` the column of each text's video: ``.npy``, or one number a line.

    Raises:
        InputError: the file is missing, or a line is no whole number.
    """
    if not path.is_file():
        raise InputError(f"{path}: not found")
    if path.suffix == ".npy":
        owners = _load(path)
        if owners.ndim != 1 or not np.issubdtype(owners.dtype, np.integer):
            raise InputError(
                f"{path}: expected one whole number a text; got {owners.dtype} {owners.shape}"
            )
        return owners.astype(np.int64)
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    for number, text in enumerate(lines, start=1):
        if not text.strip().isdecimal():
            raise InputError(
                f"{path} line {number}: expected the column of a video, from 0; got {text!r}"
            )
    return np.array([int(text) for text in lines], dtype=np.int64)


def _expect_no_owners(path: Path, owners: NDArray[np.int64] | None) -> None:
    if owners is not None:
        raise InputError(f"{path}: says itself which videos there are; drop --video-of-text")


def _table(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (ValueError, OSError) as error:  # pandas' and Arrow's errors are ValueErrors
        raise InputError(f"{path}: no table that can be read ({error})") from None
    return table.rename(columns=str.strip)


def _load(path: Path) -> NDArray[Any]:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except ValueError as error:
        raise InputError(f"{path}: no array of numbers that NumPy can read ({error})") from None


def _parse(path: Path) -> NDArray[np.float64]:
    """Read a matrix from comma-separated lines, each error with its line."""
    rows: list[NDArray[np.float64]] = []
    with path.open(encoding="utf-8-sig") as file:
        for number, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                rows.append(np.array(text.strip().split(","), dtype=np.float64))
            except ValueError as error:
                raise InputError(
                    f"{path} line {number}: expected numbers only, or a first line with query_id "
                    f"and rank ({error})"
                ) from None
            if len(rows[-1]) != len(rows[0]):
                raise InputError(
                    f"{path} line {number}: {len(rows[-1])} numbers, but {len(rows[0])} before"
                )
    if not rows:
        raise InputError(f"{path}: empty")
    return np.stack(rows)


def _of_matrix(
    path: Path,
    matrix: NDArray[Any],
    owners: NDArray[np.int64] | None,
    names: tuple[NDArray[np.str_], NDArray[np.str_]] | None,
) -> dict[str, Queries]:
    if matrix.ndim != 2 or 0 in matrix.shape or matrix.dtype.kind not in "fiub":
        raise InputError(
            f"{path}: expected a matrix of numbers (text, video); got {matrix.dtype} {matrix.shape}"
        )
    n_text, n_video = matrix.shape
    if owners is None:
        if n_text != n_video:
            raise InputError(
                f"{path}: {n_text} texts and {n_video} videos; which video does each text belong "
                "to? Name a file with --video-of-text: the column of each text's video, a line each"
            )
        owners = np.arange(n_text)
    if len(owners) != n_text:
        raise InputError(
            f"{path}: {n_text} texts, but {len(owners)} lines in the file of --video-of-text"
        )
    try:
        both = ranks(matrix, owners)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    texts, videos = names or (np.arange(n_text).astype(str), np.arange(n_video).astype(str))
    found = {}
    for direction, of_direction in both.items():
        ids = texts if direction == "t2v" else videos[of_direction.query]
        found[direction] = Queries(
            ids=ids,
            video=videos[owners] if direction == "t2v" else ids,
            ranks=of_direction,
            named=names is not None,
            n_candidates=n_video,
        )
    return found


def _of_table(
    path: Path,
    table: pd.DataFrame,
    owners: NDArray[np.int64] | None,
    required: tuple[str, ...],
) -> dict[str, Queries]:
    for column in ("query_id", "rank", *required):
        if column not in table:
            mend = "; run 'dvc repro' to make it again" if required else ""
            raise InputError(
                f"{path}: no column {column}; it has {', '.join(map(str, table))}{mend}"
            )
    if "direction" not in table:
        table = table.assign(direction="t2v")
    stray = ~table["direction"].isin(["t2v", "v2t"])
    if stray.any():
        row = int(np.argmax(stray))
        raise InputError(
            f"{path} row {row + 1}: direction {table['direction'].iloc[row]!r}; expected t2v or v2t"
        )
    if "video_id" in table:
        _expect_no_owners(path, owners)
    twice = table.duplicated(["direction", "query_id"])
    if twice.any():
        row = int(np.argmax(twice))
        raise InputError(
            f"{path} row {row + 1}: query {table['query_id'].iloc[row]} is there twice"
        )
    greater, tied = _places(path, table)
    found = {}
    for direction in ("t2v", "v2t"):
        rows = np.flatnonzero(table["direction"] == direction)
        if not len(rows):
            continue
        ids = table["query_id"].to_numpy(str)[rows]
        video = ids
        if direction == "t2v" and "video_id" in table:
            video = table["video_id"].to_numpy(str)[rows]
        elif direction == "t2v" and owners is not None:
            if len(owners) != len(ids):
                raise InputError(
                    f"{path}: {len(ids)} texts, but {len(owners)} lines in the file of "
                    "--video-of-text"
                )
            video = owners.astype(str)
        of_direction = Ranks(query=rows, n_greater=greater[rows], n_tied=tied[rows])
        found[direction] = Queries(
            ids=ids, video=video, ranks=of_direction, named=True, n_candidates=None
        )
    if not found:
        raise InputError(f"{path}: no queries")
    return found


def _places(path: Path, table: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Candidates above and on the level of each right answer.

    A file with ranks alone does not say what tied: a rank that ends in .5 is read as a tie of two.
    """
    rank = _numbers(path, table, "rank")
    _refuse(path, table, "rank", rank < 1, "ranks start at 1")
    _refuse(path, table, "rank", rank % 0.5 != 0, "expected whole or half ranks")
    if not {"n_greater", "n_tied"} <= set(table):
        tied = np.where(rank % 1 == 0, 1, 2)
        greater = rank - (tied + 1) / 2
        return greater.astype(np.int64), tied
    greater, tied = (_numbers(path, table, column) for column in ("n_greater", "n_tied"))
    _refuse(path, table, "n_greater", (greater < 0) | (greater % 1 != 0), "expected 0, 1, 2, ...")
    _refuse(path, table, "n_tied", (tied < 1) | (tied % 1 != 0), "expected 1, 2, ...")
    wrong = rank != greater + (tied + 1) / 2
    _refuse(path, table, "rank", wrong, "expected n_greater + (n_tied + 1) / 2")
    return greater.astype(np.int64), tied.astype(np.int64)


def _numbers(path: Path, table: pd.DataFrame, column: str) -> NDArray[np.float64]:
    numbers = pd.to_numeric(table[column], errors="coerce").to_numpy(float)
    _refuse(path, table, column, ~np.isfinite(numbers), "expected a number")
    return numbers


def _refuse(
    path: Path, table: pd.DataFrame, column: str, wrong: NDArray[np.bool_], expected: str
) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        query, value = table["query_id"].iloc[row], table[column].iloc[row]
        raise InputError(f"{path} row {row + 1} (query {query}): {column} {value}; {expected}")
