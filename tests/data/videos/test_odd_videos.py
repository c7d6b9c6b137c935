"""Videos that other readers have been seen to get wrong; oracles: FFmpeg's command, and geometry.

What each file holds is written down here: frames show their number as black and white stripes.
"""

import csv
import io
import json
import shutil
import struct
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition
from PIL import Image

from xpool.data.frame_cache import FrameCache, FramesParams
from xpool.data.packing import in_order, pack
from xpool.data.transforms import draw_crop, evaluation
from xpool.data.videos import decode_decord
from xpool.data.videos.decode import LONGEST, decode, resized, scaled
from xpool.data.videos.video_file import DecodeError
from xpool.project.params import validate

SHARED = Path(__file__).resolve().parents[3] / "shared"
BITS = 6
SIZE = (48, 96)
MATRICES = {
    "upright": (1, 0, 0, 1),
    "90": (0, 1, -1, 0),
    "180": (-1, 0, 0, -1),
    "270": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "mirrored 180": (1, 0, 0, -1),
    "mirrored 90": (0, 1, 1, 0),
    "mirrored 270": (0, -1, -1, 0),
}
"""Columns of the display matrix: where a step to the right and a step down are shown."""
SHOWN = {
    "upright": None,
    "90": Image.Transpose.ROTATE_270,  # PIL turns against the clock
    "180": Image.Transpose.ROTATE_180,
    "270": Image.Transpose.ROTATE_90,
    "mirrored": Image.Transpose.FLIP_LEFT_RIGHT,
    "mirrored 180": Image.Transpose.FLIP_TOP_BOTTOM,
    "mirrored 90": Image.Transpose.TRANSPOSE,
    "mirrored 270": Image.Transpose.TRANSVERSE,
}
"""What FFmpeg's command makes of each (5.1, with its autorotation)."""


def picture(number, size=SIZE):
    """Stripes that show a number, above a ramp that tells left from right and up from down."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    image = np.stack([x * 255 // size[1], y * 255 // size[0], 0 * x + 90], -1).astype(np.uint8)
    stripes = 255 * ((number >> (x * BITS // size[1])) & 1)
    return np.where((y < size[0] // 2)[..., None], stripes[..., None], image).astype(np.uint8)


def numbers(frames):
    """Read the numbers of upright frames."""
    columns = ((np.arange(BITS) + 0.5) * frames.shape[2] / BITS).astype(int)
    bits = frames[:, frames.shape[1] // 4, columns].mean(axis=-1) > 127
    return (bits << np.arange(BITS)).sum(axis=1).tolist()


def packets(codec, frames, size=SIZE, pix_fmt="yuv420p", rate=25, first=0):
    """Yield encoded frames with their numbers as time stamps."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.height, encoder.width, encoder.pix_fmt = *size, pix_fmt
    encoder.framerate, encoder.time_base = rate, 1 / Fraction(rate)
    encoder.gop_size, encoder.thread_count = 8, 1
    for number in range(first, first + frames):
        frame = av.VideoFrame.from_ndarray(picture(number, size), format="rgb24")
        frame.pts = number
        yield from encoder.encode(frame)
    yield from encoder.encode(None)


def write(
    path, frames=24, codec="mpeg4", stamps=None, options=None, size=SIZE, slices=1, **metadata
):
    """Write a video of one stream; ``stamps`` are its frames' times in 1/25 s."""
    with av.open(path, "w", options=options or {}) as container:
        container.metadata.update(metadata)
        add(container, codec, frames, size, stamps, slices=slices)
    return path


def add(container, codec, frames, size=SIZE, stamps=None, first=0, disposition=None, slices=1):
    """Add a stream; with one thread, so that a test's file is the same on any number of cores."""
    stream = container.add_stream(codec, rate=25, options={"slices": str(slices), "threads": "1"})
    stream.height, stream.width = size
    stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    stream.gop_size = 8
    if disposition is not None:
        stream.disposition = disposition
    for number in range(frames):
        frame = av.VideoFrame.from_ndarray(picture(first + number, size), format="rgb24")
        frame.pts = number if stamps is None else stamps[number]
        frame.time_base = Fraction(1, 25)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def whole(path, allowed_cut=0.0, reader=decode):
    """Return all frames in their own size, and remarks."""
    decoded = reader(path, np.arange, 48, True, allowed_cut)
    assert len(decoded.pixels) == decoded.video_frames
    return decoded


