"""The manifest as later steps read it: one row a caption, the same columns for all benchmarks."""

from pathlib import Path

import pandas as pd

from xpool.command import InputError

COLUMNS = ("split", "video_id", "caption_id", "caption", "path")
"""Columns of every manifest; ``path`` is relative to the benchmark's raw folder."""


def read_manifest(path: Path) -> pd.DataFrame:
    """Return a manifest: rows by split (train, val, test), then in the official order.

    Raises:
        InputError: it is not there, or not a manifest.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: not found; make it with: python -m xpool.manifest --benchmark {path.stem}"
        )
    table = pd.read_parquet(path)
    if tuple(table.columns) != COLUMNS:
        raise InputError(
            f"{path}: expected the columns {', '.join(COLUMNS)}, found {', '.join(table.columns)}"
        )
    return table
