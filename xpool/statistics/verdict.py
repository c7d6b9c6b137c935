"""Does a published R@K hold here? A verdict from tests, never from a bare difference.

A published figure is one number of one run: its queries are known, its seeds are not. Two questions
are kept apart, see ``docs/results/statistics.md``:

- *these queries* (two runs or more): could the published figure be a further run of ours? Both
  were tested on the same queries, so what the queries contribute cancels. Only the spread over
  seeds remains, which the published run is assumed to share. The verdict answers this question.
- *queries like these*: how far could the two methods lie apart on other queries? Without the
  published answers query by query, both figures carry their full sampling error. That bound is too
  wide, but it is the only one for a single run, whose verdict therefore rests on it.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from xpool.statistics.over_seeds import LEVEL

Word = Literal["reproduced", "not distinguishable", "lower", "higher", "not comparable"]

ALPHA = 1 - LEVEL
# Points of R@K that do not matter. Smaller than the least lead that X-Pool claims over mean pooling
# and self-attention on MSR-VTT (2.4), so that a reproduction within it keeps their order.
MARGIN = 2.0


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Conditions that two figures must share to be comparable."""

    synthetic: bool
    """Whether the videos were generated."""
    backbone: str
    """Architecture of the encoder, e.g. ``ViT-B/32``."""
    split: str
    """Training list and test protocol, e.g. ``train 9k, test 1k-A``."""
    selected_on: str
    """Split that chose the checkpoint: ``val``, ``test``, ``nothing`` or ``unknown``."""
    test_size: tuple[int | None, int | None] = (None, None)
    """Texts and videos that were tested on; None where unknown."""
    held_out: int = 0
    """Training videos kept for validation."""
    missing: int = 0
    """Training videos that were missing or unreadable."""
    post_processing: str = "none"
    """Method that changed the similarities before they were ranked, e.g. ``dual softmax``, which
    uses all test queries; ``none`` if they were ranked as they are."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Ours minus the published figure, under one model of the error."""

    low: float
    """Lower end of the 95 % interval of the difference, in points."""
    high: float
    """Upper end of the same interval."""
    p_difference: float
    """Two-sided p-value against no difference."""
    p_equivalence: float
    """p-value of the test (TOST) whose null is a difference of the margin or more."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict of our runs on a published figure."""

    word: Word
    reason: str
    """Why the figures are not comparable; empty if they are."""
    difference: float
    """Ours minus published, in points; NaN where not comparable."""
    margin: float
    these_queries: Gap | None
    """The difference on the same queries; None for a single run, and for runs that all give the
    same figure."""
    like_these: Gap | None
    """The difference on other queries like these; None where not comparable."""

    @property
    def label(self) -> str:
        """The verdict as a table prints it, e.g. ``not comparable (synthetic data)``."""
        return f"{self.word} ({self.reason})" if self.reason else self.word


def obstacles(ours: Conditions, published: Conditions) -> tuple[str, ...]:
    """Return why two figures cannot be compared; empty if they can.

    An unknown selection rule is no obstacle. Selecting only one of the figures on test is one,
    since the best of many evaluations on the test split overstates the method. A smaller gallery
    improves every metric, and fewer training videos worsen them.

    Example:
        >>> ours = Conditions(
        ...     synthetic=False, backbone="ViT-B/32", split="train 9k, test 1k-A", selected_on="val"
        ... )
        >>> from dataclasses import replace
        >>> obstacles(ours, replace(ours, selected_on="test"))
        ('test-set selection: published on test, ours on val',)
    """
    if ours.synthetic or published.synthetic:
        return ("synthetic data",)
    found = []
    if ours.backbone != published.backbone:
        found.append(f"other backbone: {published.backbone}, ours {ours.backbone}")
    if ours.split != published.split:
        found.append(f"other split: {published.split}, ours {ours.split}")
    sizes = (published.test_size, ours.test_size)
    if any(None not in pair and len(set(pair)) > 1 for pair in zip(*sizes, strict=True)):
        theirs, own = (f"{texts:,} texts of {videos:,} videos" for texts, videos in sizes)
        found.append(f"other test set: {theirs}, ours {own}")
    for words, number, other in (
        ("training videos held out for validation", ours.held_out, published.held_out),
        ("training videos missing or unreadable", ours.missing, published.missing),
    ):
        if number != other:
            found.append(f"{number:,} {words}, published {other:,}")
    if ours.post_processing != published.post_processing:
        found.append(
            f"other post-processing: {published.post_processing}, ours {ours.post_processing}"
        )
    rules = (ours.selected_on, published.selected_on)
    if "test" in rules and len(set(rules)) > 1 and "unknown" not in rules:
        found.append(
            f"test-set selection: published on {published.selected_on}, ours on {ours.selected_on}"
        )
    return tuple(found)


