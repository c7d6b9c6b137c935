"""Read the rank of every query of a run, from our files or another code base's; match two runs.

A run is one of

- a run's folder ``results/<setting>/similarity/<method>/<benchmark>/<seed>/``, or its ranks
  ``results/<setting>/ranks/<method>/<benchmark>/<seed>.parquet``;
- a similarity matrix ``(text, video)``, higher is nearer, in any file of
  ``xpool.statistics.files.arrays``. A square matrix means that text i belongs to video i;
- a file of ranks, or a TREC run with its qrels, see ``xpool.statistics.files.rank_files``.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from xpool.metrics import METRICS, Ranks, ranks
from xpool.project.errors import InputError
from xpool.project.seeds import seed_for
from xpool.statistics import paired
from xpool.statistics.bootstrap import is_recall, per_query
from xpool.statistics.files.arrays import ARRAYS, DELIMITERS, Scores, lines, read_scores, split_name
from xpool.statistics.files.rank_files import DIRECTIONS, read_table, trec_run
from xpool.statistics.ranks import read_similarity
from xpool.statistics.ranks import video_of_text as row_of_video

UNLIKELY = 0.001
"""Below this probability under chance, a matrix is taken for turned or upside down."""

log = logging.getLogger(__name__)


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
    depth: int | None = None
    """Ranks from here on are only known to lie beyond; None where all are known."""
    columns: tuple[str, ...] = ()
    """Names of the matrix's columns; empty where a file gives none."""
    rows: tuple[str, ...] = ()
    """Names of the matrix's rows; empty where a file gives none."""

    def take(self, order: NDArray[Any]) -> "Queries":
        """Return the queries in another order."""
        moved = Ranks(
            query=np.arange(len(order)),
            n_greater=self.ranks.n_greater[order],
            n_tied=self.ranks.n_tied[order],
        )
        return replace(self, ids=self.ids[order], video=self.video[order], ranks=moved)


def read(path: Path, video_of_text: NDArray[np.int64] | None) -> dict[str, Queries]:
    """Return the queries of each direction that a file has; the module lists the kinds of file.

    Args:
        path: file or folder.
        video_of_text: ``(text,)`` of
            :func:`xpool.statistics.files.arrays.read_video_of_text`; None where the file says it.

    Raises:
        InputError: the file is of no such kind, or broken; names the file and the row.
    """
    if path.is_dir():
        _expect_none(path, video_of_text)
        matrix, texts, videos = read_similarity(path)
        names = (texts["caption_id"].to_numpy(str), videos["video_id"].to_numpy(str))
        scores = Scores(matrix=matrix, video_of_text=row_of_video(texts, videos))
        return _of_matrix(path, scores, names)
    file, _ = split_name(path)
    if file.suffix not in (".parquet", *DELIMITERS, *ARRAYS):
        raise InputError(
            f"{path}: expected a run's folder, a .parquet of ranks, a matrix "
            f"({', '.join((*ARRAYS, *DELIMITERS))}) or a rank file (.csv, .tsv with columns "
            "query_id and rank)"
        )
    if not file.is_file():
        raise InputError(f"{file}: not found")
    if file.suffix == ".parquet":
        return _of_table(path, read_table(path, ours=True), video_of_text, None)
    if file.suffix in DELIMITERS:
        _, head = next(lines(path), (0, []))
        if {"query_id", "rank"} & set(head):
            return _of_table(path, read_table(path, ours=False), video_of_text, None)
    scores = read_scores(path)
    if scores.video_of_text is not None:
        _expect_none(path, video_of_text)
    elif video_of_text is not None:
        scores = replace(scores, video_of_text=video_of_text)
    return _of_matrix(path, scores, None)


def read_trec(path: Path, qrels: dict[str, str], depth: int) -> dict[str, Queries]:
    """Return the queries of a TREC run.

    Arguments are those of :func:`xpool.statistics.files.rank_files.trec_run`.

    Raises:
        InputError: a line is broken, or the file does not fit the qrels or the depth.
    """
    return _of_table(path, trec_run(path, qrels, depth), None, depth)


def _expect_none(path: Path, video_of_text: NDArray[np.int64] | None) -> None:
    if video_of_text is not None:
        raise InputError(f"{path}: names the video of each text itself; drop --video-of-text")


def _of_matrix(
    path: Path, scores: Scores, names: tuple[NDArray[np.str_], NDArray[np.str_]] | None
) -> dict[str, Queries]:
    n_text, n_video = scores.matrix.shape
    video_of_text = scores.video_of_text
    if video_of_text is None:
        if n_text != n_video:
            raise InputError(
                f"{path}: {n_text} texts and {n_video} videos; which video does each text belong "
                "to? Name a file with --video-of-text: the column of each text's video, a line each"
            )
        video_of_text = np.arange(n_text)
    if len(video_of_text) != n_text:
        turned = "; is the matrix (video, text)? Save its transpose"
        raise InputError(
            f"{path}: {n_text} texts, but {len(video_of_text)} lines in the file of --video-of-text"
            f"{turned if len(video_of_text) == n_video else ''}"
        )
    try:
        both = ranks(scores.matrix, video_of_text)
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
            columns=scores.columns,
            rows=scores.rows,
        )
    _hint_if_below_chance(path, found["t2v"], n_video)
    return found


