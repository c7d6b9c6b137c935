"""Metrics as code that counts tied queries twice would have printed them for a run."""

from collections.abc import Mapping, Sequence

import numpy as np

from xpool.metrics import CUTOFFS, Ranks
from xpool.statistics.files.queries import Queries


def counted_twice(ranks: Ranks) -> dict[str, float]:
    """Return what the metric of the CLIP4Clip family prints; equal to ours where nothing ties.

    That code takes each position at which a sorted score equals the right answer's for a rank. A
    query whose right answer ties with another video thus has two ranks and counts twice, in the sum
    *and* in the number that it is divided by. CLIP4Clip, X-CLIP, DRL, TS2-Net, Cap4Video and
    CLIP-ViP share it, for square matrices (one caption a video).

    With ``g`` candidates above the right answer and ``t`` tied with it, itself included, a query
    adds the ranks g + 1, ..., g + t.

    Returns:
        R@1, R@5, R@10 and R@50 in percent, MdR, MnR, and ``entries``: what they are divided by.

    Source:
        ArrowLuo/CLIP4Clip#80 (the report); the description above, no code.

    Example:
        >>> tied = Ranks(query=np.arange(2), n_greater=np.array([0, 4]), n_tied=np.array([2, 1]))
        >>> found = counted_twice(tied)
        >>> found["entries"], round(found["R@1"], 1), found["MdR"]
        (3.0, 33.3, 2.0)
    """
    first = np.repeat(ranks.n_greater + 1, ranks.n_tied)
    start = np.repeat(np.cumsum(ranks.n_tied) - ranks.n_tied, ranks.n_tied)
    entries = first + np.arange(len(first)) - start
    recalls = {f"R@{k}": float(100 * (entries <= k).mean()) for k in CUTOFFS}
    middle = {"MdR": float(np.median(entries)), "MnR": float(entries.mean())}
    return {**recalls, **middle, "entries": float(len(entries))}


def both_counted_twice(
    direction: str,
    first: Sequence[Mapping[str, Queries]],
    second: Sequence[Mapping[str, Queries]],
) -> list[dict[str, float]]:
    """Return :func:`counted_twice` of two methods in one direction, each the mean over its runs.

    Empty where no query ties, where ranks are not all known, and for matrices that are not square:
    that code scores those another way.
    """
    square = all(
        len(set(queries.video)) == len(queries.ids)
        and queries.n_candidates in (None, len(queries.ids))
        and queries.depth is None
        for queries in first[0].values()
    )
    if not square or not any(run[direction].ranks.tied() for run in (*first, *second)):
        return []
    means = []
    for runs in (first, second):
        of_runs = [counted_twice(run[direction].ranks) for run in runs]
        means.append({name: float(np.mean([one[name] for one in of_runs])) for name in of_runs[0]})
    return means
