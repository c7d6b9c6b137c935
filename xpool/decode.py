"""Read chosen frames of one video file: the only place that knows decord.

Frames are numbered in the order in which the file's frames decode, whatever their time stamps: on a
variable frame rate equal steps in number are not equal steps in time, as in the official code.
"""

import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xpool.command import die_with_parent


class DecodeError(Exception):
    """A video that cannot be read; its text is the reason, the same at every attempt."""


def decode(
    path: Path,
    choose_indices: Callable[[int], Sequence[int] | NDArray[np.int64]],
    short_side_px: int,
    antialias: bool,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], int]:
    """Decode a video from start to end, keep some frames and resize them.

    Nothing is sought or skipped. On h264 in AVI decord 0.6.0 gives wrong frames from ``get_batch``,
    ``seek_accurate`` and ``skip_frames`` beyond the first group of pictures (dmlc/decord#195, #252;
    all of a dozen MSVD videos that were tried), while reading one frame after the other agrees with
    FFmpeg to the bit. Sampled frames span the video, so a seek would save little. Reading on to the
    end also finds a file that was cut short.

    Args:
        path: the video file.
        choose_indices: from the video's length in frames to the wanted indices, increasing.
        short_side_px: height or width of the result, whichever is less; the aspect is kept.
        antialias: see :func:`resized`.

    Returns:
        ``(frame, h, w, 3)`` RGB, the indices of these frames, and the video's length in frames.

    Raises:
        DecodeError: the file is absent, empty, no video, or one of its frames does not decode.
            Damage that FFmpeg conceals is not noticed.
    """
    import decord

    if not path.is_file():
        raise DecodeError("there is no such file")
    if path.stat().st_size == 0:
        raise DecodeError("the file is empty")
    try:
        reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
        video_frames = len(reader)
    except (decord.DECORDError, RuntimeError) as error:
        raise DecodeError(f"it does not open as a video: {_reason(error, path)}") from error
    if video_frames < 1:
        raise DecodeError("it holds no frame")
    indices = np.asarray(choose_indices(video_frames), np.int64)
    wanted = set(indices.tolist())
    kept = []
    for index in range(video_frames):
        try:
            frame = reader.next()
        except StopIteration:  # the container may promise more frames than decode
            break
        except (decord.DECORDError, RuntimeError) as error:
            raise DecodeError(
                f"frame {index} of {video_frames} does not decode: {_reason(error, path)}"
            ) from error
        if index in wanted:
            kept.append(resized(_rgb(frame.asnumpy()), short_side_px, antialias))
    if len(kept) < len(indices):
        raise DecodeError(f"frame {indices[len(kept)]} of {video_frames} does not decode")
    return np.stack(kept), indices, video_frames


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
    """Make this process a worker that decodes: quiet, and dead when its parent is dead."""
    die_with_parent()
    # A handler in Python never runs while decord hangs in C: only the default action ends it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    import decord

    decord.logging.set_level(decord.logging.QUIET)


def _rgb(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut off what pads decord's rows: at widths like 48 and 72 it is taken for more channels.

    See dmlc/decord#93 and #336.
    """
    height, width = frame.shape[:2]
    return np.ascontiguousarray(frame.reshape(height, -1)[:, : 3 * width]).reshape(height, width, 3)


def _reason(error: Exception, path: Path) -> str:
    """First line of decord's message, without clock times, source code and our file's path."""
    line = str(error).splitlines()[0]
    line = re.sub(r"\[\d\d:\d\d:\d\d\] \S+:\d+: |Check failed: .* vs\. \S+\) ", "", line)
    return line.replace(str(path), "the file").strip()
