"""`dvc repro` while somebody edits: DVC records what `check` saw, and the advice mends it."""

import json

import pandas as pd
import pytest
from projects import Project

pytestmark = pytest.mark.slow
SAMPLING = "xpool/data/sampling.py"


@pytest.fixture(scope="module")
def project(tmp_path_factory, commands):
    """A project of one benchmark; its stage `manifest` runs what `edit.sh` holds before it ends."""
    made = Project(
        tmp_path_factory.mktemp("edited") / "project",
        commands,
        benchmarks=["msvd"],
        generate__benchmarks=["msvd"],
        generate__msvd__videos={"train": 4, "val": 2, "test": 2},
    )
    pipeline = made.folder / "dvc.yaml"
    for stage, arguments in (("manifest", " --benchmark ${item.benchmark}"), ("check", "")):
        command = f"python -m xpool {stage}{arguments}\n"
        assert pipeline.read_text().count(f"exec {command}") == 1
        edited = pipeline.read_text().replace(
            f"exec {command}", f"{command[:-1]} && sh {stage}.sh\n"
        )
        pipeline.write_text(edited)
        (made.folder / f"{stage}.sh").touch()
    return made


def edits(project, stage, command):
    (project.folder / f"{stage}.sh").write_text(f"{command}\n")


def height_of_frames(project):
    index = pd.read_parquet(project.folder / "data/mini/frames/msvd/index.parquet")
    return min(index["height"].min(), index["width"].min())


def test_an_edit_of_params_that_is_taken_back_leaves_no_trace(project):
    """The frames are those of the params that `check` saw, and there is nothing to do again."""
    edits(project, "manifest", "sed -i 's/short_side_px: 48/short_side_px: 32/' params.yaml")
    output = project.repro("frames@msvd")
    assert "params.yaml was edited; the edit counts at the next `dvc repro`" in output
    assert height_of_frames(project) == 48
    edits(project, "manifest", "")
    params = project.folder / "params.yaml"
    params.write_text(params.read_text().replace("short_side_px: 32", "short_side_px: 48"))
    assert "Running stage 'frames" not in project.repro("frames@msvd")
    params.write_text(params.read_text().replace("short_side_px: 48", "short_side_px: 32"))
    project.repro("frames@msvd")
    assert height_of_frames(project) == 32, "an edit that stays counts"


def test_an_edit_of_code_stops_the_next_stage_and_its_advice_mends_it(project):
    path = project.folder / SAMPLING
    before = path.read_text()
    project.change(generate__seed=1)
    edits(project, "manifest", f"echo 'OTHER = 1' >> {SAMPLING}")
    output = project.repro("frames@msvd", fails=True)
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    assert lines == [
        f"error: {SAMPLING}: changed since `dvc repro` began; nothing was published, and finished "
        "work is kept; run `dvc repro` again"
    ]
    assert not (project.folder / "data/mini/frames/msvd").exists()
    edits(project, "manifest", "")
    assert "Running stage 'frames@msvd'" in project.repro("frames@msvd"), "with the edit"
    path.write_text(before)
    project.repro("frames@msvd")
    assert "Running stage" not in project.repro("frames@msvd")


def test_an_edit_right_after_the_check_is_not_taken_for_what_it_saw(project):
    """DVC looks at the code once more when the check has ended."""
    path = project.folder / SAMPLING
    before = path.read_text()
    project.change(generate__seed=2)
    edits(project, "check", f"echo 'LATE = 1' >> {SAMPLING}")
    project.repro("frames@msvd", fails=True)
    edits(project, "check", "")
    project.repro("frames@msvd")
    prints = project.folder / "results/fingerprints/xpool.stages.frames.json"
    with_edit = json.loads(prints.read_text())["code"][SAMPLING]
    path.write_text(before)
    project.repro("frames@msvd")
    assert json.loads(prints.read_text())["code"][SAMPLING] != with_edit


def test_a_result_that_is_edited_in_place_is_noticed(project):
    """No result shares its bytes with DVC's cache: root may write to all files."""
    table = project.folder / "data/mini/manifest/msvd.report.json"
    assert table.stat().st_nlink == 1
    content = table.read_bytes()
    table.chmod(0o644)
    with table.open("r+b") as file:
        file.write(b"#")
    status = project.run("dvc", "status", "manifest@msvd")
    assert "data/mini/manifest/msvd.report.json" in status
    project.run("dvc", "checkout", "--force", "manifest@msvd")
    assert table.read_bytes() == content
