"""Read the ranks that a file names query by query: tables, and TREC runs with their qrels.

A table, ``.csv`` or ``.tsv``, has columns ``query_id`` and ``rank`` (from 1), and if there are any
``direction`` (t2v or v2t), ``video_id`` (of a t2v query), ``n_greater`` and ``n_tied``; ours are
``.parquet`` and have all.

A TREC run has lines ``query Q0 video rank score tag``, its qrels ``query 0 video relevance``. As in
trec_eval, the score gives the order and not the rank; ties have the rule of ``xpool.metrics``. Runs
are cut at some depth, and beyond it no rank is known.
"""

import logging
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xpool.project.errors import InputError
from xpool.statistics.files.arrays import DELIMITERS

DIRECTIONS = ("t2v", "v2t")
MOST = 10**9
"""A rank above it is an error of the file: no gallery is so large."""

log = logging.getLogger(__name__)


def read_table(path: Path, ours: bool) -> pd.DataFrame:
    """Return one row a query: direction, query_id, n_greater, n_tied, and video_id if it is there.

    Args:
        path: ``.parquet``, ``.csv`` or ``.tsv``.
        ours: whether a stage wrote it, which then has direction and video_id.

    Raises:
        InputError: the file is no such table; names the row and the query.
    """
    table = _frame(path)
    for column in ("query_id", "rank", *(("direction", "video_id") if ours else ())):
        if column not in table:
            remedy = "; run 'dvc repro' to make it again" if ours else ""
            raise InputError(
                f"{path}: no column {column}; it has {', '.join(map(str, table))}{remedy}"
            )
    if again := [name for name in table if str(name) in ("query_id.1", "rank.1", "video_id.1")]:
        raise InputError(f"{path}: column {str(again[0])[:-2]} is there twice; delete one")
    if "direction" not in table:
        table = table.assign(direction="t2v")
    stray = ~table["direction"].isin(DIRECTIONS)
    if stray.any():
        row = int(np.argmax(stray))
        raise InputError(
            f"{path} row {row + 1}: direction {table['direction'].iloc[row]!r}; expected t2v or v2t"
        )
    for column in sorted({"query_id", "video_id"} & set(table)):
        unnamed = table[column].isna() | (table[column].astype(str).str.strip() == "")
        _refuse(path, table, column, unnamed.to_numpy(bool), "is empty; expected a name")
    twice = table.duplicated(["direction", "query_id"])
    if twice.any():
        row = int(np.argmax(twice))
        raise InputError(f"{path} row {row + 1}: query {table['query_id'].iloc[row]} appears twice")
    greater, tied = _counts(path, table)
    return table.assign(n_greater=greater, n_tied=tied)


