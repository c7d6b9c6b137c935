"""The rank of every query of every run, and the metrics of all runs.

Reads ``results/<setting>/similarity/<method>/<benchmark>/<seed>/`` of each cell, and writes
``ranks/<method>/<benchmark>/<seed>.parquet``, from which all statistics come. The captions of the
manifest tell which videos share one: :func:`same_caption`.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xpool.data.manifest import read_manifest
from xpool.metrics import Ranks, ranks, recall_of_any
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.made import made, read_made
from xpool.project.workspace import replacing

Coordinates = tuple[str, str, int]
"""Benchmark, method and seed of a cell."""
Scope = dict[str, tuple[list[str], list[int]]]
"""Methods and seeds that are compared on each benchmark."""
Nested = dict[str, dict[str, dict[str, dict[str, dict[str, float]]]]]
"""Metrics by benchmark, method, seed, direction and name, as ``dvc metrics show`` prints them."""


def read_similarity(folder: Path) -> tuple[NDArray[Any], pd.DataFrame, pd.DataFrame]:
    """Read a run's similarity, and the names of its rows and columns.

    Returns:
        The matrix ``(text, video)``; its rows, with columns caption_id and video_id; its columns,
        with column video_id.

    Raises:
        InputError: a file is missing, or the three files do not fit each other.
    """
    files = [folder / name for name in ("similarity.npy", "texts.parquet", "videos.parquet")]
    for file in files:
        made(file)
    matrix: NDArray[Any] = np.load(files[0], allow_pickle=False)
    texts, videos = (pd.read_parquet(file) for file in files[1:])
    for file, table, columns in (
        (files[1], texts, ["caption_id", "video_id"]),
        (files[2], videos, ["video_id"]),
    ):
        if missing := [column for column in columns if column not in table]:
            raise InputError(f"{file}: no column {missing[0]}; it has {', '.join(table.columns)}")
        repeated = table[columns[0]].duplicated()
        if repeated.any():
            raise InputError(
                f"{file}: {columns[0]} {table[columns[0]][repeated].iloc[0]} appears twice"
            )
    if matrix.shape != (len(texts), len(videos)):
        raise InputError(
            f"{files[0]}: shape {matrix.shape}, but there are {len(texts)} texts and "
            f"{len(videos)} videos beside it; run 'dvc repro' to make it again"
        )
    stray = ~texts["video_id"].isin(videos["video_id"])
    if stray.any():
        raise InputError(
            f"{files[1]}: video {texts['video_id'][stray].iloc[0]} is not in "
            f"{files[2].name}; run 'dvc repro' to make both again"
        )
    return matrix, texts, videos


def video_of_text(texts: pd.DataFrame, videos: pd.DataFrame) -> NDArray[np.int64]:
    """Return ``(text,)``: the row in ``videos`` of the video that each text describes."""
    return np.asarray(pd.Index(videos["video_id"]).get_indexer(texts["video_id"]), dtype=np.int64)


def rank_table(
    both: Mapping[str, Ranks], texts: pd.DataFrame, videos: pd.DataFrame
) -> pd.DataFrame:
    """Return one row per query: direction, query_id, video_id, rank, n_greater, n_tied.

    ``query_id`` is the caption_id in t2v and the video_id in v2t; ``video_id`` is the video that
    the query belongs to.
    """
    names = {"t2v": texts["caption_id"], "v2t": videos["video_id"]}
    belongs_to = {"t2v": texts["video_id"], "v2t": videos["video_id"]}
    parts = [
        pd.DataFrame(
            {
                "direction": direction,
                "query_id": names[direction].astype(str).to_numpy()[of_direction.query],
                "video_id": belongs_to[direction].astype(str).to_numpy()[of_direction.query],
                "rank": of_direction.rank,
                "n_greater": of_direction.n_greater,
                "n_tied": of_direction.n_tied,
            }
        )
        for direction, of_direction in both.items()
    ]
    return pd.concat(parts, ignore_index=True)


def same_caption(
    setting: str, benchmark: str, texts: pd.DataFrame, videos: pd.DataFrame
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ``(pair,)`` rows and columns of each text with each video that has its caption.

    That is its own video, and any other of these videos with the same caption to the letter, which
    no model can tell apart by the text.

    Args:
        setting: the setting in force.
        benchmark: short name of the benchmark.
        texts: rows of a similarity, by :func:`read_similarity`.
        videos: its columns.

    Raises:
        InputError: the manifest is missing or lacks a caption.
    """
    path = paths.manifest(setting, benchmark)
    manifest = read_manifest(path)
    captions = manifest[manifest["split"] == "test"].set_index("caption_id")["caption"]
    found = captions.reindex(texts["caption_id"])
    if found.isna().any():
        missing = found.index[found.isna()][0]
        raise InputError(f"{path}: no test caption {missing}; run 'dvc repro' to score anew")
    own = pd.DataFrame({"caption": found.to_numpy(), "video": video_of_text(texts, videos)})
    pairs = own[["caption"]].reset_index(names="text").merge(own.drop_duplicates(), on="caption")
    return pairs["text"].to_numpy(np.int64), pairs["video"].to_numpy(np.int64)


