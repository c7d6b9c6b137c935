"""Open a video file with FFmpeg: which formats, which stream, which way up, and how long it is."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpool.project.digests import is_lfs_pointer, is_web_page

FORMATS = (
    "3gp,apng,asf,av1,avi,dv,flv,gif,h263,h264,hevc,ivf,m4v,matroska,mjpeg,mov,mpeg,mpegts,"
    "mpegvideo,mxf,nut,obu,ogg,rm,vc1,webm,wtv,yuv4mpegpipe"
)
"""FFmpeg's demuxers that are used: each reads a film from the one file that it is given. The others
open further files (playlists, lists of files), the network, or still pictures."""
DEFAULT_BONUS_PX = 5_000_000
"""The number of pixels that the mark "default" is worth in the choice between video streams.

Source: FFmpeg ``fftools/ffmpeg_mux_init.c``, ``map_auto_video``."""
Matrix = tuple[int, int, int, int]
"""``(a, b, c, d)``: the pixel at (x, y) is shown at (a x + c y, b x + d y); y points down."""
ROUNDING_S = 0.002
"""Containers round times to milliseconds."""
PUBLISHED_FPS, PUBLISHED_SHORT_SIDE_PX = 3, 224
"""Frame rate and shorter side of the copies from which X-Pool's published figures come, and many of
CLIP4Clip's (``preprocess/compress_video.py`` of CLIP4Clip; layer6ai-labs/xpool#12, #13)."""
UNKNOWN_FRAMES = 1 << 29
"""Writers of an AVI that cannot go back to its header leave numbers from here on in it."""
ZIP = b"PK\x03\x04"
"""First bytes of a zip archive, also of one that is cut short."""


class Header(NamedTuple):
    """The size and frame rate that the header of a video file states."""

    width: int
    height: int
    rate_fps: float | None
    """Average frames a second; None if the file does not state it."""


class DecodeError(Exception):
    """A video cannot be read. The message is the reason, and the same at every attempt."""


def open_video(path: Path) -> Any:
    """Return the file as PyAV's container, which can open no other file.

    Metadata (a title, a chapter's name) may be in any encoding, and no frame depends on it.

    Raises:
        DecodeError: the file is absent, empty, or in no format of :data:`FORMATS`.
    """
    import av

    if not path.is_file():
        raise DecodeError("there is no such file")
    if path.stat().st_size == 0:
        raise DecodeError("the file is empty")
    options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
    try:
        return av.open(str(path), container_options=options, metadata_errors="replace")
    except av.error.ArgumentError as error:  # also FFmpeg's answer to a format off the list
        raise DecodeError(
            "it does not open as a video: its format is that of a playlist, a list of other files, "
            "a still picture or a text"
        ) from error
    except av.error.FFmpegError as error:
        reason = _looks_like(path) or error.strerror
        raise DecodeError(f"it does not open as a video: {reason}") from error


def _looks_like(path: Path) -> str | None:
    """Name what a download often leaves in the place of a video; None: it is nothing of these."""
    if is_lfs_pointer(path):
        return "it is a Git LFS pointer; run `git lfs pull` where it came from"
    if is_web_page(path):
        return "it is a web page, as a failed download leaves"
    with path.open("rb") as file:
        return "it is a zip archive" if file.read(len(ZIP)) == ZIP else None


def video_stream(container: Any) -> tuple[Any, list[str]]:
    """Choose the video stream as FFmpeg does: the default one, unless another is far larger.

    Returns:
        PyAV's stream, and a remark if there are several.

    Raises:
        DecodeError: there is none but cover pictures, or its codec is unknown.
    """
    from av.stream import Disposition

    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = container.streams.video
    films = [stream for stream in streams if not stream.disposition & pictures]
    if not films:
        found = "a cover picture and no film" if len(streams) else "no video stream"
        raise DecodeError(f"it does not open as a video: it holds {found}")

    def score(stream: Any) -> int:
        codec = stream.codec_context
        area = codec.width * codec.height if codec else 0
        return area + DEFAULT_BONUS_PX * bool(stream.disposition & Disposition.default)

    best = max(films, key=score)  # the first of equal ones
    if best.codec_context is None:
        raise DecodeError("it does not open as a video: FFmpeg does not know its codec")
    several = f"read video stream {best.index} (of {len(films)}: the default or largest one)"
    return best, [several] if len(films) > 1 else []


def header(path: Path) -> Header:
    """Return what a video's header states; decodes nothing.

    Raises:
        DecodeError: the file does not open as a video.
    """
    with open_video(path) as container:
        stream, _ = video_stream(container)
        rate = stream.average_rate
        return Header(stream.width, stream.height, float(rate) if rate else None)


def display_matrix(frame: Any) -> Matrix | None:
    """Return how a frame is to be turned and mirrored, or None if it does not say."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if not data:
        return None
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).tolist()
    return a, b, c, d


def tagged_matrix(stream: Any) -> Matrix | None:
    """Return the matrix of a stream's tag ``rotate``, in degrees clockwise, or None."""
    tags = {name.lower(): value for name, value in stream.metadata.items()}
    try:
        angle = math.radians(float(tags["rotate"]))
    except (KeyError, ValueError):
        return None
    cos, sin = round(math.cos(angle) * 65536), round(math.sin(angle) * 65536)
    return cos, sin, -sin, cos


