"""What the metric of the CLIP4Clip family makes of ties, written from its description.

That code sorts a query's scores, subtracts the right answer's score and takes every position where
the result is zero for a rank: a query whose right answer ties with another video has two ranks and
counts twice, in the sum *and* in the number that it is divided by. CLIP4Clip, X-CLIP, DRL, TS2-Net,
Cap4Video and CLIP-ViP share it, for square matrices (one caption a video).

Reads and writes nothing.
"""

import numpy as np

from xpool.metrics import Ranks


def counted_twice(ranks: Ranks) -> dict[str, float]:
    """Return the metrics that such code prints; equal to ours where nothing ties.

    With ``g`` candidates above the right answer and ``t`` on its level, itself included, a query
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
    recalls = {f"R@{k}": float(100 * (entries <= k).mean()) for k in (1, 5, 10, 50)}
    middle = {"MdR": float(np.median(entries)), "MnR": float(entries.mean())}
    return {**recalls, **middle, "entries": float(len(entries))}
