"""Read chosen frames of one video file with PyAV.

Frames are numbered in decoding order, whatever their time stamps, as in the official code. In a
video of variable frame rate, equal steps in number are therefore not equal steps in time.
"""

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xpool.project.command import die_with_parent

ChooseIndices = Callable[[int], Sequence[int] | NDArray[np.int64]]
"""Maps a video's length in frames to the wanted indices, increasing."""
Decoded = tuple[NDArray[np.uint8], NDArray[np.int64], int]
"""``(frame, h, w, 3)`` RGB, the indices of these frames, and the video's length in frames."""


class Header(NamedTuple):
    """What the header of a video file states."""

    width: int
    height: int
    rate_fps: float | None
    """Average frames a second; None if the file does not state it."""


class DecodeError(Exception):
    """A video cannot be read. The message is the reason, and the same at every attempt."""


def decode(
    path: Path,
    choose_indices: ChooseIndices,
    short_side_px: int,
    antialias: bool,
    colours: Literal["ITU709"] | None = None,
) -> Decoded:
    """Decode a video from start to end, keep some frames and resize them.

    There is no seeking: the sampled frames span the video, and a seek in h264 decodes from the
    previous key frame anyway. Only kept frames are converted to RGB, because converting a frame
    takes nearly as long as decoding it. Reading to the end also detects a truncated MP4.

    Args:
        path: the video file.
        choose_indices: maps the video's length to the wanted indices.
        short_side_px: shorter side of the resized frames; the aspect is kept.
        antialias: see :func:`resized`.
        colours: colour space to assume; None: the one that the file names, or BT.601.

    Raises:
        DecodeError: the file is absent, empty, no video, or one of its frames does not decode.
            Damage that FFmpeg conceals is not detected.
    """
    from av.video.reformatter import Colorspace, VideoReformatter

    check_file(path)
    space = Colorspace[colours] if colours else None
    convert = VideoReformatter().reformat  # shared: its tables cost more than a frame

    def pixels(frame: Any) -> NDArray[np.uint8]:
        rgb = convert(frame, format="rgb24", src_colorspace=space).to_ndarray()
        return resized(np.asarray(rgb, np.uint8), short_side_px, antialias)

    expected = _frames_promised(path)
    while expected:
        indices = np.asarray(choose_indices(expected), np.int64)
        kept, video_frames = _read(path, set(indices.tolist()), expected, pixels)
        if video_frames == expected:
            return np.stack(kept), indices, video_frames
        expected = video_frames  # a second pass decodes exactly this many
    raise DecodeError("it holds no frame")


def header(path: Path) -> Header:
    """Return what a video's header states; decodes nothing.

    Raises:
        DecodeError: the file does not open as a video.
    """
    import av

    check_file(path)
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DecodeError("it does not open as a video: it holds no video stream")
            stream = container.streams.video[0]
            rate = stream.average_rate
            return Header(stream.width, stream.height, float(rate) if rate else None)
    except av.error.FFmpegError as error:
        raise DecodeError(f"it does not open as a video: {error.strerror}") from error


def decoder() -> str:
    """Return the name and version of this decoder, on which pixels depend."""
    import av

    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    return f"PyAV {av.__version__}, libavcodec {codec}"


def check_file(path: Path) -> None:
    """Check that a file is there and not empty.

    Raises:
        DecodeError: the file is absent or empty.
    """
    if not path.is_file():
        raise DecodeError("there is no such file")
    if path.stat().st_size == 0:
        raise DecodeError("the file is empty")


def _frames_promised(path: Path) -> int:
    """Return the number of frames that the file states, or of its packets; it may be wrong."""
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DecodeError("it does not open as a video: it holds no video stream")
            stream = container.streams.video[0]
            promised: int = stream.frames
            return promised or sum(packet.size > 0 for packet in container.demux(stream))
    except av.error.FFmpegError as error:
        raise DecodeError(f"it does not open as a video: {error.strerror}") from error


def _read(
    path: Path, wanted: set[int], expected: int, pixels: Callable[[Any], NDArray[np.uint8]]
) -> tuple[list[NDArray[np.uint8]], int]:
    """Return the pixels of the wanted frames, and how many frames the video has."""
    import av

    kept, read = [], 0
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_count = 1  # each core decodes another video
            for frame in container.decode(stream):
                if read in wanted:
                    kept.append(pixels(frame))
                read += 1
    except av.error.FFmpegError as error:
        reason = f"frame {read} of {expected} does not decode: {error.strerror}"
        raise DecodeError(reason) from error
    return kept, read


def resized(frame: NDArray[np.uint8], short_side_px: int, antialias: bool) -> NDArray[np.uint8]:
    """Resize with bicubic interpolation, keeping the aspect.

    Does without torch, whose import would cost each worker seconds.

    Args:
        frame: ``(h, w, 3)``.
        short_side_px: shorter side of the result; the longer one is rounded down.
        antialias: True resizes with PIL, as CLIP's own preprocessing and CLIP4Clip do. False is
            :func:`interpolated`, rounded and clipped to 0-255.

    Returns:
        ``(h, w, 3)``.
    """
    height, width = frame.shape[:2]
    short = min(height, width)
    height_px, width_px = (int(short_side_px * side / short) for side in (height, width))
    if (height_px, width_px) == (height, width):
        return frame
    if antialias:
        image = Image.fromarray(frame)
        return np.array(image.resize((width_px, height_px), Image.Resampling.BICUBIC))
    pixels = interpolated(interpolated(frame.astype(np.float32), height_px, 0), width_px, 1)
    return pixels.round().clip(0, 255).astype(np.uint8)


def interpolated(values: NDArray[np.float32], length: int, axis: int) -> NDArray[np.float32]:
    """Interpolate between the four nearest samples along an axis, even where it shrinks.

    Source:
        Cubic convolution (Keys 1981) with a = -0.75 and repeated edges, as in torch's
        ``interpolate`` without antialiasing, which torchvision 0.9 applied to tensors when X-Pool
        was published. Values that overshoot the range are kept.
    """
    size = values.shape[axis]
    position = (np.arange(length) + 0.5) * (size / length) - 0.5
    below = np.floor(position)
    total = np.zeros(1, np.float32)
    for step in (-1, 0, 1, 2):
        far = np.abs(position - below - step)
        near = (1.25 * far - 2.25) * far * far + 1
        tail = ((-0.75 * far + 3.75) * far - 6) * far + 3
        weight = np.where(far <= 1, near, tail).astype(np.float32)
        taken = values.take(np.clip(below + step, 0, size - 1).astype(int), axis)
        total = total + taken * np.expand_dims(weight, tuple(set(range(values.ndim)) - {axis}))
    return total


def prepare_worker() -> None:
    """Make this worker process end with its parent."""
    die_with_parent()
    # A handler in Python cannot run while a decoder hangs in C; the default action can.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
