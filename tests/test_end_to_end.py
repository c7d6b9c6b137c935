"""The real pipeline as users drive it: `dvc repro` on small mini benchmarks, killed and changed."""

import json
import re
import shutil

import pytest
from projects import Project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    made = Project(tmp_path_factory.mktemp("e2e") / "project")
    made.repro()
    return made


def test_every_cell_has_metrics_tables_and_reports(project):
    metrics = json.loads((project.folder / "results/mini/metrics.json").read_text())
    assert set(metrics) == {"msrvtt", "msvd", "lsmdc"}
    for benchmark in metrics.values():
        assert set(benchmark) == {"xpool", "mean_pool", "self_attention"}
        for method in benchmark.values():
            assert set(method["0"]) == {"t2v", "v2t"}
    for name in ("msrvtt", "msvd", "lsmdc", "summary"):
        for suffix in ("csv", "md", "tex"):
            table = project.folder / f"results/mini/tables/{name}.{suffix}"
            assert table.is_file(), table
    for name in ("msrvtt", "msvd", "lsmdc"):
        text = (project.folder / f"results/mini/tables/{name}.md").read_text()
        assert "synthetic" in text.lower()
    for report in ("results", "attention"):
        html = (project.folder / f"reports/mini/{report}.html").read_text()
        assert "synthetic" in html.lower()


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


def stages_to_run(project):
    """Names of the stages that `dvc repro` would run."""
    return set(re.findall(r"^Running stage '([^']+)'", project.repro("--dry"), re.M))


def with_comment(path):
    """Change a file without changing what it does."""
    before = path.read_text()
    path.write_text(before + "\n# changed\n")
    return before


@pytest.mark.parametrize(
    ("file", "changed", "kept"),
    [
        ("xpool/xpool.py", ["train_xpool@msvd-0"], ["train_baselines", "frames", "weights"]),
        (
            "baselines/mean_pool.py",
            ["train_baselines@mean_pool-msvd-0"],
            ["train_xpool", "train_baselines@self_attention"],
        ),
        ("xpool/figures.py", ["results"], ["train", "evaluate", "ranks", "frames"]),
        ("xpool/benchmarks/msvd.py", ["manifest@msvd"], ["manifest@lsmdc", "weights"]),
    ],
)
def test_a_change_of_code_runs_just_what_uses_it(project, file, changed, kept):
    path = project.folder / file
    before = with_comment(path)
    try:
        stages = stages_to_run(project)
    finally:
        path.write_text(before)
    assert set(changed) <= stages, stages
    assert not [s for s in stages if s.startswith(tuple(kept))], stages


def test_two_runs_give_identical_metrics(project, tmp_path):
    """The same commit in another folder: metrics, ranks and tables to the byte."""
    again = Project(tmp_path / "again")
    again.repro()
    for pattern in ("metrics.json", "metrics.csv", "ranks/**/*.parquet", "tables/*"):
        files = sorted((project.folder / "results/mini").glob(pattern))
        assert files
        for file in files:
            twin = again.folder / file.relative_to(project.folder)
            assert twin.read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__frames": 16}, "train.frames: 16 frames asked of a cache for [12]"),
        ({"train__epoch": 3}, "train.epoch: unknown key; known: batch_size, epochs"),
        ({"baselines": ["mean_pol"]}, "baselines: no file baselines/mean_pol.py"),
    ],
)
def test_bad_params_stop_the_pipeline_at_once(tmp_path, changes, message):
    project = Project(tmp_path / "bad", **changes)
    output = project.repro(fails=True)
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in output
    assert not (project.folder / "data").exists(), "nothing may be computed before"
