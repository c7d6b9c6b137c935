"""Intervals and tests against SciPy, slow loops and closed forms (oracle); limits; simulation."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from performance import coverage
from xpool.metrics import METRICS, ranks
from xpool.statistics import bootstrap, paired
from xpool.statistics.bootstrap import confidence, estimate, interval, per_query

N_DRAWS = 4000


def rng():
    return np.random.default_rng(0)


def made(n_seed=1, n_video=60, captions=(1, 6), seed=0):
    """Ranks ``(seed, query)`` with ties, and the video of each query, in no order."""
    source = np.random.default_rng(seed)
    cluster = source.permutation(np.repeat(np.arange(n_video), source.integers(*captions, n_video)))
    difficulty = source.standard_normal(n_video)[cluster]
    noise = source.standard_normal((n_seed, len(cluster)))
    return np.ceil(np.exp(1 + difficulty + noise)), cluster


def hits(values, cutoff=1):
    return 100.0 * (values <= cutoff)


# --- what is computed ---


@pytest.mark.parametrize("levels", [2, 9, 10_000])
def test_per_query_figures_average_to_the_metrics(levels):
    source = np.random.default_rng(levels)
    scores, video = source.integers(0, levels, (60, 20)), source.integers(0, 20, 60)
    for of_direction in ranks(scores, video).values():
        expected = of_direction.metrics()
        assert set(METRICS) == set(expected)
        for metric in METRICS:
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


@pytest.mark.parametrize("metric", ["MnR", "MdR"])
def test_interval_one_caption_a_video_matches_scipy(metric):
    values, cluster = made(captions=(1, 2), n_video=301)[0], np.arange(301)
    if metric == "MdR":
        values = values + 0.001 * cluster  # nothing equal, so that the ends are not steps
    found = interval(values, cluster, metric, rng(), 20_000)
    oracle = stats.bootstrap(
        (values[0],), np.median if metric == "MdR" else np.mean, n_resamples=20_000,
        method="percentile", vectorized=True, rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    # either end has the noise of 20,000 draws
    assert (found.low, found.high) == pytest.approx(oracle, abs=0.05 * np.ptp(oracle))


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
    values, cluster = made()
    one = interval(hits(values), cluster, "R@1", rng(), N_DRAWS)
    three = interval(hits(np.repeat(values, 3, axis=0)), cluster, "R@1", rng(), N_DRAWS)
    assert (three.low, three.high) == pytest.approx((one.low, one.high), abs=1e-9)


def test_seeds_alone_give_the_t_interval():
    """Queries that all do the same within a run leave Student's t over the runs' figures."""
    of_seed = np.array([40.0, 42.0, 47.0])
    found = interval(np.repeat(of_seed[:, None], 50, axis=1), np.arange(50), "R@1", rng())
    oracle = stats.t.interval(0.95, 2, of_seed.mean(), stats.sem(of_seed))
    assert (found.low, found.high) == pytest.approx(oracle, rel=0.002)


def test_standard_error_matches_the_two_way_analysis_of_variance():
    """Closed form: mean squares of queries, seeds and rest over the number of figures."""
    values, _ = made(4, captions=(1, 2))
    n_seed, n_query = values.shape
    by_query, by_seed = values.mean(axis=0), values.mean(axis=1)
    rest = values - by_query - by_seed[:, None] + values.mean()
    ms_query = n_seed * by_query.var(ddof=1)
    ms_seed = n_query * by_seed.var(ddof=1)
    ms_rest = np.sum(rest**2) / (n_seed - 1) / (n_query - 1)
    queries, seeds = paired.standard_errors(values, np.arange(n_query))
    assert queries**2 == pytest.approx((ms_query - ms_rest) / values.size)
    assert seeds**2 == pytest.approx(ms_seed / values.size)


@pytest.mark.parametrize("n_seed", [1, 5])
def test_confidence_has_the_spread_of_the_closed_form(n_seed):
    values, cluster = made(n_seed, n_video=300)
    draws = confidence(values, cluster, "MnR", rng(), replicates=20_000)
    low, high = np.quantile(draws, [0.25, 0.75])
    error = np.hypot(*paired.standard_errors(values, cluster))
    assert high - low == pytest.approx(2 * 0.6745 * error, rel=0.1)  # t of 4: a little wider


# --- two methods ---


def two(n_seed=1, captions=(1, 2), n_video=80):
    values, cluster = made(n_seed, n_video, captions)
    other, _ = made(n_seed, n_video, captions, seed=1)
    return values, np.minimum(values, other[:, : values.shape[1]].mean()), cluster


@pytest.mark.parametrize(("won", "lost"), [(38, 27), (0, 0), (1, 0), (0, 9), (13, 13)])
def test_mcnemar_is_twice_the_binomial_tail(won, lost):
    """Closed form: at p = 1/2 both tails are alike."""
    tail = stats.binom.cdf(min(won, lost), won + lost, 0.5)
    assert paired.mcnemar(won, lost) == pytest.approx(min(1, 2 * tail))


def test_sign_flip_matches_scipy_and_clusters_flip_together():
    difference = np.random.default_rng(3).normal(0.15, 1, 40)
    oracle = stats.permutation_test(
        (difference,), np.mean, permutation_type="samples", n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).pvalue  # fmt: skip
    found = paired.sign_flip(difference, np.arange(40), rng(), 20_000)
    assert found == pytest.approx(oracle, abs=0.015)  # 4 standard errors of either
    copies = paired.sign_flip(np.repeat(difference, 5), np.repeat(np.arange(40), 5), rng(), 20_000)
    assert copies == pytest.approx(found, abs=0.015)


@pytest.mark.parametrize(
    "difference",
    [
        [1.0, 2.5, -0.5, 3.0, 0.0, -1.0, 0.0, 2.0],  # zeros, and sums that tie
        [0.1, 0.2, -0.3, 0.6, 0.7, -0.1],  # as decimals some sums tie; as floats they do not
        [100 / 3, -50.0, 100 / 7, 100 / 3, 100 / 9],
        [0.0, 0.0, 5.0],
        [0.0, 0.0],
    ],
)
def test_sign_flip_matches_exact_enumeration(difference):
    """Oracle: all flips of the fractions that the floats stand for."""
    exact = [Fraction(value).limit_denominator(10**9) for value in difference]
    flips = list(itertools.product((1, -1), repeat=len(exact)))
    sums = [abs(sum(s * v for s, v in zip(signs, exact, strict=True))) for signs in flips]
    oracle = sum(total >= abs(sum(exact)) for total in sums) / len(flips)
    found = paired.sign_flip(np.array(difference), np.arange(len(exact)), rng(), 40_000)
    assert found == pytest.approx(oracle, abs=0.01)  # 4 standard errors


def test_sign_flip_in_blocks_is_the_same(monkeypatch):
    difference = np.random.default_rng(3).normal(0.15, 1, 40)
    whole = paired.sign_flip(difference, np.arange(40), rng(), 1000)
    monkeypatch.setattr(paired, "BLOCK", 40 * 64)
    assert paired.sign_flip(difference, np.arange(40), rng(), 1000) == whole


def test_sign_flip_of_hits_is_mcnemar():
    difference = 100.0 * np.array([1] * 20 + [-1] * 8 + [0] * 300)
    found = paired.sign_flip(difference, np.arange(328), rng(), 40_000)
    assert found == pytest.approx(paired.mcnemar(20, 8), abs=0.004)


@pytest.mark.parametrize(
    ("n_seed", "captions", "metric", "test"),
    [
        (1, (1, 2), "R@1", paired.MCNEMAR),
        (1, (1, 6), "R@1", paired.SIGN_FLIP),
        (1, (1, 2), "MnR", paired.SIGN_FLIP),
        (1, (1, 2), "MdR", paired.BOOTSTRAP),
        (3, (1, 2), "R@1", paired.BOOTSTRAP_SEEDS),
        (3, (1, 6), "MdR", paired.BOOTSTRAP_SEEDS),
    ],
)
def test_comparison_names_its_test_and_swaps_sign(n_seed, captions, metric, test):
    first, second, cluster = two(n_seed, captions)
    if metric == "R@1":
        first, second = hits(first, 2), hits(second, 2)
    found = paired.compare(first, second, cluster, metric, rng(), N_DRAWS)
    assert found.test == test
    assert found.delta == pytest.approx(estimate(second, metric) - estimate(first, metric))
    assert found.ci_low <= found.delta <= found.ci_high
    back = paired.compare(second, first, cluster, metric, rng(), N_DRAWS)
    assert (back.won, back.lost, back.delta) == (found.lost, found.won, -found.delta)
    width = found.ci_high - found.ci_low + 1e-9
    assert (back.ci_low, back.ci_high) == pytest.approx(
        (-found.ci_high, -found.ci_low), abs=0.05 * width
    )
    assert back.p_value == pytest.approx(found.p_value, abs=0.03)
    if metric == "R@1":
        assert back.cohen_h == pytest.approx(-found.cohen_h)
        assert back.detectable == pytest.approx(found.detectable)


def test_comparison_ties_are_no_mcnemar():
    half = np.array([[100.0, 50.0, 0.0, 0.0]])
    found = paired.compare(half, half[:, ::-1], np.arange(4), "R@1", rng(), 200)
    assert found.test == paired.SIGN_FLIP


@pytest.mark.parametrize("metric", ["R@1", "MdR", "MnR"])
@pytest.mark.parametrize("n_seed", [1, 3])
def test_comparison_with_itself_finds_nothing(metric, n_seed):
    values, cluster = made(n_seed)
    values = hits(values) if metric == "R@1" else values
    found = paired.compare(values, values, cluster, metric, rng(), 200)
    assert (found.delta, found.ci_low, found.ci_high, found.p_value) == (0, 0, 0, 1)
    assert (found.won, found.lost) == (0, 0)


def test_comparison_of_other_shapes_is_refused():
    with pytest.raises(ValueError, match="expected two"):
        paired.compare(np.ones((1, 3)), np.ones((2, 3)), np.arange(3), "R@1", rng())


def test_bootstrap_p_agrees_with_the_interval():
    for shift in (-0.4, 0.0, 0.17, 0.23, 3.0):
        draws = np.random.default_rng(7).normal(shift, 0.1, 10_000)
        low, high = np.quantile(draws, [0.025, 0.975])
        assert (paired.bootstrap_p(draws) < 0.05) == (not low <= 0 <= high)


def test_holm_matches_the_definition():
    source = np.random.default_rng(2)
    for n in (1, 4, 9):
        p_values = source.uniform(0, 0.2, n)
        slow, largest = np.empty(n), 0.0
        for smaller, index in enumerate(np.argsort(p_values)):
            largest = max(largest, (n - smaller) * p_values[index])
            slow[index] = min(1, largest)
        np.testing.assert_allclose(paired.holm(p_values), slow)
    with_gap = paired.holm(np.array([0.01, np.nan, 0.02]))
    assert with_gap[[0, 2]].tolist() == [0.02, 0.02]
    assert np.isnan(with_gap[1])


@pytest.mark.parametrize("n_seed", [3, 5])
def test_detectable_difference_over_seeds_alone_is_that_of_the_t_test(n_seed):
    """Closed form: s / sqrt(n) times the t quantiles of 0.975 and 0.8."""
    of_seed = np.arange(n_seed) ** 2.0
    found = paired.detectable_difference(np.repeat(of_seed[:, None], 9, axis=1), np.arange(9))
    quantiles = stats.t.ppf([0.975, 0.8], n_seed - 1).sum()
    assert found == pytest.approx(stats.sem(of_seed) * quantiles)
    assert paired.detectable_difference(np.zeros((n_seed, 9)), np.arange(9)) == 0


def test_detectable_difference_is_found_in_four_of_five():
    """Simulation: a paired t-test on differences with that true mean; 3 standard errors."""
    source = np.random.default_rng(0)
    spread = source.normal(0, 10, (1, 400))
    spread = (spread - spread.mean()) / spread.std(ddof=1) * 10
    goal = paired.detectable_difference(spread, np.arange(400))
    found = [stats.ttest_1samp(source.normal(goal, 10, 400), 0).pvalue < 0.05 for _ in range(2000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


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
