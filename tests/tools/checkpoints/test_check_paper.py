"""The authors' checkpoints, from official files to verdicts, on stand-ins under the real names."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from fault_server import FaultServer
from get_inputs import SHARED, zipped
from made_checkpoints import write_xpool
from numbered_videos import write_video
from official import paper_text, write_benchmark, write_checkpoints, write_clip_folder
from transformers import CLIPModel

from xpool.data.get import download, sources
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.paths import TOP
from xpool.project.records import read_record
from xpool.report import protocol
from xpool.tools.checkpoints.check_paper import main

TEST = 5
PARTS = {"msrvtt-9k": "msrvtt", "msrvtt-7k": "msrvtt", "msvd": "msvd", "lsmdc": "lsmdc"}


@pytest.fixture
def official(tmp_path):
    """A folder with official files of all benchmarks, videos of the test split alone."""
    folder = tmp_path / "official"
    for name in ("msrvtt", "msvd", "lsmdc"):
        write_benchmark(name, folder / name, TEST)
    clip = write_clip_folder(tmp_path / "clip")
    write_checkpoints(folder / "xpool-checkpoints", clip)
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A checkout in the mini setting, beside the paper's for a small CLIP."""
    folder = tmp_path / "project"
    (folder / "settings").mkdir(parents=True)
    monkeypatch.chdir(folder)
    shutil.copy(TOP / "params.yaml", folder)
    (folder / "settings" / "paper.yaml").write_text(paper_text(tmp_path / "clip"))
    return folder


@pytest.fixture
def server(monkeypatch):
    server = FaultServer()
    monkeypatch.setattr(download, "WAIT_S", 0.0)
    yield server
    server.close()


