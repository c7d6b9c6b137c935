"""The command ``xpool compress``: copies of videos as those behind the published figures.

X-Pool's authors trained and tested on copies of 3 frames a second and a short side of 224 pixels,
made by the script that CLIP4Clip distributes. FFmpeg's own rule for ``-r 3`` decides there which
frames a copy has, and it is followed here: :class:`ConstantRate`.
"""

import csv
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from xpool.project.errors import InputError

TIMEOUT_S = 600.0
"""Time limit for one video."""
SAME_TIME_S = 2.0
"""Tolerance in seconds for the time of a copy, since some disks keep even seconds only."""
log = logging.getLogger(__name__)


class ConstantRate:
    """Which frames make a video of constant rate, as ``ffmpeg -r`` decides.

    Source:
        ``do_video_out`` in ``fftools/ffmpeg.c`` of FFmpeg 5.1 (``-vsync cfr``): a frame is left out
        if it ends more than 1.1 output frames too early, and repeated if it ends more than 1.1 too
        late.
    """

    def __init__(self, duration: float) -> None:
        """Begin; ``duration`` is that of a frame of the source, in frames of the copy."""
        self._duration, self._next = min(duration, 1.0), 0
        self._repeats = [0, 0, 0]

    def take(self, time: float) -> tuple[int, int]:
        """Take the next frame of the source.

        Args:
            time: when it is shown, in frames of the copy.

        Returns:
            How often the copy shows the frame before it, and then this one.
        """
        ticks = round(time * 2**16) + (0.5 if time > 0 else -0.5)  # FFmpeg too avoids ties so
        early = ticks / 2**16 - self._next
        ends = early + self._duration
        before, count = 0, 1
        if early < 0 < ends:
            early = 0.0
        if ends < -1.1:
            count = 0
        elif ends > 1.1:
            count = round(ends)
            before = min(round(early - 0.6), count) if early > 1.1 else 0
        self._repeats = [before, *self._repeats[:2]]
        self._next += count
        return before, count - before

    def end(self) -> int:
        """Return how often the copy shows the last frame once more."""
        return sorted(self._repeats)[1]


def compress(source: Path, copy: Path) -> None:
    """Write a copy of a video: h264 by FFmpeg's defaults, without sound, with its time of change.

    Raises:
        DecodeError: the video cannot be read.
    """
    import av

    from xpool.data.videos.video_file import DecodeError, open_video

    video = open_video(source)
    copy.parent.mkdir(parents=True, exist_ok=True)
    unfinished = copy.with_name(f".{copy.name}.part")
    state = source.stat()
    try:
        with video, av.open(str(unfinished), "w", format="mp4") as written:
            _write(_frames(video), written)
    except av.error.FFmpegError as error:
        unfinished.unlink(missing_ok=True)
        raise DecodeError(f"it does not decode: {error.strerror}") from error
    except DecodeError:
        unfinished.unlink(missing_ok=True)
        raise
    os.utime(unfinished, ns=(state.st_atime_ns, state.st_mtime_ns))
    unfinished.replace(copy)


def _frames(video: Any) -> Iterator[Any]:
    """Yield the frames of the copy, upright."""
    from xpool.data.videos.decode import frames_of
    from xpool.data.videos.video_file import PUBLISHED_FPS, DecodeError, Length, video_stream

    stream, _ = video_stream(video)
    length = Length(video, stream)
    rate = stream.guessed_rate or stream.average_rate or Fraction(PUBLISHED_FPS)
    begin = (video.start_time or 0) / 1e6
    constant, last = ConstantRate(float(PUBLISHED_FPS / rate)), None
    for number, (decoded, matrix) in enumerate(frames_of(video, stream, length)):
        time = number / float(rate) if decoded.time is None else decoded.time - begin
        frame = _upright(decoded, matrix)
        before, here = constant.take(time * PUBLISHED_FPS)
        yield from [last or frame] * before
        yield from [frame] * here
        last = frame
    if last is None:
        raise DecodeError("it holds no frame")
    length.check(0.0)  # the copy would state what is left as its length
    yield from [last] * constant.end()


def _upright(frame: Any, matrix: Any) -> Any:
    """Return a frame as its display matrix says, since the copy has none."""
    import av

    from xpool.data.videos.video_file import upright

    if matrix is None:
        return frame
    return av.VideoFrame.from_ndarray(upright(frame.to_ndarray(format="rgb24"), matrix), "rgb24")


