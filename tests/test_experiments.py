"""DVC's experiments: `exp show`, `exp apply`, `metrics diff`, `plots diff` and `pull` give the
figures of `metrics.csv`. The outputs are those of our dvc.yaml; a small program makes them."""

import json
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from projects import TOP, Project

MAKE = """
import json
from pathlib import Path
import yaml

epochs = yaml.safe_load(open("params.yaml"))["train"]["epochs"]
run = Path("results/mini/train/xpool/msrvtt/0")
for folder in (run, Path("results/mini/ranks")):
    folder.mkdir(parents=True, exist_ok=True)
(run / "curve.csv").write_text(f"epoch,R@1\\n1,10\\n2,{10 * epochs}\\n")
value = 40.0 + epochs
Path("results/mini/metrics.csv").write_text(f"metric,value\\nR@1,{value}\\n")
Path("results/mini/metrics.json").write_text(json.dumps({"msrvtt": {"R@1": value}}))
Path("results/mini/ranks/all").write_text(str(value))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Two runs: one epoch, committed and pushed; and an experiment with two."""
    made = Project(tmp_path_factory.mktemp("experiments") / "project", benchmarks=["msrvtt"])
    (made.folder / "make.py").write_text(MAKE)
    ours = yaml.safe_load((TOP / "dvc.yaml").read_text())
    stage = {
        "cmd": f"{sys.executable} make.py",
        "params": ["train.epochs"],
        "deps": ["make.py"],
        "outs": [*ours["stages"]["ranks"]["outs"], "results/${setting}/train/xpool/msrvtt"],
        "metrics": ours["stages"]["ranks"]["metrics"],
    }
    plots = ours["plots"]
    y = next(iter(plots[0].values()))["y"]
    plots[0]["validation"]["y"] = dict([next(iter(y.items()))])
    (made.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"r": stage}, "plots": plots}))
    made.repro()
    made.run("dvc", "remote", "add", "--default", "store", str(made.folder.parent / "store"))
    for command in (["add", "--all"], ["commit", "--quiet", "-m", "one epoch"]):
        made.run("git", "-c", "user.name=t", "-c", "user.email=t@t", *command)
    made.run("dvc", "push")
    for name in ("user.name", "user.email"):
        made.run("git", "config", name, "t@t")
    made.run("dvc", "exp", "run", "--name", "two", "-S", "train.epochs=2")
    return made


def figures(folder):
    """The figure of both files of a folder, which must agree."""
    table = pd.read_csv(folder / "results/mini/metrics.csv")
    nested = json.loads((folder / "results/mini/metrics.json").read_text())
    assert nested["msrvtt"]["R@1"] == table["value"].item()
    return table["value"].item()


def test_show_diff_and_apply_give_the_figures_of_the_table(project):
    assert figures(project.folder) == 42.0
    shown = project.run("dvc", "exp", "show", "--csv")
    table = pd.read_csv(pd.io.common.StringIO(shown))
    column = next(name for name in table if name.endswith("R@1"))
    assert set(table[column]) == {41.0, 42.0}, "no run lacks its figures"
    diff = json.loads(project.run("dvc", "metrics", "diff", "--json"))
    ((change,),) = (
        [list(of_file.values()) for of_file in diff["diff"].values()]
        if ("diff" in diff)
        else [list(of_file.values()) for of_file in diff.values()]
    )
    assert (change["old"], change["new"]) == (41.0, 42.0)
    page = project.run("dvc", "plots", "diff", "--json", "HEAD", "workspace")
    assert '"rev": "HEAD"' in page
    assert '"rev": "workspace"' in page
    project.run("git", "stash", "--quiet")
    project.run("dvc", "checkout", "--force")
    assert figures(project.folder) == 41.0
    project.run("dvc", "exp", "apply", "two")
    assert figures(project.folder) == 42.0
    project.run("git", "checkout", "--quiet", "--", ".")
    project.run("dvc", "checkout", "--force")
    assert figures(project.folder) == 41.0


def test_a_clone_pulls_the_figures_of_the_table(project, tmp_path):
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", project.folder, clone], check=True)
    there = object.__new__(Project)
    there.folder = clone
    there.run("dvc", "pull")
    assert figures(clone) == 41.0
    assert "up to date" in there.run("dvc", "status")


def test_every_output_of_the_pipeline_is_cached(project):
    """None lives in the workspace alone, where another run's would stay."""
    for stage in yaml.safe_load((TOP / "dvc.yaml").read_text())["stages"].values():
        for kind in ("outs", "metrics", "plots"):
            for output in stage.get(kind, []):
                options = next(iter(output.values())) if isinstance(output, dict) else {}
                assert options.get("cache", True), output
    config = (TOP / ".dvc/config").read_text()
    assert 'type = "reflink,copy"' in config
