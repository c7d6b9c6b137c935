"""[step 8] Result tables in the paper's shape: one a benchmark, and a summary over all of them.

Reads ``results/<setting>/metrics.csv``; intervals and comparisons come by ``xpool.significance``,
published figures by ``xpool.published``. ``notebooks/results.ipynb`` calls the functions here and
writes ``results/<setting>/tables/<name>.{csv,md,tex}``. The CSV holds full precision; rounding
happens only in what is printed.

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
from xpool.published import headings, judged, on_benchmark
from xpool.published import notes as sources
from xpool.significance import (
    DIFFERS,
    DIFFERS_IN_TABLE,
    detectable_in_words,
    marks_in_words,
    standing,
)
from xpool.typesetting import FORMATS, Group, Row, Table

DIRECTIONS = {"t2v": "Text → video", "v2t": "Video → text"}
METRICS = {"R@1": "R@1 ↑", "R@5": "R@5 ↑", "R@10": "R@10 ↑", "MdR": "MdR ↓", "MnR": "MnR ↓"}
"""The paper's columns; the arrow points to better."""
NO_FIGURE = "–"
OF_PUBLISHED = ("protocol", "backbone", "selected_on", "source", "verdict")

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
    columns = [*keys, "value", "selection", "n_text", "n_video", "mixed"]
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


def benchmark_table(
    protocol: Protocol,
    metrics: pd.DataFrame,
    cells: pd.DataFrame,
    comparisons: pd.DataFrame,
    published: pd.DataFrame,
) -> Table:
    """Return one benchmark's table: our methods, then what others published on it.

    Args:
        protocol: the benchmark, and how its runs were made.
        metrics: of :func:`read_metrics`.
        cells: of :func:`xpool.significance.read_statistics`.
        comparisons: of :func:`xpool.significance.read_statistics`.
        published: of :func:`xpool.published.read_published`.
    """
    measured, cells, comparisons = (
        table[table["benchmark"] == protocol.benchmark] for table in (metrics, cells, comparisons)
    )
    ours = _ours(protocol, standing(cells, comparisons))
    others = judged(protocol, on_benchmark(protocol, published), metrics, cells)
    figures = pd.concat([ours, others], ignore_index=True)
    keys = [(direction, metric) for direction in DIRECTIONS for metric in METRICS]
    figures["column"] = list(zip(figures["direction"], figures["metric"], strict=True))
    groups = [Group(heading="", rows=_rows(figures[figures["kind"] == "measured"], keys))]
    notes = detectable_in_words(comparisons)
    for kind, heading in headings(protocol).items():
        of_kind = figures[figures["kind"] == kind]
        if len(of_kind):
            groups.append(Group(heading=heading, rows=_rows(of_kind, keys)))
            notes += sources(of_kind)
    return Table(
        name=protocol.benchmark,
        caption=_caption(protocol, measured, comparisons),
        columns=tuple((DIRECTIONS[direction], METRICS[metric]) for direction, metric in keys),
        names=tuple(f"{direction} {METRICS[metric]}" for direction, metric in keys),
        groups=tuple(groups),
        notes=tuple(notes),
        figures=_stored(
            figures, protocol, "protocol", "backbone", "selected_on", "source", "verdict"
        ),
    )


