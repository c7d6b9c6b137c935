"""[step 8] Result tables in the paper's shape: one a benchmark, and a summary over all of them.

Reads ``results/<setting>/metrics.csv`` and ``xpool/published.csv``; ``notebooks/results.ipynb``
calls the functions here and writes ``results/<setting>/tables/<name>.{csv,md,tex}``. The CSV holds
full precision; rounding happens only in what is printed.

Run: ``python -m xpool.tables`` prints the summary and where the tables are.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from xpool import paths
from xpool.command import InputError, run
from xpool.params import read, setting
from xpool.protocol import Protocol, method_name
from xpool.typesetting import FORMATS, Group, Row, Table

DIRECTIONS = {"t2v": "Text → video", "v2t": "Video → text"}
METRICS = {"R@1": "R@1 ↑", "R@5": "R@5 ↑", "R@10": "R@10 ↑", "MdR": "MdR ↓", "MnR": "MnR ↓"}
"""The paper's columns; the arrow points to better."""
PUBLISHED = Path(__file__).with_name("published.csv")
NO_FIGURE = "–"

# --- what is read ---


def read_metrics(protocols: Sequence[Protocol]) -> pd.DataFrame:
    """Return the metrics of exactly the cells that params.yaml lists.

    Returns:
        Columns as ``xpool.ranks`` writes them, among them benchmark, method, seed, direction,
        metric, value, n_text and n_video. Left-over cells of dropped seeds are not among them.

    Raises:
        InputError: a figure is missing, there twice or not finite, or the file was made under
            another selection rule.
    """
    file = paths.metrics_table(protocols[0].setting)
    table = _read_made(file)
    keys = ["benchmark", "method", "seed", "direction", "metric"]
    columns = [*keys, "value", "selection", "n_text", "n_video"]
    if absent := [column for column in columns if column not in table]:
        raise InputError(f"{file}: no column {absent[0]}; run 'dvc repro' to make it again")
    figures = table.set_index(keys)
    if figures.index.has_duplicates:
        twice = figures.index[figures.index.duplicated()][0]
        raise InputError(f"{file}: {' '.join(map(str, twice))} is there twice; run 'dvc repro'")
    wanted = [
        (protocol.benchmark, method, seed, direction, metric)
        for protocol in protocols
        for method in protocol.methods
        for seed in protocol.seeds
        for direction in DIRECTIONS
        for metric in (*METRICS, "R@50", "tied")
    ]
    values = figures["value"].reindex(pd.MultiIndex.from_tuples(wanted, names=keys))
    for cell, value in zip(wanted, values, strict=True):
        if not math.isfinite(value):
            benchmark, method, seed, direction, metric = cell
            raise InputError(
                f"{file}: no {direction} {metric} of {method} on {benchmark} with seed {seed}; "
                "run 'dvc repro' to compute it"
            )
    found = figures.loc[values.index].reset_index()
    if stray := set(found["selection"]) - {protocols[0].selection}:
        raise InputError(
            f"{file}: made with selection {stray.pop()!r}, and params.yaml says "
            f"{protocols[0].selection!r}; run 'dvc repro' to make it again"
        )
    return found


def read_published() -> pd.DataFrame:
    """Return the published figures, one a row, each with its source."""
    return pd.read_csv(PUBLISHED, keep_default_na=False, dtype={"value": float})


def read_curves(protocols: Sequence[Protocol]) -> pd.DataFrame:
    """Return all training curves: benchmark, method, seed, step, epoch, loss, R@1.

    R@1 is text-to-video on the split that the selection rule looks at, NaN where there is none.

    Raises:
        InputError: a run has no curve.
    """
    cells = [(p, method, seed) for p in protocols for method in p.methods for seed in p.seeds]
    parts = []
    for protocol, method, seed in cells:
        folder = paths.training(protocol.setting, method, protocol.benchmark, seed)
        curve = _read_made(folder / "curve.csv").reindex(columns=["step", "epoch", "loss", "R@1"])
        parts.append(curve.assign(benchmark=protocol.benchmark, method=method, seed=seed))
    return pd.concat(parts, ignore_index=True)


def _read_made(file: Path) -> pd.DataFrame:
    if not file.is_file():
        raise InputError(f"{file}: not found; run 'dvc repro' to make it")
    return pd.read_csv(file, float_precision="round_trip")


# --- what is computed ---


