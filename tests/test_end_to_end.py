"""The real pipeline as users drive it: `dvc repro` on small mini benchmarks, killed and changed."""

import json
import re
import shutil

import pandas as pd
import pytest
import yaml
from browser import (
    assert_page_of_report,
    assert_study_shows_plots,
    chromium,
    running_dashboard,
    text_when,
)
from projects import Project

from xpool.report.site.shell import PAGES

pytestmark = pytest.mark.slow


HELD = """

import sys
import time
from pathlib import Path
_free, _calls = {name}, 0


def {name}(*arguments):
    global _calls
    _calls += 1
    while _calls > {calls} and {word!r} in " ".join(sys.orig_argv) and Path("hold-{name}").exists():
        time.sleep(0.01)
    return _free(*arguments)
"""
"""Appended to a module of the copy: its step cannot end before it is killed, however fast."""


def published(project):
    """Files that stages have finished."""
    return [p for top in ("data", "results") for p in (project.folder / top).rglob("*.*")]


def copied(folder, commands):
    """A copy in which a file `hold-decode` holds the frames, and `hold-score` X-Pool's training."""
    made = Project(folder, commands)
    for module, name, calls, word in (
        ("data/videos/decode", "decode", 5, ""),
        ("training/evaluations", "score", 1, "--method xpool"),
    ):
        with (made.folder / f"xpool/{module}.py").open("a") as code:
            code.write(HELD.format(name=name, calls=calls, word=word))
    return made


@pytest.fixture(scope="module")
def project(tmp_path_factory, commands):
    """The whole pipeline, killed with SIGKILL in the middle of frames and of training.

    Whoever is killed is a process of its own; the rest of the pipeline runs in forks.
    """
    made = copied(tmp_path_factory.mktemp("e2e") / "project", commands)
    work = made.folder / ".work"
    made.outputs, made.left = [], []  # of each part, and after each kill
    for before, held, reached in (
        ("manifest", "decode", lambda: any(map(size, work.glob("frames/*/journal.jsonl")))),
        ("embeddings", "score", lambda: any(work.glob("train/*xpool*/step-*"))),
    ):
        made.outputs.append(made.repro(before))
        hold = made.folder / f"hold-{held}"
        hold.touch()
        made.repro_killed_when(reached)
        hold.unlink()
        made.outputs.append((made.folder / "killed.log").read_text())
        made.left.append({file.relative_to(made.folder).as_posix() for file in published(made)})
    made.outputs.append(made.repro())
    return made


def size(path):
    return path.stat().st_size


def test_a_killed_pipeline_goes_on_where_it_was(project):
    """That the results are those of one go, `test_two_runs_give_identical_results` holds."""
    _, in_frames, to_training, in_training, to_the_end = project.outputs
    assert "Running stage 'frames@msrvtt'" in in_frames
    assert not [path for path in project.left[0] if path.startswith("data/mini/frames/")]
    assert re.search(r"resuming: \d+ of 60 videos are done", to_training), "frames did not resume"
    assert "Running stage 'manifest" not in to_training, "what was finished ran again"
    assert "Running stage 'embeddings" not in in_training, "what was finished ran again"
    assert "data/mini/frames/msrvtt/index.parquet" in project.left[1]
    assert not [path for path in project.left[1] if path.startswith("results/mini/train/")]
    assert re.search(r"resuming at step \d+ of", to_the_end), "training did not resume"
    assert "Running stage 'frames" not in to_the_end, "what was finished ran again"


def test_every_cell_has_metrics_tables_and_reports(project):
    metrics = json.loads((project.folder / "results/mini/metrics.json").read_text())
    assert set(metrics) == {"msrvtt", "msvd"}
    for benchmark in metrics.values():
        assert set(benchmark) == {"xpool", "mean_pool"}
        for method in benchmark.values():
            assert set(method["0"]) == {"t2v", "v2t"}
    for name in ("msrvtt", "msvd", "summary"):
        for suffix in ("csv", "md", "tex"):
            table = project.folder / f"results/mini/tables/{name}.{suffix}"
            assert table.is_file(), table
    for name in ("msrvtt", "msvd"):
        text = (project.folder / f"results/mini/tables/{name}.md").read_text()
        assert "synthetic" in text.lower()
    for report in ("index", *PAGES):
        html = (project.folder / f"reports/mini/{report}.html").read_text()
        assert "synthetic" in html.lower()


