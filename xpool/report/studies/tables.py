"""Tables of the studies: means over seeds, with the best of each column in bold."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import pandas as pd

from xpool.report.commands import of_study
from xpool.report.protocol import LOWER_IS_BETTER, METRICS, Protocol, in_order, method_name
from xpool.report.studies.curves import SOURCES, curve, gain, over_draws, query_errors, spreads
from xpool.report.typesetting import NO_FIGURE, Group, Row, Table

QUERIES = "The queries (standard error)"
"""Row of the standard error of one run over the validation queries."""
Heads = Mapping[Any, tuple[str, str]]
"""Head and sub-head of each value of ``column``, in order."""
_ALSO_IN_TRIALS = {"study", "benchmark", "part", "state", "n_text", "n_video"}
"""Columns of ``trials.csv`` that are neither a factor nor a metric."""


def temperatures(trials: pd.DataFrame, protocols: Sequence[Protocol]) -> Table:
    """Return R@1 at each attention temperature, for each contrastive temperature."""
    keys = ["benchmark", "method", "contrastive_temperature", "learnt"]
    means = _by_method(curve(trials, "attention_temperature", keys))
    means["group"] = [
        f"{method_name(point.method)}, contrastive temperature {point.contrastive_temperature:g}, "
        f"{'learnt' if point.learnt else 'fixed'}"
        for point in _rows_of(means)
    ]
    means["label"] = [
        "no such temperature" if math.isnan(value) else f"T = {value:g}"
        for value in means["attention_temperature"]
    ]
    figures = means.assign(column=means["benchmark"])
    return _table(
        "temperature", "temperature", "Temperatures", figures, _benchmarks(protocols), protocols
    )


def frame_counts(trials: pd.DataFrame, protocols: Sequence[Protocol]) -> Table:
    """Return R@1 at each number of frames, for each method and sampling rule."""
    means = _by_method(curve(trials, "frames", ["benchmark", "method", "sampling"]))
    means["group"] = [f"{method_name(p.method)}, {p.sampling}" for p in _rows_of(means)]
    means["label"] = [f"{n:g} frames" if n > 1 else "1 frame" for n in means["frames"]]
    figures = means.assign(column=means["benchmark"])
    return _table(
        "frame_count", "frames", "Frames a video", figures, _benchmarks(protocols), protocols
    )


def scenes(trials: pd.DataFrame, protocols: Sequence[Protocol]) -> Table:
    """Return R@1 of each method at each number of scenes, and X-Pool's gain over mean pooling."""
    means = _by_method(curve(trials, "scenes", ["method"])).assign(group="")
    means["label"] = means["method"].map(method_name)
    pairs = gain(trials, ["scenes", "seed"]).assign(method="gain")
    names = {"R@1": ("Difference, seed by seed", "−"), "ratio": ("Ratio, seed by seed", "/")}
    gains = [
        curve(pairs, "scenes", ["method"], metric).assign(
            group=group, label=f"{method_name('xpool')} {sign} {method_name('mean_pool')}"
        )
        for metric, (group, sign) in names.items()
    ]
    figures = pd.concat([means, *gains], ignore_index=True)
    figures["column"] = figures["scenes"]
    heads = {n: ("scenes a video", f"{n:g}") for n in sorted(set(means["scenes"]))}
    return _table(
        "scene_diversity", "scenes", "Scenes a video, generated videos", figures, heads, protocols
    )


def distractors(trials: pd.DataFrame, protocols: Sequence[Protocol], metric: str) -> Table:
    """Return a metric of each method at each number of distractors, averaged over the draws."""
    averaged = over_draws(trials, ["benchmark", "method", "distractors", "seed"])
    means = _by_method(curve(averaged, "distractors", ["benchmark", "method"], metric))
    figures = _grouped(means, protocols).assign(column=means["distractors"], metric=metric)
    heads = {n: ("distractor videos", f"{n:g}") for n in sorted(set(means["distractors"]))}
    name = f"distractors-{metric.lower().replace('@', '')}"
    return _table(
        "scene_diversity",
        name,
        f"Distractor videos spliced in, {metric}",
        figures,
        heads,
        protocols,
    )


