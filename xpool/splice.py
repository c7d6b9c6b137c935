"""Videos with the frames of other videos cut into them: abrupt scenes that no caption describes.

The robustness experiment of the paper: the gallery grows more diverse, the texts stay as they are.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xpool.command import InputError
from xpool.sampling import frame_indices, padded


def spliced(
    frames: Tensor, mask: Tensor, distractors: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Splice other videos of the gallery into each video, and sample the result anew.

    A video and its distractors stand one after another in random order; from this longer video as
    many frames as before are taken, the middle one of equal intervals. So every method still sees
    the same number of frames, and about one in ``distractors + 1`` of them is the video's own.

    Args:
        frames: ``(video, frame, dim)``.
        mask: ``(video, frame)`` bool, True where the frame exists.
        distractors: other videos in each video; 0 leaves the frames as they are.
        rng: chooses distractors and order.

    Returns:
        Frames and mask of the same shapes.

    Raises:
        InputError: there are not so many other videos, or more videos than frames, so that a video
            could lose all of its own.
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
    there = mask.cpu().numpy()
    for video in range(n_video):
        others = rng.choice(n_video - 1, distractors, replace=False)
        others += others >= video
        parts = [_places(there, part) for part in rng.permutation([video, *others])]
        rows[video], kept[video] = _sampled(parts, n_frame)
    flat = frames.reshape(n_video * n_frame, -1)
    chosen = torch.from_numpy(rows).to(frames.device)
    return flat[chosen], torch.from_numpy(kept).to(mask.device)


def _places(there: NDArray[np.bool_], video: int) -> NDArray[np.int64]:
    """Return where a video's frames lie among those of all videos."""
    places: NDArray[np.int64] = video * there.shape[1] + np.flatnonzero(there[video])
    return places


def _sampled(
    parts: list[NDArray[np.int64]], count: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return ``count`` frames of the parts in a row, and which of them count."""
    whole = np.concatenate(parts)
    taken = whole[frame_indices(len(whole), count, "uniform", 0, "")]
    return padded(taken, count, "mask")
