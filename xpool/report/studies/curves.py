"""Curves of the studies: means, bands, gains and Pareto fronts, from exported trials.

Reads ``results/<setting>/studies/<study>/``. All figures are text to video on the validation split.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from xpool.project import paths
from xpool.project.made import read_made
from xpool.project.params import read, setting
from xpool.report.protocol import METRICS
from xpool.statistics.over_seeds import LEVEL

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
"""Printed names of what the study ``variance`` varies, by its parts."""

# --- what is read ---


def listed() -> list[str]:
    """Return the studies that params.yaml lists."""
    groups = read("studies", dict[str, list[str]])
    return [name for group in groups.values() for name in group]


def read_trials(study: str) -> pd.DataFrame:
    """Return a study's trials, one a row; the table is empty if there are none.

    Raises:
        InputError: the study has not run.
    """
    return read_made(paths.studies(setting(), study) / "trials.csv")


def read_importances(study: str) -> pd.DataFrame:
    """Return the importance of each factor: study, benchmark, part, factor, importance."""
    return read_made(paths.studies(setting(), study) / "importance.csv")


def part_of(studies: Mapping[str, pd.DataFrame], study: str, *parts: str) -> pd.DataFrame:
    """Return the trials of some parts of a study; without a row if there are none.

    Args:
        studies: the trials of each study that has any.
        study: name of a study.
        parts: values of the column ``part``.
    """
    trials = studies.get(study, pd.DataFrame(columns=["part"]))
    return trials[trials["part"].isin(parts)]


def at_start(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials of ``temperature`` at the first contrastive temperature of params.yaml.

    These also have the first value of ``ablations.temperature.learnt``.
    """
    start = read("ablations.temperature.contrastive_temperature", list[float])[0]
    learnt = read("ablations.temperature.learnt", list[bool])[0]
    return trials[(trials["contrastive_temperature"] == start) & (trials["learnt"] == learnt)]


# --- what is computed ---


def curve(trials: pd.DataFrame, x: str, by: Sequence[str], metric: str = "R@1") -> pd.DataFrame:
    """Return mean, spread and confidence band over the seeds at each point of each curve.

    The half-width of the band is a t-quantile times s/√n, each point for itself: the spread over
    seeds differs along a curve, and a spread pooled over its points would cover less than 95 % of
    the means where it is large.

    Args:
        trials: one row a trial, with a column ``seed``.
        x: column of the factor along the curve.
        by: columns that tell the curves apart.
        metric: column of the figure.

    Returns:
        Columns of ``by``, ``x``, mean, std, n_seeds, low, high; with one seed, std, low and high
        are NaN.
    """
    keys = [*by, x]
    values = trials.groupby(keys, sort=True, dropna=False)[metric]
    points = values.agg(mean="mean", std="std", n_seeds="count").reset_index()
    quantile = stats.t.ppf((1 + LEVEL) / 2, points["n_seeds"] - 1)  # NaN for one seed
    half = quantile * points["std"] / np.sqrt(points["n_seeds"])
    return points.assign(low=points["mean"] - half, high=points["mean"] + half)


def gain(trials: pd.DataFrame, keys: Sequence[str], metric: str = "R@1") -> pd.DataFrame:
    """Return X-Pool beside mean pooling for each seed, if both were tried.

    The difference alone misleads near chance, where mean pooling has little left to lose, so the
    ratio stands beside it.

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
    """Return the means over the random draws that were repeated under one seed."""
    return trials.groupby(list(keys), sort=True)[list(METRICS)].mean().reset_index()


def pareto(trials: pd.DataFrame) -> pd.DataFrame:
    """Return means of R@1 and cost over the seeds, and which points are on the Pareto front.

    Returns:
        Columns benchmark, method, sampling, frames, R@1, cost_ms, front (whether no point beats it
        in both).
    """
    keys = ["benchmark", "method", "sampling", "frames"]
    points = trials.groupby(keys, sort=True)[["R@1", "cost_ms"]].mean().reset_index()
    parts = []
    for _, here in points.groupby("benchmark", sort=False):
        parts.append(
            here.assign(front=on_front(here["R@1"].to_numpy(), here["cost_ms"].to_numpy()))
        )
    return pd.concat(parts, ignore_index=True) if parts else points.assign(front=[])


def on_front(quality: NDArray[np.float64], cost: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return ``(point,)``: whether no other point is as good in both and better in one."""
    quality, cost = quality[:, None], cost[:, None]
    no_worse = (quality <= quality.T) & (cost >= cost.T)
    better = (quality < quality.T) | (cost > cost.T)
    beaten: NDArray[np.bool_] = np.any(no_worse & better, axis=1)
    return ~beaten


def best_so_far(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the best R@1 after each try of a search: benchmark, method, try, mean.

    The last column has the name that :func:`curve` gives it. Without a complete try there is no
    row.
    """
    if "R@1" not in trials:
        return pd.DataFrame(columns=["benchmark", "method", "try", "mean"])
    tries = trials.assign(**{"try": trials.groupby(["benchmark", "method"]).cumcount() + 1})
    complete = tries["R@1"].where(tries["state"] == "complete")
    best = complete.groupby([tries["benchmark"], tries["method"]]).cummax()
    filled = best.groupby([tries["benchmark"], tries["method"]]).ffill()
    return tries[["benchmark", "method", "try"]].assign(mean=filled).dropna()


def spreads(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the spread of R@1 over the levels of each source of ``variance``.

    Returns:
        Columns benchmark, method, source, levels, mean, std (sample), low and high (the extremes).
    """
    keys = ["benchmark", "method", "source"]
    found = trials.groupby(keys, sort=False)["R@1"].agg(
        levels="count", mean="mean", std="std", low="min", high="max"
    )
    return found.reset_index()


def query_errors(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the standard error of R@1 over the validation queries, averaged over the trials.

    Returns:
        Columns benchmark, method, mean, std (the standard error of one run), low and high (one
        standard error to each side).
    """
    means = trials.groupby(["benchmark", "method"], sort=False)[["R@1", "query_error"]].mean()
    found = means.rename(columns={"R@1": "mean", "query_error": "std"}).reset_index()
    return found.assign(low=found["mean"] - found["std"], high=found["mean"] + found["std"])
