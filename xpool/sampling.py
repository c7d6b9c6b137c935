"""Which frames of a video stand for it, and where they lie among the frames that are stored.

The same rules serve the pixels of the frame cache and the cached frame embeddings.
"""

from collections.abc import Iterable
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpool.command import InputError
from xpool.seeds import seed_for

Rule = Literal["uniform", "rand"]
ShortVideos = Literal["mask", "repeat_last"]


def frame_indices(
    video_frames: int, count: int, rule: Rule, seed: int, video_id: str
) -> NDArray[np.int64]:
    """Cut a video into equal intervals and take one frame of each.

    Args:
        video_frames: length of the video, in frames.
        count: how many intervals; a shorter video has one for each of its frames.
        rule: ``uniform`` takes each interval's middle frame, ``rand`` draws one, the same at every
            epoch and in every run.
        seed: of ``rand``.
        video_id: of ``rand``, so that two videos of one length get their own draws.

    Returns:
        ``min(count, video_frames)`` indices, increasing.

    Source:
        The rule of layer6ai-labs/xpool@bc88718 ``datasets/video_capture.py``, with one difference:
        its ``rand`` never draws an interval's last frame, and so fails on intervals of one frame.

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
    """Return the union of :func:`frame_indices` over every count by every rule, increasing.

    What is shared is stored once. ``uniform`` nests where a count is an odd multiple of another and
    divides the video's length: an interval cut into an odd number has a middle piece, and that
    piece's middle frame is its own (4 of 120 frames are among the 12 of 120, but 6 are not). All
    else meets by chance: other counts, other lengths, and ``rand``, which draws anew for each
    count. A video no longer than the largest count is stored whole.
    """
    pairs = product(counts, rules)
    parts = [frame_indices(video_frames, count, rule, seed, video_id) for count, rule in pairs]
    return np.unique(np.concatenate(parts))


def select(
    stored: ArrayLike, wanted: ArrayLike, *, count: int, rule: Rule, video_id: str
) -> NDArray[np.int64]:
    """Return the position of each wanted frame among the stored ones.

    Args:
        stored: indices of the frames that are stored, increasing.
        wanted: indices of the frames to find.
        count: for the message: how many frames were asked for.
        rule: for the message: by which rule.
        video_id: for the message.

    Raises:
        InputError: a wanted frame is not stored.
    """
    have, want = np.asarray(stored, np.int64), np.asarray(wanted, np.int64)
    absent = want[~np.isin(want, have)]
    if absent.size:
        raise InputError(
            f"params.yaml: frames.counts: {count} {rule} frames of {video_id} cannot be read from "
            f"the cache: frame {absent[0]} is not among the {have.size} it holds (what is not "
            f"listed works only where all its frames are also frames of what is); add {count} to "
            f"frames.counts and {rule} to frames.rules, and run the frames step again"
        )
    return np.searchsorted(have, want).astype(np.int64)


def padded(
    positions: ArrayLike, count: int, short_videos: ShortVideos
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Fill a short video up to ``count`` frames with its last one.

    Args:
        positions: ``(n,)`` with 1 <= n <= count.
        count: length of the result.
        short_videos: ``mask`` marks the filling as no frame (CLIP4Clip); ``repeat_last`` lets it
            count as frames (official X-Pool), which pulls a mean towards the video's end.

    Returns:
        ``(count,)`` positions, and the ``(count,)`` mask that is True where a frame counts.
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
    """Return where the sampled frames of a video lie among its stored ones.

    Args:
        stored: indices of the stored frames, increasing.
        video_frames: length of the video, in frames.
        count: how many frames are asked for.
        rule: see :func:`frame_indices`.
        seed: see :func:`frame_indices`.
        video_id: see :func:`frame_indices`.
        short_videos: see :func:`padded`.

    Returns:
        ``(count,)`` positions in ``stored``, and the ``(count,)`` mask of those that count.

    Raises:
        InputError: a frame is not stored.
    """
    wanted = frame_indices(video_frames, count, rule, seed, video_id)
    positions = select(stored, wanted, count=count, rule=rule, video_id=video_id)
    return padded(positions, count, short_videos)
