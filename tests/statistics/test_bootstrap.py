"""Intervals and tests against SciPy, slow loops and closed forms (oracle); limits; simulation."""

import numpy as np
import pytest
from scipy import optimize, stats

from performance.simulations import coverage
from xpool.metrics import GRADED, METRICS, ranks
from xpool.statistics import bootstrap
from xpool.statistics.bootstrap import estimate, interval, per_query, with_error

N_DRAWS = 4000


def rng():
    return np.random.default_rng(0)


def made(n_seed=1, n_video=60, captions=(1, 6), seed=0):
    """Ranks ``(seed, query)`` with ties, and the video of each query, in no order."""
    source = np.random.default_rng(seed)
    cluster = source.permutation(np.repeat(np.arange(n_video), source.integers(*captions, n_video)))
    difficulty = source.standard_normal(n_video)[cluster]
    noise = source.standard_normal((n_seed, len(cluster)))
    return np.minimum(np.ceil(np.exp(1 + difficulty + noise)), n_video), cluster


def hits(values, cutoff=1):
    return 100.0 * (values <= cutoff)


# --- what is computed ---


@pytest.mark.parametrize("levels", [2, 9, 10_000])
def test_per_query_figures_average_to_the_metrics(levels):
    source = np.random.default_rng(levels)
    scores, video = source.integers(0, levels, (60, 20)), source.integers(0, 20, 60)
    for of_direction in ranks(scores, video).values():
        expected = of_direction.metrics()
        assert {*METRICS, *GRADED} == set(expected)
        for metric in expected:
            values = per_query(of_direction, metric)[None]
            assert estimate(values, metric) == pytest.approx(expected[metric], abs=1e-9)


@pytest.mark.parametrize("n_seed", [1, 3])
@pytest.mark.parametrize("metric", ["MdR", "MnR"])
def test_weighted_statistics_match_repeated_queries(metric, n_seed):
    """A weight of 3 must mean exactly what three copies of the cluster's queries mean."""
    values, cluster = made(n_seed)
    values -= 0.5 * (cluster % 2)  # half ranks too
    statistic = {"MdR": bootstrap._Medians, "MnR": bootstrap._Means}[metric].of(values, cluster)
    weights = rng().integers(0, 4, (50, 60)).astype(float)
    for row, found in zip(weights, statistic.weighted(weights), strict=True):
        copies = np.repeat(values, row[cluster].astype(int), axis=1)
        slow = (np.median if metric == "MdR" else np.mean)(copies, axis=1)
        np.testing.assert_allclose(found, slow, rtol=0, atol=1e-12)


def test_drawn_weights_are_a_draw_with_replacement(monkeypatch):
    blocks = list(bootstrap._drawn_weights(7, 5000, rng()))
    weights = np.concatenate(blocks)
    assert weights.shape == (5000, 7)
    assert (weights.sum(axis=1) == 7).all()
    # multinomial: mean 1, variance 6/7, covariance -1/7; 5 standard errors
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=5 * np.sqrt(6 / 7 / 5000))
    np.testing.assert_allclose(np.cov(weights.T), np.eye(7) - 1 / 7, atol=0.1)
    monkeypatch.setattr(bootstrap, "BLOCK", 100)
    assert [len(block) for block in bootstrap._drawn_weights(7, 30, rng())] == [14, 14, 2]


# --- one run ---