def test_pages_have_no_fault_in_a_browser(project, tmp_path):
    pages = sorted((project.folder / "reports/mini").glob("*.html"))
    assert {page.stem for page in pages} == {"index", *PAGES}
    with chromium(tmp_path) as driver:
        for page in pages:
            assert_page_of_report(driver, page)


def test_second_repro_runs_nothing(project):
    output = project.repro()
    assert "Running stage" not in output
    assert "up to date" in output


def test_dvc_commands_give_useful_answers(project):
    assert "xpool" in project.run("dvc", "metrics", "show")
    assert "train_xpool" in project.run("dvc", "dag")
    project.run("dvc", "plots", "show", "--out", "plots_page")
    page = (project.folder / "plots_page" / "index.html").read_text()
    assert "validation" in page
    shutil.rmtree(project.folder / "plots_page")
    project.change(train__epochs=2)
    assert "epochs" in project.run("dvc", "params", "diff")
    project.change(train__epochs=1)


def test_every_study_leaves_trials_tables_and_figures(project):
    studies = project.folder / "results/mini/studies"
    rows = {path.parent.name: pd.read_csv(path) for path in studies.glob("*/trials.csv")}
    assert {name: len(table) for name, table in rows.items()} == {
        "temperature": 4 * (2 + 1) + 2 * 4,
        "frame_count": 2 * (2 * 2 * 2 + 2),
        "scene_diversity": 2 * 2 * 2 + 2 * 2 * 2 + 2 * len(shot_bins(rows)),
        "search": 2 * 3,
        "variance": 7 * 2,
    }
    for table in rows.values():
        assert set(table["state"]) <= {"complete", "pruned"}
        assert table["R@1"].between(0, 100).sum() == (table["state"] == "complete").sum()
    recipes = yaml.safe_load((studies / "search/recipes.yaml").read_text())["recipes"]
    assert recipes["xpool"]["msrvtt"]["pooling"]["heads"] in (1, 2)
    made = {path.name for path in (project.folder / "results/mini/ablations").iterdir()}
    tables = ("temperature", "frames", "scenes", "distractors-r1", "shots", "search", "variance")
    assert {f"{name}.{end}" for name in tables for end in ("csv", "md", "tex")} <= made
    figures = ("temperature-xpool.png", "pareto.svg", "surface.png", "scenes.png", "variance.png")
    assert set(figures) <= made


def shot_bins(rows):
    shots = rows["scene_diversity"]
    return set(shots[shots["part"] == "shots"]["shots"])


def test_a_deleted_study_result_is_made_again_from_its_trials(project):
    """The trials live in the storage: nothing is trained, and the bytes are the same."""
    table = project.folder / "results/mini/studies/frame_count/trials.csv"
    before = table.read_bytes()
    shutil.rmtree(table.parent)
    output = project.repro("--force", "--single-item", "ablate@frame_count")
    assert "20 trials planned, 20 of them already done" in output
    assert table.read_bytes() == before


def test_the_dashboard_shows_the_studies_of_the_pipeline(project, tmp_path):
    with (
        chromium(tmp_path / "profile") as driver,
        running_dashboard(project.folder, project.environment) as running,
    ):
        page = assert_study_shows_plots(driver, running.url, "temperature-msrvtt-xpool-")
        driver.get(f"{page}/note")
        text_when(driver, "SYNTHETIC")
        assert_study_shows_plots(driver, running.url, "frame_count-msrvtt-methods-")


