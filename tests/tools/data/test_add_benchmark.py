"""A further benchmark: lines in the params file as it is, and links to the user's files.

Oracle for the lines: the parsed file is the old one with the additions, and no other line changed.
"""

import difflib
import subprocess
from pathlib import Path

import pytest
import yaml
from projects import Project

from xpool.data.audit import write_manifest
from xpool.data.benchmark import load
from xpool.mini.generate import GenerateParams, draw, plan, write_video
from xpool.project import params
from xpool.project.errors import InputError
from xpool.settings import check
from xpool.tools.data.add_benchmark import lines_with, main

TOP = Path(__file__).resolve().parents[3]
OPTIONS = {"captions": "dogs.csv", "title": "dogs", "val_videos": 2, "allowed_missing": 0.0}


@pytest.mark.parametrize("file", ["params.yaml", "settings/paper.yaml"])
def test_lines_are_added_and_no_other_changes(file):
    path = TOP / file
    before = path.read_text()
    after = lines_with(before, "dogs", OPTIONS, path)
    old, new = yaml.safe_load(before), yaml.safe_load(after)
    assert new["benchmarks"] == [*old["benchmarks"], "dogs"]
    assert list(new["manifest"].items()) == [*old["manifest"].items(), ("dogs", OPTIONS)]
    for method, recipes in old["recipes"].items():
        last = list(recipes.values())[-1]
        assert list(new["recipes"][method].items()) == [*recipes.items(), ("dogs", last)], method
    for key in set(old) - {"benchmarks", "manifest", "recipes", "real", "generate", "ablations"}:
        assert new[key] == old[key], key
    changes = [
        line for line in difflib.ndiff(before.split("\n"), after.split("\n")) if line[0] in "+-"
    ]
    removed = [line for line in changes if line[0] == "-"]
    assert [line[2:].split(":")[0] for line in removed] == ["benchmarks"]
    assert len(changes) == 2 + 1 + len(old["recipes"])
    assert new["real"] == (new["benchmarks"] if old["real"] else [])


BLOCK = """\
recipes: # of all
  xpool:
    msvd: &first
      lr: 1.0e-3 # a comment
      pooling:
        heads: 1
    lsmdc: *first

  mean_pool: # the control
    lsmdc:
      lr: 2.0
      pooling: {}
      # the end

manifest:
  msvd: {allowed_missing: 0.0}
benchmarks:
  - msvd # first
  - lsmdc
"""


def test_lines_are_added_to_lists_and_mappings_in_block_style():
    after = lines_with(BLOCK, "vatex", {"allowed_missing": 0.0}, Path("p.yaml"))
    expected = BLOCK
    for line, added in (
        ("    lsmdc: *first\n", "    vatex: {lr: 0.001, pooling: {heads: 1}}\n"),
        ("      pooling: {}\n", "    vatex: {lr: 2.0, pooling: {}}\n"),
        ("  msvd: {allowed_missing: 0.0}\n", "  vatex: {allowed_missing: 0.0}\n"),
        ("  - lsmdc\n", "  - vatex\n"),
    ):
        expected = expected.replace(line, line + added)
    assert after == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("benchmarks: [dogs]\nmanifest: {}\nrecipes: {}\n", "benchmarks: dogs is listed already"),
        ("benchmarks: [a]\nmanifest: {}\n", "recipes is missing"),
        ("benchmarks: [a]\nmanifest:\n  dogs: {}\nrecipes: {}\n", "manifest.dogs is there already"),
        (
            "benchmarks: [a]\nmanifest: {a: {}}\nrecipes: {}\n",
            "manifest: expected one entry a line",
        ),
    ],
)
def test_what_is_there_already_is_refused(text, said):
    with pytest.raises(InputError, match=f"p.yaml: {said}"):
        lines_with(text, "dogs", OPTIONS, Path("p.yaml"))


KINDS = GenerateParams(
    videos={"train": 12, "val": 0, "test": 4}, captions=[2, 2], scenes=[1, 1],
    duration_s=[1.0, 1.2], rate_fps=8, sizes=[[64, 48]],
)  # fmt: skip