def verdict(
    runs: NDArray[Any],
    published: float,
    n_independent: float,
    margin: float = MARGIN,
    obstacles: tuple[str, ...] = (),
) -> Verdict:
    """Return the verdict on a published R@K.

    *Reproduced* if the difference is shown to be smaller than the margin (TOST at 5 %), else
    *lower* or *higher* if a difference is shown, else *not distinguishable*.

    Args:
        runs: ``(seed,)`` our R@K in percent, one a run.
        published: the figure in percent.
        n_independent: number of queries; with many captions a video,
            :func:`xpool.statistics.proportion.effective_queries`.
        margin: largest difference in points that does not matter.
        obstacles: from :func:`obstacles`; with any, the verdict is *not comparable*.

    Raises:
        ValueError: there are no runs, or a figure is not a percentage.

    Example:
        >>> found = verdict(np.array([45.4, 46.0, 46.3]), 46.9, 1000)
        >>> found.label, round(found.these_queries.low, 1), round(found.these_queries.high, 1)
        ('not distinguishable', -3.3, 1.3)
    """
    figures = np.array([*runs, published], dtype=float)
    if len(runs) == 0 or not ((figures >= 0) & (figures <= 100)).all():
        raise ValueError(f"expected R@K in percent, of at least one run; got {runs}, {published}")
    if obstacles:
        return Verdict(
            word="not comparable",
            reason="; ".join(obstacles),
            difference=float("nan"),
            margin=margin,
            these_queries=None,
            like_these=None,
        )
    mean, n_seed = float(np.mean(runs)), len(runs)
    difference = mean - published
    differ = np.ptp(runs) > 1e-9  # more than the last digit of a float
    seeds = float(np.var(runs, ddof=1)) * (1 + 1 / n_seed) if differ else 0.0
    sampling = _sampling(mean, n_independent) + _sampling(published, n_independent)
    these = _gap(difference, seeds, n_seed - 1, margin) if seeds > 0 else None
    total = seeds + sampling
    # Satterthwaite; the sampling error follows from the figures and has no degrees of freedom.
    freedom = total**2 / (seeds**2 / (n_seed - 1)) if seeds > 0 else np.inf
    like = _gap(difference, total, freedom, margin)
    return Verdict(
        word=_word(difference, these or like),
        reason="",
        difference=difference,
        margin=margin,
        these_queries=these,
        like_these=like,
    )


def _sampling(figure: float, n_independent: float) -> float:
    """Return the variance of R@K in percent, with one more hit and one more miss than seen.

    Without them, 50 hits of 50 would be certain. Source: Agresti and Caffo 2000 (Am. Stat. 54).
    """
    share = (figure / 100 * n_independent + 1) / (n_independent + 2)
    return 100**2 * share * (1 - share) / (n_independent + 2)


def _gap(difference: float, variance: float, freedom: float, margin: float) -> Gap:
    error = float(np.sqrt(variance))
    reach = error * _quantile(freedom, 1 - ALPHA / 2)
    return Gap(
        low=difference - reach,
        high=difference + reach,
        p_difference=2 * _below(freedom, -abs(difference) / error),
        p_equivalence=_below(freedom, (abs(difference) - margin) / error),
    )


def _quantile(freedom: float, level: float) -> float:
    return float(special.ndtri(level) if np.isinf(freedom) else special.stdtrit(freedom, level))


def _below(freedom: float, value: float) -> float:
    return float(special.ndtr(value) if np.isinf(freedom) else special.stdtr(freedom, value))


def _word(difference: float, gap: Gap) -> Word:
    if gap.p_equivalence < ALPHA:
        return "reproduced"
    if gap.p_difference < ALPHA:
        return "lower" if difference < 0 else "higher"
    return "not distinguishable"
