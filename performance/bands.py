"""Acceptance bands of the mini setting: the range of a healthy pipeline's figures.

Each FILE is ``results/mini/metrics.csv`` of a whole run with another ``encoder.pretraining.seed``:
another machine's float sums change the tiny encoder as another seed does. Prints the table in
``tests/bands.csv``, which ``pytest -m results`` checks; ``docs/results/statistics.md`` has the
formula.

Run: ``python -m performance.bands FILE FILE ... > tests/bands.csv``
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from scipy import stats

from xpool.project.command import run_alone
from xpool.project.errors import InputError

LEVEL = 0.999
"""Level of each band; nine bands then raise one false alarm in a hundred new machines."""


def bands(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the bands of the mean over seeds of text-to-video R@1.

    Args:
        tables: ``metrics.csv`` of at least two runs of the pipeline.

    Returns:
        Columns benchmark, method, mean, low, high, in percent.
    """
    of_run = []
    for number, table in enumerate(tables):
        r1 = table[(table["metric"] == "R@1") & (table["direction"] == "t2v")]
        means = r1.groupby(["benchmark", "method"])["value"].mean()
        of_run.append(means.rename(number))
    values = pd.concat(of_run, axis=1, join="inner").sort_index()
    mean, n_run = values.mean(axis=1), values.shape[1]
    scale = (mean * (100 - mean)).clip(lower=100.0)  # as of a share, and never 0 at 0 or 100
    # one relative variance for all cells, since so few runs say little about each alone
    relative = float((values.var(axis=1, ddof=1) / scale).mean())
    quantile = stats.t.ppf((1 + LEVEL) / 2, df=len(values) * (n_run - 1))
    reach = quantile * np.sqrt(relative * scale * (1 + 1 / n_run))
    table = pd.DataFrame({"mean": mean, "low": mean - reach, "high": mean + reach})
    return table.clip(0, 100).round(1).reset_index()


def main(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Each a metrics.csv.")],
) -> None:
    """Print the acceptance bands of the runs with these metrics.

    Example: python -m performance.bands first.csv second.csv third.csv > tests/bands.csv
    """
    if len(files) < 2:
        raise InputError(f"{files[0]}: a band needs at least two runs; name more files")
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: not found; expected results/mini/metrics.csv of a run")
    bands([pd.read_csv(file) for file in files]).to_csv(sys.stdout, index=False)


if __name__ == "__main__":
    run_alone(main)
