"""Videos whose frames show their index go through the real stage, in processes of their own."""

import csv
import io
import itertools
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from numbered_videos import numbers, write_video
from worlds import mapped_kib

import xpool.data.frame_cache
import xpool.data.packing
from xpool.data.frame_cache import FrameCache, FramesParams
from xpool.data.manifest import COLUMNS, read_videos
from xpool.data.packing import Packer, in_order, pack
from xpool.data.sampling import cached_indices, frame_indices
from xpool.data.videos.decode import Decoded, decoder
from xpool.data.videos.video_file import DecodeError
from xpool.project.errors import InputError
from xpool.project.params import validate

TOP = Path(__file__).resolve().parents[2]
SECTION = {
    "counts": [12, 4],
    "rules": ["uniform", "rand"],
    "sampling": "uniform",
    "seed": 0,
    "short_side_px": 32,
    "antialias": True,
    "short_videos": "mask",
    "storage": "raw",
    "timeout_s": 60.0,
    "allowed_cut": 0.01,
    "allowed_unreadable": 0.9,
}
LENGTHS = {"long": 100, "five": 5, "one": 1}


def params(**changes):
    return validate(SECTION | changes, "frames", FramesParams)


def write_manifest(path, videos):
    """Write a manifest with one caption for each entry of ``videos``."""
    rows = [("train", name, f"{name}#{k}", "a text", file) for k, (name, file) in enumerate(videos)]
    pd.DataFrame(rows, columns=list(COLUMNS)).to_parquet(path)


def make(folder):
    folder.mkdir()
    return folder


def quarantine(cache):
    with (cache / "quarantine.csv").open() as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """One pack of good and bad videos, shared by the tests that read it."""
    folder = tmp_path_factory.mktemp("packed")
    raw, work = folder / "raw", folder / "work"
    for name, frames in LENGTHS.items():
        write_video(raw / f"{name}.avi", frames, size=(48, 64) if name != "five" else (96, 64))
    (raw / "empty.avi").touch()
    (raw / "text.mp4").write_text("no video")
    videos = [
        ("long", "long.avi"),
        ("empty", "empty.avi"),
        ("five", "five.avi"),
        ("text", "text.mp4"),
        ("one", "one.avi"),
        ("gone", "gone.mp4"),
    ]
    work.mkdir()
    return pack(work, videos, raw, params(), 2), videos, raw, work


def test_cache_holds_the_sampled_frames(packed):
    cache = FrameCache(packed[0])
    assert cache.video_ids == ["long", "five", "one"]
    for name, length in LENGTHS.items():
        pixels, indices, video_frames = cache.stored(name)
        assert video_frames == length
        rules = ["uniform", "rand"]
        assert indices.tolist() == cached_indices(length, [12, 4], rules, 0, name).tolist()
        assert numbers(pixels) == indices.tolist()
        for count, rule in itertools.product((12, 4), rules):
            frames, mask = cache.read(name, count, params(sampling=rule))
            wanted = frame_indices(length, count, rule, 0, name).tolist()
            assert frames.shape[0] == len(mask) == count
            assert numbers(frames[mask]) == wanted
            assert set(numbers(frames[~mask])) <= set(wanted[-1:])
    assert cache.stored("long")[0].shape[1:] == (32, 42, 3)
    assert cache.stored("five")[0].shape[1:] == (48, 32, 3)


def test_short_video_repeats_its_last_frame_unmasked_where_asked(packed):
    frames, mask = FrameCache(packed[0]).read("five", 12, params(short_videos="repeat_last"))
    assert numbers(frames) == [0, 1, 2, 3, 4] + 7 * [4]
    assert mask.all()


