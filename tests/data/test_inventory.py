"""The raw files: DVC notices what changes behind links, and nothing is read twice."""

import json
import os
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import yaml
from projects import TOP, Project

from xpool.data import inventory
from xpool.data.inventory import describe, listing, summary
from xpool.data.videos.video_file import DecodeError, header
from xpool.project.errors import InputError


def write_video(path, rate=8, size=(64, 48), frames=4):
    """A video of noise, as its parameters say."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            pixels = np.full((size[1], size[0], 3), 40 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def linked(tmp_path):
    """A raw folder with one file, and a link to a folder on another disk; that folder."""
    disk = tmp_path / "disk/clips"
    for name in ("a", "b", "c"):
        write_video(disk / f"{name}.avi")
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "list.txt").write_text("a\n")
    (raw / "videos").symlink_to(disk)
    return raw, disk


def test_files_behind_a_link_are_listed_with_size_and_time(linked):
    raw, disk = linked
    found = listing(raw, "msvd")
    assert found["path"].tolist() == ["list.txt", *(f"videos/{n}.avi" for n in "abc")]
    states = [(raw / "list.txt").stat(), *((disk / f"{n}.avi").stat() for n in "abc")]
    assert found["bytes"].tolist() == [state.st_size for state in states]
    assert found["changed_ns"].tolist() == [state.st_mtime_ns for state in states]


@pytest.mark.parametrize("change", ["replaced", "touched", "added", "removed", "another folder"])
def test_each_change_behind_a_link_changes_the_list(linked, change):
    raw, disk = linked
    before = listing(raw, "msvd")
    video = disk / "b.avi"
    if change == "replaced":
        write_video(video, size=(32, 48))
    elif change == "touched":  # other bytes of the same length, perhaps
        os.utime(video, ns=(0, video.stat().st_mtime_ns + 1))
    elif change == "added":
        shutil.copy(video, disk / "d.avi")
    elif change == "removed":
        video.unlink()
    else:
        shutil.copytree(disk, disk.with_name("other"), copy_function=shutil.copy)
        (raw / "videos").unlink()
        (raw / "videos").symlink_to(disk.with_name("other"))
    assert not listing(raw, "msvd").equals(before)


def test_by_content_a_copy_elsewhere_has_the_same_list(linked, tmp_path):
    raw, _ = linked
    shutil.copytree(raw, tmp_path / "copy", copy_function=shutil.copy)
    first = listing(raw, "msvd", by_content=True)
    assert listing(tmp_path / "copy", "msvd", by_content=True).equals(first)
    assert "changed_ns" not in first


def test_a_name_that_is_not_utf8_is_one_line(tmp_path):
    (Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.avi"))).write_bytes(b"x")
    with pytest.raises(InputError, match=r"/caf\\udce9\.avi: its name is not UTF-8; rename it$"):
        listing(tmp_path, "msvd")


def test_no_folder_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no such folder; put the files of msvd there"):
        listing(tmp_path / "raw", "msvd")


@pytest.mark.parametrize(
    ("name", "rate", "size"),
    [("a.mp4", 3, (298, 224)), ("b.avi", Fraction(30000, 1001), (64, 48)), ("c.mkv", 25, (48, 64))],
)
def test_the_header_is_what_the_video_was_written_with(tmp_path, name, rate, size):
    found = header(write_video(tmp_path / name, rate, size))
    assert (found.width, found.height) == size
    assert found.rate_fps == pytest.approx(float(rate), abs=0.005)  # Matroska stores milliseconds


def test_a_header_that_cannot_be_read_is_no_crash(tmp_path):
    (tmp_path / "a.avi").write_bytes(b"text")
    with pytest.raises(DecodeError, match="does not open as a video"):
        header(tmp_path / "a.avi")


def test_a_video_is_read_once_and_again_only_when_it_changed(linked, tmp_path, monkeypatch):
    raw, disk = linked
    (disk / "b.avi").write_bytes(b"no video")
    (disk / "c.avi").write_bytes(b"")
    videos, known = [f"videos/{name}.avi" for name in "abc"], tmp_path / "known.jsonl"
    read = []
    digest = inventory.sha256
    monkeypatch.setattr(inventory, "sha256", lambda path: read.append(path.name) or digest(path))

    first = describe(raw, videos, known)
    assert sorted(read) == ["a.avi", "b.avi", "c.avi"]
    assert first.loc[0, ["width", "height", "rate_fps"]].tolist() == [64, 48, 8.0]
    assert first.loc[1:, ["width", "height", "rate_fps"]].isna().all(axis=None)
    assert first["bytes"].tolist() == [(disk / f"{name}.avi").stat().st_size for name in "abc"]

    read.clear()
    pd.testing.assert_frame_equal(describe(raw, videos, known), first)
    assert read == []

    write_video(disk / "b.avi", size=(32, 32))
    again = describe(raw, [*videos[1:], videos[0]], known)
    assert read == ["b.avi"]
    assert again["path"].tolist() == [*videos[1:], videos[0]]
    assert again.loc[0, "width"] == 32

    lines = known.read_text().splitlines(keepends=True)
    known.write_text("".join(lines[:2]) + lines[2][:20])  # killed while it wrote a line
    read.clear()
    describe(raw, videos, known)
    assert read == [Path(json.loads(lines[2])["path"]).name]


def test_summary_counts_copies_like_those_of_the_published_figures():
    videos = pd.DataFrame(
        {
            "width": [298, 224, 320, None], "height": [224, 398, 240, None],
            "rate_fps": [3.0, 2.98, 3.0, None],
        }
    )  # fmt: skip
    assert summary(videos) == {
        "count": 4,
        "short_side_px": {"least": 224, "median": 224, "greatest": 240},
        "rate_fps": {"least": 2.98, "median": 3.0, "greatest": 3.0},
        "header_unreadable": 1,
        "like_published_copies": 2,
    }
    assert summary(videos.iloc[3:].astype(float))["rate_fps"] is None


def paper_project(folder, disk, commands):
    """The paper's setting with MSVD alone, its videos behind a link, counts not checked."""
    project = Project(folder, commands)
    params = yaml.safe_load((TOP / "settings/paper.yaml").read_text())
    params |= {"benchmarks": ["msvd"], "real": ["msvd"]}
    params["studies"] = {"own_models": [], "trained_models": []}
    params["manifest"]["msvd"]["allowed_missing"] = 0.1
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    raw = folder / "data/paper/raw/msvd"
    raw.mkdir(parents=True)
    (raw / "videos").symlink_to(disk)
    names = [f"v{number}_0_1" for number in range(20)]
    for split, listed in (("train", names[:12]), ("val", names[12:16]), ("test", names[16:])):
        (raw / f"{split}_list.txt").write_text("".join(f"{name}\n" for name in listed))
    captions = {name: [f"the video {name}"] for name in names}
    (raw / "captions_msvd.json").write_text(json.dumps(captions))
    for name in names:
        write_video(disk / f"{name}.avi")
    return project


