"""Which queries the attention demo shows, by rule and not by hand, and what they describe."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xpool.command import InputError
from xpool.protocol import method_name

XPOOL = "xpool"


@dataclass(frozen=True, kw_only=True)
class Pick:
    """A text to show."""

    name: str
    """Of its file, e.g. ``gain``."""
    reason: str
    text: int
    """Row of the similarity."""


def groups(rank: Mapping[str, NDArray[Any]]) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """Sort texts into groups by whether X-Pool, and the first other method, were right.

    Args:
        rank: each method's rank of the right video, ``(text,)``, from 1. A text counts as right
            where its rank is 1, alone.

    Returns:
        ``{(name, words): (text,) bool}``; each text is in one group.
    """
    xpool, right = method_name(XPOOL), rank[XPOOL] == 1
    others = [method for method in rank if method != XPOOL]
    if not others:
        return {("right", f"{xpool} right"): right, ("miss", f"{xpool} wrong"): ~right}
    other, also = method_name(others[0]), rank[others[0]] == 1
    return {
        ("gain", f"{xpool} right, {other} wrong"): right & ~also,
        ("both", f"{xpool} and {other} right"): right & also,
        ("miss", f"{xpool} wrong"): ~right,
    }


def margins(similarity: NDArray[Any], right: NDArray[np.int64]) -> NDArray[Any]:
    """Return ``(text,)``: the right video's score minus the best score of any other.

    Args:
        similarity: ``(text, video)`` with at least two videos.
        right: ``(text,)`` column of the right video.

    Example:
        >>> margins(np.array([[0.5, 0.25], [0.5, 0.25]]), np.array([0, 1])).tolist()
        [0.25, -0.25]
    """
    rows = np.arange(len(right))
    others = similarity.copy()
    others[rows, right] = -np.inf
    return cast("NDArray[Any]", similarity[rows, right] - others.max(axis=1))


def picks(
    rank: Mapping[str, NDArray[Any]], margin: NDArray[Any], chance: np.random.Generator, drawn: int
) -> list[Pick]:
    """Return which texts to show: a typical one of each group, then some at random.

    Typical is the one in the middle of its group in the order of X-Pool's margin, so that nobody
    picks the picture that suits; the smaller one of two middles, the first of equals.

    Args:
        rank: as :func:`groups`.
        margin: ``(text,)`` of X-Pool, as :func:`margins`.
        chance: draws the random ones, from the texts that are not shown already.
        drawn: how many of these; fewer where there are not so many texts.
    """
    chosen = []
    for (name, words), members in groups(rank).items():
        rows = np.flatnonzero(members)
        if rows.size:
            in_order = rows[np.argsort(margin[rows], kind="stable")]
            reason = f"{words}: the typical one of {rows.size} texts"
            chosen.append(Pick(name=name, reason=reason, text=int(in_order[(rows.size - 1) // 2])))
    rest = np.setdiff1d(np.arange(margin.size), [pick.text for pick in chosen])
    random = chance.permutation(rest)[:drawn]
    return chosen + [
        Pick(name=f"random-{n}", reason="drawn at random", text=int(text))
        for n, text in enumerate(random, start=1)
    ]


def described(
    texts: pd.DataFrame,
    captions: pd.DataFrame,
    scenes: pd.DataFrame,
    sampled: Mapping[str, tuple[NDArray[Any], NDArray[np.bool_]]],
) -> NDArray[np.bool_]:
    """Return ``(text, frame)``: True where a sampled frame is of the scene that the text describes.

    Args:
        texts: columns caption_id and video_id. ``<video_id>#<k>`` is the video's caption k; any
            other id is that of a test set with one sentence a video (MSR-VTT's), its first.
        captions: the generator's, columns video_id, caption_index, scene.
        scenes: the generator's, columns video_id, scene, start_frame, end_frame (exclusive).
        sampled: for each video the ``(frame,)`` indices of its sampled frames, and their mask.

    Raises:
        InputError: the generator's tables do not have a text.
    """
    asked = texts[["caption_id", "video_id"]].reset_index(drop=True)
    asked["caption_index"] = [_caption_index(caption_id) for caption_id in asked["caption_id"]]
    known = asked.merge(captions, "left", ["video_id", "caption_index"], validate="many_to_one")
    known = known.merge(scenes, "left", ["video_id", "scene"], validate="many_to_one")
    unknown = known["end_frame"].isna()
    if unknown.any():
        raise InputError(
            f"caption {known['caption_id'][unknown].iloc[0]} of the test split has no scene in "
            "captions.parquet and scenes.parquet of the generator; run 'dvc repro' to make both "
            "and the manifest again"
        )
    index = np.stack([sampled[video_id][0] for video_id in known["video_id"]])
    mask = np.stack([sampled[video_id][1] for video_id in known["video_id"]])
    start, end = (known[name].to_numpy(np.int64)[:, None] for name in ("start_frame", "end_frame"))
    inside: NDArray[np.bool_] = (index >= start) & (index < end) & mask
    return inside


def _caption_index(caption_id: str) -> int:
    _, mark, number = caption_id.rpartition("#")
    return int(number) if mark else 0