def test_unreadable_videos_are_listed_with_reasons(packed):
    assert quarantine(packed[0]) == [
        {"video_id": "empty", "path": "empty.avi", "reason": "the file is empty"},
        {
            "video_id": "text",
            "path": "text.mp4",
            "reason": "it does not open as a video: Invalid data found when processing input",
        },
        {"video_id": "gone", "path": "gone.mp4", "reason": "there is no such file"},
    ]
    summary = json.loads((packed[0] / "summary.json").read_text())
    assert (summary["videos"], summary["videos_unreadable"]) == (3, 3)
    assert summary["params"] == params().about_pixels()
    assert summary["decoder"] == decoder()
    assert "empty" not in FrameCache(packed[0])
    with pytest.raises(InputError, match=r"empty is not in the cache.*quarantine\.csv"):
        FrameCache(packed[0]).stored("empty")


def test_count_that_is_not_cached_is_refused(packed):
    with pytest.raises(InputError, match=r"frames\.counts: 7 uniform frames of long"):
        FrameCache(packed[0]).read("long", 7, params())


def test_cache_goes_to_a_worker_without_its_open_files(packed):
    cache = FrameCache(packed[0])
    before = cache.read("long", 4, params())[0]
    sent = pickle.dumps(cache)
    assert len(sent) < 5000
    assert np.array_equal(pickle.loads(sent).read("long", 4, params())[0], before)


def copy_of(cache, folder):
    return Path(shutil.copytree(cache, folder))


def test_changed_pixel_is_found_and_its_video_named(packed, tmp_path):
    folder = copy_of(packed[0], tmp_path / "copy")
    FrameCache(folder).verify()
    start = FrameCache(folder).stored("long")[0].nbytes
    with (folder / "frames-000.bin").open("r+b") as file:
        file.seek(start)
        byte = file.read(1)
        file.seek(start)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(InputError, match="frames of five have changed"):
        FrameCache(folder).verify()


def test_cut_shard_is_found_at_opening(packed, tmp_path):
    folder = copy_of(packed[0], tmp_path / "copy")
    os.truncate(folder / "frames-000.bin", 1000)
    with pytest.raises(InputError, match=r"frames-000\.bin: expected \d+ bytes, found 1000"):
        FrameCache(folder)


def test_absent_cache_names_the_command(tmp_path):
    with pytest.raises(InputError, match="xpool frames --benchmark msvd"):
        FrameCache(tmp_path / "msvd")


def test_too_many_unreadable_stop_with_the_list_kept(packed, tmp_path):
    _, videos, raw, original = packed
    work = tmp_path / "work"
    shutil.copytree(original, work)
    with pytest.raises(InputError, match=r"3 of 6 videos are unreadable: empty, text, gone") as it:
        pack(work, videos, raw, params(allowed_unreadable=0.1), 1)
    listed = Path(str(it.value).split(": ")[0])
    assert listed.read_text().count("\n") == 4


