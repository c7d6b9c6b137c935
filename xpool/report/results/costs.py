"""Quality against cost: all methods by family, the Pareto figure, and the two-stage curve.

:mod:`xpool.training.cost` measured the costs, beside the scoring of the first seed's runs.
"""

import json
from collections.abc import Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from xpool.project import paths
from xpool.project.made import made
from xpool.report.commands import of_methods
from xpool.report.protocol import Protocol, method_name, methods_of
from xpool.report.studies.curves import on_front
from xpool.report.style import STYLE, colours, headline, legend, method_handles, panels
from xpool.report.typesetting import NO_FIGURE, Group, Row, Table

FAMILIES = {
    "text-agnostic": ("Text-agnostic: one vector a video", "vectors, any index"),
    "text-conditioned": ("Text-conditioned: pooled for each text", "frames, two-stage"),
    "late interaction": ("Late interaction: frames scored one by one", "frames, two-stage"),
}
"""Heading of each family, and the index that its gallery admits."""


def read_costs(protocols: Sequence[Protocol]) -> pd.DataFrame:
    """Return what each method costs on each benchmark.

    Returns:
        Columns benchmark, method, and those of :func:`xpool.training.cost.cost_of`.

    Raises:
        InputError: a file is missing.
    """
    rows = []
    for method in methods_of(protocols):
        file = made(paths.cost(protocols[0].setting, method))
        found = json.loads(file.read_text(encoding="utf-8"))
        rows += [
            {"benchmark": p.benchmark, "method": method} | found[p.benchmark]
            for p in protocols
            if p.benchmark in found and method in p.methods
        ]
    return pd.DataFrame(rows)