def stages_to_run(project):
    """Names of the stages that `dvc repro` would run, once the check has seen the change."""
    project.repro("check")
    return set(re.findall(r"^Running stage '([^']+)'", project.repro("--dry"), re.M))


def with_another_line(path):
    """Change a file's code without changing what it does."""
    before = path.read_text()
    path.write_text(before + "\nANOTHER = 1\n")
    return before


@pytest.mark.parametrize(
    ("file", "changed", "kept"),
    [
        ("xpool/xpool.py", ["train_xpool@msvd"], ["train_baselines", "frames", "weights"]),
        (
            "baselines/mean_pool.py",
            ["train_baselines@mean_pool-msvd"],
            ["train_xpool", "evaluate_xpool", "weights"],
        ),
        (
            "xpool/report/style.py",
            ["results", "ablations"],
            ["train", "evaluate", "ranks", "frames", "ablate"],
        ),
        (
            "studies/temperature.py",
            ["ablate@temperature", "ablations"],
            ["train", "ablate@search", "ablate_trained"],
        ),
        ("xpool/data/benchmarks/msvd.py", ["manifest@msvd"], ["manifest@msrvtt", "weights"]),
    ],
)
def test_a_change_of_code_runs_just_what_uses_it(project, file, changed, kept):
    path = project.folder / file
    before = with_another_line(path)
    try:
        stages = stages_to_run(project)
    finally:
        path.write_text(before)
    assert set(changed) <= stages, stages
    assert not [s for s in stages if s.startswith(tuple(kept))], stages


@pytest.mark.parametrize(
    ("changes", "changed", "kept"),
    [
        (
            {"recipes__mean_pool__msvd": {"lr_encoder": 0.5, "lr_pooling": 0.0, "pooling": {}}},
            {"train_baselines@mean_pool-msvd", "evaluate_baselines@mean_pool"},
            ("train_baselines@mean_pool-msrvtt", "train_xpool", "evaluate_xpool", "frames"),
        ),
        ({"optuna__retries": 7}, set(), ("",)),
    ],
)
def test_a_change_of_params_runs_just_what_reads_it(project, changes, changed, kept):
    before = (project.folder / "params.yaml").read_text()
    project.change(**changes)
    try:
        stages = stages_to_run(project)
    finally:
        (project.folder / "params.yaml").write_text(before)
    assert changed <= stages, stages
    assert not [s for s in stages if s.startswith(kept)], stages


def test_two_runs_give_identical_results(project, tmp_path, commands):
    """The same commit in another folder, in one go, one benchmark alone: metrics, ranks and tables
    are those of the killed pipeline, to the byte.

    So are the trials of a grid; frame_count, which measures times, is left out, and a search, which
    depends on which of its tries end first.
    """
    one = ["msrvtt"]
    again = Project(tmp_path / "again", commands, benchmarks=one, generate__benchmarks=one)
    output = again.repro("results", "ablate@temperature")
    assert "resuming" not in output
    first, second = (made.folder / "results/mini" for made in (project, again))
    metrics, same = (json.loads((made / "metrics.json").read_text()) for made in (first, second))
    assert same == {"msrvtt": metrics["msrvtt"]}
    for pattern in ("ranks/**/*.parquet", "tables/msrvtt.*", "studies/temperature/*"):
        files = sorted(second.glob(pattern))
        assert files
        for file in files:
            assert file.read_bytes() == (first / file.relative_to(second)).read_bytes(), file.name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__frames": 16}, "train.frames: 16 frames asked of a cache for [2, 12]"),
        ({"train__epoch": 3}, "train.epoch: unknown key; known: batch_size, "),
        ({"baselines": ["mean_pol"]}, "baselines: no file baselines/mean_pol.py"),
    ],
)
def test_bad_params_stop_the_pipeline_at_once(tmp_path, commands, changes, message):
    project = Project(tmp_path / "bad", commands, **changes)
    output = project.repro(fails=True)
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in output
    assert not (project.folder / "data").exists(), "nothing may be computed before"
