"""What each rule of selection gives from one run, and how much of it is the winner's curse.

Reads nothing; works on what ``xpool.looks`` kept of a run. The official code looks at the test
split some fifty times and keeps what looks best there, so that part of its figure is luck: the best
of fifty noisy looks lies above a look that was not chosen for being high. How much by luck alone:
:func:`by_chance`.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xpool.bootstrap import resampled_means
from xpool.selection import SPLIT, WINDOW, Selection, score

RULES: tuple[Selection, ...] = ("val", "last", "test_window")
CHOSEN_ON_TEST: Selection = "test_window"
COLUMNS = ("rule", "step", "R@1", "n_looks", "chance", "chance_high")


def chosen(rule: Selection, looks: pd.DataFrame) -> int | None:
    """Return the step that a rule selects, None where it has no split to look at.

    Args:
        rule: which.
        looks: columns step, split, R@1, MnR; one row an evaluation and split.
    """
    split = "test" if rule == "last" else SPLIT[rule]  # the last step is that of any split
    curve: list[dict[str, Any]] = []
    best: tuple[tuple[float, ...], int] | None = None
    for row in looks[looks["split"] == split].sort_values("step").itertuples(index=False):
        curve.append(dict(zip(looks.columns, row, strict=True)))
        found = score(rule, curve)
        if best is None or found > best[0]:
            best = found, int(curve[-1]["step"])
    return best[1] if best else None


def by_chance(
    hits: NDArray[Any], video: NDArray[Any], rng: np.random.Generator, replicates: int
) -> tuple[float, float]:
    """Return what choosing by the test window adds to R@1 where all looks are equally good.

    The bootstrap over videos gives looks that differ as much, and are as alike, as those of the
    run, as each draw takes the same videos for all looks; less their own means no look is better
    than another. What the rule then chooses is compared with a look drawn at random, as a rule that
    never saw the test split takes one: what they share about the queries cancels.

    Args:
        hits: ``(look, query)`` in percent, in order of the steps.
        video: ``(query,)`` the video of each.
        rng: source of the replicates.
        replicates: how many.

    Returns:
        The mean in points, and the 97.5 % quantile.

    Example:
        One look leaves nothing to choose, and no luck.

        >>> rng = np.random.default_rng(0)
        >>> by_chance(100.0 * (np.arange(50) < 20)[None], np.arange(50), rng, 100)
        (0.0, 0.0)
    """
    drawn = resampled_means(hits, video, rng, replicates)  # (replicate, look)
    noise = drawn - hits.mean(axis=1)
    summed = np.cumsum(noise, axis=1)
    before = np.concatenate([np.zeros((len(summed), 1)), summed], axis=1)
    ends = np.arange(1, noise.shape[1] + 1)
    starts = np.maximum(0, ends - WINDOW)
    windows = (before[:, ends] - before[:, starts]) / (ends - starts)
    draw, other = np.arange(len(noise)), rng.integers(len(hits), size=len(noise))
    luck = noise[draw, windows.argmax(axis=1)] - noise[draw, other]
    return float(luck.mean()), float(np.quantile(luck, 0.975))


def selection_rows(
    looks: pd.DataFrame, hits: pd.DataFrame, rng: np.random.Generator, replicates: int
) -> list[dict[str, Any]]:
    """Return a row a rule: what is tested under it, from one run.

    Args:
        looks: of :func:`chosen`.
        hits: caption_id, video_id, and a column a step, as ``xpool.looks`` writes them.
        rng: source of the bootstrap's replicates, which draw videos.
        replicates: how many.

    Returns:
        :data:`COLUMNS`: the rule, its step, text-to-video R@1 of the test split there, the number
        of looks, and what :func:`by_chance` says of a rule that looks at the test split (0 of the
        others).
    """
    steps = [name for name in hits.columns if name.isdigit()]
    if not steps:
        return []
    values, video = hits[steps].to_numpy().T, hits["video_id"].to_numpy()
    luck = by_chance(values, video, rng, replicates)
    rows = []
    for rule in RULES:
        step = chosen(rule, looks)
        if step is None:
            continue
        mean, high = luck if rule == CHOSEN_ON_TEST else (0.0, 0.0)
        found = float(hits[str(step)].mean())
        rows.append(dict(zip(COLUMNS, (rule, step, found, len(steps), mean, high), strict=True)))
    return rows