def test_interval_of_a_median_one_caption_a_video_matches_scipy():
    values, cluster = made(captions=(1, 2), n_video=301)[0], np.arange(301)
    values = values + 0.001 * cluster  # nothing equal, so that the ends are not steps
    found = interval(values, cluster, "MdR", rng(), 20_000)
    oracle = stats.bootstrap(
        (values[0],), np.median, n_resamples=20_000, method="percentile", vectorized=True,
        rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    # either end has the noise of 20,000 draws
    assert (found.low, found.high) == pytest.approx(oracle, abs=0.05 * np.ptp(oracle))


@pytest.mark.parametrize("metric", ["MnR", "MRR"])
@pytest.mark.parametrize("captions", [(1, 2), (1, 6)])
def test_interval_of_a_mean_is_where_halls_polynomial_has_the_normal_quantile(metric, captions):
    """Solved by a root finder; sums over videos by a loop. The ends are read off 10,000 steps."""
    values, cluster = made(captions=captions)
    values = values if metric == "MnR" else 100 / values
    found = interval(values, cluster, metric, rng(), 10_000)
    mean, apart = values.mean(), []
    for video in np.unique(cluster):
        apart.append(sum(value - mean for value in values[0][cluster == video]))
    apart.append(max(apart, key=abs))
    spread = sum(one**2 for one in apart) ** 0.5
    skew = sum(one**3 for one in apart) / spread**3

    def excess(studentised, normal):
        by_skew = skew * studentised**2 / 3 + skew**2 * studentised**3 / 27 + skew / 6
        return studentised + by_skew - normal

    high, low = (
        mean - spread / values.size * optimize.brentq(excess, -50, 50, args=(normal,))
        for normal in (-1.959964, 1.959964)
    )
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-3)
    assert (skew > 0) == (high - mean > mean - low)


def test_interval_of_a_mean_of_many_alike_is_the_normal_one():
    values = np.tile([1.0, 3.0], 5000)[None]
    found = interval(values, np.arange(10_000), "MnR", rng(), 10_000)
    oracle = stats.norm.interval(0.95, 2, 1 / 100)
    assert (found.low, found.high) == pytest.approx(oracle, abs=1e-4)
    assert interval(np.full((1, 9), 4.0), np.arange(9), "MnR", rng(), 100).high == 4


def test_interval_draws_videos_and_not_captions():
    """Twenty copies of each query are no further evidence."""
    values, _ = made(captions=(1, 2))
    one = interval(hits(values), np.arange(60), "R@1", rng(), N_DRAWS)
    copied = np.repeat(hits(values), 20, axis=1)
    many = interval(copied, np.repeat(np.arange(60), 20), "R@1", rng(), N_DRAWS)
    assert (many.low, many.high) == pytest.approx((one.low, one.high), abs=1e-9)
    captions = interval(copied, np.arange(1200), "R@1", rng(), N_DRAWS)
    assert captions.high - captions.low < 0.3 * (many.high - many.low)


@pytest.mark.parametrize("metric", ["R@1", "MdR", "MnR"])
@pytest.mark.parametrize("n_seed", [1, 3])
def test_interval_does_not_depend_on_order_or_names(metric, n_seed):
    """Clusters are numbered in order of their names, so names may only grow."""
    values, cluster = made(n_seed)
    values = hits(values) if metric == "R@1" else values
    order = rng().permutation(len(cluster))
    found = interval(values, cluster, metric, rng(), 500)
    moved = interval(values[:, order], 3 * cluster[order] + 7, metric, rng(), 500)
    assert (moved.low, moved.high) == pytest.approx((found.low, found.high), abs=1e-9)
    swapped = interval(values[::-1], cluster, metric, rng(), 500)
    assert (swapped.low, swapped.high) == pytest.approx((found.low, found.high), abs=1e-9)


@pytest.mark.parametrize(("value", "low", "high"), [(100.0, 96.38, 100), (0.0, 0, 3.62)])
def test_interval_without_any_spread_is_the_exact_binomial_one(value, low, high):
    """Golden: Clopper-Pearson for 100 of 100, binom.test(100, 100) in R: 0.9637833."""
    found = interval(np.full((2, 100), value), np.arange(100), "R@1", rng(), 100)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.005)
    exact = stats.binomtest(round(value), 100).proportion_ci()
    assert (found.low, found.high) == pytest.approx((100 * exact.low, 100 * exact.high))


def test_interval_stays_where_the_metric_can_be():
    values = hits(np.array([[1] * 59 + [9], [1] * 60, [1] * 40 + [9] * 20]))
    found = interval(values, np.arange(60), "R@1", rng(), 500)
    assert 0 <= found.low < found.high == 100
    assert interval(np.ones((1, 9)), np.arange(9), "MnR", rng(), 100).low == 1