def check(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(*words)
    return ended.value.code, capsys.readouterr().out


def steps(caplog):
    """The steps that were found done, since this was asked last."""
    said = [record.message for record in caplog.records]
    caplog.clear()
    return [line.partition(":")[0] for line in said if line.endswith(": done already")]


def scored(part):
    """R@1 of text to video, counted in the stored similarity with a loop."""
    folder = paths.similarity(f"check-{part}", "xpool", PARTS[part], 0)
    matrix = np.load(folder / "similarity.npy")
    texts, videos = (pd.read_parquet(folder / f"{n}.parquet") for n in ("texts", "videos"))
    hits = 0
    for row, video_id in zip(matrix, texts["video_id"], strict=True):
        own = list(videos["video_id"]).index(video_id)
        hits += all(row[own] > other for k, other in enumerate(row) if k != own)
    return 100 * hits / len(texts), len(texts)


@pytest.mark.usefixtures("project")
def test_four_checkpoints_are_scored_from_a_folder_and_no_step_is_done_twice(
    official, capsys, caplog
):
    caplog.set_level("INFO")
    before = Path("params.yaml").read_bytes()
    status, said = check(capsys, official)
    assert status == 0
    assert steps(caplog) == ["weights", "frames-msrvtt", "weights", "weights"]
    rows = [line.split(" | ") for line in said.splitlines() if line.startswith("| ")][1:]
    assert [row[0].strip("| ") for row in rows] == [p for p in PARTS for _ in range(6)]
    for part in PARTS:
        here = next(row for row in rows if row[0] == f"| {part}")
        value, n_text = scored(part)
        assert here[3].split()[0] == f"{value:.1f}"
        assert n_text == TEST
        record = read_record(paths.training(f"check-{part}", "xpool", PARTS[part], 0))
        assert record["imported"]["file"] == f"{part}.pth"
        assert record["params"]["manifest"]["splits"] == ["test"]
    published = [row[3] for row in rows if row[2] == "X-Pool (paper)" and "Text" in row[1]]
    assert published == ["46.9", "43.9", "47.2", "25.2"]
    assert f"ours {TEST} texts of {TEST} videos" in said  # hence no verdict
    assert Path("results/check-paper.md").read_text() in said
    assert Path("params.yaml").read_bytes() == before
    assert not Path("data/paper/frames").exists()
    again = check(capsys, official)
    assert again[0] == 0
    assert len(steps(caplog)) == 4 * 4
    assert said.endswith(again[1])


@pytest.mark.usefixtures("project")
def test_what_changed_is_done_again_and_what_follows_from_it(official, tmp_path, capsys, caplog):
    caplog.set_level("INFO")
    for name in ("msrvtt", "lsmdc"):
        shutil.rmtree(official / name)
    status, said = check(capsys, official)
    assert status == 1
    assert "msvd | Text" in said
    lines = said.splitlines()
    for part in ("msrvtt-9k", "msrvtt-7k", "lsmdc"):
        [line] = [line for line in lines if line.startswith(f"{part}: not scored: ")]
        assert f"`xpool get {PARTS[part]}`" in line
    first = scored("msvd")
    steps(caplog)
    clip = CLIPModel.from_pretrained(tmp_path / "clip")
    write_xpool(official / "xpool-checkpoints" / "msvd.pth", clip)  # other weights, same name
    check(capsys, official)
    assert steps(caplog) == ["weights", "frames-msvd"]
    [video, *_] = sorted((official / "msvd").rglob("*.avi"))
    write_video(video, 40)
    check(capsys, official)
    assert steps(caplog) == ["weights"]
    assert first[1] == TEST


@pytest.mark.usefixtures("project")
def test_all_comes_from_the_addresses_and_one_that_fails_is_named_with_its_remedy(
    official, tmp_path, server, monkeypatch, capsys
):
    listed = {"xpool-checkpoints": {"parts": {}}}
    for part in ("msvd", "msrvtt-9k"):
        name = f"{part}.pth"
        server.files[f"/{part}"] = (official / "xpool-checkpoints" / name).read_bytes()
        remote = {"url": server.url(f"/{part}"), "name": name}
        listed["xpool-checkpoints"]["parts"][part] = [{"files": [remote]}]
    for name in ("msvd", "msrvtt"):
        files = {
            path.relative_to(official / name).as_posix(): path.read_bytes()
            for path in (official / name).rglob("*") if path.is_file()
        }  # fmt: skip
        server.files[f"/{name}.zip"] = zipped(tmp_path / f"{name}.zip", files)
        both = [{"files": [{"url": server.url(f"/{name}.zip")}]}]
        listed[name] = {"parts": {"annotations": both, "videos": both}}
    del server.files["/msrvtt-9k"]
    (tmp_path / "sources.yaml").write_text(yaml.safe_dump(listed))
    monkeypatch.setattr(sources, "SOURCES", tmp_path / "sources.yaml")
    shutil.rmtree(official)
    status, said = check(capsys)
    assert status == 1
    assert "| msvd | Text → video | here" in said
    [line] = [line for line in said.splitlines() if line.startswith("msrvtt-9k: not scored")]
    assert "404" in line
    assert "data/paper/raw/xpool-checkpoints/<name>" in line
    asked = len(server.requests)
    check(capsys)
    assert {path for path, _ in server.requests[asked:]} == {"/msrvtt-9k"}


def test_a_folder_that_is_not_there_is_refused(project):
    with pytest.raises(InputError, match="no such folder"):
        main(project / "nothing")


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real annotation files are not here")
def test_the_verdict_on_46_9_with_the_real_lists_and_all_1000_videos(
    project, tmp_path, monkeypatch, capsys
):
    """Random weights are far below 46.9; only the encoder's name is made that of the paper."""
    official = tmp_path / "official"
    raw = official / "msrvtt"
    raw.mkdir(parents=True)
    for name in ("MSRVTT_train.9k.csv", "MSRVTT_train.7k.csv", "MSRVTT_JSFUSION_test.csv"):
        shutil.copy(SHARED / "msrvtt" / name, raw)
    with zipfile.ZipFile(SHARED / "msrvtt" / "MSRVTT_data.json.zip") as archive:
        archive.extract("MSRVTT_data.json", raw)
    few = [write_video(tmp_path / f"{n}.mp4", 20 + n, size=(32, 48)) for n in range(7)]
    (raw / "videos").mkdir()
    for number, name in enumerate(pd.read_csv(raw / "MSRVTT_JSFUSION_test.csv")["video_id"]):
        os.link(few[number % 7], raw / "videos" / f"{name}.mp4")
    write_checkpoints(official / "xpool-checkpoints", write_clip_folder(tmp_path / "clip"))
    (official / "xpool-checkpoints" / "msrvtt-7k.pth").unlink()
    strict = paper_text(tmp_path / "clip").replace("allowed_missing: 0.5", "allowed_missing: 0.0")
    (project / "settings" / "paper.yaml").write_text(strict)
    monkeypatch.setattr(protocol, "backbone", lambda description: "ViT-B/32")
    status, said = check(capsys, official)
    assert status == 1  # the other checkpoints and benchmarks are not there
    rows = [line.split(" | ") for line in said.splitlines() if line.startswith("| msrvtt-9k | T")]
    here, paper, verdict = rows
    assert paper[3] == "46.9"
    assert verdict[3] == "lower"
    assert scored("msrvtt-9k")[1] == 1000
    assert float(here[3].split()[0]) < 2  # 7 different videos in all
    report = json.loads(paths.manifest_report("check-msrvtt-9k", "msrvtt").read_text())
    assert report["splits"]["test"]["videos"] == {"expected": 1000, "listed": 1000, "kept": 1000}
    assert "Verdicts compare figures from different files" in said