def _write(frames: Iterable[Any], written: Any) -> None:
    """Encode frames one after another; all get the size that the first one asks for."""
    from xpool.data.videos.video_file import PUBLISHED_FPS

    stream = written.add_stream("libx264", rate=PUBLISHED_FPS, options={"threads": "1"})
    size: tuple[int, int] | None = None
    for number, frame in enumerate(frames):
        if size is None:
            size = short_side(frame.width, frame.height)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        small = frame.reformat(*size, format="yuv420p", interpolation="BICUBIC")
        small.pts, small.time_base = number, Fraction(1, PUBLISHED_FPS)
        small.pict_type = 0  # the encoder chooses, not the source
        written.mux(stream.encode(small))
    written.mux(stream.encode())


def short_side(width: int, height: int) -> tuple[int, int]:
    """Return width and height with the short side at 224 pixels, the long one even.

    Example:
        >>> short_side(320, 240), short_side(720, 1280)
        ((298, 224), (224, 398))
    """
    from xpool.data.videos.video_file import PUBLISHED_SHORT_SIDE_PX

    short = min(width, height)
    long = max(width, height) * PUBLISHED_SHORT_SIDE_PX // short // 2 * 2
    return (long, PUBLISHED_SHORT_SIDE_PX) if width >= height else (PUBLISHED_SHORT_SIDE_PX, long)


def planned(source: Path, copies: Path) -> list[tuple[Path, Path]]:
    """Return each video below a folder with the path of its copy.

    Raises:
        InputError: there is no video, two would have one copy, or copies would be sources.
    """
    from xpool.data.raw_folder import RawFolder

    if not source.is_dir():
        raise InputError(f"{source}: no such folder")
    if copies.resolve().is_relative_to(source.resolve()):
        raise InputError(f"{copies}: lies within {source}; name a folder outside it")
    found: dict[Path, Path] = {}
    videos = RawFolder.scan(source, source.name).videos
    for path in sorted(Path(path) for paths in videos.values() for path in paths):
        other = found.setdefault(path.with_suffix(".mp4"), path)
        if other != path:
            raise InputError(f"{source}: {other} and {path} would have one copy; keep one of them")
    if not found:
        raise InputError(f"{source}: it holds no video")
    return [(source / path, copies / copy) for copy, path in found.items()]


def compress_all(source: Path, copies: Path) -> None:
    """Write the copies that are not there yet, or whose video has changed.

    Raises:
        InputError: some videos cannot be read; ``quarantine.csv`` among the copies says why.
    """
    from xpool.data.packing import in_order
    from xpool.data.videos.video_file import DecodeError
    from xpool.project.command import available_cores
    from xpool.project.progress import progress
    from xpool.project.workspace import replacing

    videos = planned(source, copies)
    waiting = [pair for pair in videos if not _is_copied(*pair)]
    workers = min(available_cores(), max(len(waiting), 1))
    failed = []
    with closing(in_order(compress, waiting, TIMEOUT_S, workers)) as results:
        bar = progress(results, "videos", initial=len(videos) - len(waiting), total=len(videos))
        for (video, _), result in zip(waiting, bar, strict=True):
            if isinstance(result, DecodeError):
                failed.append((video.relative_to(source).as_posix(), str(result)))
    with replacing(copies / "quarantine.csv") as file:
        csv.writer(file, lineterminator="\n").writerows([("path", "reason"), *failed])
    log.info("%s: %d videos, %d of them new", copies, len(videos) - len(failed), len(waiting))
    if failed:
        raise InputError(
            f"{copies / 'quarantine.csv'}: {len(failed)} of {len(videos)} videos cannot be read, "
            f"first {failed[0][0]}: {failed[0][1]}; the others are done"
        )


def _is_copied(video: Path, copy: Path) -> bool:
    if not copy.is_file():
        return False
    return abs(video.stat().st_mtime - copy.stat().st_mtime) <= SAME_TIME_S


def main(
    source: Annotated[Path, typer.Argument(help="A folder of videos.")],
    copies: Annotated[Path, typer.Argument(help="The folder of their copies.")],
) -> None:
    """Copy videos at 3 frames a second, short side 224.

    The published figures come from such copies (docs/data/real_data.md). A killed run goes on
    where it was; a video that changes is copied again.

    Example: xpool compress /disk/MSRVTT /disk/MSRVTT-3fps
    """
    compress_all(source, copies)
