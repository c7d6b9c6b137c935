"""Acceptance bands of the mini setting: where the figures of a healthy pipeline fall.

Each FILE is ``results/mini/metrics.csv`` of a whole run with another ``encoder.pretraining.seed``:
another machine's float sums move the tiny encoder as another seed does. Prints the table that
``tests/bands.csv`` holds and ``pytest -m results`` checks; ``docs/statistics.md`` has the formula.

Run: ``python -m benchmarks.bands FILE FILE ... > tests/bands.csv``
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from xpool.command import InputError, run

LEVEL = 0.999
"""Of each band: nine of them then raise one false alarm in a hundred new machines."""


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
    scale = (mean * (100 - mean)).clip(lower=100.0)  # as of a share; never none at its ends
    # one relative variance for all cells, as so few runs tell little of each alone
    relative = float((values.var(axis=1, ddof=1) / scale).mean())
    quantile = stats.t.ppf((1 + LEVEL) / 2, df=len(values) * (n_run - 1))
    reach = quantile * np.sqrt(relative * scale * (1 + 1 / n_run))
    table = pd.DataFrame({"mean": mean, "low": mean - reach, "high": mean + reach})
    return table.clip(0, 100).round(1).reset_index()


def main() -> None:
    """Print the bands of the runs that the arguments name."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    files: list[Path] = parser.parse_args().files
    if len(files) < 2:
        raise InputError(f"{files[0]}: a band needs two runs or more; give further files")
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: not found; it is results/mini/metrics.csv of a run")
    bands([pd.read_csv(file) for file in files]).to_csv(sys.stdout, index=False)


if __name__ == "__main__":
    run(main)
