"""Features of other code: npy files and shards, which video each is of, and what is refused."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import made_layouts as made
import numpy as np
import pandas as pd
import pytest
import yaml

from xpool.data.audit import write_manifest
from xpool.data.benchmark import load
from xpool.data.frame_cache import FrameCache
from xpool.data.manifest import read_videos
from xpool.data.raw_folder import RawFolder
from xpool.data.shots import shots_of
from xpool.data.videos.features import read
from xpool.project import params
from xpool.project.errors import InputError
from xpool.stages import frames as frames_stage

DIM = 8


def array(number, count=5, dtype=np.float16):
    """The features of a video, as its number draws them."""
    return np.random.default_rng(number).normal(size=(count, DIM)).astype(dtype)


def as_npy(values):
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def shard(path, samples):
    """A webdataset shard: ``{name: bytes}`` of one sample after another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in samples.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


VIDEOS = ["video0", "video9"]


def npy_files(folder):
    """clip-video-encode's files."""
    for number, video in enumerate(VIDEOS):
        (folder / "oai_b32").mkdir(parents=True, exist_ok=True)
        (folder / f"oai_b32/{video}.npy").write_bytes(as_npy(array(number)))
        (folder / f"oai_b32/{video}.txt").write_text("a caption")


def numbered_files(folder):
    """The same, with keys of their own and the video in the JSON beside."""
    for number, video in enumerate(VIDEOS):
        (folder / "x").mkdir(parents=True, exist_ok=True)
        (folder / f"x/{number:09}.npy").write_bytes(as_npy(array(number)))
        (folder / f"x/{number:09}.json").write_text(json.dumps({"video_id": video}))


def named_shards(folder):
    for number, video in enumerate(VIDEOS):
        shard(folder / f"{number:09}_clip_embeddings.tar", {f"{video}.npy": as_npy(array(number))})


def video2dataset_shards(folder):
    samples = {}
    for number, video in enumerate(VIDEOS):
        about = {"url": f"/disk/MSRVTT/videos/all/{video}.mp4", "key": f"{number:09}"}
        samples[f"{number:09}.json"] = json.dumps(about).encode()
        samples[f"{number:09}.npy"] = as_npy(array(number))
        samples[f"{number:09}.txt"] = b"a caption"
    shard(folder / "00000.tar", samples)


@pytest.mark.parametrize("layout", [npy_files, numbered_files, named_shards, video2dataset_shards])
def test_each_video_has_its_own_array(layout, tmp_path):
    layout(tmp_path)
    (tmp_path / "video9.mp4").write_bytes(b"")  # not asked for
    folder = RawFolder.scan(tmp_path, "msrvtt").of_features()
    for number, video in enumerate(VIDEOS):
        path = folder.video(video, "absent")
        found = read(tmp_path, path, DIM)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, array(number).astype(np.float32))
    assert folder.video("video1", "absent") == "absent"


def test_two_arrays_of_one_video_are_refused(tmp_path):
    npy_files(tmp_path)
    video2dataset_shards(tmp_path)
    folder = RawFolder.scan(tmp_path, "msrvtt").of_features()
    with pytest.raises(InputError, match=r"00000.tar#000000001.npy and oai_b32/video9.npy"):
        folder.video("video9", "absent")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no array"),
        (as_npy(array(0))[:60], "no array"),
        (as_npy(np.array([{"a": 1}], dtype=object)), "no array .*allow_pickle=False"),
        (as_npy(array(0)[0]), r"expected numbers \(frame, dim\), found float16 \(8,\)"),
        (as_npy(array(0)[:0]), r"expected numbers .*, found float16 \(0, 8\)"),
        (as_npy(np.zeros((2, 8), int)), "expected numbers .*, found int64"),
        (as_npy(np.zeros((2, 9), np.float32)), "9 dimensions, but the encoder has 8"),
        (as_npy(np.full((2, 8), np.nan, np.float32)), "holds NaN or infinity"),
    ],
)
def test_what_is_no_array_of_features_is_refused(content, said, tmp_path):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError, match=f"a.npy: {said}") as caught:
        read(tmp_path, "a.npy", DIM)
    assert "\n" not in str(caught.value)