@pytest.fixture
def files(tmp_path):
    """A folder of real videos, and a csv about them."""
    videos, rows = tmp_path / "disk" / "dogs", ["video_id,caption,split"]
    for number, video in enumerate(plan("msvd", KINDS, 0)):
        (videos / video.path).parent.mkdir(parents=True, exist_ok=True)
        path = videos / f"dog {number}.mp4"
        frames = draw(video, 0, "msvd")
        write_video(path, frames, video.width, video.height, video.rate_fps)
        rows += [f"dog {number},{text},{video.split}" for text in video.texts]
    (tmp_path / "my dogs.csv").write_text("\n".join(rows))
    return videos, tmp_path / "my dogs.csv"


@pytest.fixture
def paper(tmp_path, monkeypatch):
    """A folder with the paper's setting in force."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    text = (TOP / "settings/paper.yaml").read_text()
    Path("params.yaml").write_text(text.replace("&all [msrvtt, msvd, lsmdc]", "&all [msvd]"))
    Path("data/paper/raw/msvd").mkdir(parents=True)
    params._load.cache_clear()
    return here


def test_own_videos_pass_the_check_and_have_a_manifest(paper, files, capsys):
    videos, captions = files
    main("dogs", videos, captions)
    assert "`xpool manifest --benchmark dogs` checks its files" in capsys.readouterr().out
    assert "xpool.data.benchmarks.own" in check()
    raw = Path("data/paper/raw/dogs")
    assert (raw / "videos").resolve() == videos.resolve()
    assert (raw / "my dogs.csv").resolve() == captions.resolve()
    write_manifest(load("dogs"))
    import pandas as pd

    rows = pd.read_parquet("data/paper/manifest/dogs.parquet")
    counts = rows.groupby("split")["video_id"].nunique().to_dict()
    assert counts == {"train": 10, "val": 2, "test": 4}
    assert all((raw / path).is_file() for path in rows["path"])
    with pytest.raises(InputError, match="benchmarks: dogs is listed already"):
        main("dogs", videos, captions)


def test_a_benchmark_with_a_file_gets_the_options_that_it_suggests(paper):
    main("activitynet")
    written = yaml.safe_load(Path("params.yaml").read_text())
    assert written["manifest"]["activitynet"] == {"val_videos": 500, "allowed_missing": 0.0}
    Path("data/paper/raw/activitynet").mkdir()
    assert "xpool.data.benchmarks.activitynet" in check()


def test_what_does_not_fit_is_refused_before_anything_is_written(paper, files):
    videos, captions = files
    before = Path("params.yaml").read_text()
    (paper / "bad.csv").write_text("video_id,caption\na,b\n")
    for arguments, said in (
        (("dogs", videos, None), "needs both --videos and --captions"),
        (("vatex", videos, captions), "run this without --videos and --captions"),
        (("own", videos, captions), "expected a name of letters"),
        (("a.b", videos, captions), "expected a name of letters"),
        (("dogs", paper / "nowhere", captions), "nowhere: no such folder"),
        (("dogs", videos, paper / "bad.csv"), "column 'split' is missing"),
        (("dogs", videos, paper / "none.csv"), "none.csv: cannot be read"),
    ):
        with pytest.raises(InputError, match=said):
            main(*arguments)
    assert Path("params.yaml").read_text() == before
    assert not Path("data/paper/raw/dogs").exists()
    other = Path("data/paper/raw/dogs/videos")
    other.mkdir(parents=True)
    with pytest.raises(InputError, match="videos: is already there"):
        main("dogs", videos, captions)
    assert Path("params.yaml").read_text() == before


@pytest.mark.slow
def test_in_the_mini_setting_the_papers_file_gets_the_lines_and_dvc_finds_its_stages(
    tmp_path, files, commands
):
    project = Project(tmp_path / "copy", commands)
    videos, captions = files
    command = ["python", "-m", "xpool", "add-benchmark", "dogs", "--videos", str(videos)]
    project.run(*command, "--captions", str(captions))
    assert "dogs" not in (project.folder / "params.yaml").read_text()
    project.run("python", "-m", "xpool", "setting", "paper")
    for name in ("msrvtt", "msvd", "lsmdc"):
        (project.folder / f"data/paper/raw/{name}").mkdir(parents=True)
    project.run("dvc", "repro", "manifest@dogs")
    record = project.folder / "results/fingerprints/xpool.data.benchmarks.dogs.json"
    assert "xpool/data/benchmarks/own.py" in record.read_text()
    assert (project.folder / "data/paper/manifest/dogs.parquet").is_file()
    status = subprocess.run(
        ["dvc", "status", "manifest@dogs"], cwd=project.folder, env=project.environment,
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "manifest@dogs" not in status
