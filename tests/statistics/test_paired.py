"""Comparisons of several runs: the tests they name, interval beside p-value, what is floored."""

import numpy as np
import pytest
from scipy import stats

from xpool.statistics import over_seeds, paired
from xpool.statistics.bootstrap import estimate, interval, quantiles, with_error
from xpool.statistics.over_seeds import (
    LEAST_SEEDS,
    Error,
    detectable_over_seeds,
    quantiles_over_seeds,
)

N_DRAWS = 2000


def rng():
    return np.random.default_rng(0)


def hits(values, cutoff=1):
    return 100.0 * (values <= cutoff)


def two(n_seed=1, captions=(1, 2), n_video=80, seed=0, others=None):
    """Ranks ``(seed, query)`` of two methods and the video of each query.

    ``others`` is the number of runs of the second, if it is not that of the first.
    """
    source = np.random.default_rng(seed)
    cluster = source.permutation(np.repeat(np.arange(n_video), source.integers(*captions, n_video)))
    difficulty = source.standard_normal(n_video)[cluster]
    first, second = (
        np.ceil(np.exp(1 + difficulty + source.standard_normal((n, len(cluster)))))
        for n in (n_seed, others or n_seed)
    )
    return first, second, cluster


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
    assert (back.won, back.lost) == (found.lost, found.won)
    assert back.delta == pytest.approx(-found.delta)
    width = found.ci_high - found.ci_low + 1e-9
    assert (back.ci_low, back.ci_high) == pytest.approx(
        (-found.ci_high, -found.ci_low), abs=0.05 * width
    )
    assert back.p_value == pytest.approx(found.p_value, abs=0.03)
    if metric == "R@1":
        assert back.cohen_h == pytest.approx(-found.cohen_h)
        assert back.detectable == pytest.approx(found.detectable, rel=0.01)


def test_comparison_ties_are_no_mcnemar():
    half = np.array([[100.0, 50.0, 0.0, 0.0]])
    found = paired.compare(half, half[:, ::-1], np.arange(4), "R@1", rng(), 200)
    assert found.test == paired.SIGN_FLIP


@pytest.mark.parametrize("metric", ["R@1", "MdR", "MnR"])
@pytest.mark.parametrize("n_seed", [1, 3])
def test_identical_runs_show_no_difference_and_do_not_claim_to_see_a_small_one(metric, n_seed):
    values, _, cluster = two(1, captions=(1, 2))
    values = np.repeat(hits(values) if metric == "R@1" else values, n_seed, axis=0)
    found = paired.compare(values, values, cluster, metric, rng(), 200)
    assert (found.delta, found.p_value, found.won, found.lost) == (0, 1, 0, 0)
    if metric == "R@1":
        assert -5 < found.ci_low < 0 < found.ci_high < 5  # 80 queries that agree prove no equality
        assert found.detectable >= 100 * 6 / 80
    else:
        assert (found.ci_low, found.ci_high) == (0, 0)


def test_comparison_of_other_shapes_is_refused():
    with pytest.raises(ValueError, match="expected two"):
        paired.compare(np.ones((1, 3)), np.ones((1, 4)), np.arange(3), "R@1", rng())
    with pytest.raises(ValueError, match="1 against 2 runs: one run says nothing of its seeds"):
        paired.compare(np.ones((1, 3)), np.ones((2, 3)), np.arange(3), "R@1", rng())


@pytest.mark.parametrize("metric", ["R@1", "MnR"])
def test_methods_may_have_other_numbers_of_runs(metric):
    first, second, cluster = two(2, others=5)
    if metric == "R@1":
        first, second = hits(first), hits(second)
    found = paired.compare(first, second, cluster, metric, rng(), N_DRAWS)
    assert found.delta == pytest.approx(second.mean() - first.mean())
    assert found.n_seeds == 2


