"""Tests of one run against one: SciPy, exact enumeration, published examples."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from xpool.statistics import one_run
from xpool.statistics.one_run import detectable, discordant_test, mcnemar, most_lost, sign_flip


def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(("won", "lost"), [(38, 27), (0, 0), (1, 0), (0, 9), (13, 13), (600, 700)])
def test_mcnemar_is_the_exact_binomial_test(won, lost):
    oracle = stats.binomtest(won, won + lost).pvalue if won + lost else 1
    assert mcnemar(won, lost) == pytest.approx(oracle)


def test_most_lost_is_where_mcnemar_begins_to_reject():
    """Exact enumeration."""
    for discordant in range(1, 120):
        rejected = [
            lost for lost in range(discordant // 2 + 1) if mcnemar(discordant - lost, lost) < 0.05
        ]
        assert most_lost(np.array(discordant)) == max(rejected, default=-1)


def test_interval_and_mcnemar_never_contradict():
    """Every table of up to 40 won and lost, in small and larger test sets."""
    for n_query in (12, 60, 1000):
        for won, lost in itertools.product(range(41), repeat=2):
            if won + lost <= n_query:
                found = discordant_test(won, lost, n_query)
                assert found.low <= (won - lost) / n_query <= found.high
                assert (found.p_value < 0.05) == (not found.low <= 0 <= found.high)


def test_score_interval_holds_the_shifts_that_the_score_test_does_not_reject():
    """Oracle: the score test of every shift on a grid, the likelihood maximised by brute force."""
    won, lost, n = 12, 2, 44
    found = discordant_test(won, lost, n)
    shifts = np.linspace(-0.1, 0.6, 701)
    inside = []
    for shift in shifts:
        lost_share = np.linspace(max(0, -shift), (1 - shift) / 2, 4001)[1:-1]
        won_share = lost_share + shift
        with np.errstate(all="ignore"):
            likelihood = (
                won * np.log(won_share) + lost * np.log(lost_share)
                + (n - won - lost) * np.log(1 - won_share - lost_share)
            )  # fmt: skip
        best = lost_share[np.nanargmax(likelihood)]
        variance = n * (2 * best + shift - shift**2)
        inside.append(abs(won - lost - n * shift) / np.sqrt(variance))
    fewest = 14 - 2 * int(most_lost(np.array(14)))
    kept = shifts[np.array(inside) <= (fewest - 1) / np.sqrt(14)]
    assert (found.low, found.high) == pytest.approx((kept[0], kept[-1]), abs=0.002)


@pytest.mark.parametrize(("won", "lost"), [(0.05, 0.05), (0.10, 0.02), (0.01, 0.0), (0.006, 0.006)])
def test_score_interval_covers(won, lost):
    """Exact coverage of the interval: all tables of 200 queries with their probabilities."""
    n, covered = 200, 0.0
    for some in range(60):
        of_discordant = stats.binom.pmf(some, n, won + lost)
        for gained in range(some + 1):
            share = of_discordant * stats.binom.pmf(gained, some, won / (won + lost))
            if share > 1e-7:
                found = discordant_test(gained, some - gained, n)
                covered += share * (found.low <= won - lost <= found.high)
    assert covered >= 0.945


def test_sign_flip_matches_scipy_and_clusters_flip_together():
    difference = np.random.default_rng(3).normal(0.15, 1, 40)
    oracle = stats.permutation_test(
        (difference,), np.mean, permutation_type="samples", n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).pvalue  # fmt: skip
    found = sign_flip(difference, np.arange(40), rng(), 20_000)
    assert found.p_value == pytest.approx(oracle, abs=0.015)  # 4 standard errors of either
    copied = sign_flip(np.repeat(difference, 5), np.repeat(np.arange(40), 5), rng(), 20_000)
    assert copied.p_value == pytest.approx(found.p_value, abs=0.015)
    t = stats.ttest_1samp(difference, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((t.low, t.high), abs=0.02)


SMALL = [
    [1.0, 2.5, -0.5, 3.0, 0.0, -1.0, 0.0, 2.0],  # zeros, and sums that tie
    [0.1, 0.2, -0.3, 0.6, 0.7, -0.1],  # as decimals some sums tie; as floats they do not
    [100 / 3, -50.0, 100 / 7, 100 / 3, 100 / 9],
    [0.0, 0.0, 5.0],
    [0.0, 0.0],
]


@pytest.mark.parametrize("difference", SMALL)
def test_sign_flip_matches_exact_enumeration(difference):
    """Oracle: all flips of the fractions that the floats stand for."""
    exact = [Fraction(value).limit_denominator(10**9) for value in difference]
    flips = list(itertools.product((1, -1), repeat=len(exact)))
    sums = [abs(sum(s * v for s, v in zip(signs, exact, strict=True))) for signs in flips]
    oracle = sum(total >= abs(sum(exact)) for total in sums) / len(flips)
    found = sign_flip(np.array(difference), np.arange(len(exact)), rng(), 40_000)
    assert found.p_value == pytest.approx(oracle, abs=0.01)  # 4 standard errors


def test_the_interval_of_sign_flips_holds_the_shifts_that_they_do_not_reject():
    """Oracle: all flips of the differences less each shift, videos of unequal numbers."""
    source = np.random.default_rng(5)
    cluster = np.repeat(np.arange(9), source.integers(1, 5, 9))
    difference = source.normal(1, 2, len(cluster))
    flips = np.array(list(itertools.product((1, -1), repeat=9)))

    def p_value(shift):
        sums = np.bincount(cluster, weights=difference - shift)
        return np.mean(np.abs(flips @ sums) >= abs(sums.sum()) - 1e-9)

    found = sign_flip(difference, cluster, rng(), 40_000)
    for end, inwards in ((found.low, 1), (found.high, -1)):
        assert p_value(end + 0.1 * inwards) >= 0.05 > p_value(end - 0.1 * inwards)


def test_interval_and_sign_flips_never_contradict():
    source = np.random.default_rng(6)
    for _ in range(150):
        difference = np.round(source.normal(0.5, 1, source.integers(1, 30)), 1)
        found = sign_flip(
            difference, np.arange(len(difference)), rng(), int(source.integers(20, 400))
        )
        assert (found.p_value < 0.05) == (not found.low <= 0 <= found.high)


def test_sign_flip_in_blocks_is_the_same(monkeypatch):
    difference = np.random.default_rng(3).normal(0.15, 1, 40)
    whole = sign_flip(difference, np.arange(40), rng(), 1000)
    monkeypatch.setattr(one_run, "BLOCK", 40 * 64)
    assert sign_flip(difference, np.arange(40), rng(), 1000) == whole


def test_sign_flip_of_hits_is_mcnemar():
    difference = 100.0 * np.array([1] * 20 + [-1] * 8 + [0] * 300)
    found = sign_flip(difference, np.arange(328), rng(), 40_000)
    assert found.p_value == pytest.approx(mcnemar(20, 8), abs=0.004)
    score = discordant_test(20, 8, 328)
    assert (found.low, found.high) == pytest.approx((100 * score.low, 100 * score.high), abs=0.6)


@pytest.mark.parametrize(("won", "lost"), [(38, 27), (5, 5), (1, 0), (0, 0), (150, 150)])
def test_detectable_difference_is_found_in_four_of_five(won, lost):
    """Simulation of discordant queries; 3 standard errors."""
    n = 1000
    difference = 100.0 * np.array([1] * won + [-1] * lost + [0] * (n - won - lost))
    share = detectable(difference, np.arange(n), 100.0) / 100
    discordant = max((won + lost) / n, share)
    drawn = rng().multinomial(
        n, [(discordant + share) / 2, (discordant - share) / 2, 1 - discordant], 4000
    )
    found = np.mean([mcnemar(*table[:2]) < 0.05 for table in drawn])
    assert found == pytest.approx(0.8, abs=0.025)


def test_nothing_is_claimed_that_mcnemar_cannot_reject():
    """Six discordant queries, all one way, are the least that exact McNemar needs."""
    for n in range(1, 40):
        found = detectable(100.0 * (np.arange(n) < 1), np.arange(n), 100.0)
        assert found is None if n < 6 else found >= 100 * 6 / n


def test_captions_of_one_video_are_worth_one_discordant_query():
    few = 100.0 * np.array([1] * 12 + [-1] * 8 + [0] * 80)
    once = detectable(few, np.arange(100), 100.0)
    many = detectable(np.repeat(few, 20), np.repeat(np.arange(100), 20), 100.0)
    assert many == pytest.approx(once)
