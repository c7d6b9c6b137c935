"""Files that earlier stages made, and the error where one is missing."""

from pathlib import Path
from typing import TYPE_CHECKING

from xpool.project.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def made(file: Path) -> Path:
    """Return the path of a file that a stage made.

    Raises:
        InputError: the file is missing.
    """
    if not file.is_file():
        raise InputError(f"{file}: not found; run 'dvc repro' to make it")
    return file


def read_made(file: Path) -> "pd.DataFrame":
    """Read a CSV file that a stage made, with every digit of its floats.

    Raises:
        InputError: the file is missing.
    """
    import pandas as pd  # takes half a second, and `made` does without

    return pd.read_csv(made(file), float_precision="round_trip")
