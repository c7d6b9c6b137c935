"""Targets of the Makefile that remove or refuse: in a folder of their own."""

import functools
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from xpool.project.plugins import members
from xpool.settings import check

TOP = Path(__file__).resolve().parents[1]
MADE = (
    "results/{}/metrics.csv",
    "reports/{}/index.html",
    "data/{}/frames/msvd/index.parquet",
    "data/{}/raw/msvd/a.avi",
    ".work/train/{}-xpool-msvd-0@1/finished/curve.csv",
    ".work/frames/{}-msvd@1/journal.jsonl",
)
OTHERS = (".work/generate/msvd@1/raw/a.avi", ".optuna/studies.db", "params.yaml")

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """Two settings, each with all that the pipeline makes."""
    monkeypatch.chdir(tmp_path)
    for name in [*(path.format(s) for path in MADE for s in ("mini", "paper")), *OTHERS]:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def make(*words):
    return subprocess.run(
        ["make", "-f", TOP / "Makefile", *words], capture_output=True, text=True, check=False
    )


def left():
    return {path.as_posix() for path in Path().rglob("*") if path.is_file()}


def test_clean_removes_the_mini_setting_and_nothing_of_the_papers():
    before = left()
    assert make("clean").returncode == 0
    gone = {path.format("mini") for path in MADE} | {OTHERS[0]}
    assert before - left() == gone


def test_clean_of_the_paper_setting_is_asked_for_and_keeps_the_real_files():
    before = left()
    assert make("clean", "NAME=paper").returncode == 0
    assert before - left() == {path.format("paper") for path in MADE} - {
        "data/paper/raw/msvd/a.avi"
    }


def test_clean_of_the_check_of_the_paper_keeps_the_official_files_that_it_reads():
    made = (
        "data/check/frames/msvd/index.parquet",
        "results/check-msvd/metrics.csv",
        "results/check-paper.md",
        ".work/frames/check-msvd-msvd@1/journal.jsonl",
        ".work/check-paper/weights.json",
    )
    for path in map(Path, made):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    Path("data/check/raw").symlink_to(Path("..", "paper", "raw"))
    Path("data/check-msvd").symlink_to("check")
    before = left()
    assert make("clean", "NAME=check").returncode == 0
    assert before - left() == set(made)
    assert not Path("data/check-msvd").is_symlink()


def test_wide_grids_are_points_that_params_yaml_leaves_out():
    """What `make wide` would run: each key is there, no list is shorter, all of it is valid."""
    said = make("--dry-run", "--silent", "-o", "setup", "wide").stdout
    changes = dict(re.findall(r"--set-param '([^=]+)=([^']+)'", said))
    assert len(changes) == 7
    params = yaml.safe_load((TOP / "params.yaml").read_text())
    for key, value in changes.items():
        *parents, last = key.split(".")
        section = functools.reduce(dict.__getitem__, parents, params)
        old, section[last] = section[last], yaml.safe_load(value)
        assert section[last] > old if isinstance(old, int) else len(section[last]) >= len(old), key
    Path("params.yaml").write_text(yaml.safe_dump(params))
    check(Path("params.yaml"))


def test_all_methods_are_the_files_of_baselines_and_pass_the_check():
    said = subprocess.run(
        ["make", "--dry-run", "--silent", "-o", "setup", "methods"],
        cwd=TOP, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    changes = dict(re.findall(r"--set-param '?([^\s='\"]+)=([^\s'\"]+)'?", said))
    params = yaml.safe_load((TOP / "params.yaml").read_text())
    params["baselines"] = yaml.safe_load(changes["baselines"])
    params["embeddings"]["words"] = yaml.safe_load(changes["embeddings.words"])
    assert sorted(params["baselines"]) == list(members("baselines", "METHOD"))
    Path("params.yaml").write_text(yaml.safe_dump(params))
    check(Path("params.yaml"))


@pytest.mark.parametrize("name", ["", "big", "../x"])
def test_clean_of_no_setting_removes_nothing(name):
    before = left()
    done = make("clean", f"NAME={name}")
    assert done.returncode != 0
    assert "error: which setting? make clean NAME=mini, NAME=paper or NAME=check" in done.stdout
    assert left() == before
