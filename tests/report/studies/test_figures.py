"""Figures of studies: what is drawn is what was given, and twice the same bytes."""

import numpy as np
import pandas as pd
import pytest
from made_results import PARAMS
from made_studies import write_studies
from matplotlib.colors import to_hex
from PIL import Image

from xpool.report import style
from xpool.report.protocol import read_protocols
from xpool.report.studies import curves
from xpool.report.studies import figures as draw


@pytest.fixture
def protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_studies(PARAMS)
    return read_protocols()[0]


@pytest.fixture
def rows(protocol):
    scenes = curves.read_trials("scene_diversity")
    scenes = scenes[scenes["part"] == "scenes"]
    return curves.curve(scenes, "scenes", ["method"])


def test_lines_and_bands_are_the_means_and_intervals_that_were_given(protocol, rows):
    figure = draw.curves({"A": rows}, "scenes", "T", protocol, xlabel="scenes", marked=(2, "here"))
    (axis,) = [a for a in figure.axes if a.axison]
    drawn = {
        to_hex(line.get_color()): line.get_ydata()
        for line in axis.lines
        if len(line.get_xdata()) == 3
    }
    for method, of_method in rows.groupby("method"):
        assert np.allclose(drawn[style.colours([method])[method].lower()], of_method["mean"])
    assert len(axis.collections) == 3, "a band each"
    tops = [band.get_paths()[0].vertices[:, 1].max() for band in axis.collections]
    assert np.allclose(sorted(tops), sorted(rows.groupby("method")["high"].max()))
    assert "SYNTHETIC" in figure.get_suptitle()
    assert [text.get_text() for text in axis.texts] == ["here"]


def test_limits_are_level_lines_of_their_own_panel(protocol, rows):
    limits = pd.DataFrame({"panel": ["A", "B"], "label": ["mean", "best"], "mean": [11.0, 22.0]})
    figure = draw.curves(
        {"A": rows, "B": rows}, "scenes", "T", protocol, xlabel="s", log=True, limits=limits
    )
    for axis, level in zip(figure.axes, (11.0, 22.0), strict=False):
        lines = [line for line in axis.lines if set(line.get_ydata()) == {level}]
        assert len(lines) == 1
        assert axis.get_xscale() == "log"


def test_a_surface_shows_each_mean_in_its_cell(protocol):
    counts = curves.read_trials("frame_count")
    means = curves.curve(
        counts[counts["part"] == "surface"], "frames", ["benchmark", "attention_temperature"]
    )
    here = means[means["benchmark"] == "msvd"]
    figure = draw.surfaces(
        {"MSVD": here}, "frames", "attention_temperature", "T", protocol, xlabel="x", ylabel="y"
    )
    (axis,) = [a for a in figure.axes if a.axison]
    printed = [text.get_text() for text in axis.texts]
    grid = here.pivot_table(index="attention_temperature", columns="frames", values="mean")
    assert printed == [f"{value:.0f}" for value in grid.to_numpy().ravel()]


def test_a_front_names_its_frame_counts(protocol):
    counts = curves.read_trials("frame_count")
    points = curves.pareto(counts[counts["part"] == "methods"])
    here = points[points["benchmark"] == "msrvtt"]
    figure = draw.fronts({"MSR-VTT": here}, "T", protocol)
    (axis,) = [a for a in figure.axes if a.axison]
    front = here[here["front"]].sort_values("cost_ms")
    assert [text.get_text() for text in axis.texts] == [str(n) for n in front["frames"]]
    assert sum(len(c.get_offsets()) for c in axis.collections) == len(here)


def spreads(protocol):
    """Draw the made-up trials of two methods, and return them."""
    runs = curves.read_trials("variance")
    runs = runs[runs["benchmark"] == "msrvtt"].assign(label=runs["source"].map(curves.SOURCES))
    errors = curves.query_errors(runs)
    errors["panel"] = errors["method"]
    return draw.spreads(dict(list(runs.groupby("method"))), errors, "T", protocol), runs, errors


def test_spreads_show_every_run_in_panels_of_one_width(protocol):
    figure, runs, errors = spreads(protocol)
    axes = [axis for axis in figure.axes if axis.axison]
    widths = []
    for axis, (method, of_method) in zip(axes, runs.groupby("method"), strict=True):
        dots = np.concatenate([np.asarray(c.get_offsets())[:, 0] for c in axis.collections])
        assert np.allclose(sorted(dots), sorted(of_method["R@1"]))
        low, high = axis.get_xlim()
        assert low < dots.min() <= dots.max() < high
        widths.append(high - low)
        (band,) = axis.patches
        expected = errors.set_index("method").loc[method, ["low", "high"]]
        assert np.allclose(band.get_extents().transformed(axis.transData.inverted()).intervalx,
                           expected.to_numpy(float))  # fmt: skip
    assert np.allclose(widths, widths[0])
    labels = [text.get_text() for text in axes[0].get_yticklabels()]
    assert labels == ["Seed of the whole run", "Frame sampling", "Threads"]


def test_the_same_figures_give_the_same_bytes_and_a_readable_size(protocol, rows, tmp_path):
    importances = curves.read_importances("temperature")
    importances = importances[importances["part"] == "xpool"]
    for name, make in {
        "curves": lambda: draw.curves({"A": rows}, "scenes", "T", protocol, xlabel="s"),
        "bars": lambda: draw.bars(
            {"A": importances[importances["part"] == "xpool"]}, "T", protocol
        ),
        "spreads": lambda: spreads(protocol)[0],
    }.items():
        first = style.save(make(), tmp_path, name)
        before = first.read_bytes(), first.with_suffix(".svg").read_bytes()
        again = style.save(make(), tmp_path, name)
        assert (again.read_bytes(), again.with_suffix(".svg").read_bytes()) == before
        width, height = Image.open(first).size
        assert width > 900
        assert height > 300
