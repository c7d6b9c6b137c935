"""The evaluations of a run: the rule that selects one, and the files that keep all of them.

``val`` selects the best evaluation on the validation split (the honest rule, and the default).
``last`` selects the end of training, whatever the evaluations say. ``test_window`` is the official
code's rule, the best five-evaluation mean of R@1 *on the test split*. It selects on the test split,
and every table that uses it says so.

A run of the comparison evaluates the validation *and* the test split every time. Its selection rule
sees one of them. Both are kept beside the checkpoint, so that one training shows what each rule
would have selected (``xpool.statistics.selection_bias``).

- ``evaluations.csv``: one row for each evaluation and split, with step, split, and R@1, R@5, R@10,
  R@50, MdR, MnR, nDCG@10 and MRR of text to video.
- ``hits.parquet``: one row for each test query, with caption_id, video_id, and one column for each
  step: the chance in percent that the query's video ranked first (0 or 100 unless scores tie).
"""

from pathlib import Path
from statistics import mean
from typing import Any, Literal

import numpy as np
import pandas as pd

from xpool.metrics import Ranks
from xpool.project.made import made, read_made
from xpool.project.workspace import replacing

Selection = Literal["val", "last", "test_window"]

WINDOW = 5

SPLIT: dict[str, str] = {"val": "val", "last": "val", "test_window": "test"}
"""The split that is evaluated during training under each rule."""
SPLITS = ("val", "test")
FILES = ("evaluations.csv", "hits.parquet")
QUERY = ["caption_id", "video_id"]


def score(rule: Selection, curve: list[dict[str, Any]]) -> tuple[float, ...]:
    """Return the newest evaluation's score; the first strictly highest one is selected.

    Args:
        rule: the rule to apply.
        curve: one row for each evaluation so far, with ``R@1``, ``MnR`` (t2v) and ``step``.

    Source: ``test_window`` follows the official trainer (layer6ai-labs/xpool, trainer.py), which
    averages over at most the last five evaluations.
    """
    if rule == "last":
        return (float(curve[-1]["step"]),)
    if rule == "test_window":
        return (mean(row["R@1"] for row in curve[-WINDOW:]),)
    # R@1 ties often on a small validation split; then the mean rank decides
    return (curve[-1]["R@1"], -curve[-1]["MnR"])


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
