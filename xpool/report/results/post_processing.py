"""Tables and the figure of rows with post-processing, apart from all plain ones.

:mod:`xpool.statistics.post_processing` wrote the figures, and
``docs/methods/post_processing.md`` explains them.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.made import read_made
from xpool.project.params import read
from xpool.report.commands import of_stage
from xpool.report.protocol import DIRECTIONS, METRICS, Protocol, method_name, methods_of
from xpool.report.results.published import headings, judged, on_benchmark
from xpool.report.results.published import notes as sources
from xpool.report.style import STYLE, colours, headline, legend, method_handles, panels
from xpool.report.typesetting import NO_FIGURE, Group, Row, Table

_STYLES = ("-", "--", ":", "-.")
_COLUMNS = [(direction, metric) for direction in DIRECTIONS for metric in METRICS]


def read_post_processing(protocols: Sequence[Protocol]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows with post-processing, and R@1 by the number of queries that come together.

    Both are empty where ``params.yaml`` lists no post-processing.

    Returns:
        The tables of :func:`xpool.statistics.post_processing.results.post_results_of`, of the
        benchmarks, methods and members in params.yaml.

    Raises:
        InputError: a file is missing, or was made for other methods, members or seeds.
    """
    members = read("post_processing.members", dict)
    if not members:
        return pd.DataFrame(), pd.DataFrame()
    folder = paths.statistics(protocols[0].setting)
    tables = [read_made(folder / f"{name}.csv") for name in ("post_processing", "together")]
    keys = ["benchmark", "method", "post_processing"]
    have = set(tables[0][[*keys, "n_seeds"]].itertuples(index=False, name=None))
    for protocol in protocols:
        for method in protocol.methods:
            for member in members:
                if (protocol.benchmark, method, member, len(protocol.seeds)) not in have:
                    raise InputError(
                        f"{folder / 'post_processing.csv'}: nothing of {method} with {member} on "
                        f"{protocol.benchmark} with {len(protocol.seeds)} seeds; run 'dvc repro' "
                        "to make it again"
                    )
    found = []
    for table in tables:
        kept = table["benchmark"].isin([protocol.benchmark for protocol in protocols])
        kept &= table["method"].isin(methods_of(protocols))
        found.append(table[kept & table["post_processing"].isin(members)].reset_index(drop=True))
    return found[0], found[1]


def post_processing_table(
    protocol: Protocol,
    rows: pd.DataFrame,
    metrics: pd.DataFrame,
    cells: pd.DataFrame,
    selection: pd.DataFrame,
    published: pd.DataFrame,
) -> Table:
    """Return a benchmark's table: each method plain, then with each post-processing.

    Args:
        protocol: the benchmark, and how its runs were made.
        rows: from :func:`read_post_processing`.
        metrics: from :func:`xpool.report.results.inputs.read_metrics`.
        cells: the plain rows, from :func:`xpool.report.results.inputs.read_statistics`.
        selection: from :func:`xpool.report.results.inputs.read_statistics`.
        published: from :func:`xpool.report.results.published.read_published`.
    """
    plain, rows = (table[table["benchmark"] == protocol.benchmark] for table in (cells, rows))
    groups, stored = [], []
    for method in protocol.methods:
        name = method_name(method)
        ours = [plain[plain["method"] == method].assign(label=name, post_processing="none")]
        for label, of_row in rows[rows["method"] == method].groupby("label", sort=False):
            ours.append(of_row.assign(label=f"{name} + {label}"))
        groups.append(Group(heading="", rows=tuple(map(_row, ours))))
        stored += [of_row.assign(kind="measured") for of_row in ours]
    members = rows.drop_duplicates("post_processing")
    notes = [
        f"{label}: {arguments}."
        for label, arguments in zip(members["label"], members["arguments"], strict=True)
        if isinstance(arguments, str)  # else it has none
    ]
    theirs = on_benchmark(protocol, published, post_processed=True)
    theirs = judged(protocol, theirs, metrics, cells, selection)
    for kind, heading in headings(protocol).items():
        of_kind = theirs[theirs["kind"] == kind]
        if len(of_kind):
            found = tuple(_row(one) for _, one in of_kind.groupby("label", sort=False))
            groups.append(Group(heading=heading, rows=found))
            notes += sources(of_kind)
    columns = [
        "setting", "benchmark", "kind", "method", "label", "post_processing", "direction", "metric",
        "mean", "std", "n_seeds", "ci_low", "ci_high", "needs_queries", "arguments", "source",
        "verdict",
    ]  # fmt: skip
    figures = pd.concat([*stored, theirs], ignore_index=True).assign(setting=protocol.setting)
    return Table(
        name=f"{protocol.benchmark}_post_processing",
        caption=(
            f"{protocol.heading(f'{protocol.title} with post-processing')} Rows with a + rank "
            "similarities that a post-processing changed, and are comparable with no row without "
            "it, nor with another post-processing. A row with all queries at once uses the whole "
            "test split, which a single query does not have; a bank is of training captions, and "
            "in video to text of their videos. Ours: "
            f"{protocol.spread()}; R@K in percent, ranks from 1. {protocol.how()}"
        ),
        columns=tuple((DIRECTIONS[direction], METRICS[metric]) for direction, metric in _COLUMNS),
        names=tuple(f"{direction} {METRICS[metric]}" for direction, metric in _COLUMNS),
        groups=tuple(groups),
        notes=tuple(notes),
        figures=figures.reindex(columns=columns).astype({"n_seeds": "Int64"}),
        commands=of_stage("ranks"),
    )


