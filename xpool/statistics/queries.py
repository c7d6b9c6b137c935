"""Read the rank of every query of a run, from our files or another code base's; match two runs.

A run is one of

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

from xpool.metrics import METRICS, Ranks, ranks
from xpool.project.errors import InputError
from xpool.project.seeds import seed_for
from xpool.statistics import paired
from xpool.statistics.bootstrap import per_query
from xpool.statistics.ranks import read_similarity
from xpool.statistics.ranks import video_of_text as row_of_video

DIRECTIONS = ("t2v", "v2t")


@dataclass(frozen=True, kw_only=True)
class Queries:
    """The queries of one direction, with the rank of each one's right answer."""

    ids: NDArray[np.str_]
    """``(query,)`` names; the index of the row or column where a file gives none."""
    video: NDArray[np.str_]
    """``(query,)`` video of each; queries of one video are not independent."""
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


def read(path: Path, video_of_text: NDArray[np.int64] | None) -> dict[str, Queries]:
    """Return the queries of each direction that a file has; the module lists the kinds of file.

    Args:
        path: file or folder.
        video_of_text: ``(text,)`` of :func:`read_video_of_text`; None where the file says it.

    Raises:
        InputError: the file is of no such kind, or broken; names the file and the row.
    """
    if path.is_dir():
        _expect_none(path, video_of_text)
        matrix, texts, videos = read_similarity(path)
        names = (texts["caption_id"].to_numpy(str), videos["video_id"].to_numpy(str))
        return _of_matrix(path, matrix, row_of_video(texts, videos), names)
    if not path.is_file():
        raise InputError(f"{path}: not found")
    if path.suffix == ".parquet":
        return _of_table(path, _table(path), video_of_text, ("direction", "video_id"))
    if path.suffix == ".npy":
        return _of_matrix(path, _load(path), video_of_text, None)
    if path.suffix == ".csv":
        with path.open(encoding="utf-8-sig") as file:
            head = [name.strip() for name in file.readline().split(",")]
        if {"query_id", "rank"} & set(head):
            return _of_table(path, _table(path), video_of_text, ())
        return _of_matrix(path, _parse(path), video_of_text, None)
    raise InputError(
        f"{path}: expected a run's folder, a .parquet of ranks, or a matrix (.npy, .csv) or rank "
        "file (.csv with columns query_id and rank)"
    )


def read_video_of_text(path: Path) -> NDArray[np.int64]:
    """Return ``(text,)``: the column of each text's video, from ``.npy`` or one number a line.

    Raises:
        InputError: the file is missing, or a line is no whole number.
    """
    if not path.is_file():
        raise InputError(f"{path}: not found")
    if path.suffix == ".npy":
        columns = _load(path)
        if columns.ndim != 1 or not np.issubdtype(columns.dtype, np.integer):
            raise InputError(
                f"{path}: expected one whole number a text; got {columns.dtype} {columns.shape}"
            )
        return columns.astype(np.int64)
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    for number, text in enumerate(lines, start=1):
        if not text.strip().isdecimal():
            raise InputError(
                f"{path} line {number}: expected the column of a video, from 0; got {text!r}"
            )
    return np.array([int(text) for text in lines], dtype=np.int64)


def _expect_none(path: Path, video_of_text: NDArray[np.int64] | None) -> None:
    if video_of_text is not None:
        raise InputError(f"{path}: names the video of each text itself; drop --video-of-text")


