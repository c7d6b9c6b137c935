"""Result tables in the paper's shape: one for each benchmark, and a summary of all.

:mod:`xpool.report.results.significance` adds marks and :mod:`xpool.report.results.published` the
published figures. A table's CSV holds full precision; only what is printed is rounded.
"""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from xpool.project import paths
from xpool.project.errors import InputError
from xpool.report.commands import of_methods
from xpool.report.protocol import DIRECTIONS, METRICS, Protocol, method_name, methods_of
from xpool.report.results.external import EXTERNAL, external_notes, external_rows
from xpool.report.results.published import files_in_words, headings, judged, on_benchmark
from xpool.report.results.published import notes as sources
from xpool.report.results.significance import (
    DIFFERS,
    DIFFERS_IN_TABLE,
    detectable_in_words,
    marks_in_words,
    standing,
)
from xpool.report.typesetting import NO_FIGURE, Group, Row, Table
from xpool.statistics.paired import holm

# --- what is computed ---


def benchmark_table(
    protocol: Protocol,
    metrics: pd.DataFrame,
    cells: pd.DataFrame,
    comparisons: pd.DataFrame,
    selection: pd.DataFrame,
    published: pd.DataFrame,
    external: pd.DataFrame,
) -> Table:
    """Return a benchmark's table: our methods, matrices of other code, what others published.

    Args:
        protocol: the benchmark, and how its runs were made.
        metrics: from :func:`xpool.report.results.inputs.read_metrics`.
        cells: from :func:`xpool.report.results.inputs.read_statistics`.
        comparisons: from :func:`xpool.report.results.inputs.read_statistics`.
        selection: from :func:`xpool.report.results.inputs.read_statistics`.
        published: from :func:`xpool.report.results.published.read_published`.
        external: from :func:`xpool.report.results.inputs.read_statistics`.
    """
    measured, cells, comparisons = (
        table[table["benchmark"] == protocol.benchmark] for table in (metrics, cells, comparisons)
    )
    ours = _ours([protocol], standing(cells, comparisons), measured)
    others = judged(protocol, on_benchmark(protocol, published), metrics, cells, selection)
    matrices = external_rows(protocol, external)
    figures = pd.concat([ours, matrices, others], ignore_index=True)
    keys = [(direction, metric) for direction in DIRECTIONS for metric in METRICS]
    figures["column"] = list(zip(figures["direction"], figures["metric"], strict=True))
    rows = _rows(figures[figures["kind"] == "measured"], keys)
    groups = [Group(heading="", rows=rows)]
    notes = detectable_in_words(comparisons)
    if len(matrices):
        of_matrices = figures[figures["kind"] == "external"]
        groups.append(Group(heading=EXTERNAL, rows=_rows(of_matrices, keys)))
        notes += external_notes(matrices, measured)
    for kind, heading in headings(protocol).items():
        of_kind = figures[figures["kind"] == kind]
        if len(of_kind):
            groups.append(Group(heading=heading, rows=_rows(of_kind, keys)))
            notes += sources(of_kind)
    if len(others):
        notes += files_in_words(protocol)
    return Table(
        name=protocol.benchmark,
        caption=_caption(protocol, measured, comparisons),
        columns=tuple((DIRECTIONS[direction], METRICS[metric]) for direction, metric in keys),
        names=tuple(f"{direction} {METRICS[metric]}" for direction, metric in keys),
        groups=tuple(groups),
        notes=tuple(notes),
        figures=_stored(
            figures,
            protocol,
            "protocol",
            "backbone",
            "selected_on",
            "post_processing",
            "source",
            "verdict",
        ),
        commands=of_methods(protocol.methods, rows, protocol.benchmark),
    )


def summary_table(
    protocols: Sequence[Protocol],
    metrics: pd.DataFrame,
    cells: pd.DataFrame,
    comparisons: pd.DataFrame,
) -> Table:
    """Return text-to-video R@1 of every method on every benchmark.

    Rows for comparison follow: X-Pool minus mean pooling with its p-values, if mean pooling is
    compared, and chance, which is one in the number of videos. The arguments are those of
    :func:`benchmark_table`.
    """
    first = protocols[0]
    chosen = [
        table[(table["direction"] == "t2v") & (table["metric"] == "R@1")]
        for table in (cells, metrics)
    ]
    primary = (comparisons["direction"] == "t2v") & (comparisons["metric"] == "R@1")
    comparisons = comparisons[primary]
    comparisons = comparisons.assign(p_table=holm(comparisons["p_value"].to_numpy(float)))
    ours = _ours(protocols, standing(chosen[0], comparisons), metrics)
    sizes = chosen[1].drop_duplicates("benchmark")
    chance = sizes[["benchmark", "direction", "metric"]].assign(
        method="chance", label="Chance", kind="chance", mean=100 / sizes["n_video"], n_seeds=0
    )
    figures = pd.concat([ours, *_lead(comparisons), chance], ignore_index=True)
    figures["column"] = figures["benchmark"]
    keys = [protocol.benchmark for protocol in protocols]
    is_ours = figures["kind"] == "measured"
    rows = _rows(figures[is_ours], keys)
    head = f"{DIRECTIONS['t2v']}, {METRICS['R@1']}"
    return Table(
        name="summary",
        caption=(
            f"{first.heading('Summary')} Text-to-video R@1 in percent on the test split; "
            f"{_spread(protocols)}. Bold and {DIFFERS} as in the tables of the benchmarks; "
            f"{DIFFERS_IN_TABLE} and p over the table are corrected for the {len(comparisons)} "
            "comparisons of this one; the difference is of the same queries; chance is one in the "
            f"number of videos. {first.how()}{_mixed(metrics)}{_imported(metrics)}"
            f"{''.join(f' {p.title}:{p.lacking}' for p in protocols if p.lacking)}"
        ),
        columns=tuple((head, protocol.title) for protocol in protocols),
        names=tuple(protocol.title for protocol in protocols),
        groups=(
            Group(heading="", rows=rows),
            Group(heading="For comparison", rows=_rows(figures[~is_ours], keys)),
        ),
        notes=tuple(f"{p.title}: {_tested(p, metrics)}." for p in protocols),
        figures=_stored(figures, first),
        commands=of_methods(methods_of(protocols), rows, what=f"on {first.title}"),
    )