def metrics_of(
    both: Mapping[str, Ranks],
    similarity: NDArray[Any],
    same: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> dict[str, dict[str, float]]:
    """Return all metrics of a run by direction and name.

    Beside those of :mod:`xpool.metrics`: ``tied``, the percent of queries whose right answer ties;
    for t2v ``dup``, the percent of texts whose caption another video has too, and ``R@1 dup``, with
    which such a video is right as well.

    Args:
        both: ranks in both directions.
        similarity: ``(text, video)`` that gave them.
        same: from :func:`same_caption`.
    """
    found = {name: {**one.metrics(), "tied": one.tied()} for name, one in both.items()}
    shared = np.bincount(same[0]) > 1
    found["t2v"] |= {"R@1 dup": recall_of_any(similarity, *same), "dup": float(100 * shared.mean())}
    return found


def metric_rows(
    run_columns: Mapping[str, Any],
    selection: str,
    values: Mapping[str, Mapping[str, float]],
    n_text: int,
    n_video: int,
) -> list[dict[str, Any]]:
    """Return a run's rows of ``metrics.csv``, one for each direction and metric."""
    columns = {**run_columns, "split": "test", "selection": selection}
    size = {"n_text": n_text, "n_video": n_video}
    return [
        {**columns, "direction": direction, "metric": metric, "value": value, **size}
        for direction, metrics in values.items()
        for metric, value in metrics.items()
    ]


def cells_of(
    benchmarks: Iterable[str], methods: Iterable[str], seeds: Iterable[int]
) -> list[Coordinates]:
    """Return all cells of a comparison, sorted."""
    return list(itertools.product(sorted(benchmarks), sorted(methods), sorted(seeds)))


def scope(cells: Iterable[Coordinates]) -> Scope:
    """Return what is compared where some cells of a comparison are not there.

    On each benchmark these are the methods that have a run, and the seeds of which all of them have
    one: a method of one run and another of several could not be compared.

    Args:
        cells: those that are there.

    Raises:
        InputError: the methods of a benchmark have no seed in common.

    Example:
        >>> scope([("msvd", "mean_pool", 0), ("msvd", "xpool", 1), ("msvd", "xpool", 0)])
        {'msvd': (['mean_pool', 'xpool'], [0])}
    """
    found: Scope = {}
    for benchmark, of_benchmark in itertools.groupby(sorted(set(cells)), lambda cell: cell[0]):
        seeds: dict[str, set[int]] = {}
        for _, method, seed in of_benchmark:
            seeds.setdefault(method, set()).add(seed)
        shared = sorted(set.intersection(*seeds.values()))
        if not shared:
            named = "; ".join(f"{method} {sorted(its)}" for method, its in seeds.items())
            raise InputError(
                f"{benchmark}: no seed of which every method has a scored run ({named}); score "
                "runs of the same seed, or take a method off the lists in params.yaml"
            )
        found[benchmark] = sorted(seeds), shared
    return found


def cells_in(there: Scope) -> list[Coordinates]:
    """Return the cells of a scope, sorted."""
    return [cell for benchmark, parts in there.items() for cell in cells_of([benchmark], *parts)]


def scored(setting: str, cells: Iterable[Coordinates]) -> list[Coordinates]:
    """Return those of the cells that have been scored.

    Raises:
        InputError: none has.
    """
    cells = list(cells)
    found = [
        (benchmark, method, seed)
        for benchmark, method, seed in cells
        if paths.similarity(setting, method, benchmark, seed).is_dir()
    ]
    if not found:
        benchmark, method, seed = cells[0]
        made(paths.similarity(setting, method, benchmark, seed))
    return found


def ranked(setting: str, cells: Iterable[Coordinates]) -> list[Coordinates]:
    """Return those of the cells that the stage ``ranks`` has ranked.

    Raises:
        InputError: the stage has not run.
    """
    table = read_made(paths.ranked_cells(setting))
    return sorted(set(cells) & set(table.itertuples(index=False, name=None)))


def rank_all(
    setting: str,
    cells: Sequence[Coordinates],
    selection: str,
    mixed: Mapping[Coordinates, str],
    imported: Mapping[Coordinates, str],
) -> tuple[pd.DataFrame, Nested]:
    """Write the ranks of each cell, and return the metrics of all.

    Args:
        setting: the setting in force.
        cells: of :func:`cells_of`.
        selection: the selection rule of the runs.
        mixed: of :func:`xpool.statistics.mixing.mixed`.
        imported: of :func:`xpool.statistics.mixing.imported`.

    Returns:
        The metrics in long form, one value a row, and nested.

    Raises:
        InputError: as :func:`read_similarity` and :func:`same_caption`.
    """
    rows: list[dict[str, Any]] = []
    nested: Nested = {}
    for benchmark, method, seed in cells:
        matrix, texts, videos = read_similarity(paths.similarity(setting, method, benchmark, seed))
        both = ranks(matrix, video_of_text(texts, videos))
        with replacing(paths.rank_file(setting, method, benchmark, seed), "wb") as file:
            rank_table(both, texts, videos).to_parquet(file, index=False)
        same = same_caption(setting, benchmark, texts, videos)
        values = metrics_of(both, matrix, same)
        nested.setdefault(benchmark, {}).setdefault(method, {})[str(seed)] = values
        run = {"benchmark": benchmark, "method": method, "seed": seed}
        of_run = metric_rows(run, selection, values, len(texts), len(videos))
        cell = benchmark, method, seed
        labels = {"mixed": mixed.get(cell, ""), "imported": imported.get(cell, "")}
        rows += [row | labels for row in of_run]
    table = pd.DataFrame(cells, columns=["benchmark", "method", "seed"])
    with replacing(paths.ranked_cells(setting)) as file:
        table.to_csv(file, index=False, lineterminator="\n")
    return pd.DataFrame(rows), nested
