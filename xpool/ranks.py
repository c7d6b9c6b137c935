"""[step 6] Rank of every query of every run, and the metrics of all runs.

Reads ``results/<setting>/similarity/<method>/<benchmark>/<seed>/`` of each cell that params.yaml
lists, and writes ``ranks/<method>/<benchmark>/<seed>.parquet``, from which all statistics come,
``metrics.csv`` (long form) and ``metrics.json`` (for ``dvc metrics show``). Runs that do not belong
in one table, by the ``provenance.json`` beside each, are refused, or named in the column ``mixed``
where params.yaml says ``mixing: allow``.

Run: ``python -m xpool.ranks``
"""

import argparse
import itertools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xpool import paths
from xpool.command import InputError, run
from xpool.metrics import Ranks, ranks
from xpool.mixing import mixed, refuse
from xpool.params import read, setting
from xpool.workspace import replacing, write_json

log = logging.getLogger(__name__)


def read_cell(folder: Path) -> tuple[NDArray[Any], pd.DataFrame, pd.DataFrame]:
    """Read a run's similarity and what its rows and columns are.

    Returns:
        The matrix ``(text, video)``; its rows, with columns caption_id and video_id; its columns,
        with column video_id.

    Raises:
        InputError: a file is missing, or the three do not fit each other.
    """
    files = [folder / name for name in ("similarity.npy", "texts.parquet", "videos.parquet")]
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: not found; run 'dvc repro' to make it")
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
                f"{file}: {columns[0]} {table[columns[0]][repeated].iloc[0]} is "
                "there twice; expected each once"
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
    owners = {"t2v": texts["video_id"], "v2t": videos["video_id"]}
    parts = [
        pd.DataFrame(
            {
                "direction": direction,
                "query_id": names[direction].astype(str).to_numpy()[of_direction.query],
                "video_id": owners[direction].astype(str).to_numpy()[of_direction.query],
                "rank": of_direction.rank,
                "n_greater": of_direction.n_greater,
                "n_tied": of_direction.n_tied,
            }
        )
        for direction, of_direction in both.items()
    ]
    return pd.concat(parts, ignore_index=True)


def metrics_of(both: Mapping[str, Ranks]) -> dict[str, dict[str, float]]:
    """Return all figures of a run by direction and name."""
    return {name: {**one.metrics(), "tied": one.tied()} for name, one in both.items()}


def metric_rows(
    run_columns: Mapping[str, Any],
    selection: str,
    values: Mapping[str, Mapping[str, float]],
    n_text: int,
    n_video: int,
) -> list[dict[str, Any]]:
    """Return a run's rows of ``metrics.csv``, one a figure."""
    columns = {**run_columns, "split": "test", "selection": selection}
    size = {"n_text": n_text, "n_video": n_video}
    return [
        {**columns, "direction": direction, "metric": metric, "value": value, **size}
        for direction, metrics in values.items()
        for metric, value in metrics.items()
    ]


def main() -> None:
    """Run the step over all cells of params.yaml."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    here = setting()
    selection: str = read("selection", str)
    benchmarks: list[str] = read("benchmarks", list[str])
    methods: list[str] = ["xpool", *read("baselines", list[str])]
    seeds: list[int] = read("seeds", list[int])
    cells = list(itertools.product(sorted(benchmarks), sorted(methods), sorted(seeds)))
    odd = mixed(here, [(method, benchmark, seed) for benchmark, method, seed in cells])
    if read("mixing", Literal["refuse", "allow"]) == "refuse":
        refuse(odd)
    rows: list[dict[str, Any]] = []
    nested: dict[str, dict[str, dict[str, dict[str, dict[str, float]]]]] = {}
    for benchmark, method, seed in cells:
        matrix, texts, videos = read_cell(paths.similarity(here, method, benchmark, seed))
        both = ranks(matrix, video_of_text(texts, videos))
        with replacing(paths.rank_file(here, method, benchmark, seed), "wb") as file:
            rank_table(both, texts, videos).to_parquet(file, index=False)
        values = metrics_of(both)
        nested.setdefault(benchmark, {}).setdefault(method, {})[str(seed)] = values
        run_columns = {"benchmark": benchmark, "method": method, "seed": seed}
        of_run = metric_rows(run_columns, selection, values, len(texts), len(videos))
        rows += [row | {"mixed": odd.get((method, benchmark, seed), "")} for row in of_run]
    with replacing(paths.metrics_table(here)) as file:
        pd.DataFrame(rows).to_csv(file, index=False, lineterminator="\n")
    write_json(paths.metrics(here), nested)
    log.info("wrote %s and %s", paths.metrics_table(here), paths.metrics(here))


if __name__ == "__main__":
    run(main)