def with_quality(costs: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Return costs beside text-to-video R@1, R@5 and R@10, and which points no other beats.

    Args:
        costs: from :func:`read_costs`.
        cells: as :mod:`xpool.statistics.results` writes them.

    Returns:
        The rows of ``costs`` with the recalls, and ``front``: whether no other method of the
        benchmark is at least as good in R@1 and in time, and better in one.
    """
    t2v = cells[cells["direction"] == "t2v"]
    recalls = t2v.pivot(index=["benchmark", "method"], columns="metric", values="mean")
    found = costs.join(recalls[["R@1", "R@5", "R@10"]], on=["benchmark", "method"])
    parts = []
    for _, here in found.groupby("benchmark", sort=False):
        front = on_front(here["R@1"].to_numpy(), here["ms_per_query"].to_numpy())
        parts.append(here.assign(front=front))
    return pd.concat(parts, ignore_index=True)


def methods_table(protocols: Sequence[Protocol], rows: pd.DataFrame) -> Table:
    """Return all methods by family: R@1 on each benchmark, and what they cost.

    Args:
        protocols: what is compared.
        rows: from :func:`with_quality`.
    """
    first, methods = protocols[0], methods_of(protocols)
    groups = []
    for family, (heading, index) in FAMILIES.items():
        of_family = rows[rows["family"] == family]
        listed = [m for m in methods if (of_family["method"] == m).any()]
        if listed:
            benchmarks = [protocol.benchmark for protocol in protocols]
            lines = tuple(
                _line(m, of_family[of_family["method"] == m], index, benchmarks) for m in listed
            )
            groups.append(Group(heading=heading, rows=lines))
    heads = ("parameters", "ms a query", "kB a video", "index")
    titles = [protocol.title for protocol in protocols]
    return Table(
        name="methods",
        caption=(
            f"{first.heading('Methods by family')} Text-to-video R@1 / R@5 / R@10 in percent on "
            "the test split, mean over seeds, beside what a method costs: parameters besides the "
            "encoder; the time of a query, all texts of the split together, as the least of three "
            f"({_devices(rows)}; the mean over the benchmarks); and the embeddings that the "
            "gallery keeps for a video, in float32. A gallery of vectors admits any "
            "nearest-neighbour index. One of frames has to be scanned, or shortlisted by mean "
            "pooling first."
        ),
        columns=tuple(("t2v R@1 / R@5 / R@10", title) for title in titles)
        + tuple(("Cost", head) for head in heads),
        names=(*titles, *heads),
        groups=tuple(groups),
        notes=(),
        figures=rows.drop(columns="two_stage").assign(setting=first.setting),
        commands=of_methods(
            methods, (line for group in groups for line in group.rows), what=f"on {titles[0]}"
        ),
    )


def _line(method: str, rows: pd.DataFrame, index: str, benchmarks: Sequence[str]) -> Row:
    of_benchmark = {row["benchmark"]: row for row in rows.to_dict("records")}
    recalls = [
        " / ".join(f"{of_benchmark[name][metric]:.1f}" for metric in ("R@1", "R@5", "R@10"))
        if name in of_benchmark
        else NO_FIGURE
        for name in benchmarks
    ]
    cells = (
        *recalls,
        f"{int(rows['parameters'].max()):,}",
        f"{rows['ms_per_query'].mean():.2g}",
        f"{rows['bytes_per_video'].max() / 1000:.3g}",
        index,
    )
    return Row(label=method_name(method), cells=cells, bold=(False,) * len(cells))


def _devices(rows: pd.DataFrame) -> str:
    return ", ".join(sorted(set(rows["device"])))


def pareto(protocols: Sequence[Protocol], rows: pd.DataFrame) -> Figure:
    """Draw R@1 against the time of a query, with the Pareto front of each benchmark.

    Args:
        protocols: one panel each.
        rows: from :func:`with_quality`.
    """
    with mpl.rc_context(STYLE):
        figure, (axes,) = panels(1, len(protocols), width=3.1, height=3.4)
        methods = methods_of(protocols)
        palette = colours(methods)
        for axis, protocol in zip(axes, protocols, strict=True):
            here = rows[rows["benchmark"] == protocol.benchmark]
            front = here[here["front"]].sort_values("ms_per_query")
            axis.step(front["ms_per_query"], front["R@1"], where="post", color="0.4", linewidth=1)
            for _, row in here.iterrows():
                axis.plot(row["ms_per_query"], row["R@1"], "o", color=palette[row["method"]])
            axis.set(title=protocol.title, xlabel="milliseconds a query", xscale="log")
            axis.set_ylim(bottom=0)
        axes[0].set_ylabel("text → video R@1, percent")
        legend(figure, method_handles(methods, linestyle=""), min(6, len(methods)))
        headline(figure, "Quality against the time of a query", protocols[0].mark)
        return figure


def two_stage(protocols: Sequence[Protocol], rows: pd.DataFrame) -> Table:
    """Return how exact a shortlist of mean pooling is, for each method that needs frames.

    Args:
        protocols: what is compared.
        rows: from :func:`read_costs`.
    """
    first, methods = protocols[0], methods_of(protocols)
    curves = pd.DataFrame(
        [
            {"benchmark": row["benchmark"], "method": row["method"]} | point
            for _, row in rows.iterrows()
            for point in row["two_stage"]
        ]
    )
    lengths = sorted(set(curves["k"])) if len(curves) else []
    groups = []
    for protocol in protocols:
        of_benchmark = curves[curves["benchmark"] == protocol.benchmark] if len(curves) else curves
        listed = [m for m in methods if len(curves) and (of_benchmark["method"] == m).any()]
        lines = [
            _exactness(m, of_benchmark[of_benchmark["method"] == m].set_index("k"), lengths)
            for m in listed
        ]
        if lines:
            groups.append(Group(heading=protocol.title, rows=tuple(lines)))
    return Table(
        name="two-stage",
        caption=(
            f"{first.heading('Two stages')} Mean pooling shortlists K videos of the test split, "
            "and the method ranks those alone: R@1 in percent, and in brackets the percent of "
            "texts whose first video is that of the whole gallery, with the first seed. The last "
            "length of a row is the whole gallery. The CSV has the times."
        ),
        columns=tuple(("Length of the shortlist", str(k)) for k in lengths),
        names=tuple(f"K = {k}" for k in lengths),
        groups=tuple(groups),
        notes=(),
        figures=curves.assign(setting=first.setting),
        commands=of_methods(
            methods,
            (line for group in groups[:1] for line in group.rows),
            what=f"on {first.title}, K = {lengths[0] if lengths else 1},",
        ),
    )


def _exactness(method: str, points: pd.DataFrame, lengths: Sequence[int]) -> Row:
    figures = points[["R@1", "same_first"]].to_dict("index")
    cells = tuple(
        f"{figures[k]['R@1']:.1f} ({figures[k]['same_first']:.0f})" if k in figures else NO_FIGURE
        for k in lengths
    )
    return Row(label=method_name(method), cells=cells, bold=(False,) * len(cells))