@pytest.mark.parametrize("tear", ["journal", "pixels", "foreign"])
def test_torn_work_is_cut_back_and_done_again(packed, tmp_path, tear):
    """Opening a torn folder keeps what the journal proves; the rest comes out the same again."""
    cache, videos, _, _ = packed
    work = tmp_path / "work"
    packer = Packer(make(work))
    stored = FrameCache(cache)
    reasons = {row["video_id"]: row["reason"] for row in quarantine(cache)}

    def put(packer, videos):
        for video in videos:
            if video[0] in stored:
                packer.add(video, Decoded(*stored.stored(video[0])))
            else:
                packer.reject(video, reasons[video[0]])

    put(packer, videos[:3])
    journal, shard = work / "journal.jsonl", work / "cache" / "frames-000.bin"
    if tear == "journal":  # the last video's line did not reach the disk whole
        journal.write_bytes(journal.read_bytes()[:-9])
    elif tear == "pixels":  # the line did, its pixels did not
        os.truncate(shard, shard.stat().st_size - 5)
    else:  # pixels without a line, and a file of a finished pack
        shard.write_bytes(shard.read_bytes() + b"more")
        (work / "cache" / "frames-001.bin").write_bytes(b"more")
    again = Packer(work)
    assert [row["video_id"] for row in again.rows] == [
        video_id for video_id, _ in videos[: 3 if tear == "foreign" else 2]
    ]
    put(again, videos[len(again.rows) :])
    again.finish({"params": params().about_pixels(), "decoder": decoder()})
    assert contents(again.cache) == contents(cache)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same smooth, noisy videos packed as pixels and as JPEG."""
    folder = tmp_path_factory.mktemp("both")
    listed = []
    for name, frames in (("a", 30), ("b", 3)):
        write_picture(folder / f"videos/{name}.avi", frames)
        listed.append((name, f"{name}.avi"))
    caches = {}
    for storage in ("raw", "jpeg"):
        work = make(folder / storage)
        asked = params(storage=storage, short_side_px=120, allowed_unreadable=0.0)
        caches[storage] = pack(work, listed, folder / "videos", asked, 1)
    return caches, folder


def write_picture(path, frames):
    """A gradient that moves, with noise: what JPEG was made for, and what it was not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(120.0), np.arange(160.0))
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 120, 160, "yuv420p"
        stream.bit_rate = 4_000_000
        for number in range(frames):
            image = np.stack([ramp * 0.9, ramp[::-1] * 0.9, ramp * 0.3 + 3 * number], axis=-1)
            image = (image + random.normal(0, 3, image.shape)).clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def test_jpeg_keeps_the_same_frames_and_nearly_their_pixels(both):
    caches, _ = both
    raw, jpeg = FrameCache(caches["raw"]), FrameCache(caches["jpeg"])
    assert raw.video_ids == jpeg.video_ids
    for video_id in raw.video_ids:
        (pixels, *about), (near, *same) = raw.stored(video_id), jpeg.stored(video_id)
        assert near.shape == pixels.shape
        assert all(np.array_equal(one, other) for one, other in zip(about, same, strict=True))
        error = pixels.astype(float) - near
        assert 10 * np.log10(255**2 / (error**2).mean()) > 40
        assert np.abs(error).max() <= 24
    size = {s: sum(p.stat().st_size for p in caches[s].glob("*.bin")) for s in caches}
    assert size["jpeg"] < size["raw"] / 4


def test_jpeg_is_decoded_by_pillow_as_by_another_reader(both):
    """Oracle: PyAV's own JPEG decoder, of another library; both may round once more."""
    caches, _ = both
    cache = FrameCache(caches["jpeg"])
    row = pq.read_table(caches["jpeg"] / "index.parquet").to_pylist()[1]
    start = row["offset"]
    for number, size in enumerate(row["sizes"]):
        data = (caches["jpeg"] / "frames-000.bin").read_bytes()[start : start + size]
        start += size
        with av.open(io.BytesIO(data), format="mjpeg") as container:
            other = next(container.decode(video=0)).to_ndarray(format="rgb24")
        assert np.abs(cache.stored("b")[0][number].astype(int) - other).max() <= 4


def test_jpeg_is_read_in_any_order_with_padding(both):
    caches, _ = both
    cache = FrameCache(caches["jpeg"])
    asked = params(storage="jpeg")
    for video_id, count in (("b", 12), ("a", 4), ("b", 4), ("a", 12)):
        pixels, mask = cache.read(video_id, count, asked)
        stored, indices, length = cache.stored(video_id)
        wanted = frame_indices(length, count, "uniform", 0, video_id)
        expected = stored[np.searchsorted(indices, wanted)]
        assert np.array_equal(pixels[: len(wanted)], expected)
        assert (pixels[len(wanted) :] == expected[-1]).all()
        assert mask.sum() == len(wanted)


