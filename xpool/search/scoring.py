"""One query against all videos of a library: what can be computed before it comes, is."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from xpool.blocks.words import Words
from xpool.pooling import Method, Pooling, mean_of_units, slices, unit
from xpool.similarity import similarity

VIDEOS_AT_A_TIME = 4096

Scorer = Callable[[Tensor, Words | None], Tensor]
"""Scores a ``(1, dim)`` text and its words with all videos: ``(video,)``, higher is nearer."""


def exact(method: Method, frames: Tensor, mask: Tensor) -> Scorer:
    """Return a scorer by the method itself, of every video.

    A text-agnostic method keeps one vector a video, a method with a factorised form the projections
    of all frames (as much memory as the frames). Any other scores all pairs anew for each query.

    Args:
        method: in eval mode.
        frames: ``(video, frame, dim)`` as the method takes it.
        mask: ``(video, frame)``.
    """
    prepared = getattr(method, "prepared", None)
    if prepared is not None:
        gallery = prepared(frames, mask)
        return lambda text, words: gallery.similarity(text)[0]
    if isinstance(method, Pooling) and method.family == "text-agnostic":
        any_text = frames[0, :1]
        pooled = one_vector_each(lambda *videos: method.pool(any_text, *videos)[0], frames, mask)
        return lambda text, words: pooled @ unit(text)[0]
    return lambda text, words: similarity(method, text, frames, mask, words)[0]


@torch.inference_mode()
def one_vector_each(pool: Callable[..., Tensor], frames: Tensor, mask: Tensor) -> Tensor:
    """Return the L2-normalised ``(video, dim)`` vectors of a pooling, computed block by block."""
    blocks = slices(len(frames), VIDEOS_AT_A_TIME)
    return torch.cat([unit(pool(frames[videos], mask[videos])) for videos in blocks])


@dataclass(frozen=True, kw_only=True)
class TwoStages:
    """A shortlist by mean pooling, which the method scores: an index that X-Pool itself has not.

    X-Pool has one vector for each pair of text and video, so there is nothing to put into an index
    of nearest neighbours. Mean pooling has one vector a video. What it leaves out of the first
    ``count`` cannot be found (:func:`xpool.similarity.two_stage`).
    """

    method: Method
    frames: Tensor
    mask: Tensor
    count: int
    means: Tensor
    """``(video, dim)`` L2-normalised."""

    @classmethod
    def of(cls, method: Method, frames: Tensor, mask: Tensor, count: int) -> "TwoStages":
        """Keep the mean of each video's frames."""
        means = one_vector_each(mean_of_units, frames, mask)
        return cls(method=method, frames=frames, mask=mask, count=count, means=means)

    def __call__(self, text: Tensor, words: Words | None) -> Tensor:
        """Score; videos that are not on the shortlist get minus infinity."""
        near = (self.means @ unit(text)[0]).topk(min(self.count, len(self.means))).indices
        scores = text.new_full((len(self.means),), -torch.inf)
        videos = self.frames[near], self.mask[near]
        scores[near] = similarity(self.method, text, *videos, words)[0]
        return scores
