"""Misses that are none: the video ranked first has the query's caption too, or almost."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from xpool.statistics.slices.attributes import words

SAME = 2
"""The likeness of two captions with the same words."""
NEAR = 1
"""The likeness of two captions that differ in one word, put in, left out or exchanged."""
Words = tuple[str, ...]


def likeness(one: Words, other: Words) -> int:
    """Return :data:`SAME`, :data:`NEAR` or 0 for two captions.

    Example:
        >>> likeness(words("A dog runs."), words("a dog runs")), likeness(("a", "dog"), ("dog",))
        (2, 1)
    """
    if one == other:
        return SAME
    if abs(len(one) - len(other)) > 1:
        return 0
    begun = 0
    while begun < min(len(one), len(other)) and one[begun] == other[begun]:
        begun += 1
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    skipped = begun + (len(one) == len(other))
    return NEAR if longer[begun + 1 :] == shorter[skipped:] else 0


def likeness_of_first(
    captions: Sequence[str], video_of_text: NDArray[np.int64], first: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return ``(text,)`` the greatest likeness of a text and a caption of the video ranked first.

    Args:
        captions: ``(text,)`` of the test split; those of a video are all that it has there.
        video_of_text: ``(text,)`` column of each text's own video.
        first: ``(text,)`` column of the video that a method ranks first.

    Returns:
        :data:`SAME`, :data:`NEAR` or 0; :data:`SAME` where the method is right.
    """
    said = [words(caption) for caption in captions]
    of_video: dict[int, set[Words]] = {}
    for text, video in enumerate(video_of_text.tolist()):
        of_video.setdefault(video, set()).add(said[text])
    found = [
        _greatest(said[text], of_video.get(video, set()))
        for text, video in enumerate(first.tolist())
    ]
    return np.array(found, dtype=np.int64)


def _greatest(text: Words, others: Iterable[Words]) -> int:
    if text in others:
        return SAME
    return max((likeness(text, other) for other in others), default=0)
