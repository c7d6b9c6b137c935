"""Pictures of the attention page: what is marked where, read back from the drawn figures."""

import re

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest

from xpool.report import style
from xpool.report.attention import filmstrips
from xpool.report.attention.contents import Query, Retrieved, Row, Strip
from xpool.report.style import colours

ORANGE = colours(["xpool"])["xpool"]


def made(frames=12, size=(48, 64), described=(0, 1, 2), real=None, caption="a red star", right=2):
    """A query whose right video has rank ``right`` in each row, or is in none."""
    rng = np.random.default_rng(0)
    real = real or frames
    mask = np.arange(frames) < real
    weights = np.where(mask, rng.random(frames), 0)
    marks = None if described is None else np.isin(np.arange(frames), described)
    strip = Strip(
        frames=rng.integers(0, 256, (frames, *size, 3), np.uint8),
        mask=mask,
        weights=weights / weights.sum(),
        described=marks,
    )
    rows = tuple(
        Row(
            method=method,
            rank=float(right),
            stands_for="middle frame",
            retrieved=tuple(
                Retrieved(
                    video_id=f"v{rank}",
                    rank=rank,
                    score=1 / rank,
                    right=rank == right,
                    picture=rng.integers(0, 256, (*size, 3), np.uint8),
                )
                for rank in range(1, 6)
            ),
        )
        for method in ("xpool", "mean_pool", "self_attention")
    )
    return Query(caption=caption, reason="drawn at random", strip=strip, rows=rows)


def words(axes):
    return [text.get_text() for text in axes.texts]


def outlines(axes, colour):
    found = [p for p in axes.patches if not p.get_fill()]
    return [p for p in found if p.get_edgecolor() == matplotlib.colors.to_rgba(colour)]


def overlapping(figure):
    """Pairs of the canvas's words that stand on each other, or beyond the edge."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    texts = [t for axes in figure.axes for t in axes.texts if t.get_text()]
    boxes = [t.get_window_extent(renderer) for t in texts]
    boxes += [legend.get_window_extent(renderer) for legend in figure.legends]
    inside = figure.bbox.padded(1)
    assert all(inside.x0 <= b.x0 and b.x1 <= inside.x1 and b.y1 <= inside.y1 for b in boxes)
    return [
        (one, other) for i, one in enumerate(boxes) for other in boxes[:i] if one.overlaps(other)
    ]


@pytest.mark.parametrize("size", [(48, 64), (48, 111), (64, 48), (224, 398)])
@pytest.mark.parametrize("caption", ["a star", "word " * 60, "x" * 300])
def test_no_words_overlap_whatever_the_frames_and_the_caption(size, caption):
    figure = filmstrips.query_figure(made(size=size, caption=caption), "LSMDC, SYNTHETIC")
    assert overlapping(figure) == []


def test_bars_are_the_weights_and_stand_under_their_frames():
    query = made()
    figure = filmstrips.query_figure(query, "title")
    canvas, bars = figure.axes
    rectangles = [p for p in bars.patches if p.get_height() or p.get_width() == 0.62]
    np.testing.assert_allclose([p.get_height() for p in rectangles], 100 * query.strip.weights)
    left = [bars.transData.transform((p.get_x() + 0.31, 0))[0] for p in rectangles]
    frames = canvas.images[:12]
    middle = [canvas.transData.transform((np.mean(i.get_extent()[:2]), 0))[0] for i in frames]
    np.testing.assert_allclose(left, middle, atol=0.01)


def test_described_frames_are_outlined_and_their_bars_coloured():
    canvas, bars = filmstrips.query_figure(made(described=(3, 7)), "title").axes
    assert len(outlines(canvas, ORANGE)) == 2
    coloured = [matplotlib.colors.to_hex(p.get_facecolor()) == ORANGE.lower() for p in bars.patches]
    assert np.flatnonzero(coloured).tolist() == [3, 7]


def test_unknown_description_marks_no_frame():
    figure = filmstrips.query_figure(made(described=None), "title")
    assert outlines(figure.axes[0], ORANGE) == []
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["X-Pool's attention, percent", "spread evenly"]


def test_right_video_is_outlined_in_green_once_a_row():
    canvas = filmstrips.query_figure(made(right=3), "title").axes[0]
    assert len(outlines(canvas, filmstrips._RIGHT)) == 3
    assert sum("✓" in text for text in words(canvas)) == 3


def test_right_video_out_of_sight_is_told_by_its_rank():
    canvas = filmstrips.query_figure(made(right=17), "title").axes[0]
    assert outlines(canvas, filmstrips._RIGHT) == []
    assert words(canvas).count("right video: rank 17") == 3


def test_missing_frames_are_told_and_have_no_number():
    canvas, bars = filmstrips.query_figure(made(real=9), "title").axes
    assert words(canvas).count("no frame") == 3
    assert len(words(bars)) == 9


def test_caption_is_shown_to_the_letter():
    canvas = filmstrips.query_figure(made(caption="pays $5 or $6_x^2 "), "title").axes[0]
    assert "“pays $5 or $6_x^2”" in words(canvas)
    assert not any(text.get_parse_math() for text in canvas.texts)


@pytest.mark.parametrize("benchmarks", [["msrvtt"], ["msrvtt", "msvd", "lsmdc"]])
def test_mass_figure_states_the_means_and_that_they_are_synthetic(benchmarks):
    rng = np.random.default_rng(0)
    share, mass = rng.random(40), rng.random(40)
    table = pd.concat(
        [pd.DataFrame({"benchmark": name, "share": share, "mass": mass}) for name in benchmarks]
    )
    figure = filmstrips.mass_figure(table, [name.upper() for name in benchmarks], seed=0)
    assert overlapping(figure) == []
    assert "SYNTHETIC" in figure.get_suptitle()
    for panel in figure.axes:
        said = re.findall(r"(\d+) %", words(panel)[0])
        assert said == [f"{100 * share.mean():.0f}", f"{100 * mass.mean():.0f}"]


def test_same_picture_has_the_same_bytes(tmp_path):
    first, second = (filmstrips.query_figure(made(), "title") for _ in range(2))
    files = [
        style.save(figure, tmp_path / name, "one", filmstrips.FORMATS, filmstrips.DPI)
        for name, figure in (("a", first), ("b", second))
    ]
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["one.png"]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert b"matplotlib" not in files[0].read_bytes().lower()