def refused(path, reason, **options):
    with pytest.raises(DecodeError, match=reason):
        whole(path, **options)


def box(kind, content):
    return struct.pack(">I", 8 + len(content)) + kind + content


def turned(path, matrix):
    """Write a display matrix into the track header of an MP4."""
    a, b, c, d = (int(65536 * value) for value in matrix)
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def expected(number, turn):
    image = Image.fromarray(picture(number))
    return np.asarray(image if turn is None else image.transpose(turn)).astype(int)


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_picture_is_turned_and_mirrored_as_the_matrix_says(tmp_path, name, suffix):
    path = turned(write(tmp_path / f"v.{suffix}", 12), MATRICES[name])
    frames = whole(path).pixels
    assert np.abs(frames[5] - expected(5, SHOWN[name])).mean() < 8
    assert np.abs(frames.astype(int) - whole(path, reader=decode_decord.decode).pixels).max() <= 2
    if shutil.which("ffmpeg"):
        command = ["ffmpeg", "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        theirs = subprocess.run(command, check=True, capture_output=True).stdout
        theirs = np.frombuffer(theirs, np.uint8).reshape(frames.shape)
        assert np.abs(frames.astype(int) - theirs).mean() < 2


def test_matroska_projection_and_rotate_tag_turn_the_picture(tmp_path):
    """PyAV writes the first; decord and older FFmpegs know the second, PyAV's does not."""
    for name in ("projection", "tag"):
        with av.open(tmp_path / f"{name}.mkv", "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.height, stream.width = SIZE
            stream.pix_fmt = "yuv420p"
            if name == "tag":
                stream.metadata["ROTATE"] = "90"
            else:
                stream.set_display_rotation(-90)
            for number in range(12):
                frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        for reader in (decode, decode_decord.decode):
            frames = whole(tmp_path / f"{name}.mkv", reader=reader).pixels
            assert np.abs(frames[5] - expected(5, SHOWN["90"])).mean() < 8


@pytest.mark.parametrize("matrix", [(0, 0, 0, 0), (2, 0, 0, 2)])
def test_matrix_without_a_direction_changes_nothing(tmp_path, matrix):
    path = turned(write(tmp_path / "v.mp4", 12), matrix)
    assert numbers(whole(path).pixels) == [*range(12)]


def test_angle_between_the_quarters_is_refused(tmp_path):
    path = turned(write(tmp_path / "v.mp4", 12), (0.8, 0.6, -0.6, 0.8))
    refused(path, "by no multiple of 90 degrees")


def jpeg(size=(80, 80)):
    file = io.BytesIO()
    Image.fromarray(picture(63, size)).save(file, "JPEG")
    return file.getvalue()


def with_cover(path):
    """Put a cover picture before the track, where FFmpeg numbers it as the first stream."""
    data = path.read_bytes()
    start = data.index(b"moov") - 4  # after the frames, whose offsets therefore stay
    size = struct.unpack(">I", data[start : start + 4])[0]
    body = data[start + 8 : start + size]
    cover = box(b"covr", box(b"data", struct.pack(">II", 13, 0) + jpeg()))
    handler = box(b"hdlr", struct.pack(">II4s4sIIIB", 0, 0, b"mdir", b"appl", 0, 0, 0, 0))
    meta = box(b"meta", struct.pack(">I", 0) + handler + box(b"ilst", cover))
    first = struct.unpack(">I", body[:4])[0]
    moov = box(b"moov", body[:first] + box(b"udta", meta) + body[first:])
    path.write_bytes(data[:start] + moov + data[start + size :])
    return path


def test_cover_picture_is_no_film(tmp_path):
    path = with_cover(write(tmp_path / "v.mp4"))
    with av.open(path) as container:
        assert container.streams.video[0].disposition & Disposition.attached_pic
    assert numbers(whole(path).pixels) == [*range(24)]
    assert whole(path).remarks == ()


def test_only_a_cover_is_no_video(tmp_path):
    path = tmp_path / "v.mp4"
    with av.open(path, "w") as container:
        sound = container.add_stream("aac", rate=16000, layout="mono")
        samples = np.zeros((1, 16000), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    refused(with_cover(path), "holds a cover picture and no film")


@pytest.mark.parametrize(
    ("sizes", "marked", "read"),
    [
        (((24, 48), SIZE), [False, True], 1),
        (((24, 48), SIZE), [True, False], 0),
        (((24, 48), SIZE), [False, False], 1),
        ((SIZE, (24, 48)), [False, False], 0),
        ((SIZE, SIZE), [False, False], 0),
        ((SIZE, SIZE), [True, True], 0),
    ],
)
def test_default_then_largest_stream_is_read_and_said(tmp_path, sizes, marked, read):
    path = tmp_path / "v.mkv"
    with av.open(path, "w") as container:
        streams = []
        for size, default in zip(sizes, marked, strict=True):
            streams.append(container.add_stream("mpeg4", rate=25))
            streams[-1].height, streams[-1].width = size
            streams[-1].pix_fmt = "yuv420p"
            streams[-1].disposition = Disposition.default if default else Disposition(0)
        for number in range(12):
            for at, (stream, size) in enumerate(zip(streams, sizes, strict=True)):
                image = picture(number + 20 * at, size)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))
    decoded = whole(path)
    assert numbers(decoded.pixels) == [*range(20 * read, 20 * read + 12)]
    assert decoded.remarks == (f"read video stream {read} (of 2: the default or largest one)",)


@pytest.mark.parametrize(
    "title",
    [
        "Café, München".encode("latin-1"),
        "日本語の題".encode("cp932"),
        b"\xff\xfet\x00\xe9\x00",
        b"\x80\xfe\x81",
    ],
)
@pytest.mark.parametrize("suffix", ["avi", "mp4", "mkv"])
def test_metadata_in_any_encoding_is_read_past(tmp_path, suffix, title):
    path = write(tmp_path / f"v.{suffix}", title="X" * len(title))
    content = path.read_bytes()
    assert content.count(b"X" * len(title)) >= 1
    path.write_bytes(content.replace(b"X" * len(title), title))
    assert numbers(whole(path).pixels) == [*range(24)]


def test_handler_name_in_another_encoding_is_read_past(tmp_path):
    path = write(tmp_path / "v.mp4")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"VideoHandler", b"Vid\xe9oHandl\xffr"))
    assert content != path.read_bytes()
    assert numbers(whole(path).pixels) == [*range(24)]