@pytest.mark.slow
def test_dvc_notices_replaced_added_and_removed_videos_behind_a_link(tmp_path, commands):
    disk = tmp_path / "disk"
    project = paper_project(tmp_path / "project", disk, commands)
    manifest = project.folder / "data/paper/manifest/msvd.videos.csv"

    def repro(**options):
        output = project.repro("manifest@msvd", **options)
        return "Running stage 'manifest@msvd'" in output, output

    assert repro()[0]
    assert not repro()[0], "nothing changed"
    before = pd.read_csv(manifest)

    write_video(disk / "v3_0_1.avi", size=(32, 32))
    assert repro()[0]
    after = pd.read_csv(manifest)
    assert after[after["sha256"] != before["sha256"]]["path"].tolist() == ["videos/v3_0_1.avi"]

    write_video(disk / "more.avi")
    assert repro()[0]
    assert not repro()[0]

    shutil.move(disk / "v4_0_1.avi", tmp_path)
    shutil.move(disk / "v5_0_1.avi", tmp_path)
    ran, output = repro(fails=True)
    assert ran
    assert "2 of 12 videos (16.7%) are missing: v4_0_1, v5_0_1; allowed_missing is 0.1" in output
    assert not manifest.with_name("msvd.parquet").exists()

    shutil.move(tmp_path / "v4_0_1.avi", disk)
    assert repro()[0]
    assert len(pd.read_csv(manifest)) == 19
    shutil.move(tmp_path / "v5_0_1.avi", disk)
    repro()
    pd.testing.assert_frame_equal(pd.read_csv(manifest), after)
