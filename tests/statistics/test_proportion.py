"""Intervals of one run's R@K: coverage by enumeration, monotone by brute force, few videos."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from performance.simulations import coverage
from xpool.statistics.bootstrap import interval
from xpool.statistics.proportion import effective_queries, share_interval
from xpool.statistics.results import wins_by_shots


def ends(hits, cluster=None):
    """The interval that a table prints for one run with these hits (0 or 1)."""
    hits = 100.0 * np.asarray(hits)[None]
    cluster = np.arange(hits.shape[1]) if cluster is None else cluster
    found = interval(hits, cluster, "R@1", np.random.default_rng(0))
    return found.low, found.high


@pytest.mark.parametrize("n", [2, 3, 5, 10, 37, 100, 400])
def test_coverage_enumerated_at_every_p(n):
    """Each p that any outcome makes critical: coverage is least just beyond an end."""
    outcomes = np.arange(n + 1)
    low, high = np.array([ends(np.arange(n) < k) for k in outcomes]).T / 100
    truths = np.concatenate([low + 1e-9, high - 1e-9, np.linspace(0.001, 0.999, 200)])
    for p in truths[(truths > 0) & (truths < 1)]:
        covered = stats.binom.pmf(outcomes, n, p)[(low <= p) & (p <= high)].sum()
        assert covered >= 0.95 - 1e-6, p


@pytest.mark.parametrize(("n", "hit"), [(100, 100), (100, 99), (100, 50), (1000, 469), (7, 0)])
def test_one_caption_a_video_is_clopper_and_pearson(n, hit):
    exact = stats.binomtest(hit, n).proportion_ci(0.95, "exact")
    assert ends(np.arange(n) < hit) == pytest.approx((100 * exact.low, 100 * exact.high))


def test_interval_falls_with_every_further_miss():
    """Also over uneven videos, whether misses come singly or a video at a time."""
    rng = np.random.default_rng(0)
    for trial in range(30):
        sizes = rng.integers(1, rng.integers(2, 50), int(rng.integers(1, 40)))
        cluster = np.repeat(np.arange(len(sizes)), sizes)
        whole = np.isin(cluster, rng.permutation(len(sizes))[: rng.integers(len(sizes) + 1)])
        single = rng.permutation(np.flatnonzero(~whole))
        orders = (
            np.concatenate([np.flatnonzero(whole), single]),
            np.concatenate([single, np.flatnonzero(whole)]),
            rng.permutation(len(cluster)),
        )
        hits = np.full(len(cluster), 100.0)
        found = [share_interval(hits, cluster, 0.95)]
        for query in orders[trial % 3]:
            hits[query] = 0
            found.append(share_interval(hits, cluster, 0.95))
        assert (np.diff(np.array(found), axis=0) <= 1e-9).all()


@pytest.mark.parametrize(("n_video", "rate", "alike"), itertools.product(
    (1, 2, 5, 30), (0.5, 0.9, 0.99), (0.05, 0.4, 1.0)
))  # fmt: skip
def test_coverage_of_few_videos_with_many_captions(n_video, rate, alike):
    """Simulation: beta-binomial videos of 20 to 60 captions; three standard errors of 400 runs."""
    rng, covered = np.random.default_rng(1), 0
    for _ in range(400):
        weight = 1 / alike - 1
        of_video = (
            rng.beta(rate * weight, (1 - rate) * weight, n_video)
            if weight
            else (rng.random(n_video) < rate).astype(float)
        )
        cluster = np.repeat(np.arange(n_video), rng.integers(20, 61, n_video))
        hits = 100.0 * (rng.random(len(cluster)) < of_video[cluster])
        low, high = share_interval(hits, cluster, 0.95)
        covered += low <= 100 * rate <= high
    assert covered / 400 >= 0.92


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_wins_of_a_few_videos_are_not_certain(n):
    """Oracle: the exact interval of n of n won, on the scale of won less lost."""
    of_all = wins_by_shots(
        np.ones(n), np.arange(n), np.zeros(n, int), np.random.default_rng(0), 99
    ).iloc[0]
    assert (of_all["net"], of_all["ci_high"]) == (100, 100)
    assert of_all["ci_low"] == pytest.approx(200 * 0.025 ** (1 / n) - 100)


def test_one_video_of_forty_captions_says_little():
    low, high = ends(np.arange(40) < 20, np.zeros(40, int))
    assert low < 10
    assert high > 90


def test_equal_runs_that_hit_everything_have_the_interval_of_one():
    hits = np.full((3, 100), 100.0)
    found = interval(hits, np.arange(100), "R@1", np.random.default_rng(0))
    assert (found.low, found.high) == pytest.approx((100 * 0.025**0.01, 100))


def test_effective_queries_of_clusters():
    """The interval's half width is that of so many independent queries; oracle: a bootstrap."""
    source = np.random.default_rng(0)
    cluster = np.repeat(np.arange(300), source.integers(1, 30, 300))
    hits = 100.0 * (source.random(300)[cluster] + 0.3 * source.random(len(cluster)) > 0.6)[None]
    n = effective_queries(hits, cluster)
    assert 300 / 2 < n < 0.2 * len(cluster)
    of_video = np.split(hits[0], np.flatnonzero(np.diff(cluster)) + 1)
    sums, sizes = np.array([(v.sum(), len(v)) for v in of_video]).T
    drawn = source.integers(300, size=(4000, 300))
    error = np.std(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    rate = hits.mean()
    assert math.sqrt(rate * (100 - rate) / n) == pytest.approx(error, rel=0.05)
    assert effective_queries(np.full((1, 9), 100.0), np.arange(9)) == pytest.approx(9)


def test_simulated_runs_are_covered():
    """Simulation; 3 standard errors of 300 runs are 3.8 points."""
    for world in (coverage.SMALL, coverage.MSRVTT):
        assert coverage.one_method("one run", world, "R@1", 300).covered >= 92
