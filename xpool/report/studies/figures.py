"""Figures of the studies: curves with bands, surfaces, Pareto fronts.

They draw the tables of :mod:`xpool.report.studies.curves` and compute nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from xpool.report.protocol import Protocol, in_order
from xpool.report.style import STYLE, colours, legend, method_handles, panels

BANDS = "bands: 95 % confidence of the mean over seeds"
_WIDTH = 3.4
"""Width of a panel, in inches."""


def curves(
    rows: Mapping[str, pd.DataFrame],
    x: str,
    title: str,
    protocol: Protocol,
    *,
    xlabel: str,
    ylabel: str = "validation R@1, percent",
    log: bool = False,
    style: str | None = None,
    limits: pd.DataFrame | None = None,
    marked: tuple[float, str] | None = None,
    bands: bool = True,
) -> Figure:
    """Draw mean and confidence band of each method along one factor, a panel for each key.

    Args:
        rows: the curves of each panel by its title, from
            :func:`xpool.report.studies.curves.curve`, with a column ``method``.
        x: column of the factor.
        title: title of the figure.
        protocol: that of any benchmark, for the mark of synthetic data.
        xlabel: label of all horizontal axes.
        ylabel: label of the first vertical axis.
        log: whether the factor's axis is logarithmic.
        style: column that tells dashed from full lines.
        limits: further models as level lines; columns panel, label, mean.
        marked: a value of the factor that gets a dotted line, and its label.
        bands: whether to draw the columns low and high.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _panels(len(rows), height=3.4)
        methods = in_order({m for frame in rows.values() for m in frame["method"]})
        palette = colours(methods)
        styles = sorted({s for f in rows.values() for s in f[style]}, reverse=True) if style else []
        for axis, (panel, frame) in zip(axes, rows.items(), strict=True):
            sns.lineplot(
                frame, x=x, y="mean", hue="method", hue_order=methods, palette=palette,
                style=style, style_order=styles or None, markers=not style, dashes=bool(style),
                marker="o", markersize=4.5, errorbar=None, legend=False, ax=axis,
            )  # fmt: skip
            keys = ["method", *([style] if style else [])]
            for (method, *_), of_curve in frame.groupby(keys) if bands else ():
                axis.fill_between(
                    of_curve[x], of_curve["low"], of_curve["high"],
                    color=palette[str(method)], alpha=0.15, linewidth=0,
                )  # fmt: skip
            if limits is not None:
                _levels(axis, limits[limits["panel"] == panel])
            if marked:
                axis.axvline(marked[0], color="0.4", linewidth=1, linestyle=":")
                axis.annotate(
                    marked[1], (marked[0], 1), xycoords=("data", "axes fraction"),
                    xytext=(3, -3), textcoords="offset points", va="top", fontsize=7, color="0.3",
                )  # fmt: skip
            _scale(axis, sorted(frame[x].unique()), log)
            axis.set(title=panel, xlabel=xlabel, ylabel="")
        axes[0].set_ylabel(ylabel)
        handles = method_handles(methods)
        handles += [
            Line2D([], [], color="0.3", linestyle="-" if s == styles[0] else "--", label=s)
            for s in styles
        ]
        legend(figure, handles, columns=6)
        _title(figure, protocol, title, BANDS if bands else "")
        return figure


def surfaces(
    rows: Mapping[str, pd.DataFrame],
    x: str,
    y: str,
    title: str,
    protocol: Protocol,
    *,
    xlabel: str,
    ylabel: str,
) -> Figure:
    """Draw the mean R@1 over two factors as a heat map, a panel for each key.

    Args:
        rows: the means of each panel by its title; columns ``x``, ``y``, mean.
        x: column of the factor from left to right.
        y: column of the factor from top to bottom.
        title: title of the figure.
        protocol: see :func:`curves`.
        xlabel: label of all horizontal axes.
        ylabel: label of the first vertical axis.
    """
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = _panels(len(rows), height=3.2)
        for axis, (panel, frame) in zip(axes, rows.items(), strict=True):
            grid = frame.pivot_table(index=y, columns=x, values="mean", sort=False)
            sns.heatmap(
                grid, annot=True, fmt=".0f", cmap="viridis", cbar=False, ax=axis,
                annot_kws={"fontsize": 8},
            )  # fmt: skip
            axis.set(title=panel, xlabel=xlabel, ylabel="")
            axis.tick_params(axis="y", rotation=0)
        axes[0].set_ylabel(ylabel)
        _title(figure, protocol, title, "mean validation R@1 over seeds, percent")
        return figure


