"""The figures: one theme, one colour a method. Draws data frames and computes nothing.

``notebooks/results.ipynb`` calls these and writes ``results/<setting>/tables/<name>.{svg,png}``;
the same figures give the same bytes.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xpool.protocol import Protocol, method_name
from xpool.significance import LEVEL
from xpool.workspace import replacing

# Okabe and Ito's palette, told apart with any colour vision; its yellow is lost on white.
_COLOURS = {
    "mean_pool": "#0072B2",
    "self_attention": "#009E73",
    "top_k": "#E69F00",
    "attention": "#CC79A7",
    "xpool": "#D55E00",
}
_OTHER_COLOURS = ("#56B4E9", "#000000", "#8C6D31", "#7F7F7F", "#6A3D9A")
_RECALLS = ("R@1", "R@5", "R@10")
STYLE = {
    **sns.axes_style("whitegrid"),
    **sns.plotting_context("notebook", font_scale=0.85),
    "axes.grid.axis": "y",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same glyphs on every machine
    "svg.hashsalt": "xpool",
}


def colours(methods: Iterable[str]) -> dict[str, str]:
    """Return a colour for each method: always the same one for the project's own five.

    Any other takes the colour that its name points to, or the next one that is free.
    """
    chosen: dict[str, str] = {}
    for method in sorted(methods):
        if method in _COLOURS:
            chosen[method] = _COLOURS[method]
            continue
        start = hashlib.sha256(method.encode()).digest()[0]
        ring = [_OTHER_COLOURS[(start + i) % len(_OTHER_COLOURS)] for i in range(5)]
        chosen[method] = next((c for c in ring if c not in chosen.values()), ring[0])
    return chosen


def recalls(protocols: Sequence[Protocol], metrics: pd.DataFrame, means: pd.DataFrame) -> Figure:
    """Draw text-to-video R@1, R@5 and R@10: a dot for each seed, a dash for their mean.

    Args:
        protocols: one panel each.
        metrics: each seed's figures, as ``xpool.tables.read_metrics`` returns them.
        means: cells, as ``xpool.statistics`` writes them.
    """
    with mpl.rc_context(STYLE):
        figure, (axes,) = _panels(protocols, rows=1)
        methods = protocols[0].methods
        for panel, protocol in zip(axes, protocols, strict=True):
            common = {
                "x": "metric",
                "order": _RECALLS,
                "hue": "method",
                "hue_order": methods,
                "palette": colours(methods),
                "dodge": True,
                "jitter": False,
                "legend": False,
                "ax": panel,
            }
            dots = _of(metrics, protocol)
            sns.stripplot(dots, y="value", size=5, alpha=0.55, linewidth=0, **common)
            dashes = _of(means, protocol)
            sns.stripplot(dashes, y="mean", size=17, marker="_", linewidth=2.2, **common)
            panel.set(title=protocol.title, xlabel="", ylabel="", ylim=(0, None))
        axes[0].set_ylabel("text → video, percent")
        _legend(figure, methods)
        _mark(figure, protocols, "Recall on the test split: a dot is a seed, a dash their mean")
        return figure


def curves(protocols: Sequence[Protocol], rows: pd.DataFrame) -> Figure:
    """Draw the training loss and R@1 on the split that selects, one line a run.

    Args:
        protocols: one column of panels each.
        rows: as ``xpool.tables.read_curves`` returns them.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _panels(protocols, rows=2)
        methods = protocols[0].methods
        split = "test" if protocols[0].selection == "test_window" else "validation"
        for column, protocol in enumerate(protocols):
            runs = rows[rows["benchmark"] == protocol.benchmark]
            for row, y in enumerate(("loss", "R@1")):
                panel = axes[row][column]
                panel.set(title=protocol.title if row == 0 else "")
                if runs[y].isna().all():
                    panel.set(xticks=[], yticks=[])
                    panel.text(
                        0.5, 0.5, f"no {split} split", transform=panel.transAxes, ha="center"
                    )
                    continue
                sns.lineplot(
                    runs, x="epoch", y=y, hue="method", hue_order=methods,
                    palette=colours(methods), units="seed", estimator=None, alpha=0.8,
                    linewidth=1.2, legend=False, ax=panel,
                )  # fmt: skip
                panel.set(xlabel="epoch" if row else "", ylabel="")
        axes[0][0].set_ylabel("training loss")
        axes[1][0].set_ylabel(f"{split} R@1, percent")
        _legend(figure, methods)
        _mark(figure, protocols, "Training: one line a run")
        return figure


