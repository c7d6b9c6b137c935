"""Retrieval metrics in both directions, from one similarity matrix.

``t2v``: each caption is a query, and its gallery is all videos. ``v2t``: each video that has
captions is a query, and its gallery is the groups of captions, one group a video; a group's score
is the maximum over its captions. Videos without captions are distractors in t2v only.

Tie rule ("realistic"): a candidate that ties with the right answer ranks before or after it with
equal chance. R@K, nDCG@10 and MRR are expectations over these orders, and a rank is their mean.
Equal similarities everywhere thus give exactly the level of chance, and a rank may end in .5.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xpool.project.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

CUTOFFS = (1, 5, 10, 50)
METRICS = ("R@1", "R@5", "R@10", "R@50", "MdR", "MnR")
GRADED = ("nDCG@10", "MRR")
"""Metrics of other benchmarks, MTEB among them: stored, and neither printed in tables nor compared.
"""
REPORTED = ("R@1", "R@5", "R@10", "MdR", "MnR")
"""Metrics that tables print and compare; a further one makes Holm's correction stricter."""
# Elements of the matrix that are compared at a time; bounds the memory beyond the matrix itself.
BLOCK = 2**22


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Rank of the right answer for each query of one direction."""

    query: NDArray[np.int64]
    """Row (t2v) or column (v2t) of the matrix, ascending."""
    n_greater: NDArray[np.int64]
    """Candidates with a higher score than the right answer."""
    n_tied: NDArray[np.int64]
    """Candidates with the same score as the right answer, itself included."""

    @property
    def rank(self) -> NDArray[np.float64]:
        """Mean rank over the orders of tied candidates; starts at 1."""
        return self.n_greater + (self.n_tied + 1) / 2

    def hits(self, cutoff: int) -> NDArray[np.float64]:
        """Return the chance in percent that the right answer is among the first ``cutoff``."""
        found: NDArray[np.float64] = np.clip((cutoff - self.n_greater) / self.n_tied, 0, 1)
        return 100 * found

    def gain(self, metric: str) -> NDArray[np.float64]:
        """Return ``(query,)``: what each query contributes to a metric of :data:`GRADED`, percent.

        A query has one right answer, at rank r. MRR is the mean of 1 / r, and nDCG@10 that of
        1 / log2(1 + r) where r is at most 10, since the best possible list gains 1.

        Source:
            Järvelin and Kekäläinen 2002 (ACM TOIS 20) with one relevant answer.

        Example:
            >>> n_greater, n_tied = np.array([1, 0]), np.array([1, 2])
            >>> Ranks(query=np.arange(2), n_greater=n_greater, n_tied=n_tied).gain("MRR").tolist()
            [50.0, 75.0]
        """
        last = self.n_greater + self.n_tied
        if metric == "MRR":
            gains = 1 / np.arange(1, last.max() + 1)
        else:
            gains = 1 / np.log2(1 + np.arange(1, int(metric.removeprefix("nDCG@")) + 1))
        until = np.concatenate([[0.0], np.cumsum(gains)])  # gained by ranks 1 to this one
        reach = np.minimum([self.n_greater, last], len(gains))
        return np.asarray(100 * (until[reach[1]] - until[reach[0]]) / self.n_tied)

    def recall(self, cutoff: int) -> float:
        """Return the percent of queries with the right answer among the first ``cutoff``.

        With ties it is the expectation over their orders.
        """
        return float(self.hits(cutoff).mean())

    def tied(self) -> float:
        """Return the percent of queries whose right answer ties with another candidate."""
        return float(100 * (self.n_tied > 1).mean())

    def metrics(self) -> dict[str, float]:
        """Return R@K in percent, median (MdR) and mean (MnR) rank, nDCG@10 and MRR in percent."""
        recalls = {f"R@{cutoff}": self.recall(cutoff) for cutoff in CUTOFFS}
        middle = {"MdR": float(np.median(self.rank)), "MnR": float(self.rank.mean())}
        return recalls | middle | {metric: float(self.gain(metric).mean()) for metric in GRADED}


def retrieval_metrics(
    similarity: "NDArray[Any] | Tensor", video_of_text: "NDArray[Any] | Tensor"
) -> dict[str, dict[str, float]]:
    """Return the metrics in both directions; the module's docstring defines protocol and ties.

    Args:
        similarity: ``(text, video)``, higher is nearer.
        video_of_text: ``(text,)`` column of the video that each text describes.

    Returns:
        ``{"t2v": {"R@1", "R@5", "R@10", "R@50", "MdR", "MnR", "nDCG@10", "MRR"}, "v2t": {...}}``;
        ranks from 1, all else in percent.

    Raises:
        InputError: NaN or infinity in the matrix, or a video that is not a column of it.
        ValueError: the shapes do not fit each other, or the videos are not integers.

    Example:
        >>> metrics = retrieval_metrics(np.zeros((4, 4)), np.arange(4))
        >>> metrics["t2v"]["R@1"], metrics["v2t"]["MdR"]
        (25.0, 2.5)
    """
    both = ranks(similarity, video_of_text)
    return {direction: of_direction.metrics() for direction, of_direction in both.items()}


def ranks(
    similarity: "NDArray[Any] | Tensor", video_of_text: "NDArray[Any] | Tensor"
) -> dict[str, Ranks]:
    """Return ranks, ``{"t2v": ..., "v2t": ...}``; arguments as for :func:`retrieval_metrics`."""
    scores, video_of_text = _checked(_array(similarity), _array(video_of_text))
    return {
        "t2v": _text_to_video(scores, video_of_text),
        "v2t": _video_to_text(scores, video_of_text),
    }


def recall_of_any(
    similarity: NDArray[Any], text: NDArray[np.int64], video: NDArray[np.int64]
) -> float:
    """Return text-to-video R@1 in percent where a text may have several right videos.

    A text counts as far as videos that are right share the first rank: if k of m videos that tie
    there are right, k/m, which is the expectation over the orders of the ties.

    Args:
        similarity: ``(text, video)``, higher is nearer, without NaN.
        text: ``(pair,)`` row of each right pair; each pair is there once.
        video: ``(pair,)`` its column.

    Example:
        >>> scores = np.array([[0.2, 0.7, 0.1], [0.5, 0.5, 0.1]])
        >>> recall_of_any(scores, np.array([0, 0, 1]), np.array([0, 1, 1]))
        75.0
    """
    top = similarity.max(axis=1)
    first = (similarity == top[:, None]).sum(axis=1)
    right = np.bincount(text, weights=similarity[text, video] == top[text], minlength=len(top))
    return float(100 * (right / first).mean())


def _text_to_video(scores: NDArray[Any], video_of_text: NDArray[np.int64]) -> Ranks:
    n_text, n_video = scores.shape
    greater, tied = np.empty(n_text, np.int64), np.empty(n_text, np.int64)
    rows = max(1, BLOCK // n_video)
    for start in range(0, n_text, rows):
        block = scores[start : start + rows]
        answers = block[np.arange(len(block)), video_of_text[start : start + rows]][:, None]
        greater[start : start + rows] = (block > answers).sum(axis=1)
        tied[start : start + rows] = (block == answers).sum(axis=1)
    return Ranks(query=np.arange(n_text), n_greater=greater, n_tied=tied)


def _video_to_text(scores: NDArray[Any], video_of_text: NDArray[np.int64]) -> Ranks:
    order = np.argsort(video_of_text, kind="stable")
    queries, first = np.unique(video_of_text[order], return_index=True)
    greater, tied = np.empty(len(queries), np.int64), np.empty(len(queries), np.int64)
    columns = max(1, BLOCK // len(scores))
    for start in range(0, len(queries), columns):
        block = scores[np.ix_(order, queries[start : start + columns])]
        groups = np.maximum.reduceat(block, first, axis=0)  # (group, video of this block)
        n = np.arange(block.shape[1])
        answers = groups[start + n, n]
        greater[start : start + columns] = (groups > answers).sum(axis=0)
        tied[start : start + columns] = (groups == answers).sum(axis=0)
    return Ranks(query=queries, n_greater=greater, n_tied=tied)


def _array(values: "NDArray[Any] | Tensor") -> NDArray[Any]:
    """Return a NumPy array of a tensor on any device, or of anything array-like."""
    if hasattr(values, "detach"):  # a tensor, without importing torch here
        values = values.detach().cpu()
        if values.is_floating_point() and values.element_size() < 4:
            values = values.float()  # NumPy has no bfloat16
    return np.asarray(values)


def _checked(
    scores: NDArray[Any], video_of_text: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    if scores.ndim != 2 or 0 in scores.shape or video_of_text.shape != scores.shape[:1]:
        raise ValueError(
            "expected similarity (text, video) and video_of_text (text,), neither empty; "
            f"got {scores.shape} and {video_of_text.shape}"
        )
    if not np.issubdtype(video_of_text.dtype, np.integer):
        raise ValueError(f"expected integers in video_of_text; got {video_of_text.dtype}")
    outside = np.flatnonzero((video_of_text < 0) | (video_of_text >= scores.shape[1]))
    if len(outside):
        raise InputError(
            f"video_of_text row {outside[0]}: video {video_of_text[outside[0]]} is no column of "
            f"the similarity, which has {scores.shape[1]} ({len(outside)} such rows)"
        )
    for row, values in enumerate(scores):
        if not np.isfinite(values).all():
            raise InputError(
                f"similarity row {row}: NaN or infinity, which would be ranked like a score; "
                "look for a diverged training or broken embeddings"
            )
    return scores, video_of_text.astype(np.int64)