def _frame(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        table = pd.read_csv(
            path,
            sep=DELIMITERS[path.suffix],
            dtype=str,
            keep_default_na=False,
            skipinitialspace=True,
        )
    except (ValueError, OSError) as error:  # pandas' and Arrow's errors are ValueErrors
        raise InputError(f"{path}: not a table that pandas can read ({error})") from None
    return table.rename(columns=str.strip)


def _counts(path: Path, table: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the candidates above each right answer, and those that tie with it.

    A file with ranks alone does not say what ties: a rank that ends in .5 is read as a tie of two.
    """
    rank = _numbers(path, table, "rank")
    _refuse(path, table, "rank", rank < 1, "ranks start at 1")
    _refuse(path, table, "rank", rank > MOST, "no gallery is so large")
    _refuse(path, table, "rank", rank % 0.5 != 0, "expected whole or half ranks")
    if not {"n_greater", "n_tied"} <= set(table):
        tied = np.where(rank % 1 == 0, 1, 2)
        greater = rank - (tied + 1) / 2
        return greater.astype(np.int64), tied
    greater, tied = (_numbers(path, table, column) for column in ("n_greater", "n_tied"))
    wrong = (greater < 0) | (greater > MOST) | (greater % 1 != 0)
    _refuse(path, table, "n_greater", wrong, "expected 0, 1, 2, ...")
    wrong = (tied < 1) | (tied > MOST) | (tied % 1 != 0)
    _refuse(path, table, "n_tied", wrong, "expected 1, 2, ...")
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


def read_qrels(path: Path) -> dict[str, str]:
    """Return the video of each query.

    Raises:
        InputError: the file is missing or broken, or a query has another number of right answers
            than one.
    """
    found: dict[str, str] = {}
    judged: dict[str, int] = {}
    for number, (query, _, video, relevance) in _fields(path, "query 0 video relevance"):
        judged.setdefault(query, number)
        try:
            relevant = int(relevance) > 0
        except ValueError:
            raise InputError(
                f"{path} line {number} (query {query}): relevance {relevance}; expected 0, 1, ..."
            ) from None
        if relevant and found.setdefault(query, video) != video:
            raise InputError(
                f"{path} line {number}: query {query} has two right answers, {found[query]} and "
                f"{video}; expected one, the video that a text belongs to"
            )
    if without := [query for query in judged if query not in found]:
        raise InputError(
            f"{path} line {judged[without[0]]}: query {without[0]} has no right answer (relevance "
            "above 0); drop its lines"
        )
    return found


def trec_run(path: Path, qrels: dict[str, str], depth: int) -> pd.DataFrame:
    """Return what :func:`read_table` does of a TREC run; a video not listed ranks beyond the depth.

    Args:
        path: the run.
        qrels: of :func:`read_qrels`.
        depth: number of videos that the run lists for each query, or fewer.

    Raises:
        InputError: a line is broken, or the run and the qrels are not about the same queries, or
            the run is cut before the depth.
    """
    scores: dict[str, dict[str, float]] = {query: {} for query in qrels}
    ends: dict[str, list[tuple[int, float]]] = {}
    for number, fields in _fields(path, "query Q0 video rank score tag"):
        query, video, rank, text = fields[0], fields[2], fields[3], fields[4]
        where = f"{path} line {number} (query {query})"
        if query not in qrels:
            raise InputError(f"{where}: not in the qrels; drop its lines, or add its right answer")
        try:
            score = float(text)
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise InputError(f"{where}: score {text}; expected a finite number")
        if video in scores[query]:
            raise InputError(f"{where}: video {video} is listed twice")
        scores[query][video] = score
        if rank.isdecimal():
            first, last = ends.get(query, [(int(rank), score)] * 2)
            ends[query] = [min(first, (int(rank), score)), max(last, (int(rank), score))]
    rising = sum(first[0] < last[0] and first[1] < last[1] for first, last in ends.values())
    if 2 * rising > len(qrels):
        raise InputError(
            f"{path}: scores grow from the first rank to the last in {rising} of {len(qrels)} "
            "queries; are they distances? Negate them"
        )
    return pd.DataFrame(_placed(path, scores, qrels, depth))


def _placed(
    path: Path, scores: dict[str, dict[str, float]], qrels: dict[str, str], depth: int
) -> dict[str, list[str] | list[int]]:
    greater, tied, cut = [], [], 0
    for query, video in qrels.items():
        listed = np.array(list(scores[query].values()))
        if video in scores[query]:
            right = scores[query][video]
            greater.append(int((listed > right).sum()))
            tied.append(int((listed == right).sum()))
            cut += tied[-1] > 1 and greater[-1] + tied[-1] == len(listed)
        elif len(listed) < depth:
            raise InputError(
                f"{path}: query {query}: {len(listed)} videos are listed and not the right one, so "
                f"its rank may be within --depth {depth}; state the depth at which the run was cut"
            )
        else:
            greater.append(len(listed))
            tied.append(1)
    if cut:
        log.warning(
            "%s: in %d queries the right answer ties with the last listed; videos that tie and are "
            "not listed are not counted, and R@K may be too high",
            path, cut,
        )  # fmt: skip
    return {
        "direction": ["t2v"] * len(qrels),
        "query_id": list(qrels),
        "video_id": list(qrels.values()),
        "n_greater": greater,
        "n_tied": tied,
    }


def _fields(path: Path, expected: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number, from 1, and the fields of each line that is not blank."""
    if not path.is_file():
        raise InputError(f"{path}: not found")
    blank = True
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not (fields := line.split()):
                    continue
                if len(fields) != len(expected.split()):
                    raise InputError(
                        f"{path} line {number}: {len(fields)} fields; expected '{expected}'"
                    )
                blank = False
                yield number, fields
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8; save it again ({error})") from None
    if blank:
        raise InputError(f"{path}: empty; expected lines '{expected}'")
