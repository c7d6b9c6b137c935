"""Pictures of the attention page: a film strip with attention bars, and the nearest videos.

They draw what :mod:`xpool.report.attention.contents` gathered and compute nothing.
"""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Patch, Rectangle
from numpy.typing import NDArray
from PIL import Image

from xpool.report.attention.contents import Query, Retrieved, Row, Strip
from xpool.report.protocol import SYNTHETIC, method_name
from xpool.report.style import FONT, colours, headline, legend, panels

FORMATS = ("png",)
"""Formats in which the pictures are saved; photographs are no sharper in an SVG file."""
DPI = 110
_STYLE: dict[Any, Any] = {
    "font.family": FONT,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_RIGHT = "#0B9B1B"  # green around the right video, as on the paper's project page
_OTHER = "#A9AFB6"
_FILM = "#1C1C1E"
_QUIET = "#5F6670"

# All lengths are in inches. The picture is drawn on one canvas whose coordinates are inches from
# the lower left corner, so that each bar is exactly below its frame.
_WIDTH, _MARGIN, _LABEL = 11.0, 0.3, 1.85
_LINE, _HOLES, _BARS = 0.27, 0.17, 1.15
_PICTURE, _GAP = 1.0, 0.42
_OF_ROWS = "Nearest videos of the test split; beneath each its place and its cosine similarity"
_LETTERS = 82  # in a line of a caption


def query_figure(query: Query, title: str) -> Figure:
    """Draw a text, the frames of its video with X-Pool's attention, and the nearest videos.

    Args:
        query: what to show; the frames of the strip are in the order of time.
        title: the benchmark and run, in small print above the text.
    """
    lines = textwrap.wrap(f"“{query.caption.strip()}”", _LETTERS, max_lines=4, placeholder=" …”")
    frame = (_WIDTH - 2 * _MARGIN) / len(query.strip.weights)
    film = _film_height(query.strip.frames.shape[1:3], frame)
    slot, picture = _slot(query.rows)
    head = 0.5 + _LINE * len(lines)
    height = head + film + 0.1 + _BARS + 0.98 + len(query.rows) * (picture + _GAP) + 0.12
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height))
        canvas = figure.add_axes((0, 0, 1, 1))
        canvas.set(xlim=(0, _WIDTH), ylim=(0, height), autoscale_on=False)
        canvas.axis("off")
        small = f"{title}  ·  {query.reason}"
        _write(canvas, _MARGIN, height - 0.28, small, size=9.5, color=_QUIET)
        for number, line in enumerate(lines):
            y = height - 0.58 - _LINE * number
            _write(canvas, _MARGIN, y, line, size=13.5, weight="bold")

        top = height - head - 0.08
        _film(canvas, query.strip, _MARGIN, top - film, frame, film)
        bottom = top - film - 0.1 - _BARS
        box = (_MARGIN / _WIDTH, bottom / height, 1 - 2 * _MARGIN / _WIDTH, _BARS / height)
        _bars(figure.add_axes(box), query.strip)
        _bar_legend(figure, query.strip, (bottom - 0.24) / height)

        y = bottom - 0.98
        _write(canvas, _MARGIN + _LABEL, y + 0.12, _OF_ROWS, size=9.5, color=_QUIET)
        for row in query.rows:
            _found(canvas, row, y, slot, picture)
            y -= picture + _GAP
        return figure