def together_figure(
    protocols: Sequence[Protocol], rows: pd.DataFrame, cells: pd.DataFrame
) -> Figure:
    """Draw R@1 by the number of queries that arrive together, with 95 % intervals.

    A level line, thin, is the method without post-processing.

    Args:
        protocols: one panel each.
        rows: the second table of :func:`read_post_processing`.
        cells: the plain rows, from :func:`xpool.report.results.inputs.read_statistics`.
    """
    methods, labels = methods_of(protocols), list(dict.fromkeys(rows["label"]))
    palette = colours(methods)
    styles: dict[str, Any] = {label: _STYLES[i % len(_STYLES)] for i, label in enumerate(labels)}
    plain = cells[(cells["direction"] == "t2v") & (cells["metric"] == "R@1")]
    with mpl.rc_context(STYLE):
        figure, (axes,) = panels(1, len(protocols), width=3.3, height=3.6)
        for panel, protocol in zip(axes, protocols, strict=True):
            here = rows[rows["benchmark"] == protocol.benchmark]
            counts = sorted(set(here["n_queries"]))
            for one in plain[plain["benchmark"] == protocol.benchmark].to_dict("records"):
                panel.axhline(one["mean"], color=palette[one["method"]], linewidth=0.8, alpha=0.7)
            for (method, label), line in here.groupby(["method", "label"], sort=False):
                slots = [counts.index(count) for count in line["n_queries"]]
                colour = palette[str(method)]
                panel.plot(
                    slots, line["mean"], styles[str(label)], color=colour, marker="o", markersize=4
                )
                panel.fill_between(slots, line["ci_low"], line["ci_high"], color=colour, alpha=0.12)
            named = [*map(str, counts[:-1]), f"all ({counts[-1]:,})"]
            panel.set(title=protocol.title, xlabel="queries that arrive together")
            panel.set(xticks=range(len(counts)), xticklabels=named, ylim=(0, None))
        axes[0].set_ylabel("text → video R@1, percent")
        lines = [
            Line2D([], [], color="black", linestyle=styles[label], label=_kind(label))
            for label in labels
        ]
        lines.append(Line2D([], [], color="black", linewidth=0.8, label="plain"))
        legend(figure, [*method_handles(methods), *lines], len(methods))
        headline(figure, "What other queries are worth", protocols[0].mark)
        return figure


def _kind(label: str) -> str:
    """Return the post-processing of a label, without what it needs."""
    return label.partition(",")[0]


def _row(figures: pd.DataFrame) -> Row:
    """Return the printed row of figures that share a label."""
    by_column = {
        (one["direction"], one["metric"]): _cell(one) for one in figures.to_dict("records")
    }
    cells = tuple(by_column.get(column, NO_FIGURE) for column in _COLUMNS)
    return Row(label=str(figures["label"].iloc[0]), cells=cells, bold=(False,) * len(cells))


def _cell(figure: dict[Any, Any]) -> str:
    mean = f"{figure['mean']:.1f}"
    if pd.isna(figure.get("ci_low")):
        return mean
    return f"{mean} [{figure['ci_low']:.1f}, {figure['ci_high']:.1f}]"