def shots(trials: pd.DataFrame, protocols: Sequence[Protocol]) -> Table:
    """Return R@1 of each method in each quantile of shot changes; notes give the bounds."""
    means = _by_method(curve(trials, "shots", ["benchmark", "method"]))
    figures = _grouped(means, protocols).assign(column=means["shots"])
    heads = {n: ("quantile of shot changes", f"{n + 1:g}") for n in sorted(set(means["shots"]))}
    titles = {protocol.benchmark: protocol.title for protocol in protocols}
    notes = []
    bins = trials.drop_duplicates(["benchmark", "shots"]).sort_values("shots")
    for benchmark, of_benchmark in bins.groupby("benchmark", sort=False):
        bounds = [
            f"{row.shots + 1:g}: {row.shots_low:g} to {row.shots_high:g}, {row.n_text:g} texts"
            for row in _rows_of(of_benchmark)
        ]
        notes.append(f"{titles[str(benchmark)]}, shot changes: {'; '.join(bounds)}.")
    return _table(
        "scene_diversity",
        "shots",
        "Shot changes of the query's video",
        figures,
        heads,
        protocols,
        notes,
    )


def search(trials: pd.DataFrame, protocols: Sequence[Protocol]) -> Table:
    """Return the winner of each method's search, its params, and how the tries ended."""
    titles = {protocol.benchmark: protocol.title for protocol in protocols}
    rows, notes = [], []
    for keys, tries in _by_method(trials).groupby(["benchmark", "method"], sort=False):
        benchmark, method = map(str, cast(tuple[Any, Any], keys))
        done = tries[tries["state"] == "complete"]
        if done.empty:
            notes.append(f"{titles[benchmark]}, {method_name(method)}: no try was completed.")
            continue
        best = done.sort_values("R@1", ascending=False, kind="stable").iloc[0]
        found = {
            "winner": best["R@1"],
            "median": done["R@1"].median(),
            "tries": len(tries),
            "pruned": (tries["state"] == "pruned").sum(),
        }
        where = {"benchmark": benchmark, "method": method, "std": math.nan, "n_seeds": 0}
        rows += [where | {"column": name, "mean": value} for name, value in found.items()]
        known = {*_ALSO_IN_TRIALS, "method", *METRICS}
        point = {name: value for name, value in best.items() if name not in known}
        words = ", ".join(f"{k} {_short(v)}" for k, v in point.items() if pd.notna(v))
        notes.append(f"{titles[benchmark]}, {method_name(method)}: {words}.")
    heads = {
        "winner": ("validation R@1 ↑", "winner"),
        "median": ("validation R@1 ↑", "median"),
        "tries": ("tries", "all"),
        "pruned": ("tries", "pruned"),
    }
    columns = ["benchmark", "method", "column", "mean", "std", "n_seeds"]
    figures = _grouped(pd.DataFrame(rows, columns=columns), protocols)
    return _table(
        "search", "search", "Each method tuned equally hard", figures, heads, protocols, notes
    )


