"""Methods over all benchmarks at once: interquartile mean and probability of improvement.

Reads nothing; works on ``scores (seed, benchmark)``, one metric, higher is better. Uncertainty is
that of the seeds alone, drawn within each benchmark: the benchmarks are those of the paper and no
sample of anything.

Source:
    Agarwal et al. 2021 (arXiv 2108.13264), sections 4.2 and 4.3, for the two definitions, as in
    google-research/rliable. Its bootstrap draws from NumPy's global state whatever seed it is
    given, so the drawing is our own. We widen its percentile interval, which is made for ten runs.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from xpool.bootstrap import LEVEL, REPLICATES, Interval, quantiles


def interquartile_mean(
    scores: NDArray[Any], rng: np.random.Generator, replicates: int = REPLICATES
) -> Interval:
    """Return the mean of the middle half of all scores, and its 95 % interval.

    A quarter of the scores, rounded down, is left out at either end. Benchmarks of different
    difficulty are not put on one scale first: with three of them it is mostly the middle one.

    Args:
        scores: ``(seed, benchmark)``.
        rng: source of the replicates.
        replicates: bootstrap replicates.

    Raises:
        ValueError: fewer than two seeds.

    Example:
        >>> found = interquartile_mean(np.arange(8.0).reshape(4, 2), np.random.default_rng(0))
        >>> found.estimate
        3.5
    """
    _expect(scores)
    middle = float(_middle_half(scores[None])[0])
    return _interval(middle, _middle_half(_drawn(scores, replicates, rng)), scores.shape)


def probability_of_improvement(
    first: NDArray[Any],
    second: NDArray[Any],
    rng: np.random.Generator,
    replicates: int = REPLICATES,
) -> Interval:
    """Return the chance that a run of the second method beats one of the first, and its interval.

    Per benchmark the share of pairs of runs that the second wins, half for a draw; then the mean
    over benchmarks. It counts wins and not points. Where every run of one method beats every run
    of the other, resampling sees no doubt: with three runs each the interval [1, 1] means little.

    Args:
        first: ``(seed, benchmark)``.
        second: ``(seed, benchmark)``; the number of seeds may be another.
        rng: source of the replicates.
        replicates: bootstrap replicates.

    Raises:
        ValueError: fewer than two seeds, or other benchmarks.

    Example:
        >>> ours, theirs = np.array([[46.0], [47.0]]), np.array([[45.0], [46.0]])
        >>> probability_of_improvement(theirs, ours, np.random.default_rng(0)).estimate
        0.875
    """
    _expect(first)
    _expect(second)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"expected the same benchmarks; got {first.shape} and {second.shape}")
    fewest = (min(len(first), len(second)), first.shape[1])
    drawn = _wins(_drawn(first, replicates, rng), _drawn(second, replicates, rng))
    found = _interval(float(_wins(first[None], second[None])[0]), drawn, fewest)
    return Interval(estimate=found.estimate, low=max(0.0, found.low), high=min(1.0, found.high))


def _expect(scores: NDArray[Any]) -> None:
    if scores.ndim != 2 or len(scores) < 2:
        raise ValueError(f"expected scores (seed, benchmark) of two seeds; got {scores.shape}")


def _drawn(scores: NDArray[Any], replicates: int, rng: np.random.Generator) -> NDArray[Any]:
    """``(replicate, seed, benchmark)``, seeds drawn for each benchmark by itself."""
    n_seed, n_benchmark = scores.shape
    chosen = rng.integers(n_seed, size=(replicates, n_seed, n_benchmark))
    return np.asarray(scores[chosen, np.arange(n_benchmark)])


def _middle_half(scores: NDArray[Any]) -> NDArray[np.float64]:
    """``(replicate, seed, benchmark)`` to ``(replicate,)``."""
    flat = np.sort(scores.reshape(len(scores), -1), axis=1)
    cut = flat.shape[1] // 4
    return np.asarray(flat[:, cut : flat.shape[1] - cut].mean(axis=1))


def _wins(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """``(replicate, seed, benchmark)`` of both to ``(replicate,)``."""
    ahead = second[:, :, None] - first[:, None]  # (replicate, seed, seed, benchmark)
    return np.asarray(((ahead > 0) + (ahead == 0) / 2).mean(axis=(1, 2, 3)))


def _interval(middle: float, drawn: NDArray[Any], shape: tuple[int, ...]) -> Interval:
    """Widen the percentile interval for few seeds: sample variance, and t in place of the normal.

    Drawing from n runs has (n - 1) / n of their variance. Student's t has the degrees of freedom
    of a variance pooled over the benchmarks.
    """
    n_seed, n_benchmark = shape
    end = (1 + LEVEL) / 2
    wider = special.stdtrit(n_benchmark * (n_seed - 1), end) / special.ndtri(end)
    wider *= np.sqrt(n_seed / (n_seed - 1))
    low, high = quantiles(middle + wider * (drawn - middle))
    return Interval(estimate=middle, low=low, high=high)
