"""Read chosen frames of one video file with PyAV.

Frames are numbered in decoding order, whatever their time stamps, as in the official code. In a
video of variable frame rate, equal steps in number are therefore not equal steps in time.
"""

import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xpool.data.videos.video_file import (
    DecodeError,
    Length,
    Matrix,
    display_matrix,
    open_video,
    tagged_matrix,
    upright,
    video_stream,
)
from xpool.project.command import die_with_parent

ChooseIndices = Callable[[int], Sequence[int] | NDArray[np.int64]]
"""Maps a video's length in frames to the wanted indices, increasing."""
LONGEST = 4
"""A picture longer than this many times its short side is cut to its middle. The encoder sees no
more of it: evaluation takes the central square, and training, from 8:3 on, the central 4:3.
"""
MEMORY_BYTES = 4 << 30
"""Memory that the decoding of one video may allocate; 7680 x 4320 pixels take a quarter of it."""


class Decoded(NamedTuple):
    """The kept frames of one video."""

    pixels: NDArray[np.uint8]
    """``(frame, h, w, 3)`` RGB."""
    indices: NDArray[np.integer[Any]]
    """Index of each of these frames in the video."""
    video_frames: int
    """Length of the video, in frames."""
    remarks: tuple[str, ...] = ()
    """Choices made in reading it that a user should know."""


def decode(
    path: Path,
    choose_indices: ChooseIndices,
    short_side_px: int,
    antialias: bool,
    allowed_cut: float = 0.0,
    colours: Literal["ITU709"] | None = None,
) -> Decoded:
    """Decode a video from start to end, keep some frames and resize them.

    There is no seeking: the sampled frames span the video, and a seek in h264 decodes from the
    previous key frame anyway. Only kept frames are converted to RGB, because converting a frame
    takes nearly as long as decoding it. Reading to the end also detects a file that is cut short.

    Frames are turned and mirrored as the file asks. If their size changes in mid-stream, all get
    the first one's size, as FFmpeg's own command does it.

    Args:
        path: the video file.
        choose_indices: maps the video's length to the wanted indices.
        short_side_px: shorter side of the resized frames; the aspect is kept.
        antialias: see :func:`scaled`.
        allowed_cut: share of the length that the file states which may be lacking.
        colours: colour space to assume; None: the one that the file names, or BT.601.

    Raises:
        DecodeError: the file is absent, empty, no video or cut short, or one of its frames does not
            decode. Damage that FFmpeg conceals is not detected.
    """
    from av.video.reformatter import Colorspace, VideoReformatter

    space = Colorspace[colours] if colours else None
    convert = VideoReformatter().reformat  # shared: its tables cost more than a frame

    def pixels(frame: Any, matrix: Matrix | None, size: tuple[int, int]) -> NDArray[np.uint8]:
        rgb = convert(frame, format="rgb24", src_colorspace=space).to_ndarray()
        shown = scaled(upright(np.asarray(rgb, np.uint8), matrix), size, antialias)
        return resized(shown, short_side_px, antialias)

    expected = _frames_promised(path)
    while expected:
        indices = np.asarray(choose_indices(expected), np.int64)
        kept, video_frames, remarks = _read(
            path, set(indices.tolist()), expected, pixels, allowed_cut
        )
        if video_frames == expected:
            return Decoded(np.stack(kept), indices, video_frames, remarks)
        expected = video_frames  # a second pass decodes exactly this many
    raise DecodeError("it holds no frame")


def decoder() -> str:
    """Return the name and version of this decoder, on which pixels depend."""
    import av

    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    return f"PyAV {av.__version__}, libavcodec {codec}"


def _frames_promised(path: Path) -> int:
    """Return the number of frames that the file states, or of its packets; it may be wrong."""
    import av

    try:
        with open_video(path) as container:
            stream, _ = video_stream(container)
            promised: int = stream.frames
            return promised or sum(packet.size > 0 for packet in container.demux(stream))
    except av.error.FFmpegError as error:
        raise DecodeError(f"it does not open as a video: {error.strerror}") from error