def test_a_damaged_shard_or_json_is_refused(tmp_path):
    npy_files(tmp_path)
    (tmp_path / "oai_b32/video9.json").write_text("{")
    with pytest.raises(InputError, match=r"video9.json: .*its JSON is damaged"):
        RawFolder.scan(tmp_path, "msrvtt").of_features()
    (tmp_path / "oai_b32/video9.json").unlink()
    (tmp_path / "1.tar").write_bytes(b"no archive" * 100)
    with pytest.raises(InputError, match=r"1.tar: no whole tar archive"):
        RawFolder.scan(tmp_path, "msrvtt").of_features()


RAW = Path("data/mini/raw/msrvtt")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """MSR-VTT with features of its eight videos in a shard, and no video."""
    monkeypatch.chdir(tmp_path)
    facts = made.small()
    made.clip4clip(facts, RAW)
    samples = {f"{v}.npy": as_npy(array(k, 3 + k)) for k, v in enumerate(facts.captions)}
    shard(RAW / "features" / "00000.tar", samples)
    own = {"allowed_missing": 0.0, "training_videos": "9k", "val_videos": 0, "features": "CLIP"}
    content = {
        "setting": "mini",
        "manifest": {"msrvtt": own},
        "generate": {"msrvtt": {"videos": {"train": 6, "val": 0, "test": 2}}},
        "frames": {
            "counts": [3], "rules": ["uniform"], "sampling": "uniform", "seed": 0,
            "short_side_px": 15, "antialias": True, "short_videos": "mask", "storage": "raw",
            "timeout_s": 60.0, "allowed_cut": 0.0, "allowed_unreadable": 0.0,
        },
    }  # fmt: skip
    Path("params.yaml").write_text(yaml.safe_dump(content))
    params._load.cache_clear()
    return facts


def test_the_stages_take_features_and_make_no_frames(project):
    write_manifest(load("msrvtt"))
    videos = read_videos(Path("data/mini/manifest/msrvtt.parquet"))
    assert dict(videos)["video9"] == "features/00000.tar#video9.npy"
    table = pd.read_csv("data/mini/manifest/msrvtt.videos.csv").set_index("path")
    for number, video in enumerate(project.captions):
        row = table.loc[f"features/00000.tar#{video}.npy"]
        assert row["sha256"] == hashlib.sha256(as_npy(array(number, 3 + number))).hexdigest()
    assert table["rate_fps"].isna().all()
    frames_stage.main("msrvtt")
    folder = Path("data/mini/frames/msrvtt")
    assert [path.name for path in folder.iterdir()] == ["features.csv"]
    shots = shots_of(folder).set_index("video_id")
    assert shots["shot_changes"].isna().all()
    assert shots["video_frames"].to_dict() == {v: 3 + k for k, v in enumerate(project.captions)}
    with pytest.raises(InputError, match="no frames, because features of other code stand"):
        FrameCache(folder)
    before = (folder / "features.csv").read_bytes()
    frames_stage.main("msrvtt")
    assert (folder / "features.csv").read_bytes() == before
    other = {f"{v}.npy": as_npy(array(k + 1, 3 + k)) for k, v in enumerate(project.captions)}
    shard(RAW / "features" / "00000.tar", other)  # of the same lengths
    frames_stage.main("msrvtt")
    assert (folder / "features.csv").read_bytes() != before, "so that embeddings are made anew"


def test_a_missing_array_is_a_missing_video(project):
    shard(RAW / "features" / "00000.tar", {"video0.npy": as_npy(array(0))})
    with pytest.raises(InputError, match="test: 2 of 2 videos"):
        write_manifest(load("msrvtt"))