def fronts(rows: Mapping[str, pd.DataFrame], title: str, protocol: Protocol) -> Figure:
    """Draw R@1 against cost with the Pareto front, a panel for each key.

    Args:
        rows: the points of each panel by its title, from
            :func:`xpool.report.studies.curves.pareto`.
        title: title of the figure.
        protocol: see :func:`curves`.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _panels(len(rows), height=3.4)
        methods = in_order({m for frame in rows.values() for m in frame["method"]})
        palette = colours(methods)
        rules = sorted({rule for f in rows.values() for rule in f["sampling"]}, reverse=True)
        for axis, (panel, frame) in zip(axes, rows.items(), strict=True):
            front = frame[frame["front"]].sort_values("cost_ms")
            axis.step(
                front["cost_ms"], front["R@1"], where="post", color="0.4", linewidth=1, zorder=1
            )
            sns.scatterplot(
                frame, x="cost_ms", y="R@1", hue="method", hue_order=methods, palette=palette,
                style="sampling", style_order=rules, markers=["o", "X"][: len(rules)],
                s=28, alpha=0.75, legend=False, ax=axis,
            )  # fmt: skip
            for count, cost, quality in front[["frames", "cost_ms", "R@1"]].to_numpy():
                axis.annotate(
                    f"{count:g}", (cost, quality), xytext=(2, 4), textcoords="offset points",
                    fontsize=7,
                )  # fmt: skip
            axis.set(title=panel, xlabel="milliseconds a gallery video", ylabel="", xscale="log")
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.xaxis.set_minor_locator(NullLocator())
        axes[0].set_ylabel("validation R@1, percent")
        handles = method_handles(methods, linestyle="")
        handles += [
            Line2D([], [], color="0.4", marker=marker, linestyle="", label=rule)
            for rule, marker in zip(rules, ("o", "X"), strict=False)
        ]
        handles.append(Line2D([], [], color="0.4", label="Pareto front, with frame counts"))
        legend(figure, handles, columns=6)
        _title(figure, protocol, title)
        return figure


def bars(rows: Mapping[str, pd.DataFrame], title: str, protocol: Protocol) -> Figure:
    """Draw the importance of each factor, a panel for each key.

    Args:
        rows: the importances of each panel by its title; columns factor and importance.
        title: title of the figure.
        protocol: see :func:`curves`.
    """
    with mpl.rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure, axes = _panels(len(rows), height=2.6)
        for axis, (panel, frame) in zip(axes, rows.items(), strict=True):
            sns.barplot(frame, x="importance", y="factor", color="#4C72B0", ax=axis)
            axis.set(title=panel, xlabel="share of variance", ylabel="", xlim=(0, 1))
        _title(figure, protocol, title)
        return figure


def spreads(
    rows: Mapping[str, pd.DataFrame], errors: pd.DataFrame, title: str, protocol: Protocol
) -> Figure:
    """Draw each trial's R@1 as a dot beside what it varies, a panel for each key.

    All panels span the same number of points of R@1, each around its own mean, so that spreads
    can be compared.

    Args:
        rows: the trials of each panel, of one method, by its title; columns label and R@1.
        errors: the standard error over the queries; columns panel, mean, low, high.
        title: title of the figure.
        protocol: see :func:`curves`.
    """
    with mpl.rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure, axes = _panels(len(rows), height=3.4)
        labels = list(dict.fromkeys(label for frame in rows.values() for label in frame["label"]))
        around: dict[str, Any] = {row.panel: row for row in errors.itertuples()}  # type: ignore[misc]
        reach = [abs(frame["R@1"] - around[panel].mean).max() for panel, frame in rows.items()]
        half = 1.15 * max(*reach, *(around[panel].high - around[panel].mean for panel in rows))
        for axis, (panel, frame) in zip(axes, rows.items(), strict=True):
            error = around[panel]
            axis.axvspan(error.low, error.high, color="0.88", linewidth=0, zorder=0)
            axis.axvline(error.mean, color="0.4", linewidth=1, linestyle=":")
            sns.stripplot(
                frame, x="R@1", y="label", order=labels, hue="method",
                palette=colours(set(frame["method"])), size=6, alpha=0.55, linewidth=0,
                jitter=False, legend=False, ax=axis,
            )  # fmt: skip
            axis.set(title=panel, xlabel="validation R@1, percent", ylabel="")
            axis.set_xlim(error.mean - half, error.mean + half)
            axis.label_outer(remove_inner_ticks=True)
        _title(figure, protocol, title, "grey: one standard error of the queries to each side")
        return figure


def _panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    columns = min(max(count, 1), 3)
    rows = -(-max(count, 1) // columns)
    figure, grid = panels(rows, columns, _WIDTH, height * rows)
    axes = [axis for row in grid for axis in row]
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes[:count]


def _levels(axis: Axes, limits: pd.DataFrame) -> None:
    lines = limits[["label", "mean"]].to_numpy()
    for (label, height), dashes in zip(lines, ((4, 2), (1, 1.5)), strict=False):
        axis.axhline(height, color="0.25", linewidth=1.1, dashes=dashes)
        axis.annotate(
            label, (1, height), xycoords=("axes fraction", "data"),
            xytext=(-2, 2), textcoords="offset points", ha="right", fontsize=7, color="0.25",
        )  # fmt: skip


def _scale(axis: Axes, values: Sequence[Any], log: bool) -> None:
    """Put ticks at the values that were tried, written as plain numbers."""
    if log:
        axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator(values))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.tick_params(axis="x", labelsize=7.5)


def _title(figure: Figure, protocol: Protocol, title: str, note: str = "") -> None:
    beneath = "; ".join(part for part in (protocol.mark, note) if part)
    figure.suptitle("\n".join(part for part in (title, beneath) if part), fontsize="medium")
