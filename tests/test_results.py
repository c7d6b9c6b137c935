"""What `make repro` found, where it has run: does the mechanism show, and is all of it there?"""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from xpool.report.site.shell import PAGES
from xpool.report.studies.curves import gain

TOP = Path(__file__).resolve().parent.parent
METRICS = TOP / "results" / "mini" / "metrics.csv"

pytestmark = [
    pytest.mark.results,
    pytest.mark.skipif(not METRICS.is_file(), reason="`make repro` has not run here"),
]


@pytest.fixture(scope="module")
def recall():
    """R@1 of text-to-video: one row a run."""
    table = pd.read_csv(METRICS)
    return table[(table["metric"] == "R@1") & (table["direction"] == "t2v")]


def test_every_cell_of_params_is_there(recall):
    params = yaml.safe_load((TOP / "params.yaml").read_text())
    cells = set(zip(recall["benchmark"], recall["method"], recall["seed"], strict=True))
    methods = ["xpool", *params["baselines"]]
    assert cells == {
        (b, m, s) for b in params["benchmarks"] for m in methods for s in params["seeds"]
    }


def test_xpool_leads_mean_pooling_by_more_than_the_spread_where_videos_have_several_scenes(recall):
    values = recall[recall["benchmark"] == "msrvtt"].groupby("method")["value"]
    lead = values.mean()["xpool"] - values.mean()["mean_pool"]
    assert lead > values.std()["xpool"] + values.std()["mean_pool"]


def test_every_trained_method_is_at_least_five_times_chance(recall):
    means = recall.groupby(["benchmark", "method"])[["value", "n_video"]].mean()
    assert (means["value"] >= 5 * 100 / means["n_video"]).all(), means


def test_every_mean_lies_in_its_acceptance_band(recall):
    """Meant to move? `python -m performance.bands` makes new bands; say so in the CHANGELOG."""
    bands = pd.read_csv(TOP / "tests" / "bands.csv").set_index(["benchmark", "method"])
    means = recall.groupby(["benchmark", "method"])["value"].mean()
    assert set(means.index) == set(bands.index)
    out = bands.assign(found=means)[(means < bands["low"]) | (means > bands["high"])]
    assert out.empty, f"R@1 out of its band (docs/results/statistics.md):\n{out}"


def test_the_gain_grows_with_the_scenes_of_a_video():
    """In points up to three scenes, where mean pooling nears chance; as a ratio all along."""
    trials = pd.read_csv(TOP / "results/mini/studies/scene_diversity/trials.csv")
    pairs = gain(trials[trials["part"] == "scenes"], ["scenes", "seed"])
    points, ratio = (
        pairs.groupby("scenes")[name].agg(["mean", "std"]) for name in ("R@1", "ratio")
    )
    assert points["mean"][3] - points["mean"][1] > 3 * (points["std"][3] + points["std"][1])
    assert ratio["mean"].is_monotonic_increasing
    assert ratio["mean"][6] - ratio["mean"][1] > 3 * (ratio["std"][6] + ratio["std"][1])


def test_every_study_has_run_all_its_trials():
    params = yaml.safe_load((TOP / "params.yaml").read_text())
    for name in [name for names in params["studies"].values() for name in names]:
        trials = pd.read_csv(TOP / f"results/mini/studies/{name}/trials.csv")
        done = trials["state"] == "complete"
        assert done.all() or name == "search", name
        assert trials["R@1"][done].between(0, 100).all()
        assert set(params["ablations"][name]["benchmarks"]) == set(trials["benchmark"])


def test_reports_name_no_address_to_load_from():
    for page in ("index", *PAGES):
        html = (TOP / "reports" / "mini" / f"{page}.html").read_text()
        assert not re.search(r"<(script|img|link|iframe)[^>]+(src|href)=[\"']https?:", html)


def test_an_unchanged_pipeline_has_nothing_to_do():
    done = subprocess.run(
        [Path(sys.executable).with_name("dvc"), "status"],
        cwd=TOP, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "up to date" in done.stdout
