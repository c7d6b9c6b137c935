"""Videos as folders of pictures: which pictures, in which order, and through the stages.

Oracle for pixels: PIL's own resizing of the picture whose number the sampling rule gives by hand.
"""

import json
import logging
import os
from pathlib import Path

import made_layouts as made
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from xpool.data.audit import write_manifest
from xpool.data.benchmark import load
from xpool.data.frame_cache import FrameCache, FramesParams
from xpool.data.inventory import describe
from xpool.data.packing import pack
from xpool.data.videos.frame_folder import frame_files, read, state
from xpool.data.videos.video_file import DecodeError
from xpool.project import params
from xpool.project.errors import InputError
from xpool.stages import frames as frames_stage


def picture(number, size=(40, 30)):
    """Noise of a seed of its own."""
    return np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)


def write_frames(folder, count, name="{:04}.png", first=1, step=1):
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        Image.fromarray(picture(k)).save(folder / name.format(first + k * step))
    return folder


@pytest.mark.parametrize("name", ["{:04}.png", "{}.png", "frame_{}.png", "shot2_{:03}.PNG"])
@pytest.mark.parametrize(("first", "step"), [(0, 1), (1, 1), (10, 25)])
def test_frames_are_in_the_order_of_their_numbers(name, first, step, tmp_path):
    folder = write_frames(tmp_path / "v", 12, name, first, step)
    (folder / "Thumbs.db").write_bytes(b"")
    (folder / "._0001.png").write_bytes(b"")
    decoded = read(folder, lambda n: [0, n // 2, n - 1], 30, True)
    assert decoded.video_frames == 12
    for pixels, number in zip(decoded.pixels, (0, 6, 11), strict=True):
        np.testing.assert_array_equal(pixels, picture(number))


def test_chosen_frames_are_resized_and_no_other_is_opened(tmp_path):
    folder = write_frames(tmp_path / "v", 5)
    (folder / "0002.png").write_bytes(b"no picture")
    decoded = read(folder, lambda n: [2, 4], 15, True)
    for pixels, number in zip(decoded.pixels, (2, 4), strict=True):
        expected = Image.fromarray(picture(number)).resize((20, 15), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(pixels, np.asarray(expected))
    with pytest.raises(DecodeError, match=r"0002.png does not decode"):
        read(folder, lambda n: [1], 15, True)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "holds no frame"),
        (["notes.txt"], "holds no frame"),
        (["first.png"], "first.png: expected a name with a number"),
        (["1.png", "01.png"], "01.png and 1.png are one frame"),
        (["1.png", "2.png", "4.png", "5.png"], "after 2.png a frame is missing"),
        (["0.png", "25.png", "75.png"], "after 25.png a frame is missing"),
    ],
)
def test_a_folder_that_cannot_be_in_order_is_refused(names, said, tmp_path):
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DecodeError, match=said):
        frame_files(tmp_path)


