"""Splice the frames of other videos into each video: scenes that no caption describes.

This is the robustness experiment of the paper: the gallery becomes more diverse, the texts stay.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xpool.data.sampling import frame_indices, padded
from xpool.project.errors import InputError


def spliced(
    frames: Tensor, mask: Tensor, distractors: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Splice other videos of the gallery into each video, and sample the result anew.

    A video and its distractors are joined in random order, and as many frames as before are sampled
    from the result by the rule ``uniform``. Each method sees the same number of frames as before,
    and about one in ``distractors + 1`` of them is the video's own.

    Args:
        frames: ``(video, frame, dim)``.
        mask: ``(video, frame)`` bool, True where the frame exists.
        distractors: number of other videos in each video; 0 leaves the frames as they are.
        rng: draws distractors and their order.

    Returns:
        Frames and mask of the same shapes.

    Raises:
        InputError: the gallery has fewer other videos, or a video could lose all its own frames.
    """
    n_video, n_frame = mask.shape
    if distractors >= n_video:
        raise InputError(
            f"params.yaml: ablations.scene_diversity.distractors: {distractors} other videos asked "
            f"of a gallery of {n_video}; lower it"
        )
    if distractors >= n_frame:
        raise InputError(
            f"params.yaml: ablations.scene_diversity.distractors: {distractors} other videos leave "
            f"no frame of a video's own {n_frame}; lower it, or raise train.frames"
        )
    rows = np.empty((n_video, n_frame), np.int64)
    kept = np.empty((n_video, n_frame), np.bool_)
    real = mask.cpu().numpy()
    for video in range(n_video):
        others = rng.choice(n_video - 1, distractors, replace=False)
        others += others >= video
        parts = [_rows_of(real, part) for part in rng.permutation([video, *others])]
        rows[video], kept[video] = _sampled(parts, n_frame)
    flat = frames.reshape(n_video * n_frame, -1)
    chosen = torch.from_numpy(rows).to(frames.device)
    return flat[chosen], torch.from_numpy(kept).to(mask.device)


def _rows_of(real: NDArray[np.bool_], video: int) -> NDArray[np.int64]:
    """Return the rows of a video's real frames among the frames of all videos."""
    rows: NDArray[np.int64] = video * real.shape[1] + np.flatnonzero(real[video])
    return rows


def _sampled(
    parts: list[NDArray[np.int64]], count: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Sample ``count`` rows from the joined parts; return them and their mask."""
    whole = np.concatenate(parts)
    taken = whole[frame_indices(len(whole), count, "uniform", 0, "")]
    return padded(taken, count, "mask")