def test_a_torn_jpeg_cache_is_packed_on_to_the_same_bytes(both, tmp_path):
    caches, folder = both
    work = Path(shutil.copytree(folder / "jpeg", tmp_path / "work"))
    lines = (work / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (work / "journal.jsonl").write_bytes(lines[0] + lines[1][:30])
    asked = params(storage="jpeg", short_side_px=120, allowed_unreadable=0.0)
    again = pack(work, [("a", "a.avi"), ("b", "b.avi")], folder / "videos", asked, 1)
    assert contents(again) == contents(caches["jpeg"])
    FrameCache(again).verify()
    with (again / "frames-000.bin").open("r+b") as file:
        file.seek(1000)
        file.write(b"\0\1\2")
    with pytest.raises(InputError, match="frames of a have changed"):
        FrameCache(again).verify()


def test_several_shards_hold_the_same_frames(packed, tmp_path, monkeypatch):
    stored = FrameCache(packed[0])
    monkeypatch.setattr(xpool.data.packing, "SHARD_BYTES", 1000)
    packer = Packer(make(tmp_path / "work"))
    for video_id in stored.video_ids:
        packer.add((video_id, ""), Decoded(*stored.stored(video_id)))
    resumed = Packer(tmp_path / "work")
    assert len(resumed.rows) == 3
    resumed.finish({})
    cache = FrameCache(resumed.cache)
    assert len(list(resumed.cache.glob("*.bin"))) == 3
    cache.verify()
    assert numbers(cache.stored("one")[0]) == [0]


def test_who_reads_all_videos_has_a_bounded_part_in_memory(tmp_path, monkeypatch):
    """Of LSMDC's pixels a stage that reads them would else seem to hold all, in any order."""
    monkeypatch.setattr(xpool.data.packing, "SHARD_BYTES", 1 << 20)
    monkeypatch.setattr(xpool.data.frame_cache, "RESIDENT", 7 << 20)
    packer = Packer(make(tmp_path / "work"))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 512, 512, 3), np.uint8)  # 3 MiB
    for number in range(5):
        decoded = Decoded(pixels + np.uint8(number), np.arange(4, dtype=np.int32), 4)
        packer.add((f"v{number}", ""), decoded)
    packer.finish({})
    cache = FrameCache(packer.cache)
    cache.verify()
    assert mapped_kib(packer.cache) <= 7 << 10
    for number in (0, 1, 2, 3, 4, 3, 0, 4, 1, 2):  # what was dropped is read again
        frames, _, _ = cache.stored(f"v{number}")
        np.testing.assert_array_equal(frames, pixels + np.uint8(number))
        assert 3 << 10 <= mapped_kib(packer.cache) <= 7 << 10


def test_hanging_or_crashing_video_costs_itself_only():
    """The job here is Python's eval, which any process can be sent."""
    tasks = [
        ("'first'",),
        ("__import__('time').sleep(60)",),
        ("__import__('os').kill(__import__('os').getpid(), 11)",),
        ("'last'",),
    ]
    first, hung, crashed, last = in_order(eval, tasks, 0.5, 2)
    assert (first, last) == ("first", "last")
    assert isinstance(hung, DecodeError)
    assert str(hung) == "it was not read within 0.5 s (frames.timeout_s)"
    assert isinstance(crashed, DecodeError)
    assert str(crashed) == "the decoder crashed (exit status -11)"


def test_manifest_gives_each_video_once_in_order(tmp_path):
    videos = [("b", "b.avi"), ("b", "b.avi"), ("a", "a.avi"), ("b", "b.avi")]
    write_manifest(tmp_path / "m.parquet", videos)
    assert read_videos(tmp_path / "m.parquet") == [("b", "b.avi"), ("a", "a.avi")]
    write_manifest(tmp_path / "m.parquet", [*videos[:3], ("b", "c.avi")])
    with pytest.raises(InputError, match=r"b has two paths, b\.avi and c\.avi"):
        read_videos(tmp_path / "m.parquet")
    with pytest.raises(InputError, match="xpool manifest --benchmark none"):
        read_videos(tmp_path / "none.parquet")
    write_manifest(tmp_path / "m.parquet", [])
    with pytest.raises(InputError, match=r"m\.parquet: it lists no video"):
        read_videos(tmp_path / "m.parquet")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"counts": []}, "counts"),
        ({"counts": [0]}, "counts.0"),
        ({"sampling": "random"}, "sampling"),
        ({"rules": []}, "rules"),
        ({"rules": ["uniform", "random"]}, "rules.1"),
        ({"allowed_unreadable": 1.5}, "allowed_unreadable"),
        ({"short_videos": "zeros"}, "short_videos"),
    ],
)
def test_impossible_params_name_their_key(changes, key):
    with pytest.raises(InputError, match=rf"frames\.{key}"):
        params(**changes)


