"""The result of each evaluation of a run: ``evaluations.csv`` and ``hits.parquet``.

A run of the comparison evaluates the validation *and* the test split every time. Its selection rule
sees one of them. Both are kept beside the checkpoint, so that one training shows what each rule
would have selected (``xpool.statistics.selection_bias``).

- ``evaluations.csv``: one row for each evaluation and split, with step, split, and R@1, R@5, R@10,
  R@50, MdR and MnR of text to video.
- ``hits.parquet``: one row for each test query, with caption_id, video_id, and one column for each
  step: the chance in percent that the query's video ranked first (0 or 100 unless scores tie).
"""

from pathlib import Path

import numpy as np
import pandas as pd

from xpool.metrics import Ranks
from xpool.project.made import made, read_made
from xpool.project.workspace import replacing

SPLITS = ("val", "test")
FILES = ("evaluations.csv", "hits.parquet")
QUERY = ["caption_id", "video_id"]


def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the two tables of a run, ``evaluations.csv`` and ``hits.parquet``.

    Raises:
        InputError: a file is missing.
    """
    evaluations, hits = (folder / name for name in FILES)
    return read_made(evaluations), pd.read_parquet(made(hits))


def keep(folder: Path, step: int, split: str, texts: pd.DataFrame, t2v: Ranks) -> None:
    """Write one evaluation into a run's work folder, where it survives a kill.

    Args:
        folder: the work folder.
        step: number of steps done.
        split: the split that was evaluated.
        texts: caption_id and video_id of each query.
        t2v: rank of each query's video.
    """
    table = texts[QUERY].assign(n_greater=t2v.n_greater, n_tied=t2v.n_tied)
    with replacing(folder / "evaluations" / f"{split}-{step:09d}.parquet", "wb") as file:
        table.to_parquet(file, index=False)


def gather(folder: Path, steps: list[int], finished: Path) -> None:
    """Write :data:`FILES` from the evaluations at these steps."""
    rows, hits = [], pd.DataFrame(columns=QUERY)
    for split in SPLITS:
        for step in steps:
            file = folder / "evaluations" / f"{split}-{step:09d}.parquet"
            if not file.is_file():  # the benchmark has no such split
                continue
            table = pd.read_parquet(file)
            t2v = Ranks(
                query=np.arange(len(table)),
                n_greater=table["n_greater"].to_numpy(),
                n_tied=table["n_tied"].to_numpy(),
            )
            rows.append({"step": step, "split": split, **t2v.metrics()})
            if split == "test":
                hits = table[QUERY] if not len(hits) else hits
                hits = hits.assign(**{str(step): t2v.hits(1)})
    columns = list(rows[0]) if rows else ["step", "split"]
    with replacing(finished / "evaluations.csv") as out:
        pd.DataFrame(rows, columns=columns).to_csv(out, index=False, lineterminator="\n")
    with replacing(finished / "hits.parquet", "wb") as out:
        hits.to_parquet(out, index=False)
