"""The figure that each selection rule gives from one run, and how much of it is luck.

Works on what ``xpool.training.evaluations`` kept of a run. The official code evaluates the test
split some fifty times and keeps the best result, so part of its figure is the winner's curse: the
best of fifty noisy evaluations lies above one that was not chosen for being high.
:func:`by_chance` estimates that part.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xpool.statistics.bootstrap import resampled_means
from xpool.training.evaluations import SPLIT, WINDOW, Selection, score

RULES: tuple[Selection, ...] = ("val", "last", "test_window")
CHOSEN_ON_TEST: Selection = "test_window"
COLUMNS = ("rule", "step", "R@1", "R@5", "R@10", "n_looks", "chance", "chance_high")


def chosen(rule: Selection, evaluations: pd.DataFrame) -> int | None:
    """Return the step that a rule selects, None where its split was not evaluated.

    Args:
        rule: the selection rule.
        evaluations: columns step, split, R@1, MnR; one row an evaluation and split.
    """
    split = "test" if rule == "last" else SPLIT[rule]  # every split has the last step
    curve: list[dict[str, Any]] = []
    best: tuple[tuple[float, ...], int] | None = None
    of_split = evaluations[evaluations["split"] == split].sort_values("step")
    for row in of_split.itertuples(index=False):
        curve.append(dict(zip(evaluations.columns, row, strict=True)))
        found = score(rule, curve)
        if best is None or found > best[0]:
            best = found, int(curve[-1]["step"])
    return best[1] if best else None


def by_chance(
    hits: NDArray[Any],
    video: NDArray[Any],
    rng: np.random.Generator,
    others: np.random.Generator,
    replicates: int,
) -> NDArray[np.float64]:
    """Draw what choosing by the test window adds to R@1 where all evaluations are equally good.

    The bootstrap over videos takes the same videos for all evaluations of a draw, so the drawn
    evaluations vary, and vary together, as those of the run do. Less their own means, none is
    better than another. The rule's choice is then compared with an evaluation drawn at random,
    which stands for a rule that never saw the test split; what both share about the queries
    cancels.

    Args:
        hits: ``(evaluation, query)`` in percent, in order of the steps.
        video: ``(query,)`` the video of each.
        rng: source of the videos; in the same state for two runs, both get the same videos.
        others: source of the evaluations that the choice is compared with.
        replicates: how many.

    Returns:
        ``(replicate,)`` in points.

    Example:
        A single evaluation leaves nothing to choose, and no luck.

        >>> rng, others = np.random.default_rng(0), np.random.default_rng(1)
        >>> by_chance(100.0 * (np.arange(50) < 20)[None], np.arange(50), rng, others, 3).tolist()
        [0.0, 0.0, 0.0]
    """
    drawn = resampled_means(hits, video, rng, replicates)  # (replicate, evaluation)
    noise = drawn - hits.mean(axis=1)
    summed = np.cumsum(noise, axis=1)
    before = np.concatenate([np.zeros((len(summed), 1)), summed], axis=1)
    ends = np.arange(1, noise.shape[1] + 1)
    starts = np.maximum(0, ends - WINDOW)
    windows = (before[:, ends] - before[:, starts]) / (ends - starts)
    draw, other = np.arange(len(noise)), others.integers(len(hits), size=len(noise))
    luck: NDArray[np.float64] = noise[draw, windows.argmax(axis=1)] - noise[draw, other]
    return luck


def selection_rows(
    runs: Mapping[int, tuple[pd.DataFrame, pd.DataFrame]], seed: int, replicates: int
) -> list[dict[str, Any]]:
    """Return one row a run and rule: the result that is tested under it.

    Args:
        runs: by seed, the evaluations of a run of one method, as in :func:`chosen`, and its hits:
            caption_id, video_id, and a column a step, as ``xpool.training.evaluations`` writes
            them.
        seed: seed of the replicates, which draw the same videos for all runs.
        replicates: how many.

    Returns:
        ``seed`` and :data:`COLUMNS`: the rule, its step, text-to-video R@1, R@5 and R@10 of the
        test split at that step, the number of evaluations, and for the rule that sees the test
        split (0 for the others) the mean of :func:`by_chance`, and the 97.5 % quantile of its mean
        over the runs, which is what a difference averaged over them is compared with.
    """
    lucks = {}
    for number, (_, hits) in runs.items():
        if steps := _steps(hits):
            values, video = hits[steps].to_numpy().T, hits["video_id"].to_numpy()
            others = np.random.default_rng([seed, number])
            lucks[number] = by_chance(
                values, video, np.random.default_rng(seed), others, replicates
            )
    if not lucks:
        return []
    most = float(np.quantile(np.mean(list(lucks.values()), axis=0), 0.975))
    rows = []
    for number, luck in lucks.items():
        evaluations, hits = runs[number]
        for rule in RULES:
            step = chosen(rule, evaluations)
            if step is None:
                continue
            mean, high = (float(luck.mean()), most) if rule == CHOSEN_ON_TEST else (0.0, 0.0)
            here = (evaluations["split"] == "test") & (evaluations["step"] == step)
            found = evaluations.loc[here, ["R@1", "R@5", "R@10"]].iloc[0].tolist()
            row = (rule, step, *found, len(_steps(hits)), mean, high)
            rows.append({"seed": number} | dict(zip(COLUMNS, row, strict=True)))
    return rows


def _steps(hits: pd.DataFrame) -> list[str]:
    return [name for name in hits.columns if name.isdigit()]