def test_pixels_depend_on_the_rules_that_are_cached_and_not_on_the_one_in_use():
    """Property: to choose another of the cached rules must not decode anything again."""
    pixels = params().about_pixels()
    same = {"sampling": "rand", "short_videos": "repeat_last", "allowed_unreadable": 0.0}
    for key, value in same.items():
        assert params(**{key: value}).about_pixels() == pixels, key
    other = {
        "counts": [12], "rules": ["uniform"], "seed": 1, "short_side_px": 40, "antialias": False,
        "timeout_s": 1.0, "storage": "jpeg", "allowed_cut": 0.5,
    }  # fmt: skip
    for key, value in other.items():
        assert params(**{key: value}).about_pixels() != pixels, key
    assert {*same, *other} == set(FramesParams.model_fields), "a new field belongs to one of them"


class Project:
    """A project folder with one benchmark, and the stage as a process in it."""

    def __init__(self, folder, videos):
        self.folder = folder
        write_video(folder / "data/mini/raw/toy/first.avi", 250, size=(240, 320))
        listed = [(f"v{i}", f"v{i}.avi") for i in range(videos)]
        for _, file in listed:
            (folder / "data/mini/raw/toy" / file).hardlink_to(
                folder / "data/mini/raw/toy/first.avi"
            )
        (folder / "data/mini/manifest").mkdir()
        write_manifest(folder / "data/mini/manifest/toy.parquet", listed)
        (folder / "params.yaml").write_text(yaml.safe_dump({"setting": "mini", "frames": SECTION}))
        self.cache = folder / "data/mini/frames/toy"

    def start(self):
        command = [sys.executable, "-m", "xpool", "frames", "--benchmark", "toy"]
        environment = os.environ | {"PYTHONPATH": str(TOP)}
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, stderr=subprocess.PIPE, text=True
        )

    def journalled(self):
        return sum(p.read_bytes().count(b"\n") for p in self.folder.glob(".work/*/*/journal.jsonl"))


def children(pid):
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


def running(pid):
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks for orphans in /proc")
def test_killed_stage_leaves_no_process_and_resumes_to_the_same_bytes(tmp_path):
    project = Project(tmp_path, videos=24)
    stage = project.start()
    deadline = time.monotonic() + 60
    while project.journalled() < 3 and stage.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    workers = children(stage.pid)
    stage.send_signal(signal.SIGKILL)
    stage.communicate()
    done = project.journalled()
    assert workers
    assert 3 <= done < 24
    assert not project.cache.exists()
    deadline = time.monotonic() + 10
    while any(running(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(running(pid) for pid in workers)
    assert project.journalled() == done

    stage = project.start()
    log = stage.communicate(timeout=60)[1]
    assert stage.returncode == 0, log
    assert f"resuming: {done} of 24 videos are done" in log
    assert sorted(path.name for path in project.cache.iterdir()) == [
        "frames-000.bin",
        "index.parquet",
        "quarantine.csv",
        "remarks.csv",
        "summary.json",
    ]
    assert not list(tmp_path.glob(".work/frames/*@*"))

    (tmp_path / "uninterrupted").mkdir()
    videos = read_videos(tmp_path / "data/mini/manifest/toy.parquet")
    raw = tmp_path / "data/mini/raw/toy"
    whole = pack(tmp_path / "uninterrupted", videos, raw, params(), 2)
    assert contents(project.cache) == contents(whole)
    FrameCache(project.cache).verify()