@pytest.mark.parametrize(
    ("codec", "second"),
    [
        ("mjpeg", {"size": (96, 96)}),
        ("mjpeg", {"size": (96, 192)}),
        ("mjpeg", {"size": (40, 20)}),
        ("mjpeg", {"pix_fmt": "yuvj444p"}),
        ("mpeg4", {"rate": 30}),
        ("mpeg4", {"rate": 30, "size": (64, 64)}),
    ],
)
def test_size_format_or_time_base_that_changes_keeps_the_first_size(tmp_path, codec, second):
    first = {"pix_fmt": "yuvj420p"} if codec == "mjpeg" else {}
    path = tmp_path / "v.avi"
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = SIZE
        stream.pix_fmt = first.get("pix_fmt", "yuv420p")
        for number, packet in enumerate(
            [*packets(codec, 12, **first), *packets(codec, 12, first=12, **first | second)]
        ):
            packet.stream, packet.pts, packet.dts = stream, number, number
            packet.time_base = Fraction(1, 25)
            container.mux(packet)
    decoded = whole(path)
    assert decoded.pixels.shape == (24, *SIZE, 3)
    assert numbers(decoded.pixels) == [*range(24)]
    for number in (5, 20):
        assert np.abs(decoded.pixels[number] - expected(number, None)).mean() < 16


