"""Hubs: videos that stand among the first for many texts, whatever these say.

Where similarities are of vectors with many dimensions, a few items are among the nearest neighbours
of very many others, and many of none.

Source:
    Radovanović, Nanopoulos and Ivanović 2010, Hubs in Space, JMLR 11: k-occurrences N_k and their
    skewness (section 2).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

K = 10
"""A video occurs for a text if it is among so many first."""


def occurrences(similarity: NDArray[Any], k: int = K) -> NDArray[np.int64]:
    """Return ``(video,)`` N_k: the number of texts for which a video is among the first k.

    Of videos that tie at the end, the first ones count, so that each text counts k times.

    Args:
        similarity: ``(text, video)``.
        k: at most the number of videos counts.

    Example:
        >>> occurrences(np.array([[0.9, 0.1, 0.5], [0.8, 0.2, 0.1], [0.7, 0.3, 0.6]]), k=1).tolist()
        [3, 0, 0]
    """
    first = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return np.bincount(first.ravel(), minlength=similarity.shape[1])


def skewness(counts: NDArray[Any]) -> float:
    """Return the third standardised moment of N_k over videos; 0 if all are equal."""
    return float(stats.skew(counts)) if np.ptp(counts) else 0.0


def skewness_by_chance(texts: int, videos: int, k: int = K) -> float:
    """Return the skewness of N_k if each text had k videos drawn at random: of a binomial.

    Example:
        >>> round(skewness_by_chance(1000, 1000), 4)
        0.3115
    """
    share = min(k, videos) / videos
    return float(stats.binom(texts, share).stats("s")) if share < 1 else 0.0