def test_the_order_of_seeds_does_not_matter():
    """Seeds are not paired: equal numbers mean nothing to different methods."""
    first, second, cluster = two(3)
    found = paired.compare(hits(first), hits(second), cluster, "R@1", rng(), N_DRAWS)
    moved = paired.compare(hits(first), hits(second)[[2, 0, 1]], cluster, "R@1", rng(), N_DRAWS)
    assert (moved.ci_low, moved.ci_high) == pytest.approx((found.ci_low, found.ci_high))
    assert moved.p_value == pytest.approx(found.p_value)


def test_seeds_alone_give_welchs_test():
    """Oracle: SciPy, where all queries of a run do the same."""
    source = np.random.default_rng(4)
    for n_first, n_second in ((3, 3), (2, 5), (5, 5)):
        a, b = source.normal(20, 1, n_first), source.normal(22, 4, n_second)
        first, second = (np.repeat(runs[:, None], 50, axis=1) for runs in (a, b))
        draws = with_error(second, np.arange(50), "R@1", rng(), first, 4000)[0]
        oracle = stats.ttest_ind(b, a, equal_var=False)
        assert quantiles(draws) == pytest.approx(oracle.confidence_interval(), rel=0.01)
        assert paired.bootstrap_p(draws) == pytest.approx(oracle.pvalue, abs=0.002)


@pytest.mark.parametrize("metric", ["R@1", "R@10", "MnR", "MdR"])
@pytest.mark.parametrize("captions", [(1, 2), (1, 6)])
def test_interval_over_seeds_and_videos_is_never_narrower_than_over_videos(metric, captions):
    """Property, whatever the seeds: near the floor, at the ceiling, with runs that agree."""
    for seed in range(25):
        source = np.random.default_rng(seed)
        first, second, cluster = two(source.integers(2, 5), captions, seed=seed, n_video=40)
        spread = source.choice([0, 0.1, 2])
        level = source.choice([0.2, 1, 4])
        ranks = [
            np.maximum(1, np.round(runs * level * np.exp(spread * source.random((len(runs), 1)))))
            for runs in (first, second)
        ]
        if metric.startswith("R@"):
            ranks = [hits(runs, int(metric[2:])) for runs in ranks]
        both = paired.compare(*ranks, cluster, metric, rng(), 500)
        if metric != "MdR":
            means = [runs.mean(axis=0)[None] for runs in ranks]
            videos = paired.compare(*means, cluster, metric, rng(), 500)
            slack = 0.05 * (videos.ci_high - videos.ci_low)  # of 500 flips
            assert both.ci_low <= videos.ci_low + slack
            assert both.ci_high >= videos.ci_high - slack
            sample = with_error(means[1], cluster, metric, rng(), means[0], 500)[0]
            assert both.ci_low <= np.quantile(sample, 0.025) + 1e-9
            assert both.ci_high >= np.quantile(sample, 0.975) - 1e-9
        error = with_error(ranks[0], cluster, metric, rng(), ranks[1], 500)[1]
        assert error.least >= error.videos
        alone = interval(ranks[0], cluster, metric, rng(), 500)
        if metric != "MdR":
            one = interval(ranks[0].mean(axis=0)[None], cluster, metric, rng(), 500)
            assert alone.low <= one.low + 1e-9
            assert alone.high >= one.high - 1e-9
        error = with_error(ranks[0], cluster, metric, rng(), replicates=500)[1]
        if alone.low > 1 and alone.high < 100 and metric != "MdR":  # not cut at the metric's ends
            assert alone.high - alone.low >= 1.8 * 1.96 * np.sqrt(error.videos)


def test_seeds_with_equal_figures_on_other_queries_leave_doubt():
    """Two runs at 1 % that hit other queries: chance in single queries is not to be ignored."""
    values = np.zeros((2, 200))
    values[0, :10], values[1, 10:20] = 100, 100
    found = interval(values, np.arange(200), "R@1", rng(), N_DRAWS)
    binomial = stats.binomtest(10, 200).proportion_ci()
    assert found.low < 5 < found.high
    assert found.high - found.low > 0.9 * 100 * (binomial.high - binomial.low) / np.sqrt(2)


