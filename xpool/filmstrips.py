"""The attention demo's pictures: a film strip with attention bars, the first videos of each method.

Draws what ``xpool.attention`` gathered and computes nothing. ``notebooks/attention.ipynb`` writes
them to ``results/<setting>/attention/``; the same contents give the same bytes.
"""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
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

from xpool.attention import Query, Retrieved, Row, Strip
from xpool.figures import colours
from xpool.protocol import method_name
from xpool.workspace import replacing

DPI = 110
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same glyphs on every machine
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_RIGHT = "#0B9B1B"  # green round the right video, as on the paper's project page
_OTHER = "#A9AFB6"
_FILM = "#1C1C1E"
_QUIET = "#5F6670"

# All in inches. The picture is drawn on one canvas whose coordinates are inches from the lower
# left corner, so that frames and bars stand exactly one above the other.
_WIDTH, _MARGIN, _LABEL = 11.0, 0.3, 1.85
_LINE, _HOLES, _BARS = 0.27, 0.17, 1.15
_PICTURE, _GAP = 1.0, 0.42
_OF_ROWS = "Nearest videos of the test split; beneath each its place and its cosine similarity"
_LETTERS = 82  # of a caption's line


def query_figure(query: Query, title: str) -> Figure:
    """Draw a text, its video's frames with X-Pool's attention, and each method's first videos.

    Args:
        query: what to show; the strip has the frames in the order of time.
        title: the benchmark and run, printed small above the text.
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
        _legend(figure, query.strip, (bottom - 0.24) / height)

        y = bottom - 0.98
        _write(canvas, _MARGIN + _LABEL, y + 0.12, _OF_ROWS, size=9.5, color=_QUIET)
        for row in query.rows:
            _found(canvas, row, y, slot, picture)
            y -= picture + _GAP
        return figure


def mass_figure(mass: pd.DataFrame, titles: Sequence[str], seed: int) -> Figure:
    """Draw each text's attention on the frames that it describes against their share.

    Args:
        mass: as ``Demo.mass`` returns it, of one or several benchmarks.
        titles: of the benchmarks, in the order in which they come in ``mass``.
        seed: of the runs.
    """
    benchmarks = list(dict.fromkeys(mass["benchmark"]))
    colour = colours(["xpool"])["xpool"]
    with mpl.rc_context(_STYLE):
        width = 3.5 * max(2, len(benchmarks))
        figure = Figure(figsize=(width, 4.9), layout="constrained")
        panels = figure.subplots(1, len(benchmarks), squeeze=False, sharey=True)[0]
        for panel, benchmark, title in zip(panels, benchmarks, titles, strict=True):
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
        panels[0].set_ylabel("share of the attention, percent")
        handles = [
            Line2D([], [], color=colour, marker="o", linestyle="", alpha=0.5, label="a text"),
            Line2D(
                [], [], color="white", marker="D", linestyle="", markeredgecolor="black",
                markeredgewidth=1.5, label="mean over the texts",
            ),
            Line2D([], [], color=_QUIET, linestyle="--", label="attention spread evenly"),
        ]  # fmt: skip
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
        figure.suptitle(
            f"The frames that a text describes: X-Pool, seed {seed}   SYNTHETIC: generated videos",
            fontsize="medium", fontweight="bold",
        )  # fmt: skip
        return figure


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Write ``<name>.png`` without the drawing program's version; return its path."""
    with mpl.rc_context(_STYLE), replacing(folder / f"{name}.png", "wb") as file:
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return folder / f"{name}.png"


# --- the film strip ---


def _film_height(size: tuple[int, ...], frame: float) -> float:
    """Height of the strip: a frame as wide as the place it has, and two rows of holes."""
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


def _legend(figure: Figure, strip: Strip, y: float) -> None:
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
    """Width of a place for a video, and height of the pictures in all of them."""
    places = max(len(row.retrieved) for row in rows)
    slot = (_WIDTH - 2 * _MARGIN - _LABEL) / places
    shapes = [found.picture.shape for row in rows for found in row.retrieved]
    flattest = max(h / w for h, w, _ in shapes)
    return slot, min(_PICTURE, (slot - 0.16) * flattest)


def _found(canvas: Axes, row: Row, top: float, slot: float, height: float) -> None:
    _write(canvas, _MARGIN, top - 0.2, method_name(row.method), size=12, weight="bold")
    place = f"right video: rank {row.rank:g}"
    hit = any(found.right for found in row.retrieved)
    colour = _RIGHT if hit else "black"
    _write(canvas, _MARGIN, top - 0.43, place, size=9.5, color=colour)
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
    label, colour, weight = f"{found.place}.  {found.score:.2f}", "black", "normal"
    if found.right:
        _outline(canvas, box, _RIGHT, 4)
        label, colour, weight = f"{label}  ✓", _RIGHT, "bold"
    y = top - height - 0.2
    _write(canvas, left, y, label, size=9.5, color=colour, weight=weight)


# --- on the canvas ---


def _picture(canvas: Axes, picture: NDArray[np.uint8], box: tuple[float, ...]) -> None:
    """Draw a frame into a box ``(left, bottom, width, height)``, smoothed to its size in print."""
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
    """Write words as they are: a caption's dollar signs are no formula."""
    canvas.text(x, y, words, fontsize=size, parse_math=False, **looks)