def _table(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (ValueError, OSError) as error:  # pandas' and Arrow's errors are ValueErrors
        raise InputError(f"{path}: not a table that pandas can read ({error})") from None
    return table.rename(columns=str.strip)


def _load(path: Path) -> NDArray[Any]:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except ValueError as error:
        raise InputError(f"{path}: not an array of numbers that NumPy can read ({error})") from None


def _parse(path: Path) -> NDArray[np.float64]:
    """Read a matrix from comma-separated lines; an error names its line."""
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
    video_of_text: NDArray[np.int64] | None,
    names: tuple[NDArray[np.str_], NDArray[np.str_]] | None,
) -> dict[str, Queries]:
    if matrix.ndim != 2 or 0 in matrix.shape or matrix.dtype.kind not in "fiub":
        raise InputError(
            f"{path}: expected a matrix of numbers (text, video); got {matrix.dtype} {matrix.shape}"
        )
    n_text, n_video = matrix.shape
    if video_of_text is None:
        if n_text != n_video:
            raise InputError(
                f"{path}: {n_text} texts and {n_video} videos; which video does each text belong "
                "to? Name a file with --video-of-text: the column of each text's video, a line each"
            )
        video_of_text = np.arange(n_text)
    if len(video_of_text) != n_text:
        raise InputError(
            f"{path}: {n_text} texts, but {len(video_of_text)} lines in the file of --video-of-text"
        )
    try:
        both = ranks(matrix, video_of_text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    texts, videos = names or (np.arange(n_text).astype(str), np.arange(n_video).astype(str))
    found = {}
    for direction, of_direction in both.items():
        ids = texts if direction == "t2v" else videos[of_direction.query]
        found[direction] = Queries(
            ids=ids,
            video=videos[video_of_text] if direction == "t2v" else ids,
            ranks=of_direction,
            named=names is not None,
            n_candidates=n_video,
        )
    return found


def _of_table(
    path: Path,
    table: pd.DataFrame,
    video_of_text: NDArray[np.int64] | None,
    required: tuple[str, ...],
) -> dict[str, Queries]:
    for column in ("query_id", "rank", *required):
        if column not in table:
            remedy = "; run 'dvc repro' to make it again" if required else ""
            raise InputError(
                f"{path}: no column {column}; it has {', '.join(map(str, table))}{remedy}"
            )
    if "direction" not in table:
        table = table.assign(direction="t2v")
    stray = ~table["direction"].isin(DIRECTIONS)
    if stray.any():
        row = int(np.argmax(stray))
        raise InputError(
            f"{path} row {row + 1}: direction {table['direction'].iloc[row]!r}; expected t2v or v2t"
        )
    if "video_id" in table:
        _expect_none(path, video_of_text)
    twice = table.duplicated(["direction", "query_id"])
    if twice.any():
        row = int(np.argmax(twice))
        raise InputError(f"{path} row {row + 1}: query {table['query_id'].iloc[row]} appears twice")
    greater, tied = _counts(path, table)
    found = {}
    for direction in DIRECTIONS:
        rows = np.flatnonzero(table["direction"] == direction)
        if not len(rows):
            continue
        ids = table["query_id"].to_numpy(str)[rows]
        video = ids
        if direction == "t2v" and "video_id" in table:
            video = table["video_id"].to_numpy(str)[rows]
        elif direction == "t2v" and video_of_text is not None:
            if len(video_of_text) != len(ids):
                raise InputError(
                    f"{path}: {len(ids)} texts, but {len(video_of_text)} lines in the file of "
                    "--video-of-text"
                )
            video = video_of_text.astype(str)
        of_direction = Ranks(query=rows, n_greater=greater[rows], n_tied=tied[rows])
        found[direction] = Queries(
            ids=ids, video=video, ranks=of_direction, named=True, n_candidates=None
        )
    if not found:
        raise InputError(f"{path}: no queries")
    return found


def _counts(path: Path, table: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the candidates above each right answer, and those that tie with it.

    A file with ranks alone does not say what ties: a rank that ends in .5 is read as a tie of two.
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


def matched(first: Queries, second: Queries, names: tuple[str, str]) -> Queries:
    """Return the second run's queries in the order of the first's.

    Args:
        first: queries of one direction.
        second: the same queries, in any order if both files name them.
        names: of the two files, for the error.

    Raises:
        InputError: the queries, their videos or the sizes of the galleries differ.
    """
    if first.named != second.named:
        has, has_not = names if first.named else names[::-1]
        raise InputError(
            f"{has_not}: does not name its queries, and {has} does; to compare them, save its "
            "ranks as a .csv with the same query_id"
        )
    if None not in (first.n_candidates, second.n_candidates) and (
        first.n_candidates != second.n_candidates
    ):
        raise InputError(
            f"{names[1]}: a gallery of {second.n_candidates}, but {names[0]} has "
            f"{first.n_candidates}; ranks among different numbers cannot be compared"
        )
    row_of = {name: row for row, name in enumerate(second.ids)}
    missing = [name for name in first.ids if name not in row_of]
    if missing or len(first.ids) != len(second.ids):
        known = set(first.ids)
        stray = [name for name in second.ids if name not in known]
        lost = f"query {missing[0]} is not in {names[1]}" if missing else ""
        more = f"query {stray[0]} is not in {names[0]}" if stray else ""
        raise InputError(
            f"{names[1]}: other queries than {names[0]} ({len(second.ids)} and "
            f"{len(first.ids)}): {' and '.join(filter(None, (lost, more)))}"
        )
    moved = second.take(np.array([row_of[name] for name in first.ids]))
    differ = np.flatnonzero(moved.video != first.video)
    if len(differ):
        row = differ[0]
        raise InputError(
            f"{names[1]}: query {first.ids[row]} belongs to video {moved.video[row]}, but in "
            f"{names[0]} to {first.video[row]}"
        )
    return moved


def compare(
    first: dict[str, Queries], second: dict[str, Queries], names: tuple[str, str]
) -> dict[str, dict[str, paired.Comparison]]:
    """Compare two runs in each metric, in the directions that both have.

    Args:
        first: queries per direction, by :func:`read`.
        second: the same of the other run.
        names: of the two files, for errors.

    Raises:
        InputError: they have no direction in common, or as :func:`matched`.
    """
    common = [direction for direction in DIRECTIONS if direction in first and direction in second]
    if not common:
        raise InputError(
            f"{names[1]}: has {', '.join(second)}, and {names[0]} has {', '.join(first)}"
        )
    found: dict[str, dict[str, paired.Comparison]] = {}
    for direction in common:
        before = first[direction]
        after = matched(before, second[direction], names)
        found[direction] = {
            metric: paired.compare(
                per_query(before.ranks, metric)[None],
                per_query(after.ranks, metric)[None],
                before.video,
                metric,
                np.random.default_rng(seed_for("compare", direction, metric)),
            )
            for metric in METRICS
        }
    return found
