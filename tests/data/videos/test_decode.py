"""Oracles: frames that carry their number, decord's sequential decode, and torch."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numbered_videos import numbers, write_video

from xpool.data.videos import decode_decord
from xpool.data.videos.decode import decode, resized
from xpool.data.videos.video_file import DecodeError

SHARED = Path(__file__).resolve().parents[3] / "shared"


def sequential(path):
    """Return all frames in their own size, from decord and its own FFmpeg."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        short_side_px = min(stream.height, stream.width)
    return decode_decord.decode(Path(path), np.arange, short_side_px, True)[0]


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("b.avi", "libx264"), ("c.avi", "mpeg4"), ("d.mp4", "mpeg4")],
)
def test_frames_are_the_ones_asked_for(tmp_path, name, codec):
    write_video(tmp_path / name, 150, codec, (64, 96))
    wanted = [0, 3, 50, 51, 99, 140, 149]
    pixels, indices, video_frames, _ = decode(tmp_path / name, lambda _: wanted, 64, True)
    assert video_frames == 150
    assert indices.tolist() == wanted
    assert numbers(pixels) == wanted
    expected = sequential(tmp_path / name)[wanted]
    # Builds of FFmpeg may differ by a level or two in converting colours.
    assert np.abs(pixels.astype(int) - expected).max() <= 2