def _ours(
    protocols: Sequence[Protocol], cells: pd.DataFrame, metrics: pd.DataFrame
) -> pd.DataFrame:
    """Return the measured rows, in the order of the methods; imported ones say so."""
    order = {method: number for number, method in enumerate(methods_of(protocols))}
    rows = cells.sort_values("method", key=lambda column: column.map(order), kind="stable")
    keys = ["benchmark", "method"]
    foreign = set(metrics[metrics["imported"].notna()].groupby(keys).groups)
    labels = [
        method_name(key[1]) + (" (imported)" if key in foreign else "")
        for key in rows[keys].itertuples(index=False, name=None)
    ]
    return rows.assign(kind="measured", label=labels)


def _lead(comparisons: pd.DataFrame) -> list[pd.DataFrame]:
    """Return rows of X-Pool minus mean pooling in text-to-video R@1, and of its p-values."""
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
    """Return the columns of a table's CSV, in their order."""
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
    """Return rows in the order of the labels.

    Args:
        figures: columns label, kind, mean, ci_low, ci_high, mark, best, and ``column``, which holds
            a key.
        keys: the key of each column, from left to right.
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
    """Return a figure with its mark and its interval, if it has them."""
    if figure.kind == "p-value":
        return "<0.001" if figure.mean < 0.001 else f"{figure.mean:.3f}"
    sign = "+" if figure.kind == "difference" else ""
    mean = signed(figure.mean, sign) + (figure.mark if figure.kind == "measured" else "")
    if math.isnan(figure.ci_low):
        return mean
    return f"{mean} [{signed(figure.ci_low, sign)}, {signed(figure.ci_high, sign)}]"


def signed(value: float, sign: str) -> str:
    """Return a value with one decimal, a plus if ``sign`` is one, and no minus before zero."""
    return f"{value:{sign}z.1f}".replace("-", "−")


def _caption(protocol: Protocol, measured: pd.DataFrame, comparisons: pd.DataFrame) -> str:
    tied = measured.loc[measured["metric"] == "tied", "value"].max()
    return (
        f"{protocol.heading(protocol.title)} Test split: {_tested(protocol, measured)}. "
        "R@K in percent, median (MdR) and mean rank (MnR) from 1; "
        f"{protocol.spread()}. {marks_in_words(comparisons)} {protocol.how()} "
        "What ties with the right answer counts as before "
        f"or after it with equal chance (at most {tied:.1f} % of a run's queries tie)."
        f"{_mixed(measured)}{_imported(measured)}{protocol.lacking}"
    )


def _spread(protocols: Sequence[Protocol]) -> str:
    """Return what the figures in a cell are; by benchmark where their seeds differ."""
    if len({protocol.seeds for protocol in protocols}) == 1:
        return protocols[0].spread()
    return "; ".join(f"{protocol.title}: {protocol.spread()}" for protocol in protocols)


def _mixed(metrics: pd.DataFrame) -> str:
    """Name the runs that differ in more than what is compared; empty if none does."""
    odd = metrics[metrics["mixed"].notna()].drop_duplicates(["benchmark", "method", "seed"])
    return "".join(f" MIXED RUNS: {difference}." for difference in odd["mixed"])


def _imported(metrics: pd.DataFrame) -> str:
    """Name the runs whose weights other code trained; empty if there is none."""
    keys = ["benchmark", "method", "seed"]
    foreign = metrics[metrics["imported"].notna()].drop_duplicates(keys)
    named = [
        f"{method_name(str(row.method))} on {row.benchmark}, seed {row.seed}, from {row.imported}"
        for row in foreign.itertuples()
    ]
    if not named:
        return ""
    return (
        f" IMPORTED, trained and selected by other code, not under this budget: {'; '.join(named)}."
    )


def _tested(protocol: Protocol, metrics: pd.DataFrame) -> str:
    """Return what was tested, and the protocol options in force, in words."""
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
