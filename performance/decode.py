"""Preparing frames: each video read once, on all cores, against seeking each frame.

Generated videos of MSR-VTT's size and length, with 12 uniform frames of each, resized to 224
pixels. One side is the frames stage itself, with its processes and its files.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray

from performance.measure import Row
from xpool.data.frame_cache import FrameCache, FramesParams
from xpool.data.manifest import Video
from xpool.data.packing import in_order, pack
from xpool.data.sampling import frame_indices
from xpool.data.videos.decode import decode, resized
from xpool.mini.generate import GenerateParams, plan, write_videos
from xpool.project.command import available_cores

MADE = GenerateParams.model_validate(
    {
        "videos": {"train": 5, "val": 0, "test": 1},
        "captions": [1, 1],
        "scenes": [2, 4],
        "duration_s": [10, 20],
        "rate_fps": 25,
        "sizes": [[320, 240]],
    }
)
TIMES = 6  # reads of each video, since drawing one takes longer than reading it
FRAMES = FramesParams(
    counts=[12],
    rules=["uniform"],
    sampling="uniform",
    seed=0,
    short_side_px=224,
    antialias=True,
    short_videos="mask",
    storage="raw",
    timeout_s=120.0,
    allowed_cut=0.0,
    allowed_unreadable=0.0,
)
REPEATS = 3
Clock = Callable[[], float]


def rows(device: torch.device) -> Iterator[Row]:
    """Yield all rows, measured on the CPU; takes two minutes on two busy cores."""
    with TemporaryDirectory() as folder:
        raw = Path(folder)
        videos = write(raw, MADE)
        many = [(f"{video_id}-{turn}", path) for turn in range(TIMES) for video_id, path in videos]
        yield all_cores(raw, many)
        yield one_core(raw, videos)
        yield same_frames(raw, videos)


def write(raw: Path, params: GenerateParams) -> list[Video]:
    """Write the videos; return their names and paths."""
    made = plan("msrvtt", params, seed=0)
    write_videos(made, raw, 0, "msrvtt")
    return [(video.video_id, str(video.path)) for video in made]


def all_cores(raw: Path, videos: Sequence[Video]) -> Row:
    """Time the processes of the frames stage, without their start: once for a whole benchmark."""
    workers = available_cores()

    def read(clock: Clock) -> float:
        with closing(in_order(decode, _tasks(raw, videos), FRAMES.timeout_s, workers)) as results:
            for _ in range(workers):
                next(results)
            start = clock()
            left = sum(1 for _ in results)
            return (clock() - start) / left

    what, note = f"frames of {len(videos)} videos, {workers} cores", "processes have started"
    return _row(what, read, raw, videos, time.perf_counter, note)


def one_core(raw: Path, videos: Sequence[Video]) -> Row:
    """Measure the CPU seconds of reading alone, which other processes hardly change."""

    def read(clock: Clock) -> float:
        start = clock()
        for task in _tasks(raw, videos):
            decode(*task)
        return (clock() - start) / len(videos)

    what = f"frames of {len(videos)} videos, 1 core"
    return _row(what, read, raw, videos, time.process_time, "by CPU seconds")


def _tasks(raw: Path, videos: Sequence[Video]) -> Iterator[tuple[Any, ...]]:
    for video_id, path in videos:
        wanted = partial(_wanted, video_id)
        yield raw / path, wanted, FRAMES.short_side_px, FRAMES.antialias


def same_frames(raw: Path, videos: Sequence[Video]) -> Row:
    """Count the videos of which the two sides give different frames."""
    with packed(raw, videos) as cache:
        other = sum(_unlike(cache.stored(video[0])[0], sought(raw, video)) for video in videos)
    return Row(what="videos of which seeking gives other frames", value=other, unit="")


def _row(
    what: str,
    ours: Callable[[Clock], float],
    raw: Path,
    videos: Sequence[Video],
    clock: Clock,
    note: str,
) -> Row:
    """Time both sides in turns; ``ours`` returns seconds a video."""

    def seek() -> float:
        start = clock()
        for video in videos:
            sought(raw, video)
        return (clock() - start) / len(videos)

    turns = [(ours(clock), seek()) for _ in range(REPEATS)]
    fast, slow = (statistics.median(side) for side in zip(*turns, strict=True))
    return Row(
        what=what,
        value=1 / fast,
        unit="videos/s",
        baseline=1 / slow,
        ratio=statistics.median(theirs / own for own, theirs in turns),
        note=f"{note}; against seeking each frame through PyAV on one core",
    )


@contextmanager
def packed(raw: Path, videos: Sequence[Video]) -> Iterator[FrameCache]:
    """Run the frames stage, and open what it wrote."""
    with TemporaryDirectory() as work:
        yield FrameCache(pack(Path(work), videos, raw, FRAMES, available_cores()))


def sought(raw: Path, video: Video) -> NDArray[np.uint8]:
    """Seek each frame by itself, as OpenCV's ``set(CAP_PROP_POS_FRAMES, ...)`` does, and resize it.

    A seek ends at the key frame before; FFmpeg decodes from there to the wanted frame.
    """
    video_id, path = video
    kept = []
    with av.open(str(raw / path)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        for index in _wanted(video_id, stream.frames).tolist():
            stamp = round(index / stream.average_rate / stream.time_base)
            container.seek(stamp, stream=stream)
            frame = next(frame for frame in container.decode(stream) if frame.pts >= stamp)
            pixels = frame.to_ndarray(format="rgb24")
            kept.append(resized(pixels, FRAMES.short_side_px, FRAMES.antialias))
    return np.stack(kept)


def _wanted(video_id: str, video_frames: int) -> NDArray[np.int64]:
    return frame_indices(video_frames, FRAMES.counts[0], "uniform", FRAMES.seed, video_id)


def _unlike(ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> bool:
    """Return whether two videos' frames differ by more than the rounding of colours."""
    return bool(np.abs(ours.astype(int) - theirs).max() > 8)
