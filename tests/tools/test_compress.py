"""Copies of 3 frames a second: the frames of `ffmpeg -r 3`, the size asked for, each made once."""

import csv
import os
import shutil
import subprocess

import av
import numpy as np
import pytest
from numbered_videos import numbers, write_video

from xpool.data.videos.video_file import header
from xpool.project.errors import InputError
from xpool.tools.compress import compress, compress_all, short_side

SIZE = (240, 320)


def numbers_in(path):
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return numbers(np.stack(frames))


RIGHT = {
    (100, 25): [0, 1, 7, 15, 24, 32, 40, 49, 57, 65, 74, 82, 90, 99],
    (30, 25): [0, 1, 7, 15, 24],
    (5, 25): [0, 1],
    (1, 25): [0],
}
"""Frames of the copy by length and rate: what `ffmpeg -r 3` of FFmpeg 5.1.9 writes."""


@pytest.mark.parametrize("length", RIGHT)
def test_a_copy_has_the_frames_and_the_form_of_ffmpegs(tmp_path, length):
    frames, rate = length
    video = write_video(tmp_path / "a.avi", frames, size=SIZE, rate=rate)
    compress(video, tmp_path / "copies/a.mp4")
    assert numbers_in(tmp_path / "copies/a.mp4") == RIGHT[length]
    assert header(tmp_path / "copies/a.mp4") == (298, 224, 3.0)
    with av.open(str(tmp_path / "copies/a.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert not container.streams.audio


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="compares with the ffmpeg command")
@pytest.mark.parametrize(("frames", "rate"), [(77, 30), (50, 10), (20, 2), (9, 1), (40, 60)])
def test_frames_are_those_of_the_ffmpeg_command(tmp_path, frames, rate):
    video = write_video(tmp_path / "a.avi", frames, size=SIZE, rate=rate)
    options = ["-filter:v", "scale=298:224", "-map", "0:v", "-r", "3"]
    command = ["ffmpeg", "-v", "error", "-i", str(video), *options, str(tmp_path / "right.mp4")]
    subprocess.run(command, check=True)
    compress(video, tmp_path / "copy.mp4")
    assert numbers_in(tmp_path / "copy.mp4") == numbers_in(tmp_path / "right.mp4")


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1280, 720), (398, 224)), ((224, 224), (224, 224)), ((8, 6), (298, 224))],
)
def test_the_short_side_is_224_and_the_long_one_even(size, expected):
    assert short_side(*size) == expected
    assert short_side(*reversed(size)) == tuple(reversed(expected))


@pytest.fixture
def folders(tmp_path):
    source = tmp_path / "videos"
    write_video(source / "film/a.avi", 10, size=SIZE)
    for name in ("b.mp4", "c.webm"):
        shutil.copy(source / "film/a.avi", source / name)
    return source, tmp_path / "copies"


def test_each_video_is_copied_once_and_again_when_it_changes(folders):
    source, copies = folders
    compress_all(source, copies)
    made = sorted(p.relative_to(copies).as_posix() for p in copies.rglob("*.mp4"))
    assert made == ["b.mp4", "c.mp4", "film/a.mp4"]
    inodes = {path: path.stat().st_ino for path in copies.rglob("*.mp4")}
    state = (source / "b.mp4").stat()
    os.utime(source / "b.mp4", ns=(state.st_atime_ns, state.st_mtime_ns + 10**10))
    (copies / "c.mp4").unlink()
    (copies / ".c.mp4.part").write_bytes(b"left by a killed run")
    compress_all(source, copies)
    again = {path.name for path, inode in inodes.items() if path.stat().st_ino != inode}
    assert "a.mp4" not in again
    assert "b.mp4" in again
    assert not list(copies.rglob("*.part"))


def test_what_cannot_be_read_is_listed_and_the_rest_is_done(folders):
    source, copies = folders
    (source / "b.mp4").write_bytes(b"no video")
    (source / "d.mp4").write_bytes(b"")
    with pytest.raises(InputError, match="2 of 4 videos cannot be read, first b.mp4: ") as caught:
        compress_all(source, copies)
    assert "\n" not in str(caught.value)
    rows = list(csv.DictReader((copies / "quarantine.csv").open()))
    assert [row["path"] for row in rows] == ["b.mp4", "d.mp4"]
    assert rows[1]["reason"] == "the file is empty"
    assert {p.name for p in copies.rglob("*.mp4")} == {"a.mp4", "c.mp4"}


def test_folders_that_cannot_be_right_are_one_line(folders):
    source, copies = folders
    with pytest.raises(InputError, match="no such folder"):
        compress_all(copies / "none", copies)
    with pytest.raises(InputError, match="lies within"):
        compress_all(source, source / "copies")
    shutil.copy(source / "b.mp4", source / "b.avi")
    with pytest.raises(InputError, match=r"b\.avi and b\.mp4 would have one copy"):
        compress_all(source, copies)
    copies.mkdir()
    with pytest.raises(InputError, match="holds no video"):
        compress_all(copies, source.parent / "more")
