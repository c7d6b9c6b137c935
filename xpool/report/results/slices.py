"""Tables and a figure of slices: X-Pool's lead by what queries and their videos are like.

:mod:`xpool.statistics.slices` computed the figures. The table of a benchmark shows one baseline,
mean pooling if it is compared; its CSV has all.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xpool.report.commands import of_stage
from xpool.report.protocol import DIRECTIONS, METRICS, Protocol, method_name
from xpool.report.results.significance import DIFFERS_IN_TABLE, LEVEL
from xpool.report.results.tables import signed
from xpool.report.style import STYLE, colours, headline, panels
from xpool.report.typesetting import NO_FIGURE, Group, Row, Table
from xpool.statistics.slices.effects import LEAST_VIDEOS

NAMES = {
    "caption_words": "Caption: words",
    "relation_words": "Caption: relation words",
    "duplicates": "Caption: videos sharing it",
    "video_s": "Video: seconds",
    "shots": "Video: shot changes",
}
"""Printed names of the attributes; one of the user's own is printed by its name."""
FEWEST_DIGITS = 100
"""Bounds from here on are printed without decimals."""


def baseline(protocol: Protocol) -> str | None:
    """Return the method that X-Pool is held against; None if it is alone."""
    others = [method for method in protocol.methods if method != "xpool"]
    return "mean_pool" if "mean_pool" in others else next(iter(others), None)


def bin_label(low: float, high: float, category: str | float) -> str:
    """Return a bin in words: a range, a category, or that its queries have no value.

    Example:
        >>> bin_label(2.0, 2.0, ""), bin_label(4.0, 5.375, math.nan), bin_label(1200.0, 2000.5, "")
        ('2', '4 to 5.38', '1,200 to 2,000')
    """
    if isinstance(category, str) and category:
        return category
    if math.isnan(low):
        return "no value"
    ends = [f"{x:,.0f}" if x % 1 == 0 or x >= FEWEST_DIGITS else f"{x:.3g}" for x in (low, high)]
    return ends[0] if low == high else " to ".join(ends)


def slices_table(
    protocol: Protocol, slices: pd.DataFrame, interactions: pd.DataFrame, metrics: pd.DataFrame
) -> Table:
    """Return a benchmark's text-to-video R@1 in each bin, with a group for each attribute.

    Args:
        protocol: the benchmark, and how its runs were made.
        slices: from :func:`xpool.report.results.inputs.read_statistics`.
        interactions: from the same function.
        metrics: from :func:`xpool.report.results.inputs.read_metrics`.
    """
    slices, interactions, metrics = (
        table[table["benchmark"] == protocol.benchmark] for table in (slices, interactions, metrics)
    )
    against = baseline(protocol)
    methods = ["xpool", *([against] if against else [])]
    groups = []
    for attribute, of_attribute in slices.groupby("attribute", sort=False):
        rows = [_row(of_bin, methods) for _, of_bin in of_attribute.groupby("bin", sort=False)]
        asked = interactions[
            (interactions["attribute"] == attribute) & (interactions["method"] == against)
        ]
        rows += [_interaction(row, of_attribute) for row in asked.to_dict("records")]
        groups.append(Group(heading=NAMES.get(str(attribute), str(attribute)), rows=tuple(rows)))
    head = f"{DIRECTIONS['t2v']}, {METRICS['R@1']}"
    names = ["queries", *map(method_name, methods)]
    if against:
        names.append(f"{method_name('xpool')} − {method_name(against)}")
    kinds = [slices.assign(kind="bin"), interactions.assign(kind="interaction")]
    columns = ["setting", "benchmark", "kind", "attribute", "bin", "minus_bin", *slices.columns[3:]]
    return Table(
        name=f"slices-{protocol.benchmark}",
        label="Queries",
        caption=_caption(protocol, against),
        columns=(("Test split", names[0]), *((head, name) for name in names[1:])),
        names=tuple(names),
        groups=tuple(groups),
        notes=(_same_captions(protocol, metrics),),
        figures=pd.concat([kind for kind in kinds if len(kind)] or kinds)
        .assign(setting=protocol.setting)
        .reindex(columns=columns),
        commands=of_stage("statistics"),
    )