def mass_figure(mass: pd.DataFrame, titles: Sequence[str], seed: int) -> Figure:
    """Draw the attention of each text on the frames that it describes against their share.

    Args:
        mass: from :meth:`xpool.report.attention.contents.Demo.mass`, for one or more benchmarks.
        titles: titles of the benchmarks, in their order in ``mass``.
        seed: seed of the runs.
    """
    benchmarks = list(dict.fromkeys(mass["benchmark"]))
    colour = colours(["xpool"])["xpool"]
    with mpl.rc_context(_STYLE):
        figure, (axes,) = panels(1, len(benchmarks), width=3.5, height=4.9, sharey=True)
        for panel, benchmark, title in zip(axes, benchmarks, titles, strict=True):
            rows = mass[mass["benchmark"] == benchmark]
            share, on_them = 100 * rows["share"], 100 * rows["mass"]
            panel.plot([0, 100], [0, 100], color=_QUIET, linestyle="--", linewidth=1.2)
            panel.plot(share, on_them, "o", color=colour, markersize=5, alpha=0.3, mew=0)
            panel.plot(
                share.mean(), on_them.mean(), "D", color="white", markersize=10,
                markeredgecolor="black", markeredgewidth=1.8, zorder=3,
            )  # fmt: skip
            panel.set(xlim=(-4, 104), ylim=(-4, 104), xticks=range(0, 101, 25))
            panel.set_box_aspect(1)
            panel.set_title(f"{title}\n{len(rows)} texts", fontsize=10.5, fontweight="bold")
            panel.text(
                98, 2, f"mean: {share.mean():.0f} % of the frames,\n{on_them.mean():.0f} % of the "
                "attention", ha="right", va="bottom", fontsize=9,
            )  # fmt: skip
            panel.set_xlabel("share of the frames, percent")
        axes[0].set_ylabel("share of the attention, percent")
        handles = [
            Line2D([], [], color=colour, marker="o", linestyle="", alpha=0.5, label="a text"),
            Line2D(
                [], [], color="white", marker="D", linestyle="", markeredgecolor="black",
                markeredgewidth=1.5, label="mean over the texts",
            ),
            Line2D([], [], color=_QUIET, linestyle="--", label="attention spread evenly"),
        ]  # fmt: skip
        legend(figure, handles, columns=3)
        headline(figure, f"The frames that a text describes: X-Pool, seed {seed}", SYNTHETIC)
        return figure


# --- the film strip ---


def _film_height(size: tuple[int, ...], frame: float) -> float:
    """Return the height of the strip: that of a frame ``frame`` inches wide, and of its holes."""
    h, w = size
    return (frame - 0.06) * h / w + 2 * _HOLES


def _film(
    canvas: Axes, strip: Strip, left: float, bottom: float, frame: float, height: float
) -> None:
    width = frame * len(strip.weights)
    canvas.add_patch(Rectangle((left, bottom), width, height, color=_FILM, zorder=1))
    holes = 4 * len(strip.weights)
    for number in range(holes):
        x = left + (number + 0.5) * width / holes - 0.05
        for y in (bottom + 0.05, bottom + height - 0.12):
            hole = FancyBboxPatch(
                (x + 0.015, y + 0.015), 0.07, 0.04, boxstyle="round,pad=0.015", color="white",
                linewidth=0, zorder=2,
            )  # fmt: skip
            canvas.add_patch(hole)
    for number, picture in enumerate(strip.frames):
        x = left + number * frame + 0.03
        box = (x, bottom + _HOLES, frame - 0.06, height - 2 * _HOLES)
        if not strip.mask[number]:
            middle = (x + box[2] / 2, bottom + height / 2)
            _write(canvas, *middle, "no frame", size=7, color="white", ha="center", va="center")
            continue
        _picture(canvas, picture, box)
        if strip.described is not None and strip.described[number]:
            _outline(canvas, box, colours(["xpool"])["xpool"], 2.6)


def _bars(axes: Axes, strip: Strip) -> None:
    frames, percent = len(strip.weights), 100 * strip.weights
    colour = colours(["xpool"])["xpool"]
    marked = strip.described if strip.described is not None else np.ones(frames, bool)
    axes.bar(
        np.arange(frames) + 0.5, percent, 0.62, color=[colour if m else _OTHER for m in marked]
    )
    for number in np.flatnonzero(strip.mask):
        axes.annotate(
            f"{percent[number]:.0f}", (number + 0.5, percent[number]), (0, 2), fontsize=8.5,
            textcoords="offset points", ha="center", va="bottom",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )  # fmt: skip
    even = 100 / strip.mask.sum()
    axes.axhline(even, color=_FILM, linestyle=(0, (4, 3)), linewidth=1, zorder=1.5)
    axes.set(xlim=(0, frames), ylim=(0, max(1.6 * even, 1.22 * percent.max())), yticks=[])
    axes.set_xticks(np.arange(frames) + 0.5, [str(number + 1) for number in range(frames)])
    axes.tick_params(axis="x", length=0, labelsize=8.5, labelcolor=_QUIET)
    axes.spines["left"].set_visible(False)