def _hint_if_below_chance(path: Path, queries: Queries, n_video: int) -> None:
    """Say so if scores rank right answers later than chance: by R@1 or by the mean rank."""
    recall, rank = queries.ranks.recall(1), float(queries.ranks.rank.mean())
    chance, middle = 1 / n_video, (n_video + 1) / 2
    n_apart = len(np.unique(queries.video))  # captions of one video are not independent
    error = np.sqrt((n_video**2 - 1) / 12 / n_apart)
    few = special.bdtr(recall / 100 * len(queries.ids), len(queries.ids), chance) < UNLIKELY
    if n_video > 1 and (few or rank - middle > -special.ndtri(UNLIKELY) * error):
        log.warning(
            "%s: far below chance (R@1 %.2f, by chance %.2f; mean rank %.1f, by chance %.1f): are "
            "these distances (then negate them), is the matrix (video, text), or are its texts and "
            "videos in different orders?",
            path, recall, 100 * chance, rank, middle,
        )  # fmt: skip


def _of_table(
    path: Path, table: pd.DataFrame, video_of_text: NDArray[np.int64] | None, depth: int | None
) -> dict[str, Queries]:
    if "video_id" in table:
        _expect_none(path, video_of_text)
    elif video_of_text is None and (table["direction"] == "t2v").any():
        log.warning(
            "%s: no video_id, so captions are taken as independent; where a video has several, "
            "intervals are too narrow (add video_id, or --video-of-text)",
            path,
        )
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
        greater, tied = (table[column].to_numpy()[rows] for column in ("n_greater", "n_tied"))
        of_direction = Ranks(query=rows, n_greater=greater, n_tied=tied)
        found[direction] = Queries(
            ids=ids, video=video, ranks=of_direction, named=True, n_candidates=None, depth=depth
        )
    if not found:
        raise InputError(f"{path}: no queries")
    return found


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
    for what in ("columns", "rows"):
        _expect_same_names(what, getattr(first, what), getattr(second, what), names)
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


def _expect_same_names(
    what: str, first: tuple[str, ...], second: tuple[str, ...], names: tuple[str, str]
) -> None:
    """Refuse two matrices whose names of rows or columns differ; either may have none."""
    if first and second and len(first) == len(second) and first != second:
        at = next(i for i, pair in enumerate(zip(first, second, strict=True)) if len(set(pair)) > 1)
        raise InputError(
            f"{names[1]}: names of {what} differ from {names[0]}: number {at + 1} is "
            f"{second[at]!r} and not {first[at]!r}; save both in one order"
        )


def compare(
    first: Sequence[dict[str, Queries]],
    second: Sequence[dict[str, Queries]],
    names: tuple[Sequence[str], Sequence[str]],
) -> dict[str, dict[str, paired.Comparison]]:
    """Compare two runs, or two methods with several runs each, in every metric.

    Args:
        first: queries per direction of each run, by :func:`read`.
        second: the same of the other method; its number of runs is its own.
        names: of all files, for errors.

    Raises:
        InputError: one run stands against several, no direction is in all files, there is only one
            video, or as :func:`matched`.
    """
    if min(map(len, names)) == 1 < max(map(len, names)):
        raise InputError(
            f"{len(first)} runs against {len(second)}: one run says nothing of its seeds; name one "
            "run on each side, or two or more"
        )
    runs = list(zip(chain(*names), chain(first, second), strict=True))
    name, reference = runs[0]
    common = [way for way in DIRECTIONS if all(way in directions for _, directions in runs)]
    if not common:
        other, has = next(run for run in runs if not set(run[1]) & set(reference))
        raise InputError(f"{other}: has {', '.join(has)}, and {name} has {', '.join(reference)}")
    found: dict[str, dict[str, paired.Comparison]] = {}
    for direction in common:
        before = reference[direction]
        ordered = [before] + [
            matched(before, directions[direction], (name, other)) for other, directions in runs[1:]
        ]
        if len(np.unique(before.video)) == 1:
            raise InputError(
                f"{name}: all queries ({direction}) belong to one video, {before.video[0]}; "
                "expected two or more, as an interval is over videos"
            )
        found[direction] = {}
        depth = min((queries.depth for queries in ordered if queries.depth), default=None)
        for metric in METRICS:
            if depth and not (is_recall(metric) and int(metric.removeprefix("R@")) <= depth):
                continue
            values = np.stack([per_query(queries.ranks, metric) for queries in ordered])
            found[direction][metric] = paired.compare(
                values[: len(first)],
                values[len(first) :],
                before.video,
                metric,
                np.random.default_rng(seed_for("compare", direction, metric)),
            )
    return found