def over_seeds(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return mean, sample standard deviation (NaN for one seed) and number of seeds.

    Args:
        metrics: one value a row, with columns benchmark, method, direction, metric, value.

    Returns:
        Columns benchmark, method, direction, metric, mean, std, n_seeds, in the order given.
    """
    keys = ["benchmark", "method", "direction", "metric"]
    values = metrics.groupby(keys, sort=False)["value"]
    return values.agg(mean="mean", std="std", n_seeds="count").reset_index()


def lead(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return X-Pool minus mean pooling in text-to-video R@1, with each seed its own pair.

    Returns:
        As :func:`over_seeds`, with method ``xpool - mean_pool``; values in points of percent.
    """
    chosen = metrics[(metrics["direction"] == "t2v") & (metrics["metric"] == "R@1")]
    wide = chosen.pivot(index=["benchmark", "seed"], columns="method", values="value")
    pairs = (wide["xpool"] - wide["mean_pool"]).rename("value").reset_index()
    return over_seeds(pairs.assign(method="xpool - mean_pool", direction="t2v", metric="R@1"))


def benchmark_table(protocol: Protocol, metrics: pd.DataFrame, published: pd.DataFrame) -> Table:
    """Return one benchmark's table: our methods, then what others published on it.

    Others' reruns are added only where the data are the real ones.
    """
    measured = metrics[metrics["benchmark"] == protocol.benchmark]
    ours = over_seeds(measured[measured["metric"] != "tied"]).assign(kind="measured")
    ours["label"] = ours["method"].map(method_name)
    others = _others(protocol, published)
    figures = pd.concat([ours, others], ignore_index=True)
    keys = [(direction, metric) for direction in DIRECTIONS for metric in METRICS]
    figures["column"] = list(zip(figures["direction"], figures["metric"], strict=True))
    groups, notes = (
        [Group(heading="", rows=_rows(figures[figures["kind"] == "measured"], keys))],
        [],
    )
    for kind, heading in _headings(protocol).items():
        of_kind = figures[figures["kind"] == kind]
        if len(of_kind):
            groups.append(Group(heading=heading, rows=_rows(of_kind, keys)))
            notes += _sources(of_kind)
    return Table(
        name=protocol.benchmark,
        caption=_caption(protocol, measured),
        columns=tuple((DIRECTIONS[direction], METRICS[metric]) for direction, metric in keys),
        names=tuple(f"{direction} {METRICS[metric]}" for direction, metric in keys),
        groups=tuple(groups),
        notes=tuple(notes),
        figures=_stored(figures, protocol, "protocol", "backbone", "selected_on", "source"),
    )


def summary_table(protocols: Sequence[Protocol], metrics: pd.DataFrame) -> Table:
    """Return text-to-video R@1 of every method on every benchmark.

    Beneath stand X-Pool minus mean pooling, where mean pooling is compared, and the level of
    chance, which is one in the number of videos.
    """
    first = protocols[0]
    recall = metrics[(metrics["direction"] == "t2v") & (metrics["metric"] == "R@1")]
    ours = over_seeds(recall).assign(kind="measured")
    ours["label"] = ours["method"].map(method_name)
    beneath = []
    if "mean_pool" in first.methods:
        label = f"{method_name('xpool')} − {method_name('mean_pool')}"
        beneath.append(lead(metrics).assign(kind="difference", label=label))
    sizes = recall.drop_duplicates("benchmark")
    chance = sizes[["benchmark", "direction", "metric"]].assign(
        method="chance", label="Chance", kind="chance", mean=100 / sizes["n_video"], n_seeds=0
    )
    beneath.append(chance)
    figures = pd.concat([ours, *beneath], ignore_index=True)
    figures["column"] = figures["benchmark"]
    keys = [protocol.benchmark for protocol in protocols]
    is_ours = figures["kind"] == "measured"
    head = f"{DIRECTIONS['t2v']}, {METRICS['R@1']}"
    return Table(
        name="summary",
        caption=(
            f"{first.heading('Summary')} Text-to-video R@1 in percent on the test split; "
            f"{first.spread()}. The difference is taken seed by seed; chance is one in the number "
            f"of videos. {first.how()}"
        ),
        columns=tuple((head, protocol.title) for protocol in protocols),
        names=tuple(protocol.title for protocol in protocols),
        groups=(
            Group(heading="", rows=_rows(figures[is_ours], keys)),
            Group(heading="For comparison", rows=_rows(figures[~is_ours], keys)),
        ),
        notes=tuple(f"{p.title}: {_tested(p, metrics)}." for p in protocols),
        figures=_stored(figures, first),
    )


def _others(protocol: Protocol, published: pd.DataFrame) -> pd.DataFrame:
    """Published figures on this benchmark that were made with the training list in force."""
    trained = str(protocol.options.get("training_videos", ""))
    fits = (published["benchmark"] == protocol.benchmark) & (
        published["training_videos"] == trained
    )
    kinds = published["kind"].isin(_headings(protocol))
    return published[fits & kinds].rename(columns={"value": "mean"})


def _headings(protocol: Protocol) -> dict[str, str]:
    if protocol.synthetic:
        return {"paper": "Published, other data: not comparable"}
    return {"paper": "Published", "reproduction": "Reruns by others"}


def _stored(figures: pd.DataFrame, protocol: Protocol, *more: str) -> pd.DataFrame:
    """Columns of a table's CSV, in their order."""
    columns = ["setting", "benchmark", "kind", "method", "label", "direction", "metric"]
    figures = figures.assign(setting=protocol.setting)
    return figures.reindex(columns=[*columns, "mean", "std", "n_seeds", *more]).astype(
        {"n_seeds": "Int64"}
    )


# --- what is printed ---


def _rows(figures: pd.DataFrame, keys: Sequence[Any]) -> tuple[Row, ...]:
    """Rows in the order of the labels; of several measured rows the best is bold.

    Args:
        figures: columns label, kind, metric, mean, std, and ``column``, which holds a key.
        keys: which figure stands in which column.
    """
    best: dict[Any, float] = {}
    measured = figures[figures["kind"] == "measured"]
    if measured["label"].nunique() > 1:
        for key in keys:
            of_column = measured[measured["column"] == key]
            lower_is_better = METRICS[of_column["metric"].iloc[0]].endswith("↓")
            best[key] = (min if lower_is_better else max)(map(_printed, of_column["mean"]))
    rows = []
    for label, of_row in figures.groupby("label", sort=False):
        by_key: dict[Any, Any] = {figure.column: figure for figure in of_row.itertuples()}
        found = [by_key.get(key) for key in keys]
        rows.append(
            Row(
                label=str(label),
                cells=tuple(_cell(figure) if figure else NO_FIGURE for figure in found),
                bold=tuple(
                    figure is not None and best.get(key) == _printed(figure.mean)
                    for key, figure in zip(keys, found, strict=True)
                ),
            )
        )
    return tuple(rows)


def _printed(value: float) -> float:
    """The value as it is printed: what is equal in print is equally best."""
    return float(f"{value:.1f}")


def _cell(figure: Any) -> str:
    sign = "+" if figure.kind == "difference" and figure.mean > 0 else ""
    mean = f"{sign}{figure.mean:.1f}".replace("-", "−")
    return mean if math.isnan(figure.std) else f"{mean} ± {figure.std:.1f}"


def _caption(protocol: Protocol, measured: pd.DataFrame) -> str:
    tied = measured.loc[measured["metric"] == "tied", "value"].max()
    return (
        f"{protocol.heading(protocol.title)} Test split: {_tested(protocol, measured)}. "
        "R@K in percent, median (MdR) and mean rank (MnR) from 1; "
        f"{protocol.spread()}. {protocol.how()} What ties with the right answer counts as before "
        f"or after it with equal chance (at most {tied:.1f} % of a run's queries tie)."
    )


def _tested(protocol: Protocol, metrics: pd.DataFrame) -> str:
    """What was tested, and the protocol options in force."""
    runs = metrics[metrics["benchmark"] == protocol.benchmark]
    sizes = runs[["n_text", "n_video"]].drop_duplicates()
    if len(sizes) > 1:
        raise InputError(
            f"{paths.metrics_table(protocol.setting)}: runs on {protocol.benchmark} have "
            f"{' and '.join(f'{t} texts with {v} videos' for t, v in sizes.to_numpy())}; "
            "run 'dvc repro' to make them again"
        )
    n_text, n_video = sizes.iloc[0]
    return "; ".join([f"{n_text:,} texts, {n_video:,} videos", *protocol.options_in_words()])


def _sources(figures: pd.DataFrame) -> list[str]:
    """One note a row: protocol, selection, and which figure comes from where."""
    notes = []
    for label, of_row in figures.groupby("label", sort=False):
        origins = [str(of_row["source"].iloc[0])]
        if of_row["source"].nunique() > 1:
            origins = [_origin(of_source) for _, of_source in of_row.groupby("source", sort=False)]
        first = of_row.iloc[0]
        selected = (
            f"selected on {first['selected_on']}"
            if first["selected_on"] != "unknown"
            else "selection rule unknown"
        )
        notes.append(
            f"{label}: {first['protocol']}, {first['backbone']}, {selected}. {'; '.join(origins)}."
        )
    return notes


def _origin(figures: pd.DataFrame) -> str:
    """Which figures a source gives, e.g. ``t2v R@5, R@10: layer6ai-labs/xpool#13``."""
    by_direction = figures.groupby("direction", sort=False)["metric"].agg(", ".join)
    named = " and ".join(f"{direction} {metrics}" for direction, metrics in by_direction.items())
    return f"{named}: {figures['source'].iloc[0]}"


def main() -> None:
    """Print the summary, and where the tables and the report are."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    here = setting()
    folder, report = paths.tables(here), paths.report(here, "results")
    names = ["summary", *read("benchmarks", list[str])]
    for path in [report, *(folder / f"{name}.{end}" for name in names for end in FORMATS)]:
        if not path.is_file():
            raise InputError(f"{path}: not found; run 'dvc repro' to make it")
    print((folder / "summary.md").read_text(encoding="utf-8"))
    print(f"tables:  {folder}/{{{','.join(names)}}}.{{{','.join(FORMATS)}}}")
    if (studies := paths.ablations(here)).is_dir():
        print(f"studies: {studies}/")
    print(f"reports: {', '.join(map(str, sorted(report.parent.glob('*.html'))))}")


if __name__ == "__main__":
    run(main)