def summary_table(
    protocols: Sequence[Protocol],
    metrics: pd.DataFrame,
    cells: pd.DataFrame,
    comparisons: pd.DataFrame,
) -> Table:
    """Return text-to-video R@1 of every method on every benchmark; arguments as above.

    Beneath stand X-Pool minus mean pooling with its p-value, where mean pooling is compared, and
    the level of chance, which is one in the number of videos.
    """
    first = protocols[0]
    chosen = [
        table[(table["direction"] == "t2v") & (table["metric"] == "R@1")]
        for table in (cells, metrics)
    ]
    ours = _ours(first, standing(chosen[0], comparisons))
    sizes = chosen[1].drop_duplicates("benchmark")
    chance = sizes[["benchmark", "direction", "metric"]].assign(
        method="chance", label="Chance", kind="chance", mean=100 / sizes["n_video"], n_seeds=0
    )
    figures = pd.concat([ours, *_lead(comparisons), chance], ignore_index=True)
    figures["column"] = figures["benchmark"]
    keys = [protocol.benchmark for protocol in protocols]
    is_ours = figures["kind"] == "measured"
    head = f"{DIRECTIONS['t2v']}, {METRICS['R@1']}"
    return Table(
        name="summary",
        caption=(
            f"{first.heading('Summary')} Text-to-video R@1 in percent on the test split; "
            f"{first.spread()}. Bold, {DIFFERS}, {DIFFERS_IN_TABLE} and p as in the tables of the "
            "benchmarks; the difference is of the same queries and seeds; chance is one in the "
            f"number of videos. {first.how()}{_mixed(metrics)}"
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


def _ours(protocol: Protocol, cells: pd.DataFrame) -> pd.DataFrame:
    """Measured rows, in the order of the methods."""
    order = {method: place for place, method in enumerate(protocol.methods)}
    rows = cells.sort_values("method", key=lambda column: column.map(order), kind="stable")
    return rows.assign(kind="measured", label=rows["method"].map(method_name))


def _lead(comparisons: pd.DataFrame) -> list[pd.DataFrame]:
    """X-Pool minus mean pooling in text-to-video R@1, and its p-values as rows of their own."""
    rows = comparisons[
        (comparisons["method"] == "xpool")
        & (comparisons["against"] == "mean_pool")
        & (comparisons["direction"] == "t2v")
        & (comparisons["metric"] == "R@1")
    ].assign(method="xpool - mean_pool")
    lead = f"{method_name('xpool')} − {method_name('mean_pool')}"
    differences = rows.assign(kind="difference", label=lead, mean=rows["delta"])
    found = [differences]
    for column, label in (
        ("p_column", "p, Holm over the column"),
        ("p_table", "p, Holm over the table"),
    ):
        p_values = rows[["benchmark", "method", "direction", "metric", "n_seeds"]]
        found.append(p_values.assign(kind="p-value", label=label, mean=rows[column]))
    return found


def _stored(figures: pd.DataFrame, protocol: Protocol, *more: str) -> pd.DataFrame:
    """Columns of a table's CSV, in their order."""
    columns = ["setting", "benchmark", "kind", "method", "label", "direction", "metric"]
    figures = figures.assign(setting=protocol.setting)
    sure = [
        "mean",
        "std",
        "n_seeds",
        "ci_low",
        "ci_high",
        "p_value",
        "p_column",
        "p_table",
        "detectable",
    ]
    return figures.reindex(columns=[*columns, *sure, *more]).astype({"n_seeds": "Int64"})


# --- what is printed ---


def _rows(figures: pd.DataFrame, keys: Sequence[Any]) -> tuple[Row, ...]:
    """Rows in the order of the labels.

    Args:
        figures: columns label, kind, mean, ci_low, ci_high, mark, best, and ``column``, which holds
            a key.
        keys: which figure stands in which column.
    """
    rows = []
    for label, of_row in figures.groupby("label", sort=False):
        by_key: dict[Any, Any] = {figure.column: figure for figure in of_row.itertuples()}
        found = [by_key.get(key) for key in keys]
        rows.append(
            Row(
                label=str(label),
                cells=tuple(_cell(figure) if figure else NO_FIGURE for figure in found),
                bold=tuple(figure is not None and figure.best is True for figure in found),
            )
        )
    return tuple(rows)


def _cell(figure: Any) -> str:
    """A figure, its mark and its interval, as far as there are any."""
    if figure.kind == "p-value":
        return "<0.001" if figure.mean < 0.001 else f"{figure.mean:.3f}"
    sign = "+" if figure.kind == "difference" else ""
    mean = _signed(figure.mean, sign) + (figure.mark if figure.kind == "measured" else "")
    if math.isnan(figure.ci_low):
        return mean
    return f"{mean} [{_signed(figure.ci_low, sign)}, {_signed(figure.ci_high, sign)}]"


def _signed(value: float, sign: str) -> str:
    """One decimal, with a plus where ``sign`` is one, and never a minus before zero."""
    return f"{value:{sign}z.1f}".replace("-", "−")


def _caption(protocol: Protocol, measured: pd.DataFrame, comparisons: pd.DataFrame) -> str:
    tied = measured.loc[measured["metric"] == "tied", "value"].max()
    return (
        f"{protocol.heading(protocol.title)} Test split: {_tested(protocol, measured)}. "
        "R@K in percent, median (MdR) and mean rank (MnR) from 1; "
        f"{protocol.spread()}. {marks_in_words(comparisons)} {protocol.how()} "
        "What ties with the right answer counts as before "
        f"or after it with equal chance (at most {tied:.1f} % of a run's queries tie)."
        f"{_mixed(measured)}"
    )


def _mixed(metrics: pd.DataFrame) -> str:
    """Say which runs differ in more than what is compared; empty where none does."""
    odd = metrics[metrics["mixed"].notna()].drop_duplicates(["benchmark", "method", "seed"])
    return "".join(f" MIXED RUNS: {difference}." for difference in odd["mixed"])


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


def main() -> None:
    """Print the summary, and where the tables and the report are."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    here = setting()
    folder, report = paths.tables(here), paths.report(here, "results")
    names = ["summary", *read("benchmarks", list[str]), "selection"]
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
