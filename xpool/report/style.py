"""The style of all figures (theme, colours, panels, legends), and the way they are saved."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xpool.project.workspace import replacing
from xpool.report.protocol import method_name

# Okabe and Ito's palette, distinct for any colour vision; its yellow is too faint on white.
_COLOURS = {
    "mean_pool": "#0072B2",
    "self_attention": "#009E73",
    "top_k": "#E69F00",
    "attention": "#CC79A7",
    "xpool": "#D55E00",
}
_OTHER_COLOURS = ("#56B4E9", "#000000", "#8C6D31", "#7F7F7F", "#6A3D9A")
FONT = "DejaVu Sans"
"""Comes with matplotlib, so the glyphs are the same on every machine."""
STYLE = {
    **sns.axes_style("whitegrid"),
    **sns.plotting_context("notebook", font_scale=0.85),
    "axes.grid.axis": "y",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": FONT,
    "svg.hashsalt": "xpool",
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "svg": {"metadata": {"Date": None, "Creator": None}},
    "png": {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 4}},
}
"""How each format is written: without dates and versions of matplotlib; PNG in half the time of
Pillow's own level, with 4 % more bytes."""


def colours(methods: Iterable[str]) -> dict[str, str]:
    """Return a colour for each method; the project's own five always have the same one.

    Any other method takes the colour that a hash of its name points to, or the next free one.
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


def panels(
    rows: int, columns: int, width: float, height: float, **options: Any
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure with a grid of panels; it is at least two panels wide, for its title.

    Args:
        rows: number of rows.
        columns: number of columns.
        width: width of a panel, in inches.
        height: height of the figure, in inches.
        options: further arguments of ``Figure.subplots``.
    """
    figure = Figure(figsize=(width * max(2, columns), height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, [list(row) for row in axes]


def headline(figure: Figure, title: str, mark: str) -> None:
    """Write a figure's title, in bold with ``mark`` beside it if there is one."""
    words = f"{title}   {mark}" if mark else title
    figure.suptitle(words, fontsize="medium", fontweight="bold" if mark else "normal")


def method_handles(methods: Iterable[str], linestyle: Literal["-", ""] = "-") -> list[Line2D]:
    """Return the entries of a legend that tell the methods by their colours."""
    palette = colours(methods)
    return [
        Line2D(
            [], [], color=palette[method], marker="o", linestyle=linestyle,
            label=method_name(method),
        )
        for method in methods
    ]  # fmt: skip


def legend(figure: Figure, handles: Sequence[Line2D], columns: int) -> None:
    """Put a legend below the panels."""
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)


def save(
    figure: Figure,
    folder: Path,
    name: str,
    formats: Sequence[str] = ("svg", "png"),
    dpi: int = 160,
) -> Path:
    """Write ``<name>.<format>`` for each format; the same figure gives the same bytes.

    Returns:
        Path of the PNG file, which pages show.
    """
    with mpl.rc_context(STYLE):
        for suffix in formats:
            with replacing(folder / f"{name}.{suffix}", "wb") as file:
                figure.savefig(file, format=suffix, dpi=dpi, **_OPTIONS[suffix])
    return folder / f"{name}.png"