def differences(protocols: Sequence[Protocol], comparisons: pd.DataFrame) -> Figure:
    """Draw a forest plot: X-Pool minus each baseline in R@1, with its 95 % interval.

    Filled where the difference is significant after Holm's correction over the column.

    Args:
        protocols: one panel each.
        comparisons: as ``xpool.statistics`` writes them.
    """
    rows = comparisons[(comparisons["method"] == "xpool") & (comparisons["metric"] == "R@1")]
    with mpl.rc_context({**STYLE, "axes.grid.axis": "x"}):
        baselines = [method for method in protocols[0].methods if method != "xpool"]
        figure, (axes,) = _panels(protocols, rows=1)
        palette = colours(baselines)
        lines = [(way, against) for way in ("t2v", "v2t") for against in baselines]
        for panel, protocol in zip(axes, protocols, strict=True):
            of_panel = rows[rows["benchmark"] == protocol.benchmark]
            for one in of_panel.to_dict("records"):
                place = lines.index((one["direction"], one["against"]))
                colour = palette[one["against"]]
                panel.hlines(place, one["ci_low"], one["ci_high"], color=colour, linewidth=1.8)
                panel.plot(
                    one["delta"], place, marker="o", color=colour, markersize=7,
                    markerfacecolor=colour if one["p_column"] < LEVEL else "white",
                )  # fmt: skip
            panel.axvline(0, color="black", linewidth=0.8)
            panel.set(title=protocol.title, xlabel="points of R@1", ylabel="")
            panel.set(yticks=range(len(lines)), yticklabels=[], ylim=(len(lines) - 0.5, -0.5))
        axes[0].set_yticklabels([f"{way}, {method_name(against)}" for way, against in lines])
        _mark(
            figure, protocols,
            "X-Pool minus each baseline, with 95 % interval (filled: p < 0.05 after Holm)",
        )  # fmt: skip
        return figure


def wins(protocols: Sequence[Protocol], rows: pd.DataFrame) -> Figure:
    """Draw X-Pool's text-to-video wins and losses against each baseline by shot changes.

    Bars: queries won (up) and lost (down); dot and line: won less lost, with 95 % interval.

    Args:
        protocols: one column of panels each.
        rows: ``wins`` as ``xpool.statistics`` writes them.
    """
    with mpl.rc_context(STYLE):
        baselines = [method for method in protocols[0].methods if method != "xpool"]
        palette = colours(baselines)
        figure, axes = _panels(protocols, rows=max(1, len(baselines)))
        for row, against in enumerate(baselines):
            for column, protocol in enumerate(protocols):
                panel = axes[row][column]
                bins = rows[
                    (rows["benchmark"] == protocol.benchmark) & (rows["against"] == against)
                ]
                places = list(range(len(bins)))
                panel.bar(places, bins["won"], width=0.7, color=palette[against], alpha=0.55)
                panel.bar(places, -bins["lost"], width=0.7, color="#7F7F7F", alpha=0.55)
                panel.vlines(places, bins["ci_low"], bins["ci_high"], color="black")
                panel.plot(places, bins["net"], "o", color="black", markersize=5)
                panel.axhline(0, color="black", linewidth=0.8)
                labels = [
                    f"{_span(low, high)}\n{n:,}"
                    for low, high, n in zip(
                        bins["shots_low"], bins["shots_high"], bins["n_queries"], strict=True
                    )
                ]
                panel.set(xticks=places, xticklabels=labels, ylim=(-100, 105))
                panel.set(title=protocol.title if row == 0 else "")
                panel.grid(visible=False, axis="x")
            axes[row][0].set_ylabel(f"against {method_name(against)},\npercent of queries")
        for panel in axes[-1]:
            panel.set_xlabel("shot changes of the video / queries")
        _mark(figure, protocols, "X-Pool's queries: won (up), lost (down), dot: won less lost")
        return figure


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Write ``<name>.svg`` and ``<name>.png``, without dates; return the path of the latter."""
    with mpl.rc_context(STYLE):
        for suffix, metadata in (
            ("svg", {"Date": None, "Creator": None}),
            ("png", {"Software": None}),
        ):
            with replacing(folder / f"{name}.{suffix}", "wb") as file:
                figure.savefig(file, format=suffix, dpi=160, metadata=metadata)
    return folder / f"{name}.png"


def _panels(protocols: Sequence[Protocol], rows: int) -> tuple[Figure, list[list[Axes]]]:
    figure = Figure(figsize=(3.3 * max(2, len(protocols)), 1.4 + 2.2 * rows), layout="constrained")
    axes = figure.subplots(rows, len(protocols), squeeze=False, sharex=False)
    return figure, [list(row) for row in axes]


def _of(table: pd.DataFrame, protocol: Protocol) -> pd.DataFrame:
    """Rows of one panel."""
    wanted = (
        (table["benchmark"] == protocol.benchmark)
        & (table["direction"] == "t2v")
        & table["metric"].isin(_RECALLS)
    )
    return table[wanted]


def _legend(figure: Figure, methods: Sequence[str]) -> None:
    palette = colours(methods)
    handles = [
        Line2D([], [], color=palette[method], marker="o", label=method_name(method))
        for method in methods
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(methods), frameon=False)


def _mark(figure: Figure, protocols: Sequence[Protocol], title: str) -> None:
    mark = "   SYNTHETIC: generated videos" if protocols[0].synthetic else ""
    figure.suptitle(f"{title}{mark}", fontsize="medium", fontweight="bold" if mark else "normal")
