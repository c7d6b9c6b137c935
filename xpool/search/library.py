"""The videos that a run searches: the test split of its benchmark, or an index of one's own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from xpool.data.benchmark import load
from xpool.data.frame_cache import FrameCache, FramesParams
from xpool.data.manifest import read_manifest
from xpool.data.videos.video_file import DecodeError, header
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.params import setting
from xpool.report.protocol import SYNTHETIC
from xpool.search.trained import Trained

UNKNOWN_RATE_FPS = 25.0
"""Taken for a file that does not state its frame rate."""


@dataclass(frozen=True, kw_only=True)
class Library:
    """Videos with their embeddings, as one run's method takes them."""

    title: str
    video_ids: Sequence[str]
    files: Sequence[Path]
    """The file of each video."""
    frames: Tensor
    """``(video, frame, dim)``."""
    mask: Tensor
    """``(video, frame)`` bool, True where the frame exists."""
    cache: FrameCache
    """The pictures of the frames."""
    params: FramesParams
    video_of_caption: dict[str, set[str]]
    """The videos that have a caption; empty for videos without captions."""

    def __len__(self) -> int:
        """Return the number of videos."""
        return len(self.video_ids)

    @cached_property
    def row(self) -> dict[str, int]:
        """The row of each video."""
        return {video_id: row for row, video_id in enumerate(self.video_ids)}

    def pictures(self, video: int) -> NDArray[np.uint8]:
        """Return the sampled frames of a video, ``(frame, h, w, 3)``."""
        return self.cache.read(self.video_ids[video], self.frames.shape[1], self.params)[0]

    def times_s(self, video: int) -> NDArray[np.float64]:
        """Return where in the video each sampled frame is, in seconds.

        Raises:
            InputError: the video's file is gone.
        """
        sampled, _ = self.cache.sampled(self.video_ids[video], self.frames.shape[1], self.params)
        with still_there(self.files[video]) as file:
            return np.asarray(sampled / (header(file).rate_fps or UNKNOWN_RATE_FPS))


@contextmanager
def still_there(file: Path) -> Iterator[Path]:
    """Name the file, and what to do, where a video cannot be read that could be when embedded.

    Raises:
        InputError: it cannot be read any more.
    """
    try:
        yield file
    except DecodeError as error:
        raise InputError(
            f"{file}: {error}; it could be read when its frames were made: put it back, or index "
            "again the videos that are there"
        ) from error


def test_split(run: Trained) -> Library:
    """Return the test split of the run's benchmark, on which its figures stand."""
    benchmark = run.cell.benchmark
    gallery = run.gallery()
    manifest = read_manifest(paths.manifest(setting(), benchmark))
    test = manifest[manifest["split"] == "test"]
    path_of = dict(zip(test["video_id"], test["path"], strict=True))
    raw = paths.raw(setting(), benchmark)
    video_of_caption: dict[str, set[str]] = {}
    for caption, video_id in zip(test["caption"], test["video_id"], strict=True):
        video_of_caption.setdefault(caption, set()).add(video_id)
    mark = f" ({SYNTHETIC})" if setting() == "mini" else ""
    return Library(
        title=f"{load(benchmark).title} test{mark}",
        video_ids=gallery.video_ids,
        files=[raw / path_of[video_id] for video_id in gallery.video_ids],
        frames=gallery.frames,
        mask=gallery.mask,
        cache=FrameCache(paths.frames(setting(), benchmark)),
        params=run.frames,
        video_of_caption=video_of_caption,
    )
