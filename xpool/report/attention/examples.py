"""A rule that chooses the queries of the attention page, and the frames that each describes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xpool.project.errors import InputError
from xpool.report.protocol import XPOOL, method_name


@dataclass(frozen=True, kw_only=True)
class Example:
    """A query to show."""

    name: str
    """Part of its file's name, e.g. ``gain``."""
    reason: str
    """Why it is shown."""
    text: int
    """Row of the similarity."""


def groups(rank: Mapping[str, NDArray[Any]]) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """Sort texts into groups by whether X-Pool, and the first other method, are right.

    Args:
        rank: rank of the right video by each method, ``(text,)``, from 1. A method is right if the
            rank is 1, without ties.

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


def margins(similarity: NDArray[Any], video_of_text: NDArray[np.int64]) -> NDArray[Any]:
    """Return ``(text,)``: the score of the right video minus the best score of any other.

    Args:
        similarity: ``(text, video)`` with at least two videos.
        video_of_text: ``(text,)`` column of the video that each text belongs to.

    Example:
        >>> margins(np.array([[0.5, 0.25], [0.5, 0.25]]), np.array([0, 1])).tolist()
        [0.25, -0.25]
    """
    rows = np.arange(len(video_of_text))
    others = similarity.copy()
    others[rows, video_of_text] = -np.inf
    return cast("NDArray[Any]", similarity[rows, video_of_text] - others.max(axis=1))


def examples(
    rank: Mapping[str, NDArray[Any]], margin: NDArray[Any], chance: np.random.Generator, drawn: int
) -> list[Example]:
    """Return the texts to show: a typical one of each group, then some drawn at random.

    The typical text is the median of its group by X-Pool's margin, so that no picture is
    chosen because it suits: the lower of two medians, and the first of equals.

    Args:
        rank: see :func:`groups`.
        margin: ``(text,)`` from :func:`margins`, for X-Pool.
        chance: draws from the texts that are not shown already.
        drawn: how many texts to draw; fewer if there are not as many.
    """
    chosen = []
    for (name, words), members in groups(rank).items():
        rows = np.flatnonzero(members)
        if rows.size:
            in_order = rows[np.argsort(margin[rows], kind="stable")]
            reason = f"{words}: the typical one of {rows.size} texts"
            text = int(in_order[(rows.size - 1) // 2])
            chosen.append(Example(name=name, reason=reason, text=text))
    rest = np.setdiff1d(np.arange(margin.size), [example.text for example in chosen])
    random = chance.permutation(rest)[:drawn]
    return chosen + [
        Example(name=f"random-{n}", reason="drawn at random", text=int(text))
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
        texts: columns caption_id and video_id. ``<video_id>#<k>`` is caption k of the video; any
            other id is from a test set with one sentence for each video, its first caption.
        captions: table of the generator; columns video_id, caption_index, scene.
        scenes: table of the generator; columns video_id, scene, start_frame, end_frame (exclusive).
        sampled: for each video the ``(frame,)`` indices of its sampled frames, and their mask.

    Raises:
        InputError: a text is missing from the tables of the generator.
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