def test_runs_that_agree_by_luck_do_not_narrow_the_interval():
    """The kind of the mini MSVD's -0.42 [-0.70, -0.14]: figures alike, queries not."""
    source = np.random.default_rng(8)
    base = source.random(200) < 0.5
    runs = np.where(source.random((6, 200)) < 0.2, source.random((6, 200)) < 0.5, base)
    short = 100 - runs.sum(axis=1)
    for run, missing in zip(runs, short, strict=True):  # every run hits 100 queries
        where = np.flatnonzero(run == (missing < 0))
        run[source.permutation(where)[: abs(missing)]] ^= True
    values = 100.0 * runs
    draws, error = with_error(values[:3], np.arange(200), "R@1", rng(), values[3:], N_DRAWS)
    assert error.seeds == (0, 0)
    assert error.total < error.videos < error.least
    assert error.least == pytest.approx(error.videos + LEAST_SEEDS * error.chance)
    low, high = quantiles(draws)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(error.least), rel=0.05)


@pytest.mark.parametrize(
    ("least", "points", "everywhere", "quiet"),
    [(0, 0.5, 96.0, 92.4), (1.5, 1.0, 96.8, 93.4), (2, 0.0, 99.3, 99.3), (2, 1.0, 97.4, 95.1),
     (2, 1.5, 96.2, 89.3), (4, 1.5, 97.4, 94.2)],
)  # fmt: skip
def test_least_variance_of_seeds_covers_as_the_docs_say(
    monkeypatch, least, points, everywhere, quiet
):
    """Figures of runs are drawn, and the formula makes intervals; no ranks, no bootstrap."""
    monkeypatch.setattr(over_seeds, "LEAST_SEEDS", least)
    runs, chance, source = 3, 0.5, np.random.default_rng(0)  # 10 % of 1,000 queries: 0.5 points²
    shared = 1e4 * 0.143 / 1000 - 2 * chance
    normal = stats.norm.ppf((np.arange(1000) + 0.5) / 1000)
    of_seed = source.normal(0, np.sqrt(points**2 + chance), (1500, 2, runs)).var(axis=2, ddof=1)
    covered = []
    for first, second in of_seed / runs:
        error = Error(
            videos=shared + 2 * chance / runs, chance=2 * chance / runs, seeds=(first, second),
            runs=(runs, runs), n_cluster=1000,
        )  # fmt: skip
        reach = quantiles(quantiles_over_seeds(np.sqrt(error.videos) * normal, error))[1]
        truth = np.sqrt(shared + 2 * (points**2 + chance) / runs)
        covered.append(1 - 2 * stats.norm.sf(reach / truth))
    agreeing = np.argsort(of_seed.sum(axis=1))[:375]
    assert 100 * np.mean(covered) == pytest.approx(everywhere, abs=0.4)
    assert 100 * np.mean(np.array(covered)[agreeing]) == pytest.approx(quiet, abs=0.8)


def test_bootstrap_p_agrees_with_the_interval():
    source = np.random.default_rng(7)
    for n in (99, 100, 1000, 4000):
        for shift in source.uniform(-0.3, 0.3, 200):
            draws = np.sort(source.normal(shift, 0.1, n))
            low, high = quantiles(draws)
            assert (paired.bootstrap_p(draws) < 0.05) == (not low <= 0 <= high)
            steps = np.round(draws, 1)  # many equal draws, many at 0
            low, high = quantiles(steps)
            assert (paired.bootstrap_p(steps) < 0.05) == (not low <= 0 <= high)
    draws = np.sort(source.normal(0.1, 0.1, 100_000))
    assert paired.bootstrap_p(draws) == pytest.approx(2 * stats.norm.sf(1), abs=0.01)