FAULTS = {
    "b'\\xff'.decode()": "the decoder failed (UnicodeDecodeError: 'utf-8' codec can't decode",
    "{}['key']": "the decoder failed (KeyError: 'key')",
    "1/0": "the decoder failed (ZeroDivisionError: division by zero)",
    "__import__('sys').exit(3)": "the decoder failed (SystemExit: 3)",
    "bytearray(5 << 30)": "it takes more than 4 GiB of memory",
    "__import__('os')._exit(3)": "the decoder crashed (exit status 3)",
    "lambda: 0": "the decoder failed (",  # cannot be sent back
}


def test_any_fault_costs_one_video_and_is_named():
    """The job is Python's eval, which any process can be sent."""
    results = list(in_order(eval, [(fault,) for fault in FAULTS] + [("'last'",)], 20, 2))
    assert results.pop() == "last"
    for result, reason in zip(results, FAULTS.values(), strict=True):
        assert isinstance(result, DecodeError)
        assert str(result).startswith(reason)
        assert "\n" not in str(result)


@pytest.mark.parametrize("size", [(2, 2000), (2000, 2), (2, 2001), (4, 1999), (1, 1), (9, 1)])
def test_long_picture_keeps_what_the_encoder_sees(size):
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    short, px = min(size), 32
    kept = resized(frame, px, True)
    assert min(kept.shape[:2]) == px
    assert max(kept.shape[:2]) <= px * (LONGEST + 1 / short)
    uncut = scaled(frame, tuple(px * side // short for side in size), True)
    shown = [evaluation(torch.from_numpy(x[None]), px, True) for x in (kept, uncut)]
    assert torch.allclose(*shown, atol=1.01 / 255)
    if max(size) > LONGEST * short:
        crops = [draw_crop(*x.shape[:2], torch.Generator().manual_seed(0)) for x in (kept, uncut)]
        parts = [
            x[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width].astype(int)
            for x, crop in zip((kept, uncut), crops, strict=True)
        ]
        assert np.abs(parts[0] - parts[1]).max() <= 1


def test_usual_aspects_are_kept_whole():
    for size in ((90, 90 * LONGEST), (240, 320), (1080, 500)):
        frame = np.zeros((*size, 3), np.uint8)
        height, width = (int(48 * side / min(size)) for side in size)
        assert resized(frame, 48, True).shape == (height, width, 3)


KINDS = {
    "mpeg4.avi": ("mpeg4", {}),
    "h264.avi": ("libx264", {}),
    "mpeg4.mp4": ("mpeg4", {"movflags": "faststart"}),
    "h264.mp4": ("libx264", {"movflags": "faststart"}),
    "h264.mkv": ("libx264", {}),
    "vp8.webm": ("libvpx", {}),
    "flv1.flv": ("flv", {}),
    "wmv2.wmv": ("wmv2", {}),
}


@pytest.mark.parametrize("name", KINDS)
def test_file_cut_short_is_refused_unless_its_frames_are_there(tmp_path, name):
    """Most of the cuts that leave nearly all bytes of an AVI cost its index only."""
    codec, options = KINDS[name]
    path = write(tmp_path / name, 60, codec, options=options)
    assert whole(path).remarks == ()
    content = path.read_bytes()
    accepted = 0
    for share in np.linspace(0.25, 0.97, 13):
        path.write_bytes(content[: int(share * len(content))])
        try:
            decoded = decode(path, lambda n: [0], 48, True)
        except DecodeError:
            continue
        assert decoded.video_frames >= 59
        accepted += 1
    assert accepted <= 3


@pytest.mark.parametrize("slices", [1, 2, 4])
def test_cut_that_is_allowed_is_recorded(tmp_path, slices):
    """Written with one slice a frame, the last frame does not decode; with more, a part of it does.

    FFmpeg's encoder makes as many slices as there are cores, unless told.
    """
    path = write(tmp_path / "raw.avi", 40, slices=slices)
    content = path.read_bytes()
    start = content.index(b"movi")
    path.write_bytes(content[: (start + content.index(b"idx1")) // 2])
    with pytest.raises(DecodeError, match=r"cut short: it states a length of 1\.60 s, and 0\.\d\d"):
        whole(path)
    decoded = whole(path, allowed_cut=0.9)
    assert numbers(decoded.pixels)[:-1] == [*range(decoded.video_frames - 1)]  # the last is cut
    assert decoded.video_frames < 30
    params = {
        "counts": [4], "rules": ["uniform"], "sampling": "uniform", "seed": 0, "short_side_px": 48,
        "antialias": True, "short_videos": "mask", "timeout_s": 60.0, "allowed_cut": 0.9,
        "allowed_unreadable": 0.0, "storage": "raw",
    }  # fmt: skip
    (tmp_path / "work").mkdir()
    frames = validate(params, "frames", FramesParams)
    cache = pack(tmp_path / "work", [("cut", "raw.avi")], tmp_path, frames, 1)
    with (cache / "remarks.csv").open() as file:
        assert list(csv.DictReader(file)) == [
            {"video_id": "cut", "path": "raw.avi", "remark": decoded.remarks[0]}
        ]
    assert decoded.remarks[0].startswith("accepted though cut short: it states a length of 1.60 s")
    assert json.loads((cache / "summary.json").read_text())["videos_remarked"] == 1
    assert FrameCache(cache).video_ids == ["cut"]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_uneven_times_are_no_cut(tmp_path, suffix):
    stamps = [number if number < 12 else 12 + 7 * (number - 12) for number in range(24)]
    path = write(tmp_path / f"v.{suffix}", 24, stamps=stamps)
    decoded = whole(path)
    assert (numbers(decoded.pixels), decoded.remarks) == ([*range(24)], ())


def test_frames_hidden_by_an_edit_list_are_no_cut(tmp_path):
    """The list starts at frame 8; what is before is only decoded."""
    path = write(tmp_path / "v.mp4", 24)
    data = bytearray(path.read_bytes())
    start = data.index(b"elst") + 12  # duration in 1/1000 s, then the first time in 1/12800 s
    assert struct.unpack(">Ii", data[start : start + 8]) == (960, 0)
    data[start : start + 8] = struct.pack(">Ii", 640, 8 * 512)
    path.write_bytes(data)
    decoded = whole(path)
    assert (numbers(decoded.pixels), decoded.remarks) == ([*range(8, 24)], ())


def test_format_without_a_stated_length_is_remarked(tmp_path):
    decoded = whole(write(tmp_path / "v.ts", codec="mpeg2video"))
    assert decoded.remarks == ("the file states no length: a cut would not show",)


LISTS = {
    "ffconcat version 1.0\nfile other.ts\n": "playlist, a list of other files",
    "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nother.ts\n#EXT-X-ENDLIST\n": "",
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n": "",
    "file 'other.ts'\n": "",
}


@pytest.mark.parametrize("name", ["list.mp4", "list.m3u8", "list.avi"])
@pytest.mark.parametrize("text", LISTS)
def test_lists_of_other_files_are_refused(tmp_path, name, text):
    write(tmp_path / "other.ts", codec="mpeg2video")
    path = tmp_path / name
    path.write_text(text)
    refused(path, f"^it does not open as a video: .*{LISTS[text]}")
    refused(path, "^it does not open as a video: ", reader=decode_decord.decode)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE html><title>404</title>", "web page"),
        (b"<HTML><body>Please log in</body></HTML>", "web page"),
        (b"PK\x03\x04" + bytes(100), "zip archive"),
        (b"\x00\x01\x02" * 100, "Invalid data found"),
    ],
)
def test_what_a_download_left_in_place_of_a_video_is_named(tmp_path, content, named):
    path = tmp_path / "video0.mp4"
    path.write_bytes(content)
    refused(path, f"^it does not open as a video: .*{named}")


def test_still_picture_is_no_film(tmp_path):
    (tmp_path / "v.mp4").write_bytes(jpeg())
    refused(tmp_path / "v.mp4", "still picture")


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real videos in ../shared")
def test_real_videos_are_whole():
    files = [path for path in (SHARED / "clips").rglob("*.*") if path.suffix not in (".md", ".ogv")]
    assert len(files) == 21
    for path in files:
        assert decode(path, lambda n: [0], 48, True).remarks == (), path