def variance(trials: pd.DataFrame, protocols: Sequence[Protocol]) -> Table:
    """Return the spread of R@1 over the levels of each source, and its error over the queries."""
    found = spreads(trials)
    found["label"] = found["source"].map(SOURCES)
    queries = query_errors(trials).assign(label=QUERIES)
    counted = found.drop_duplicates(["benchmark", "source"]).assign(method="")
    parts = [
        counted.assign(figure="levels", mean=counted["levels"], std=math.nan),
        found.assign(figure="mean"),
        found.assign(figure="lowest", mean=found["low"], std=math.nan),
        found.assign(figure="highest", mean=found["high"], std=math.nan),
        queries.assign(figure="mean"),
    ]
    kept = ["benchmark", "method", "label", "figure", "mean", "std"]
    figures = pd.concat([part[kept] for part in parts], ignore_index=True)
    figures["column"] = list(zip(figures["method"], figures["figure"], strict=True))
    heads = {("", "levels"): ("varied alone", "levels")}
    for method in in_order(set(trials["method"])):
        heads[method, "mean"] = (f"{method_name(method)} R@1", "mean ± s.d.")
        heads[method, "lowest"] = (f"{method_name(method)} R@1", "lowest")
        heads[method, "highest"] = (f"{method_name(method)} R@1", "highest")
    titles = {protocol.benchmark: protocol.title for protocol in protocols}
    first = protocols[0]
    return Table(
        name="variance",
        caption=(
            f"{first.heading('Where the variance comes from')} Text to video on the validation "
            "split, R@1 in percent: each source is varied alone; mean ± sample standard deviation "
            f"over its levels, and the extremes. Last row: what one run leaves open, mean ± "
            f"standard error over the queries. {first.training}"
        ),
        columns=tuple(heads.values()),
        names=tuple(f"{head}: {sub}" for head, sub in heads.values()),
        groups=tuple(
            Group(heading=titles[str(benchmark)], rows=_rows(of_group, list(heads), best={}))
            for benchmark, of_group in figures.groupby("benchmark", sort=False)
        ),
        notes=(_sizes(trials, titles),),
        figures=figures.assign(setting=first.setting).drop(columns=["column"]),
        commands=of_study("variance"),
    )


def other_study(name: str, trials: pd.DataFrame, protocols: Sequence[Protocol]) -> Table:
    """Return mean R@1 over the seeds at each combination of a study's factors, part by part.

    This is the table of a study that has no function of its own here.

    Args:
        name: name of the study.
        trials: its trials, with a column R@1, which is NaN for a trial that is not complete.
        protocols: the benchmarks, which give the heads of the columns.
    """
    parts = []
    for part, of_part in trials.dropna(subset="R@1").groupby("part", sort=False):
        factors = _factors(of_part)
        labels = [_point(row) for row in of_part[factors].to_dict("records")]
        labelled = of_part.assign(label=labels)
        values = labelled.groupby(["benchmark", "part", "label"], sort=False)["R@1"]
        means = values.agg(mean="mean", std="std", n_seeds="count").reset_index()
        parts.append(means.assign(group=str(part), column=means["benchmark"]))
    columns = ["benchmark", "part", "label", "mean", "std", "n_seeds", "group", "column"]
    figures = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    heads = _benchmarks(protocols)
    return _table(name, f"study-{name}", f"Study {name}", figures, heads, protocols)


def _factors(trials: pd.DataFrame) -> list[str]:
    """Return the factors of a part that vary, and the method.

    In ``trials.csv`` the factors of a study's first part precede R@1. Factors that only a later
    part has follow it, among the study's own figures. Of these columns, those with the fewest
    values are added until no two trials of one benchmark and seed are alike.
    """
    columns = list(map(str, trials))
    first = columns.index("R@1")
    counts = {name: trials[name].nunique(dropna=False) for name in columns}
    known = {*_ALSO_IN_TRIALS, *METRICS, "seed", "method"}
    varied = [name for name in columns if name not in known and counts[name] > 1]
    chosen = [name for name in columns[:first] if name == "method" or name in varied]
    rest = sorted((name for name in varied if name not in chosen), key=lambda name: counts[name])
    keys = [name for name in ("benchmark", "seed") if name in columns]
    while rest and trials.duplicated([*keys, *chosen]).any():
        chosen.append(rest.pop(0))
    return chosen


def _point(values: Mapping[Any, Any]) -> str:
    """Write a combination of factors, e.g. ``X-Pool, frames 12``."""
    words = [
        method_name(value) if name == "method" else f"{name} {_plain(value)}"
        for name, value in values.items()
        if pd.notna(value)
    ]
    return ", ".join(words) or "all trials"