@pytest.mark.parametrize("metric", ["R@1", "R@5", "MdR", "MnR"])
@pytest.mark.parametrize(("n_seed", "captions"), [(1, (1, 2)), (1, (1, 6)), (3, (1, 2))])
def test_interval_and_p_value_never_contradict(metric, n_seed, captions):
    for seed in range(40):
        first, second, cluster = two(n_seed, captions, n_video=50, seed=seed)
        second = np.maximum(1, second - seed % 4)
        if metric.startswith("R@"):
            first, second = (hits(ranks, int(metric[2:])) for ranks in (first, second))
        found = paired.compare(first, second, cluster, metric, rng(), 300)
        assert (found.p_value < 0.05) == (not found.ci_low <= 0 <= found.ci_high)


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


@pytest.mark.parametrize("n_seed", [2, 3, 5])
@pytest.mark.parametrize("points", [0.0, 0.3, 1.0])
def test_detectable_difference_is_found_in_four_of_five_tables(n_seed, points):
    """Simulation: each table's own figure is the true difference of the next table.

    Variances as on MSR-VTT: 1 of the videos, 0.5 a run of chance in single queries, in points².
    """
    source, n = np.random.default_rng(n_seed), 4000
    chance = 2 * 0.5 / n_seed

    def errors():
        runs = source.normal(0, np.sqrt(0.5 + points**2), (n, 2, n_seed))
        return [
            Error(
                videos=1 + chance, chance=chance, runs=(n_seed, n_seed), n_cluster=1000,
                seeds=tuple(runs_of_table.var(axis=1, ddof=1) / n_seed),
            )
            for runs_of_table in runs
        ]  # fmt: skip

    reach = np.array([detectable_over_seeds(error) for error in errors()])
    seen = source.normal(reach, np.sqrt(1 + 2 * (0.5 + points**2) / n_seed))
    others = errors()
    total = np.sqrt([error.total for error in others])
    critical = np.maximum(
        stats.t.ppf(0.975, [error.freedom for error in others]) * total,
        stats.norm.ppf(0.975) * np.sqrt([error.least for error in others]),
    )
    assert 0.74 <= np.mean(np.abs(seen) > critical) <= 0.86  # 75 to 85 %, and 1.5 standard errors


@pytest.mark.parametrize("n_seed", [2, 3, 5])
@pytest.mark.parametrize("points", [0.0, 0.3, 1.0])
def test_intervals_over_seeds_cover_also_where_the_runs_agree(n_seed, points):
    """Simulation as above, of equal methods; the quarter whose runs lie closest together."""
    source, n = np.random.default_rng(10 + n_seed), 20_000
    chance = 2 * 0.5 / n_seed
    shape = np.sort(stats.norm.ppf((np.arange(40) + 0.5) / 40))
    runs = source.normal(0, np.sqrt(0.5 + points**2), (n, 2, n_seed)).var(axis=2, ddof=1) / n_seed
    seen = source.normal(0, np.sqrt(1 + 2 * (0.5 + points**2) / n_seed), n)
    quiet = np.argsort(runs.sum(axis=1))[: n // 4]
    covered = []
    for table in quiet[:2000]:
        error = Error(
            videos=1 + chance, chance=chance, runs=(n_seed, n_seed), n_cluster=1000,
            seeds=tuple(runs[table]),
        )  # fmt: skip
        high = quantiles_over_seeds(shape * np.sqrt(error.videos), error)[38]
        high *= stats.norm.ppf(0.975) / shape[38]  # of 40 draws none is the 97.5 % quantile
        covered.append(abs(seen[table]) <= high)
    assert np.mean(covered) >= 0.93


def test_detectable_difference_over_many_runs_is_that_of_the_normal():
    error = Error(videos=4.0, chance=0.0, seeds=(0.0, 0.0), runs=(3, 3), n_cluster=1000)
    assert detectable_over_seeds(error) == pytest.approx(
        2 * stats.norm.ppf([0.975, 0.8]).sum(), rel=0.01
    )