def leads_table(protocol: Protocol, slices: pd.DataFrame) -> Table:
    """Return X-Pool's lead in text-to-video R@1 over each baseline, in each bin.

    Args:
        protocol: the benchmark, and how its runs were made.
        slices: from :func:`xpool.report.results.inputs.read_statistics`.
    """
    slices = slices[slices["benchmark"] == protocol.benchmark]
    baselines = [method for method in protocol.methods if method != "xpool"]
    groups = []
    for attribute, of_attribute in slices.groupby("attribute", sort=False):
        rows = []
        for _, of_bin in of_attribute.groupby("bin", sort=False):
            by_method = {row["method"]: row for row in of_bin.to_dict("records")}
            ours = by_method["xpool"]
            effects = (_effect(by_method[method]) for method in baselines)
            cells = (f"{ours['n_queries']:,}", f"{ours['R@1']:.1f}", *effects)
            rows.append(Row(label=_label(ours), cells=cells, bold=(False,) * len(cells)))
        groups.append(Group(heading=NAMES.get(str(attribute), str(attribute)), rows=tuple(rows)))
    heads = ("queries", "X-Pool's R@1", *map(method_name, baselines))
    return Table(
        name=f"leads-{protocol.benchmark}",
        label="Bin",
        caption=(
            f"{protocol.heading(protocol.title)} X-Pool's lead over each baseline, in points of "
            "text-to-video R@1 (below 0 X-Pool loses), in each bin of an attribute, with its 95 % "
            f"interval; {DIFFERS_IN_TABLE}: p < {LEVEL} with Holm's correction over all bins. Bins "
            f"of fewer than {LEAST_VIDEOS} videos are not tested."
        ),
        columns=tuple(("", head) for head in heads[:2])
        + tuple(("X-Pool minus", head) for head in heads[2:]),
        names=heads,
        groups=tuple(groups),
        notes=(),
        figures=slices.assign(setting=protocol.setting),
        commands=of_stage("statistics"),
    )


def _row(of_bin: pd.DataFrame, methods: Sequence[str]) -> Row:
    by_method = {row["method"]: row for row in of_bin.to_dict("records")}
    first = by_method["xpool"]
    recalls = [f"{by_method[method]['R@1']:.1f}" for method in methods]
    effects = [_effect(by_method[method]) for method in methods if method != "xpool"]
    cells = (f"{first['n_queries']:,}", *recalls, *effects)
    return Row(label=_label(first), cells=cells, bold=(False,) * len(cells))


def _interaction(row: Mapping[Hashable, Any], of_attribute: pd.DataFrame) -> Row:
    labels = {one["bin"]: _label(one) for one in of_attribute.to_dict("records")}
    cells = (NO_FIGURE, NO_FIGURE, NO_FIGURE, _effect(row))
    label = f"({labels[row['bin']]}) − ({labels[row['minus_bin']]})"
    return Row(label=label, cells=cells, bold=(False,) * len(cells))


def _label(row: Mapping[Hashable, Any]) -> str:
    return bin_label(row["low"], row["high"], row["category"])


def _effect(row: Mapping[Hashable, Any]) -> str:
    """Return a difference with its mark and its interval, if it was tested."""
    mark = DIFFERS_IN_TABLE if row["p_table"] < LEVEL else ""
    effect = signed(row["delta"], "+") + mark
    if math.isnan(row["ci_low"]):
        return effect
    return f"{effect} [{signed(row['ci_low'], '+')}, {signed(row['ci_high'], '+')}]"


def _caption(protocol: Protocol, against: str | None) -> str:
    text = (
        f"{protocol.heading(protocol.title)} Slices: text-to-video R@1 in percent of the test "
        "queries in each bin of an attribute, mean over seeds."
    )
    if not against:
        return text
    return (
        f"{text} The difference is of the same queries, with its 95 % interval over seeds and test "
        f"videos; {DIFFERS_IN_TABLE}: p < {LEVEL} with Holm's correction over all bins of the "
        "table. The last row of an attribute asks whether the difference is another in its highest "
        "bin than in its lowest, or in the two largest categories; there, the correction is over "
        f"the attributes. Bins of fewer than {LEAST_VIDEOS} videos have no interval and no "
        "verdict. Bins were not chosen at random: another difference there may come of something "
        "else that these queries have in common."
    )


