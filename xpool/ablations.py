"""[step 9] Curves of the studies: means, bands, gains and Pareto fronts, from exported trials.

Reads ``results/<setting>/studies/<study>/`` of each study that params.yaml lists;
``notebooks/ablations.ipynb`` calls the functions here, ``xpool.ablation_tables`` and
``xpool.ablation_figures``. All figures are text to video on the validation split.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from xpool import paths
from xpool.command import InputError
from xpool.params import read, setting

LEVEL = 0.95
"""Of the bands."""
FIGURES = ("R@1", "R@5", "R@10", "MdR", "MnR")
"""Columns of a trial's figures."""
SOURCES = {
    "seed": "Seed of the whole run",
    "init": "Seed of initial weights",
    "order": "Seed of data order",
    "dropout": "Seed of dropout",
    "frame_sampling": "Frame sampling",
    "decoder": "Decoder",
    "batch_size": "Batch size",
    "threads": "Threads",
}
"""What ``variance`` varies, by the names of its parts, in words."""

# --- what is read ---


def listed() -> list[str]:
    """Return the studies that params.yaml lists."""
    groups = read("studies", dict[str, list[str]])
    return [name for group in groups.values() for name in group]


def read_trials(study: str) -> pd.DataFrame:
    """Return a study's trials, one a row; an empty table where it ran on no benchmark.

    Raises:
        InputError: the study has not run.
    """
    return _read(paths.studies(setting(), study) / "trials.csv")


def read_importances(study: str) -> pd.DataFrame:
    """Return the importance of each factor: study, benchmark, part, factor, importance."""
    return _read(paths.studies(setting(), study) / "importance.csv")


def _read(file: Path) -> pd.DataFrame:
    if not file.is_file():
        raise InputError(f"{file}: not found; run 'dvc repro' to make it")
    return pd.read_csv(file, float_precision="round_trip")


def at_start(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials of ``temperature`` in which the contrastive temperature is as it starts.

    That is the first of ``ablations.temperature.contrastive_temperature``, and the first of
    ``learnt``.
    """
    start = read("ablations.temperature.contrastive_temperature", list[float])[0]
    learnt = read("ablations.temperature.learnt", list[bool])[0]
    return trials[(trials["contrastive_temperature"] == start) & (trials["learnt"] == learnt)]


# --- what is computed ---


def curve(trials: pd.DataFrame, x: str, by: Sequence[str], metric: str = "R@1") -> pd.DataFrame:
    """Return mean, spread and confidence band over the seeds at each point of each curve.

    The band is that of the mean: t-quantile times s/√n. Three seeds alone say little about their
    spread, so s² is pooled over the points of a curve, as an analysis of variance does it; it
    assumes that the spread is about the same along the curve.

    Args:
        trials: one row a trial, with a column ``seed``.
        x: column of the factor along the curve.
        by: columns that tell the curves apart.
        metric: column of the figure.

    Returns:
        Columns of ``by``, ``x``, mean, std, n_seeds, low, high; the last two are NaN, as std is,
        where there is one seed.
    """
    keys = [*by, x]
    values = trials.groupby(keys, sort=True, dropna=False)[metric]
    points = values.agg(mean="mean", std="std", n_seeds="count").reset_index()
    parts = []
    for _, of_curve in points.groupby(list(by), sort=False, dropna=False):
        free = (of_curve["n_seeds"] - 1).to_numpy()
        sums = (free * of_curve["std"].fillna(0) ** 2).sum()
        df = int(free.sum())
        half = math.nan
        if df:
            half = float(stats.t.ppf((1 + LEVEL) / 2, df)) * math.sqrt(sums / df)
        around = half / np.sqrt(of_curve["n_seeds"])
        parts.append(of_curve.assign(low=of_curve["mean"] - around, high=of_curve["mean"] + around))
    return pd.concat(parts, ignore_index=True) if parts else points.assign(low=[], high=[])


def gain(trials: pd.DataFrame, keys: Sequence[str], metric: str = "R@1") -> pd.DataFrame:
    """Return X-Pool beside mean pooling for each seed, where both were tried.

    Points alone mislead where mean pooling nears chance: it has little left to lose there.

    Args:
        trials: one row a trial, with columns ``method`` and ``seed``.
        keys: columns that pair the trials, the seed among them.
        metric: column of the figure.

    Returns:
        Columns ``keys``, ``metric`` (the difference) and ``ratio``.
    """
    wide = trials.pivot_table(index=list(keys), columns="method", values=metric)
    if not {"xpool", "mean_pool"} <= set(wide.columns):
        return pd.DataFrame(columns=[*keys, metric, "ratio"])
    both = wide[["xpool", "mean_pool"]].dropna()
    found = pd.DataFrame({metric: both["xpool"] - both["mean_pool"]})
    return found.assign(ratio=both["xpool"] / both["mean_pool"]).reset_index()


def over_draws(trials: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Average what was repeated with other random choices under one seed."""
    return trials.groupby(list(keys), sort=True)[list(FIGURES)].mean().reset_index()


def pareto(trials: pd.DataFrame) -> pd.DataFrame:
    """Return means over the seeds of R@1 and cost, and which of them nothing beats in both.

    Returns:
        Columns benchmark, method, sampling, frames, R@1, cost_ms, front (bool).
    """
    keys = ["benchmark", "method", "sampling", "frames"]
    points = trials.groupby(keys, sort=True)[["R@1", "cost_ms"]].mean().reset_index()
    parts = []
    for _, here in points.groupby("benchmark", sort=False):
        quality, cost = here["R@1"].to_numpy()[:, None], here["cost_ms"].to_numpy()[:, None]
        no_worse = (quality <= quality.T) & (cost >= cost.T)
        better = (quality < quality.T) | (cost > cost.T)
        beaten: NDArray[np.bool_] = np.any(no_worse & better, axis=1)
        parts.append(here.assign(front=~beaten))
    return pd.concat(parts, ignore_index=True) if parts else points.assign(front=[])


def best_so_far(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the best R@1 after each try of a search: benchmark, method, try, mean.

    The column is called ``mean`` as in :func:`curve`, though each try has one figure.
    """
    tries = trials.assign(**{"try": trials.groupby(["benchmark", "method"]).cumcount() + 1})
    complete = tries["R@1"].where(tries["state"] == "complete")
    best = complete.groupby([tries["benchmark"], tries["method"]]).cummax()
    filled = best.groupby([tries["benchmark"], tries["method"]]).ffill()
    return tries[["benchmark", "method", "try"]].assign(mean=filled).dropna()


def spreads(trials: pd.DataFrame) -> pd.DataFrame:
    """Return how R@1 spreads over the levels of each source of ``variance``.

    Returns:
        Columns benchmark, method, source, levels, mean, std (sample), low and high (the extremes).
    """
    keys = ["benchmark", "method", "source"]
    found = trials.groupby(keys, sort=False)["R@1"].agg(
        levels="count", mean="mean", std="std", low="min", high="max"
    )
    return found.reset_index()


def query_errors(trials: pd.DataFrame) -> pd.DataFrame:
    """Return what the validation queries leave open of R@1, averaged over the trials.

    Returns:
        Columns benchmark, method, mean, std (the standard error of one run over its queries), low
        and high (one of it to each side).
    """
    means = trials.groupby(["benchmark", "method"], sort=False)[["R@1", "query_error"]].mean()
    found = means.rename(columns={"R@1": "mean", "query_error": "std"}).reset_index()
    return found.assign(low=found["mean"] - found["std"], high=found["mean"] + found["std"])