def test_indices_are_chosen_from_the_length(tmp_path):
    write_video(tmp_path / "v.mp4", 5, "libx264", (64, 96))
    pixels, indices, video_frames, _ = decode(tmp_path / "v.mp4", lambda n: [n // 2], 32, True)
    assert (numbers(pixels), indices.tolist(), video_frames) == ([2], [2], 5)


@pytest.mark.parametrize("width", [24, 48, 72, 88, 128])
def test_width_at_which_decord_pads_its_rows(tmp_path, width):
    """At 24, 48 and 72 decord itself returns four channels."""
    path = tmp_path / "v.mp4"
    write_video(path, 10, "libx264", (48, width))
    pixels, *_ = decode(path, lambda n: [2, 5], min(48, width), True)
    expected = sequential(path)[[2, 5]]
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= 2


def test_video_of_one_frame(tmp_path):
    write_video(tmp_path / "v.avi", 1, size=(64, 96))
    pixels, _, video_frames, _ = decode(tmp_path / "v.avi", lambda _: [0], 32, True)
    assert (pixels.shape, video_frames) == ((1, 32, 48, 3), 1)


def write_audio(path):
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=16000)
        stream.layout = "mono"
        samples = np.zeros((1, 16000), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def write_unreadable(folder):
    """One file of each kind that cannot be read; returns their names and reasons."""
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("not a video\n" * 100)
    write_audio(folder / "audio.mp4")
    write_video(folder / "cut.mp4", 60, "libx264", (64, 96))
    cut(folder / "cut.mp4", 0.5)
    (folder / "folder.mp4").mkdir()
    return {
        "absent.mp4": "there is no such file",
        "folder.mp4": "there is no such file",
        "empty.mp4": "the file is empty",
        "text.mp4": "it does not open as a video: Invalid data found when processing input",
        "cut.mp4": "it does not open as a video: Invalid data found when processing input",
        "audio.mp4": "it does not open as a video: it holds no video stream",
    }


def test_unreadable_files_give_a_stable_reason(tmp_path):
    for name, reason in write_unreadable(tmp_path).items():
        with pytest.raises(DecodeError) as caught:
            decode(tmp_path / name, lambda _: [0], 32, True)
        assert str(caught.value) == reason, name


def test_damaged_stream_is_refused_even_after_the_last_wanted_frame(tmp_path):
    path = tmp_path / "v.mp4"
    write_video(path, 150, "libx264", (64, 96))
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    middle = start + (len(content) - start) // 3
    content[middle : middle + 400] = bytes(400)
    path.write_bytes(content)
    with pytest.raises(DecodeError, match=r"^frame \d+ of 150 does not decode"):
        decode(path, lambda _: [0], 32, True)


def picture(height, width):
    """Smooth colours with a hard edge, as in a natural image."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([x * 255 / width, y * 255 / height, 127 + 90 * np.sin(x / 9)], axis=-1)
    image[height // 3 : height // 2, width // 4 : width // 3] = (250, 5, 128)
    return image.astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(240, 320, (224, 298)), (320, 240, (298, 224)), (100, 100, (224, 224)), (90, 160, (224, 398))],
)
def test_short_side_is_set_and_aspect_kept(height, width, expected):
    assert resized(picture(height, width), 224, True).shape == (*expected, 3)


def interpolate(frame, size, antialias):
    pixels = torch.from_numpy(frame).permute(2, 0, 1)[None].double()
    pixels = torch.nn.functional.interpolate(pixels, size, mode="bicubic", antialias=antialias)
    return pixels.clamp(0, 255)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("short_side_px", [37, 64, 200])
def test_plain_resize_agrees_with_interpolation_of_floats(short_side_px):
    frame = picture(120, 161)
    size = (short_side_px, int(short_side_px * 161 / 120))
    found = resized(frame, short_side_px, False)
    assert found.dtype == np.uint8
    # Half a level is rounding; the rest is float32 against float64.
    assert np.abs(found - interpolate(frame, size, False)).max() <= 0.501


@pytest.mark.parametrize("short_side_px", [37, 64, 200])
def test_antialiased_resize_agrees_with_antialiased_floats(short_side_px):
    """PIL rounds and clips between its two passes, hence a few levels at hard edges."""
    frame = picture(120, 161)
    size = (short_side_px, int(short_side_px * 161 / 120))
    off = np.abs(resized(frame, short_side_px, True) - interpolate(frame, size, True))
    assert off.mean() < 0.3
    assert off.max() <= 8


def test_antialias_matters_when_shrinking():
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::3] = 255
    plain, smooth = resized(stripes, 24, False), resized(stripes, 24, True)
    assert smooth.std() < plain.std() / 3


def test_resize_to_its_own_size_changes_nothing():
    frame = picture(64, 80)
    assert np.array_equal(resized(frame, 64, True), frame)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real videos in ../shared")
@pytest.mark.parametrize(
    "name",
    [
        "msvd/klteYv1Uv9A_27_33.avi",
        "msvd/j2Dhf-xFUxU_13_20.avi",
        "msrvtt/video7500.mp4",
        "containers/lego.webm",
        "containers/lego.flv",
        "containers/lego.3gp",
        "containers/lego.ogv",
        "containers/lego.mov",
    ],
)
def test_real_frames_equal_a_sequential_decode(name):
    expected = sequential(SHARED / "clips" / name)
    short = min(expected.shape[1:3])
    wanted = np.unique(np.linspace(0, len(expected) - 1, 12).astype(int))
    pixels, _, video_frames, _ = decode(SHARED / "clips" / name, lambda _: wanted, short, True)
    assert video_frames == len(expected)
    assert np.array_equal(pixels, expected[wanted])


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real videos in ../shared")
def test_container_that_decord_cannot_rewind_is_read():
    path = SHARED / "clips" / "containers" / "lego.mkv"
    pixels, _, video_frames, _ = decode(path, lambda n: [0, n - 1], 64, True)
    assert (len(pixels), video_frames) == (2, 147)
    with pytest.raises(DecodeError, match="frame 0 of 147 does not decode"):
        decode_decord.decode(path, lambda n: [0, n - 1], 64, True)


@pytest.mark.parametrize(("promised", "allowed_cut"), [(40, 0.0), (61, 0.0), (90, 0.34)])
def test_length_is_what_decodes_not_what_the_file_promises(tmp_path, promised, allowed_cut):
    path = tmp_path / "v.avi"
    write_video(path, 60, size=(64, 96))
    promise(path, 60, promised)
    asked = []
    pixels, indices, video_frames, remarks = decode(
        path, lambda n: asked.append(n) or [0, n // 2, n - 1], 64, True, allowed_cut
    )
    assert asked == [promised, 60]
    assert (numbers(pixels), indices.tolist(), video_frames) == ([0, 30, 59], [0, 30, 59], 60)
    assert len(remarks) == (promised == 90)


def promise(path, found, promised):
    """Write another number of frames into an AVI's stream header."""
    content = bytearray(path.read_bytes())
    start = content.index(b"strh") + 40
    assert int.from_bytes(content[start : start + 4], "little") == found
    content[start : start + 4] = promised.to_bytes(4, "little")
    path.write_bytes(content)


@pytest.mark.parametrize("promised", [0, 3])
def test_video_without_any_frame_is_refused(tmp_path, monkeypatch, promised):
    """Whatever the file says, and before indices are chosen of no frames."""
    (tmp_path / "v.mp4").write_text("what it holds is made up below")
    monkeypatch.setattr(f"{decode.__module__}._frames_promised", lambda path: promised)
    monkeypatch.setattr(f"{decode.__module__}._read", lambda *_: ([], 0, ()))
    asked = []
    with pytest.raises(DecodeError, match=r"^it holds no frame$"):
        decode(tmp_path / "v.mp4", lambda n: asked.append(n) or [0], 64, True)
    assert asked == [promised] * (promised > 0)
