"""What the evaluations of a run saw: ``looks.csv`` and ``hits.parquet`` beside its checkpoint.

A run of the comparison looks at the validation *and* the test split at every evaluation. Its
selection rule sees one of them; the other is kept, so that it can be told afterwards what each rule
would have given (``xpool.selection_bias``).

- ``looks.csv``: one row an evaluation and split: step, split, and R@1, R@5, R@10, R@50, MdR and MnR
  of text to video;
- ``hits.parquet``: one row a test query: caption_id, video_id, and a column a step: the chance in
  percent that its video came first (0 or 100 but for ties).
"""

from pathlib import Path

import numpy as np
import pandas as pd

from xpool.command import InputError
from xpool.metrics import Ranks
from xpool.workspace import replacing

SPLITS = ("val", "test")
FILES = ("looks.csv", "hits.parquet")
QUERY = ["caption_id", "video_id"]


def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the two tables of a run, ``looks.csv`` and ``hits.parquet``.

    Raises:
        InputError: a file is missing.
    """
    looks, hits = (folder / name for name in FILES)
    for file in (looks, hits):
        if not file.is_file():
            raise InputError(f"{file}: not found; run 'dvc repro' to make it")
    return pd.read_csv(looks, float_precision="round_trip"), pd.read_parquet(hits)


def keep(folder: Path, step: int, split: str, texts: pd.DataFrame, t2v: Ranks) -> None:
    """Write one look into a run's work folder, where it outlives a kill.

    Args:
        folder: the work folder.
        step: how many steps were done.
        split: which was looked at.
        texts: caption_id and video_id of each query.
        t2v: where the right video stood for each.
    """
    table = texts[QUERY].assign(n_greater=t2v.n_greater, n_tied=t2v.n_tied)
    with replacing(folder / "looks" / f"{split}-{step:09d}.parquet", "wb") as file:
        table.to_parquet(file, index=False)


def gather(folder: Path, steps: list[int], finished: Path) -> None:
    """Write :data:`FILES` from the looks at these steps."""
    rows, hits = [], pd.DataFrame(columns=QUERY)
    for split in SPLITS:
        for step in steps:
            file = folder / "looks" / f"{split}-{step:09d}.parquet"
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
    with replacing(finished / "looks.csv") as out:
        pd.DataFrame(rows, columns=columns).to_csv(out, index=False, lineterminator="\n")
    with replacing(finished / "hits.parquet", "wb") as out:
        hits.to_parquet(out, index=False)