# --- several runs ---


def test_equal_runs_add_nothing():
    """But for the t of 59 videos, which one run takes for normal."""
    values, cluster = made()
    one = interval(values, cluster, "MnR", rng(), N_DRAWS)
    three = interval(np.repeat(values, 3, axis=0), cluster, "MnR", rng(), N_DRAWS)
    wider = stats.t.ppf(0.975, 59) / stats.norm.ppf(0.975)
    for end in ("low", "high"):
        reach = getattr(one, end) - one.estimate
        assert getattr(three, end) - one.estimate == pytest.approx(wider * reach, rel=1e-3)


def test_seeds_alone_give_the_t_interval():
    """Queries that all do the same within a run leave Student's t over the runs' figures."""
    of_seed = np.array([40.0, 42.0, 47.0])
    found = interval(np.repeat(of_seed[:, None], 50, axis=1), np.arange(50), "R@1", rng())
    oracle = stats.t.interval(0.95, 2, of_seed.mean(), stats.sem(of_seed))
    assert (found.low, found.high) == pytest.approx(oracle, rel=0.002)


def test_variances_match_the_two_way_analysis_of_variance():
    """Closed form: mean squares of queries, seeds and rest over the number of figures."""
    values, _ = made(4, captions=(1, 2), n_video=200)
    n_seed, n_query = values.shape
    by_query, by_seed = values.mean(axis=0), values.mean(axis=1)
    rest = values - by_query - by_seed[:, None] + values.mean()
    ms_query = n_seed * by_query.var(ddof=1)
    ms_seed = n_query * by_seed.var(ddof=1)
    ms_rest = np.sum(rest**2) / (n_seed - 1) / (n_query - 1)
    error = with_error(values, np.arange(n_query), "MnR", rng(), replicates=40_000)[1]
    assert error.shared == pytest.approx((ms_query - ms_rest) / values.size, rel=0.03)
    assert error.chance == pytest.approx(ms_rest / values.size, rel=0.03)
    assert sum(error.seeds) == pytest.approx(ms_seed / values.size)
    assert error.total == pytest.approx(error.shared + ms_seed / values.size)


@pytest.mark.parametrize("n_seed", [1, 5])
def test_confidence_has_the_spread_of_its_variances(n_seed):
    values, cluster = made(n_seed, n_video=300)
    draws, error = with_error(hits(values, 5), cluster, "R@5", rng(), replicates=20_000)
    low, high = np.quantile(draws, [0.25, 0.75])
    spread = np.sqrt(max(error.total, error.least))
    assert high - low == pytest.approx(2 * 0.6745 * spread, rel=0.1)


# --- how often it is right ---


def test_simulated_world_has_the_metrics_it_claims():
    ranked, cluster = coverage.World(n_videos=400_000).draw(rng(), 1)
    assert len(cluster) == 400_000
    for metric in METRICS:
        found = estimate(coverage.values(ranked[0], metric), metric)
        assert found == pytest.approx(coverage.MSRVTT.truth(metric), rel=0.01), metric


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "world"),
    [
        ("1 run", coverage.MSRVTT),
        ("1 run, many captions", coverage.MSVD),
        ("3 seeds", coverage.seeds(3, 0.5)),
    ],
)
def test_intervals_cover(name, world):
    """400 simulations: a standard error of 1.1 points; ``make bench`` has more of all."""
    assert 93 <= coverage.one_method(name, world, "R@1", 400).covered <= 97


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "world", "metric", "n"),
    [
        ("1 run", coverage.MSRVTT, "R@1", 400),
        ("1 run, many captions", coverage.MSVD, "R@1", 400),
        ("3 seeds", coverage.seeds(3, 0.5), "R@1", 400),
        ("1 run, hard", coverage.LSMDC, "MdR", 100),  # far from 6, and slower
    ],
)
def test_tests_reject_at_most_six_percent_without_a_difference(name, world, metric, n):
    found = coverage.two_methods(name, world, metric, n)
    assert found.rejected <= 6
    assert found.covered >= 93