def _bar_legend(figure: Figure, strip: Strip, y: float) -> None:
    colour = colours(["xpool"])["xpool"]
    even = Line2D([], [], color=_FILM, linestyle=(0, (4, 3)), linewidth=1, label="spread evenly")
    if strip.described is None:
        bars: list[Any] = [Patch(color=colour, label="X-Pool's attention, percent")]
    else:
        bars = [
            Patch(color=colour, label="X-Pool's attention on frames that the text describes, %"),
            Patch(color=_OTHER, label="on the other frames, %"),
        ]
    figure.legend(
        handles=[*bars, even], loc="upper center", bbox_to_anchor=(0.5, y), ncols=3, fontsize=9,
        frameon=False, borderaxespad=0,
    )  # fmt: skip


# --- the first videos ---


def _slot(rows: Sequence[Row]) -> tuple[float, float]:
    """Return the width of the slot for a video, and the height of its picture."""
    slots = max(len(row.retrieved) for row in rows)
    slot = (_WIDTH - 2 * _MARGIN - _LABEL) / slots
    shapes = [found.picture.shape for row in rows for found in row.retrieved]
    flattest = max(h / w for h, w, _ in shapes)
    return slot, min(_PICTURE, (slot - 0.16) * flattest)


def _found(canvas: Axes, row: Row, top: float, slot: float, height: float) -> None:
    _write(canvas, _MARGIN, top - 0.2, method_name(row.method), size=12, weight="bold")
    rank = f"right video: rank {row.rank:g}"
    hit = any(found.right for found in row.retrieved)
    colour = _RIGHT if hit else "black"
    _write(canvas, _MARGIN, top - 0.43, rank, size=9.5, color=colour)
    _write(canvas, _MARGIN, top - 0.63, row.stands_for, size=8.5, color=_QUIET)
    for number, found in enumerate(row.retrieved):
        _video(canvas, found, _MARGIN + _LABEL + number * slot, top, slot - 0.16, height)


def _video(
    canvas: Axes, found: Retrieved, left: float, top: float, room: float, height: float
) -> None:
    h, w, _ = found.picture.shape
    scale = min(room / w, height / h)
    box = (left, top - h * scale, w * scale, h * scale)
    _picture(canvas, found.picture, box)
    label, colour, weight = f"{found.rank}.  {found.score:.2f}", "black", "normal"
    if found.right:
        _outline(canvas, box, _RIGHT, 4)
        label, colour, weight = f"{label}  ✓", _RIGHT, "bold"
    y = top - height - 0.2
    _write(canvas, left, y, label, size=9.5, color=colour, weight=weight)


# --- on the canvas ---


def _picture(canvas: Axes, picture: NDArray[np.uint8], box: tuple[float, ...]) -> None:
    """Draw a frame into a box ``(left, bottom, width, height)``, resampled to its printed size."""
    left, bottom, width, height = box
    size = (math.ceil(width * DPI), math.ceil(height * DPI))
    smooth = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
    extent = (left, left + width, bottom, bottom + height)
    canvas.imshow(smooth, extent=extent, aspect="auto", interpolation="nearest", zorder=2)


def _outline(canvas: Axes, box: tuple[float, ...], colour: str, thickness: float) -> None:
    left, bottom, width, height = box
    line = Rectangle(
        (left, bottom), width, height, fill=False, edgecolor=colour, linewidth=thickness, zorder=3
    )
    canvas.add_patch(line)


def _write(canvas: Axes, x: float, y: float, words: str, *, size: float, **looks: Any) -> None:
    """Write words literally: a dollar sign in a caption does not start a formula."""
    canvas.text(x, y, words, fontsize=size, parse_math=False, **looks)