def test_frames_of_several_sizes_get_that_of_the_first_and_turned_ones_are_upright(tmp_path):
    folder = write_frames(tmp_path / "v", 1)
    Image.fromarray(picture(1, (80, 60))).save(folder / "0002.png")
    turned = Image.fromarray(np.rot90(picture(2)))  # as a camera on its side stores it
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    turned.save(folder / "0003.png", exif=exif)
    decoded = read(folder, lambda n: range(n), 30, True)
    expected = Image.fromarray(picture(1, (80, 60))).resize((40, 30), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(decoded.pixels[1], np.asarray(expected))
    np.testing.assert_array_equal(decoded.pixels[2], picture(2))


def test_a_changed_frame_changes_the_folder(tmp_path):
    folder = write_frames(tmp_path / "raw" / "v", 3)
    (folder / "notes.txt").write_text("x")
    known = tmp_path / "known.jsonl"
    first = describe(tmp_path / "raw", ["v"], known, 3.0).iloc[0]
    files = sorted(folder.glob("*.png"))
    assert first["bytes"] == sum(path.stat().st_size for path in files)
    assert (first["width"], first["height"], first["rate_fps"]) == (40, 30, 3.0)
    before = state(folder)
    Image.fromarray(picture(9)).save(files[1])
    os.utime(files[1], ns=(0, before[1] + 1))
    assert state(folder) != before
    second = describe(tmp_path / "raw", ["v"], known, 3.0).iloc[0]
    assert second["sha256"] != first["sha256"]
    again = describe(tmp_path / "raw", ["v"], known, 5.0).iloc[0]
    assert (again["sha256"], again["rate_fps"]) == (second["sha256"], 5.0)


RAW = Path("data/mini/raw/msrvtt")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """MSR-VTT whose videos are folders of nine frames, beside a video file of one of them."""
    monkeypatch.chdir(tmp_path)
    facts = made.small()
    made.clip4clip(facts, RAW)
    for video in facts.captions:
        write_frames(RAW / "frames" / video, 9, "{:04}.jpg")
    made.laid(RAW, ["videos/video9.mp4"])
    frames = {
        "counts": [3], "rules": ["uniform"], "sampling": "uniform", "seed": 0,
        "short_side_px": 15, "antialias": True, "short_videos": "mask", "storage": "raw",
        "timeout_s": 60.0, "allowed_cut": 0.0, "allowed_unreadable": 0.0,
    }  # fmt: skip

    def write(**changes):
        own = {"allowed_missing": 0.0, "training_videos": "9k", "val_videos": 0} | changes
        content = {
            "setting": "mini",
            "manifest": {"msrvtt": own},
            "generate": {"msrvtt": {"videos": {"train": 6, "val": 0, "test": 2}}},
            "frames": frames,
        }
        Path("params.yaml").write_text(yaml.safe_dump(content))
        params._load.cache_clear()

    write(frames_fps=3.0)
    return write


def test_folders_of_frames_go_through_the_stages(project, caplog):
    with caplog.at_level(logging.INFO):
        write_manifest(load("msrvtt"))
    assert "8 videos in frames" in caplog.text
    videos = pd.read_csv("data/mini/manifest/msrvtt.videos.csv")
    assert set(videos["rate_fps"]) == {3.0}
    report = json.loads(Path("data/mini/manifest/msrvtt.report.json").read_text())
    assert report["protocol"]["frames_fps"] == 3.0
    assert report["videos"]["rate_fps"] == {"least": 3.0, "median": 3.0, "greatest": 3.0}
    frames_stage.main("msrvtt")
    cache = FrameCache(Path("data/mini/frames/msrvtt"))
    assert cache.decoder.startswith("extracted frames, Pillow")
    pixels, indices, length = cache.stored("video9")
    assert (indices.tolist(), length) == ([1, 4, 7], 9)
    for frame, number in zip(pixels, (2, 5, 8), strict=True):
        with Image.open(RAW / f"frames/video9/{number:04}.jpg") as image:
            expected = np.asarray(image.resize((20, 15), Image.Resampling.BICUBIC))
        np.testing.assert_array_equal(frame, expected)


def test_without_the_declared_rate_folders_of_frames_are_no_videos(project):
    project()
    with pytest.raises(InputError, match="train: 6 of 6 videos .* are missing") as caught:
        write_manifest(load("msrvtt"))
    assert (
        "frames/video0 is a folder of pictures: if videos are such folders, state their rate as "
        "manifest.msrvtt.frames_fps. "
    ) in str(caught.value)


def test_two_folders_of_frames_of_one_name_are_refused(project):
    write_frames(RAW / "other" / "video9", 1)
    with pytest.raises(InputError, match="two files could be the video video9"):
        write_manifest(load("msrvtt"))
    project(frames_fps=3.0, videos="frames")
    write_manifest(load("msrvtt"))


def test_a_broken_folder_costs_itself_only(tmp_path):
    given = FramesParams(
        counts=[2], rules=["uniform"], sampling="uniform", seed=0, short_side_px=15,
        antialias=True, short_videos="mask", storage="jpeg", timeout_s=60.0, allowed_cut=0.0,
        allowed_unreadable=0.5,
    )  # fmt: skip
    for name in ("a", "b"):
        write_frames(tmp_path / "raw" / name, 4)
    (tmp_path / "raw/b/0002.png").unlink()
    (tmp_path / "work").mkdir()
    cache = pack(tmp_path / "work", [("a", "a"), ("b", "b")], tmp_path / "raw", given, 1)
    rows = pd.read_csv(cache / "quarantine.csv")
    assert rows["video_id"].tolist() == ["b"]
    assert "after 0001.png a frame is missing" in rows["reason"].item()
    assert FrameCache(cache).video_ids == ["a"]