def _same_captions(protocol: Protocol, metrics: pd.DataFrame) -> str:
    """Return R@1 with each video right that has the caption, beside the plain one."""
    figures = metrics[metrics["direction"] == "t2v"].set_index(["metric", "method"])["value"]
    means = figures.groupby(level=[0, 1]).mean()
    n_text = int(metrics["n_text"].iloc[0])
    shared = means["dup"].mean()
    if shared == 0:
        return "No two test videos have a caption in common, to the letter."
    parts = ", ".join(
        f"{method_name(method)} {means['R@1 dup', method]:.1f} (plain {means['R@1', method]:.1f})"
        for method in reversed(protocol.methods)
    )
    return (
        f"Captions that another test video has to the letter: {round(n_text * shared / 100):,} of "
        f"{n_text:,}. With these videos counted as right too, R@1 is {parts}."
    )


def forest(
    protocols: Sequence[Protocol], slices: pd.DataFrame, comparisons: pd.DataFrame
) -> Figure:
    """Draw X-Pool minus the baseline in each bin, with 95 % intervals.

    A dot is filled if the difference is significant after Holm's correction over all bins of the
    benchmark; the dashed line is the difference over all queries.

    Args:
        protocols: one panel each.
        slices: from :func:`xpool.report.results.inputs.read_statistics`.
        comparisons: from the same function.
    """
    against = baseline(protocols[0])
    rows = slices[slices["method"] == against]
    whole = comparisons[
        (comparisons["method"] == "xpool")
        & (comparisons["against"] == against)
        & (comparisons["direction"] == "t2v")
        & (comparisons["metric"] == "R@1")
    ]
    lines = [len(of) + of["attribute"].nunique() for _, of in rows.groupby("benchmark", sort=False)]
    with mpl.rc_context({**STYLE, "axes.grid.axis": "x"}):
        height = 1.4 + 0.24 * max(lines, default=1)
        figure, (axes,) = panels(1, len(protocols), width=4.2, height=height)
        for panel, protocol in zip(axes, protocols, strict=True):
            for effect in whole[whole["benchmark"] == protocol.benchmark]["delta"]:
                panel.axvline(effect, color="#7F7F7F", linewidth=1, linestyle="--")
            _bins(panel, rows[rows["benchmark"] == protocol.benchmark])
            panel.axvline(0, color="black", linewidth=0.8)
            panel.set(title=protocol.title, xlabel="points of R@1")
        name = f" minus {method_name(against)}" if against else " alone: nothing to compare"
        headline(
            figure, f"{method_name('xpool')}{name}, t2v R@1, with 95 % interval (filled: p < 0.05 "
            "after Holm; dashed: all queries)", protocols[0].mark,
        )  # fmt: skip
        return figure


def _bins(panel: Axes, rows: pd.DataFrame) -> None:
    """Draw a line for each bin, under a heading for each attribute."""
    labels: list[str] = []
    headings: list[int] = []
    for attribute, of_attribute in rows.groupby("attribute", sort=False):
        headings.append(len(labels))
        labels.append(NAMES.get(str(attribute), str(attribute)))
        for one in of_attribute.to_dict("records"):
            colour, line = colours([one["method"]])[one["method"]], len(labels)
            panel.hlines(line, one["ci_low"], one["ci_high"], color=colour, linewidth=1.8)
            panel.plot(
                one["delta"], line, marker="o", color=colour, markersize=6,
                markerfacecolor=colour if one["p_table"] < LEVEL else "white",
            )  # fmt: skip
            labels.append(f"{_label(one)}  ({one['n_queries']:,})")
    panel.set(yticks=range(len(labels)), ylim=(max(len(labels), 1) - 0.5, -0.5))
    for number, text in enumerate(panel.set_yticklabels(labels)):
        text.set_fontweight("bold" if number in headings else "normal")
