"""settings/paper.yaml to the last page: one epoch, on a few videos and with a small encoder."""

import pandas as pd
import pytest
import yaml
from made_clip import write_clip
from projects import TOP, Project

from xpool.mini.generate import GenerateParams, write_benchmark
from xpool.report.site.shell import PAGES

pytestmark = pytest.mark.slow

SHIPPED = yaml.safe_load((TOP / "settings/paper.yaml").read_text())
VIDEOS = {
    "msrvtt": {"train": 21, "val": 0, "test": 6},
    "msvd": {"train": 12, "val": 9, "test": 6},
    "lsmdc": {"train": 16, "val": 9, "test": 6},
}
FEW = {
    "encoder__model": "data/small-clip",
    "manifest__msrvtt__val_videos": 9,
    "manifest__msrvtt__allowed_missing": 1.0,
    "manifest__msvd__allowed_missing": 1.0,
    "manifest__lsmdc__allowed_missing": 1.0,
}
"""Another encoder and fewer videos than published."""
FAST = {
    "train__workers": 0,
    "train__compile": False,
    "train__epochs": 1,
    "ablations__scene_diversity__draws": 1,
    "ablations__scene_diversity__distractors": [0, 2],
    **{f"ablations__{name}__epochs": 1 for name in SHIPPED["ablations"]},
}


def made(folder, commands, **changes):
    """A checkout in the paper's setting, with stand-ins for the official files."""
    project = Project(folder, commands)
    project.run("python", "-m", "xpool", "setting", "paper")
    project.change(**FEW | FAST | changes)
    raw = project.folder / "data/paper/raw"
    for name, videos in VIDEOS.items():
        params = GenerateParams(
            videos=videos, captions=[1, 1] if name == "lsmdc" else [2, 3], scenes=[1, 2],
            duration_s=[2.0, 3.0], rate_fps=8, sizes=[[80, 60]],
        )  # fmt: skip
        write_benchmark(name, params, 0, raw / name, project.folder / "truth" / name)
    write_clip(project.folder / "data/small-clip", width=64, heads=8, layers=4, size=32, context=77)
    return project


@pytest.fixture(scope="module")
def project(tmp_path_factory, commands):
    project = made(tmp_path_factory.mktemp("paper") / "project", commands)
    project.repro(timeout=3600)
    return project


def test_the_last_page_is_made(project):
    for page in ("index", *PAGES):
        assert (project.folder / f"reports/paper/{page}.html").is_file()


def test_every_cell_has_its_figures(project):
    metrics = pd.read_csv(project.folder / "results/paper/metrics.csv")
    cells = metrics[["benchmark", "method", "seed"]].drop_duplicates()
    methods = ["xpool", *SHIPPED["baselines"]]
    assert len(cells) == len(SHIPPED["benchmarks"]) * len(methods) * len(SHIPPED["seeds"])


def test_every_listed_study_has_its_trials(project):
    listed = [name for names in SHIPPED["studies"].values() for name in names]
    assert listed
    for name in listed:
        trials = pd.read_csv(project.folder / f"results/paper/studies/{name}/trials.csv")
        assert set(trials["state"]) == {"complete"}
        assert set(trials["benchmark"]) == set(SHIPPED["benchmarks"])


@pytest.fixture(scope="module")
def official(tmp_path_factory, commands):
    """The protocol behind the published figures, as README and settings/paper.yaml describe it."""
    project = made(
        tmp_path_factory.mktemp("official") / "project",
        commands,
        benchmarks=["msrvtt"],
        real=["msrvtt"],
        seeds=[0],
        selection="test_window",
        manifest__msrvtt__val_videos=0,
        studies={"own_models": [], "trained_models": []},  # a study needs a validation split
    )
    project.repro(timeout=3600)
    return project


def test_the_official_protocol_reaches_the_last_page_and_says_what_it_selected_on(official):
    manifest = pd.read_parquet(official.folder / "data/paper/manifest/msrvtt.parquet")
    assert set(manifest["split"]) == {"train", "test"}
    assert (official.folder / "reports/paper/index.html").is_file()
    assert "SELECTED ON TEST" in (official.folder / "results/paper/tables/msrvtt.md").read_text()
