"""Files that earlier stages made, and the error where one is missing."""

from pathlib import Path

import pandas as pd

from xpool.project.errors import InputError


def made(file: Path) -> Path:
    """Return the path of a file that a stage made.

    Raises:
        InputError: the file is missing.
    """
    if not file.is_file():
        raise InputError(f"{file}: not found; run 'dvc repro' to make it")
    return file


def read_made(file: Path) -> pd.DataFrame:
    """Read a CSV file that a stage made, with every digit of its floats.

    Raises:
        InputError: the file is missing.
    """
    return pd.read_csv(made(file), float_precision="round_trip")