def _read(
    path: Path,
    wanted: set[int],
    expected: int,
    pixels: Callable[[Any, Matrix | None, tuple[int, int]], NDArray[np.uint8]],
    allowed_cut: float,
) -> tuple[list[NDArray[np.uint8]], int, tuple[str, ...]]:
    """Return the pixels of the wanted frames, how many frames the video has, and remarks."""
    import av

    kept, read, size = [], 0, (0, 0)
    try:
        with open_video(path) as container:
            stream, remarks = video_stream(container)
            length = Length(container, stream)
            for frame, matrix in frames_of(container, stream, length):
                if read == 0:
                    size = upright(np.empty((frame.height, frame.width, 3)), matrix).shape[:2]
                if read in wanted:
                    kept.append(pixels(frame, matrix, size))
                read += 1
            remarks += length.check(allowed_cut)
    except av.error.FFmpegError as error:
        reason = f"frame {read} of {expected} does not decode: {error.strerror}"
        raise DecodeError(reason) from error
    return kept, read, tuple(remarks)


def frames_of(container: Any, stream: Any, length: Length) -> Iterator[tuple[Any, Matrix | None]]:
    """Yield a stream's frames, each with the last display matrix that the file gave.

    A file may be cut in the middle of its last frame. ``length`` judges whether an error there is
    a cut or damage.
    """
    import av

    stream.thread_count = 1  # each core decodes another video
    matrix = tagged_matrix(stream)
    for packet in container.demux():
        length.see_packet(packet)
        if packet.stream == stream:
            if packet.size:
                length.go_on()
            try:
                frames = packet.decode()
            except av.error.FFmpegError as error:
                length.see_error(error)
                continue
            for frame in frames:
                length.see_frame(frame)
                matrix = display_matrix(frame) or matrix
                yield frame, matrix


def first_frame(path: Path) -> tuple[NDArray[np.uint8], Matrix | None, bool]:
    """Return the first frame in its own size, upright, and its matrix.

    The third value is whether an MP4's header or a tag gives the matrix, which older readers know.

    Raises:
        DecodeError: there is none.
    """
    import av

    try:
        with open_video(path) as container:
            stream, _ = video_stream(container)
            for frame, matrix in frames_of(container, stream, Length(container, stream)):
                rgb = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
                known = "mov" in container.format.name or tagged_matrix(stream) is not None
                return upright(rgb, matrix), matrix, known
    except av.error.FFmpegError as error:
        raise DecodeError(f"frame 0 does not decode: {error.strerror}") from error
    raise DecodeError("it holds no frame")


def resized(frame: NDArray[np.uint8], short_side_px: int, antialias: bool) -> NDArray[np.uint8]:
    """Resize a frame, keeping the aspect, and the middle only of a long one (:data:`LONGEST`).

    Args:
        frame: ``(h, w, 3)``.
        short_side_px: shorter side of the result; the longer one is rounded down.
        antialias: see :func:`scaled`.

    Returns:
        ``(h, w, 3)``.
    """
    short = min(frame.shape[:2])
    # as much from both ends, so that the centre stays where it was
    top, left = (max(0, (side - LONGEST * short) // 2) for side in frame.shape[:2])
    frame = frame[top : frame.shape[0] - top, left : frame.shape[1] - left]
    height, width = frame.shape[:2]
    size = (int(short_side_px * height / short), int(short_side_px * width / short))
    return scaled(frame, size, antialias)


def scaled(frame: NDArray[np.uint8], size: tuple[int, int], antialias: bool) -> NDArray[np.uint8]:
    """Resize with bicubic interpolation.

    Does without torch, whose import would cost each worker seconds.

    Args:
        frame: ``(h, w, 3)``.
        size: height and width of the result.
        antialias: True resizes with PIL, as CLIP's own preprocessing and CLIP4Clip do. False is
            :func:`interpolated`, rounded and clipped to 0-255.
    """
    if frame.shape[:2] == size:
        return frame
    height_px, width_px = size
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
    """Make this worker process end with its parent, and limit its memory."""
    die_with_parent()
    # A handler in Python cannot run while a decoder hangs in C; the default action can.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limits = (size for size in (MEMORY_BYTES, most) if size != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), most))