def _plain(value: Any) -> str:
    """Write a value; integers of a column with gaps are floats."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _sizes(trials: pd.DataFrame, titles: Mapping[str, str]) -> str:
    """Say how many queries the validation splits have."""
    sizes = [
        f"{titles[str(row.benchmark)]} {row.n_text:g} texts of {row.n_video:g} videos"
        for row in _rows_of(trials.drop_duplicates("benchmark"))
    ]
    return f"Validation queries: {'; '.join(sizes)}."


def _rows_of(frame: pd.DataFrame) -> Iterator[Any]:
    """Yield the rows, untyped: no type checker knows the columns' names."""
    yield from frame.itertuples()


def _short(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def _benchmarks(protocols: Sequence[Protocol]) -> Heads:
    return {protocol.benchmark: ("R@1 ↑", protocol.title) for protocol in protocols}


def _grouped(means: pd.DataFrame, protocols: Sequence[Protocol]) -> pd.DataFrame:
    """Add columns that give each benchmark a group and each method a row."""
    titles = {protocol.benchmark: protocol.title for protocol in protocols}
    return means.assign(
        group=means["benchmark"].map(titles), label=means["method"].map(method_name)
    )


def _by_method(figures: pd.DataFrame) -> pd.DataFrame:
    """Return the rows in the order of the methods, X-Pool last."""
    order = {method: number for number, method in enumerate(in_order(set(figures["method"])))}
    return figures.sort_values(
        "method", key=lambda methods: methods.map(order), kind="stable", ignore_index=True
    )


def _table(
    study: str,
    name: str,
    title: str,
    figures: pd.DataFrame,
    heads: Heads,
    protocols: Sequence[Protocol],
    notes: Sequence[str] = (),
) -> Table:
    """Return a table of ``figures``: group, label, column, metric, mean, std, n_seeds.

    Without a column ``metric``, the figures are R@1.
    """
    first = protocols[0]
    seeds = int(figures["n_seeds"].max()) if len(figures) else 0
    spread = f"mean ± sample standard deviation over {seeds} seeds; " if seeds > 1 else ""
    ranked = "metric" in figures and set(figures["metric"]) <= set(LOWER_IS_BETTER)
    of_what = "ranks from 1" if ranked else "R@1 in percent"
    return Table(
        name=name,
        caption=(
            f"{first.heading(title)} Text to video on the validation split, {of_what}; "
            f"{spread}best of a column in bold. {first.training}"
        ),
        columns=tuple(heads.values()),
        names=tuple(f"{head}: {sub}" for head, sub in heads.values()),
        groups=tuple(
            Group(heading=str(heading), rows=_rows(of_group, list(heads), _best(of_group)))
            for heading, of_group in figures.groupby("group", sort=False)
        ),
        notes=tuple(notes),
        figures=figures.assign(setting=first.setting).drop(columns=["group", "column"]),
        commands=of_study(study),
    )


def _best(figures: pd.DataFrame) -> dict[Any, float]:
    """Return the best printed figure of each column that compares several."""
    best: dict[Any, float] = {}
    for column, of_column in figures.groupby("column", sort=False):
        if len(of_column) > 1 and column not in ("tries", "pruned"):
            lowest = "metric" in of_column and of_column["metric"].iloc[0] in LOWER_IS_BETTER
            printed = of_column["mean"].round(1)
            best[column] = printed.min() if lowest else printed.max()
    return best


def _rows(
    figures: pd.DataFrame, columns: Sequence[Any], best: Mapping[Any, float]
) -> tuple[Row, ...]:
    rows = []
    for label, of_row in figures.groupby("label", sort=False):
        found = {figure.column: figure for figure in _rows_of(of_row)}
        cells = [_cell(found[c]) if c in found else NO_FIGURE for c in columns]
        bold = [c in found and round(found[c].mean, 1) == best.get(c) for c in columns]
        rows.append(Row(label=str(label), cells=tuple(cells), bold=tuple(bold)))
    return tuple(rows)


def _cell(figure: Any) -> str:
    if figure.column in ("tries", "pruned", ("", "levels")):
        return f"{figure.mean:.0f}"
    mean = f"{figure.mean:.1f}".replace("-", "−")
    return mean if math.isnan(figure.std) else f"{mean} ± {figure.std:.1f}"
