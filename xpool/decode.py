"""Read chosen frames of one video file.

Frames are numbered in the order in which the file's frames decode, whatever their time stamps: on a
variable frame rate equal steps in number are not equal steps in time, as in the official code.
"""

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xpool.command import die_with_parent

ChooseIndices = Callable[[int], Sequence[int] | NDArray[np.int64]]
"""From a video's length in frames to the wanted indices, increasing."""
Decoded = tuple[NDArray[np.uint8], NDArray[np.int64], int]
"""``(frame, h, w, 3)`` RGB, the indices of these frames, and the video's length in frames."""


class DecodeError(Exception):
    """A video that cannot be read; its text is the reason, the same at every attempt."""


def decode(
    path: Path,
    choose_indices: ChooseIndices,
    short_side_px: int,
    antialias: bool,
    colours: Literal["ITU709"] | None = None,
) -> Decoded:
    """Decode a video from start to end, keep some frames and resize them.

    Nothing is sought: sampled frames span the video, and in h264 a seek decodes from the key frame
    before. Only kept frames are converted to RGB: all of them would take nearly as long as decoding
    them. Reading on to the end also finds an MP4 that was cut short.

    Args:
        path: the video file.
        choose_indices: from the video's length to the wanted indices.
        short_side_px: height or width of the result, whichever is less; the aspect is kept.
        antialias: see :func:`resized`.
        colours: what the file's colours are taken for; None: what it says, and BT.601 if nothing.

    Raises:
        DecodeError: the file is absent, empty, no video, or one of its frames does not decode.
            Damage that FFmpeg conceals is not noticed.
    """
    from av.video.reformatter import Colorspace, VideoReformatter

    check_file(path)
    space = Colorspace[colours] if colours else None
    convert = VideoReformatter().reformat  # one for all frames: its tables take longer than a frame

    def pixels(frame: Any) -> NDArray[np.uint8]:
        rgb = convert(frame, format="rgb24", src_colorspace=space).to_ndarray()
        return resized(np.asarray(rgb, np.uint8), short_side_px, antialias)

    expected = _frames_promised(path)
    while expected:
        indices = np.asarray(choose_indices(expected), np.int64)
        kept, video_frames = _read(path, set(indices.tolist()), expected, pixels)
        if video_frames == expected:
            return np.stack(kept), indices, video_frames
        expected = video_frames  # no more and no fewer decode, and they decode the same again
    raise DecodeError("it holds no frame")


def check_file(path: Path) -> None:
    """Check that there is something to decode.

    Raises:
        DecodeError: the file is absent or empty.
    """
    if not path.is_file():
        raise DecodeError("there is no such file")
    if path.stat().st_size == 0:
        raise DecodeError("the file is empty")


def _frames_promised(path: Path) -> int:
    """Return how many frames the file says it has, or how many packets; it may be wrong."""
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
            stream.thread_count = 1  # every core decodes a video of its own
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

    Without torch, whose import would cost every worker seconds.

    Args:
        frame: ``(h, w, 3)``.
        short_side_px: the shorter side of the result; the longer is rounded down.
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
    """Cubic interpolation between the four nearest samples along an axis, however far apart.

    Source:
        Cubic convolution (Keys 1981) with a = -0.75, edges repeated: what torch's ``interpolate``
        does without antialiasing, and so what torchvision 0.9, with which X-Pool was published, did
        to tensors. It keeps the values that overshoot 0-1.
    """
    size = values.shape[axis]
    place = (np.arange(length) + 0.5) * (size / length) - 0.5
    below = np.floor(place)
    total = np.zeros(1, np.float32)
    for step in (-1, 0, 1, 2):
        far = np.abs(place - below - step)
        near = (1.25 * far - 2.25) * far * far + 1
        tail = ((-0.75 * far + 3.75) * far - 6) * far + 3
        weight = np.where(far <= 1, near, tail).astype(np.float32)
        taken = values.take(np.clip(below + step, 0, size - 1).astype(int), axis)
        total = total + taken * np.expand_dims(weight, tuple(set(range(values.ndim)) - {axis}))
    return total


def prepare_worker() -> None:
    """Make this process a worker that decodes: dead when its parent is dead."""
    die_with_parent()
    # A handler in Python never runs while a decoder hangs in C: only the default action ends it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