def upright(frame: NDArray[Any], matrix: Matrix | None) -> NDArray[Any]:
    """Turn and mirror a frame as its display matrix says.

    Args:
        frame: ``(h, w, 3)``.
        matrix: its scale is ignored, as by FFmpeg; None leaves the frame as it is.

    Raises:
        DecodeError: the angle is further than a degree from a multiple of 90.
    """
    if matrix is None:
        return frame
    a, b, c, d = matrix
    if not (a or c) or not (b or d):  # it shows nothing; FFmpeg ignores it
        return frame
    across = abs(b) + abs(c) > abs(a) + abs(d)
    large, small = ((b, c), (a, d)) if across else ((d, a), (b, c))
    if max(map(abs, small)) > math.radians(1) * min(map(abs, large)):
        raise DecodeError(
            f"its display matrix {list(matrix)} turns it by no multiple of 90 degrees"
        )
    turned = frame.swapaxes(0, 1) if across else frame
    down, right = (-1 if side < 0 else 1 for side in large)
    return np.ascontiguousarray(turned[::down, ::right])


class Length:
    """Compares the length that a file states with what it holds.

    AVI states the number of frames, MP4 and MOV the duration of each stream without what its edit
    list hides, and Matroska, WebM, FLV and ASF the end of the last stream. The other formats state
    none, or FFmpeg takes it from the file's end, so that a cut shows in nothing.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        """Read what the header states."""
        self._stream = stream
        formats = set(container.format.name.split(","))
        self._is_asf = "asf" in formats
        self._from_zero = bool(formats & {"matroska", "flv", "asf"})
        stated: float = 0
        if "avi" in formats and stream.frames < UNKNOWN_FRAMES:
            stated = stream.frames * stream.time_base
        elif "mov" in formats:
            stated = (stream.duration or 0) * stream.time_base
        elif self._from_zero:
            stated = (container.duration or 0) / 1e6
        self._stated_s = float(stated)
        self._start_s, self._end_s = math.inf, 0.0
        self._longest_s = 0.0
        self._starts_s: dict[int, list[float]] = {}
        self._error: Exception | None = None

    def see_error(self, error: Exception) -> None:
        """Note that the last packet so far does not decode."""
        self._error = error

    def go_on(self) -> None:
        """Raise the error of the last packet, since another one follows it."""
        if self._error:
            raise self._error

    def see_packet(self, packet: Any) -> None:
        """Count a packet of any stream."""
        if packet.pts is None or packet.is_discard:
            return
        if packet.stream == self._stream:
            self._start_s = min(self._start_s, float(packet.pts * packet.time_base))
        elif self._from_zero:
            self._see(packet, packet.stream)

    def see_frame(self, frame: Any) -> None:
        """Count a decoded frame."""
        if frame.pts is not None:
            self._see(frame, self._stream)

    def _see(self, part: Any, stream: Any) -> None:
        start_s = float(part.pts * part.time_base)
        duration_s = float((part.duration or 0) * part.time_base)
        self._end_s = max(self._end_s, start_s + duration_s)
        if stream == self._stream or stream.type == "audio":
            self._starts_s.setdefault(stream.index, []).append(start_s)
            self._longest_s = max(self._longest_s, duration_s)

    def check(self, allowed_cut: float) -> list[str]:
        """Compare both lengths.

        One frame (the longest of them) makes no difference, nor do times that are rounded to
        milliseconds. A file that holds more than it states is whole.

        Args:
            allowed_cut: share of the stated length that may be lacking.

        Returns:
            A remark if something is lacking, or nothing is stated.

        Raises:
            DecodeError: more is lacking than allowed.
            FFmpegError: nothing is lacking, or it cannot be told, and the last packet does not
                decode.
        """
        if not self._stated_s:
            self.go_on()
            # FFmpeg passes over the length in an ASF whose size is not what its header says
            if self._is_asf and allowed_cut < 1:
                raise DecodeError("it is cut short: its header names another size than the file's")
            return ["the file states no length: a cut would not show"]
        held_s = self._end_s - (0.0 if self._from_zero else min(self._start_s, self._end_s))
        lacking_s = self._stated_s - held_s
        if lacking_s <= 1.1 * self._frame_s() + ROUNDING_S:
            self.go_on()
            return []
        found = f"it states a length of {self._stated_s:.2f} s, and {held_s:.2f} s decode"
        if lacking_s > allowed_cut * self._stated_s:
            raise DecodeError(f"it is cut short: {found} (frames.allowed_cut)")
        return [f"accepted though cut short: {found}"]

    def _frame_s(self) -> float:
        """Return the duration of the longest frame; AVI times them in the order of storage."""
        steps = [np.diff(np.sort(starts_s)) for starts_s in self._starts_s.values()]
        longest_s = float(np.concatenate([[self._longest_s], *steps]).max())
        return longest_s or float(1 / (self._stream.guessed_rate or 1))
