"""Figures of the results page; they draw data frames and compute nothing."""

from collections.abc import Sequence

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xpool.report.protocol import Protocol, method_name, methods_of
from xpool.report.results.significance import LEVEL
from xpool.report.style import STYLE, colours, headline, legend, method_handles, panels

_RECALLS = ("R@1", "R@5", "R@10")


def recalls(protocols: Sequence[Protocol], metrics: pd.DataFrame, means: pd.DataFrame) -> Figure:
    """Draw text-to-video R@1, R@5 and R@10, with a dot for each seed and a dash for the mean.

    Args:
        protocols: one panel each.
        metrics: figures of each seed, from :func:`xpool.report.results.inputs.read_metrics`.
        means: cells, as :mod:`xpool.statistics.results` writes them.
    """
    with mpl.rc_context(STYLE):
        figure, (axes,) = _panels(protocols, rows=1)
        methods = methods_of(protocols)
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
        legend(figure, method_handles(methods), len(methods))
        _title(figure, protocols, "Recall on the test split: a dot is a seed, a dash their mean")
        return figure


def curves(protocols: Sequence[Protocol], rows: pd.DataFrame) -> Figure:
    """Draw training loss and R@1 on the split used for selection, with a line for each run.

    Args:
        protocols: one column of panels each.
        rows: from :func:`xpool.report.results.inputs.read_curves`.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _panels(protocols, rows=2)
        methods = methods_of(protocols)
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
        legend(figure, method_handles(methods), len(methods))
        _title(figure, protocols, "Training: one line a run")
        return figure


def differences(protocols: Sequence[Protocol], comparisons: pd.DataFrame) -> Figure:
    """Draw a forest plot of X-Pool minus each baseline in R@1, with 95 % intervals.

    A dot is filled if the difference is significant after Holm's correction over the column.

    Args:
        protocols: one panel each.
        comparisons: as :mod:`xpool.statistics.results` writes them.
    """
    rows = comparisons[(comparisons["method"] == "xpool") & (comparisons["metric"] == "R@1")]
    with mpl.rc_context({**STYLE, "axes.grid.axis": "x"}):
        baselines = [method for method in methods_of(protocols) if method != "xpool"]
        figure, (axes,) = _panels(protocols, rows=1)
        palette = colours(baselines)
        lines = [(way, against) for way in ("t2v", "v2t") for against in baselines]
        for panel, protocol in zip(axes, protocols, strict=True):
            of_panel = rows[rows["benchmark"] == protocol.benchmark]
            for one in of_panel.to_dict("records"):
                line = lines.index((one["direction"], one["against"]))
                colour = palette[one["against"]]
                panel.hlines(line, one["ci_low"], one["ci_high"], color=colour, linewidth=1.8)
                panel.plot(
                    one["delta"], line, marker="o", color=colour, markersize=7,
                    markerfacecolor=colour if one["p_column"] < LEVEL else "white",
                )  # fmt: skip
            panel.axvline(0, color="black", linewidth=0.8)
            panel.set(title=protocol.title, xlabel="points of R@1", ylabel="")
            panel.set(
                yticks=range(len(lines)), yticklabels=[], ylim=(max(len(lines), 1) - 0.5, -0.5)
            )
        axes[0].set_yticklabels([f"{way}, {method_name(against)}" for way, against in lines])
        _title(
            figure, protocols,
            "X-Pool minus each baseline, with 95 % interval (filled: p < 0.05 after Holm)",
        )  # fmt: skip
        return figure


def wins(protocols: Sequence[Protocol], rows: pd.DataFrame) -> Figure:
    """Draw X-Pool's text-to-video wins and losses against each baseline by shot changes.

    Bars show queries won (up) and lost (down); dot and line show won minus lost with its 95 %
    interval.

    Args:
        protocols: one column of panels each.
        rows: ``wins`` as :mod:`xpool.statistics.results` writes them.
    """
    with mpl.rc_context(STYLE):
        baselines = [method for method in methods_of(protocols) if method != "xpool"]
        palette = colours(baselines)
        figure, axes = _panels(protocols, rows=max(1, len(baselines)))
        for row, against in enumerate(baselines):
            for column, protocol in enumerate(protocols):
                panel = axes[row][column]
                bins = rows[
                    (rows["benchmark"] == protocol.benchmark) & (rows["against"] == against)
                ]
                slots = list(range(len(bins)))
                if not slots:
                    panel.text(0.5, 0.5, "cuts unknown", transform=panel.transAxes, ha="center")
                panel.bar(slots, bins["won"], width=0.7, color=palette[against], alpha=0.55)
                panel.bar(slots, -bins["lost"], width=0.7, color="#7F7F7F", alpha=0.55)
                panel.vlines(slots, bins["ci_low"], bins["ci_high"], color="black")
                panel.plot(slots, bins["net"], "o", color="black", markersize=5)
                panel.axhline(0, color="black", linewidth=0.8)
                labels = [
                    f"{_span(low, high)}\n{n:,}"
                    for low, high, n in zip(
                        bins["shots_low"], bins["shots_high"], bins["n_queries"], strict=True
                    )
                ]
                panel.set(xticks=slots, xticklabels=labels, ylim=(-100, 105))
                panel.set(title=protocol.title if row == 0 else "")
                panel.grid(visible=False, axis="x")
            axes[row][0].set_ylabel(f"against {method_name(against)},\npercent of queries")
        for panel in axes[-1]:
            panel.set_xlabel("shot changes of the video / queries")
        _title(figure, protocols, "X-Pool's queries: won (up), lost (down), dot: won less lost")
        return figure


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def _panels(protocols: Sequence[Protocol], rows: int) -> tuple[Figure, list[list[Axes]]]:
    return panels(rows, len(protocols), width=3.3, height=1.4 + 2.2 * rows)


def _of(table: pd.DataFrame, protocol: Protocol) -> pd.DataFrame:
    """Return the rows of one panel."""
    wanted = (
        (table["benchmark"] == protocol.benchmark)
        & (table["direction"] == "t2v")
        & table["metric"].isin(_RECALLS)
    )
    return table[wanted]


def _title(figure: Figure, protocols: Sequence[Protocol], title: str) -> None:
    headline(figure, title, protocols[0].mark)
