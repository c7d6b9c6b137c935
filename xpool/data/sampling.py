"""Choose the frames of a video to sample, and find them among its stored frames.

The frame cache (pixels) and the embedding cache follow the same rules.
"""

from collections.abc import Iterable
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpool.project.errors import InputError
from xpool.project.seeds import seed_for

Rule = Literal["uniform", "rand"]
ShortVideos = Literal["mask", "repeat_last"]


def frame_indices(
    video_frames: int, count: int, rule: Rule, seed: int, video_id: str
) -> NDArray[np.int64]:
    """Cut a video into equal intervals and take one frame from each.

    Args:
        video_frames: length of the video, in frames.
        count: how many intervals; a shorter video has one for each of its frames.
        rule: ``uniform`` takes each interval's middle frame; ``rand`` draws one, the same at every
            epoch and in every run.
        seed: seed of ``rand``.
        video_id: makes ``rand`` draw differently for videos of the same length.

    Returns:
        ``min(count, video_frames)`` indices, increasing.

    Source:
        The rule of layer6ai-labs/xpool@bc88718 ``datasets/video_capture.py``, with one difference:
        its ``rand`` never draws an interval's last frame, so it fails on intervals of one frame.

    Example:
        >>> frame_indices(120, 4, "uniform", 0, "video7").tolist()
        [14, 44, 74, 104]
    """
    if video_frames < 1 or count < 1:
        raise ValueError(f"expected at least 1 frame of 1, got {count} of {video_frames}")
    edges = np.linspace(0, video_frames, min(count, video_frames) + 1).astype(np.int64)
    first, last = edges[:-1], edges[1:] - 1
    if rule == "uniform":
        return (first + last) // 2
    generator = np.random.default_rng(seed_for("frames", seed, video_id, count))
    return generator.integers(first, last, endpoint=True)


def cached_indices(
    video_frames: int, counts: Iterable[int], rules: Iterable[Rule], seed: int, video_id: str
) -> NDArray[np.int64]:
    """Return the union of :func:`frame_indices` over all counts and rules, increasing.

    Shared frames are stored once. ``uniform`` nests when one count is an odd multiple of another
    and divides the video's length: an interval cut into an odd number of pieces has a middle piece,
    and both have the same middle frame (4 of 120 frames are among the 12 of 120, but 6 are not).
    Any other overlap is chance; ``rand`` draws anew for each count. A video no longer than the
    largest count is stored whole.
    """
    pairs = product(counts, rules)
    parts = [frame_indices(video_frames, count, rule, seed, video_id) for count, rule in pairs]
    return np.unique(np.concatenate(parts))


def select(
    stored: ArrayLike, wanted: ArrayLike, *, count: int, rule: Rule, video_id: str
) -> NDArray[np.int64]:
    """Return the position of each wanted frame among the stored ones.

    Args:
        stored: indices of the stored frames, increasing.
        wanted: indices of the frames to find.
        count: how many frames were asked for, named in the error message.
        rule: by which rule, named in the error message.
        video_id: of which video, named in the error message.

    Raises:
        InputError: a wanted frame is not stored.
    """
    held, asked = np.asarray(stored, np.int64), np.asarray(wanted, np.int64)
    absent = asked[~np.isin(asked, held)]
    if absent.size:
        raise InputError(
            f"params.yaml: frames.counts: {count} {rule} frames of {video_id} cannot be read from "
            f"the cache: frame {absent[0]} is not among the {held.size} stored ones; add {count} "
            f"to frames.counts and {rule} to frames.rules, and run the stage frames again"
        )
    return np.searchsorted(held, asked).astype(np.int64)


def padded(
    positions: ArrayLike, count: int, short_videos: ShortVideos
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Fill up a short video to ``count`` frames by repeating its last one.

    Args:
        positions: ``(n,)`` with 1 <= n <= count.
        count: length of the result.
        short_videos: ``mask`` masks the repeated frames (CLIP4Clip); ``repeat_last`` lets them
            count (official X-Pool), which pulls a mean towards the video's end.

    Returns:
        ``(count,)`` positions, and a ``(count,)`` mask, True where a frame counts.
    """
    real = np.asarray(positions, np.int64)
    filled = np.concatenate([real, np.repeat(real[-1:], count - real.size)])
    return filled, (np.arange(count) < real.size) | (short_videos == "repeat_last")


def positions_for(
    stored: ArrayLike,
    video_frames: int,
    count: int,
    rule: Rule,
    seed: int,
    video_id: str,
    short_videos: ShortVideos,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the positions of a video's sampled frames among its stored ones.

    Args:
        stored: indices of the stored frames, increasing.
        video_frames: length of the video, in frames.
        count: how many frames are asked for.
        rule: see :func:`frame_indices`.
        seed: see :func:`frame_indices`.
        video_id: see :func:`frame_indices`.
        short_videos: see :func:`padded`.

    Returns:
        ``(count,)`` positions in ``stored``, and a ``(count,)`` mask, True where a frame counts.

    Raises:
        InputError: a frame is not stored.
    """
    wanted = frame_indices(video_frames, count, rule, seed, video_id)
    positions = select(stored, wanted, count=count, rule=rule, video_id=video_id)
    return padded(positions, count, short_videos)
