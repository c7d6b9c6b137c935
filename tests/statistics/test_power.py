"""The power before the run: enumeration, scipy's t-test on draws, and the project's comparison."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from performance.simulations import power as simulated
from xpool.statistics.bootstrap import resampled_means
from xpool.statistics.one_run import mcnemar_power
from xpool.statistics.power import (
    Pilot,
    ceiling,
    pilot_of,
    power,
    queries_needed,
    seeds_needed,
    spread_range,
)

PILOT = Pilot(queries=1000, discordance=0.14, within=0.1, spread=0.9)


def enumerated(n_query, won, lost, alpha):
    """The chance that the exact binomial test finds a gain, over all outcomes of all queries."""
    found = 0.0
    for wins, losses in itertools.product(range(n_query + 1), repeat=2):
        if wins + losses > n_query or wins <= losses:
            continue
        if stats.binomtest(wins, wins + losses).pvalue < alpha:
            counts = [wins, losses, n_query - wins - losses]
            found += stats.multinomial.pmf(counts, n_query, [won, lost, 1 - won - lost])
    return found


@pytest.mark.parametrize("alpha", [0.05, 0.0125])
@pytest.mark.parametrize(("won", "lost"), [(0.4, 0.1), (0.3, 0.3), (0.25, 0.0), (0.1, 0.4)])
def test_one_run_each_is_the_enumerated_power_of_mcnemar(won, lost, alpha):
    n_query = 30
    expected = enumerated(n_query, won, lost, alpha)
    found = mcnemar_power((won + lost) * n_query, (won - lost) * n_query, n_query, alpha)
    assert found == pytest.approx(expected, abs=1e-9)
    pilot = Pilot(queries=n_query, discordance=won + lost, within=0.0, spread=0.0)
    assert power(pilot, 100 * (won - lost), 1, alpha) == pytest.approx(expected, abs=1e-9)


def test_one_run_each_is_averaged_over_the_luck_of_the_seeds():
    luck = stats.norm(3.0, np.sqrt(2 * (0.81 - 0.5)))  # 0.5: chance in single queries
    leads = np.linspace(-1, 7, 81)
    found = [mcnemar_power(140, 10 * lead, 1000) for lead in leads]
    expected = np.trapezoid(found * luck.pdf(leads), leads)
    assert power(PILOT, 3.0, 1) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("alpha", [0.05, 0.01])
@pytest.mark.parametrize("n_seeds", [2, 3, 6])
def test_with_endless_queries_it_is_the_power_of_welchs_t_test(n_seeds, alpha):
    pilot = Pilot(queries=1e9, discordance=0.1, within=0.0, spread=1.0)
    rng = np.random.default_rng(n_seeds)
    first = rng.normal(0.0, 1.0, (40_000, n_seeds))
    second = rng.normal(2.0, 1.0, (40_000, n_seeds))
    tested = stats.ttest_ind(second, first, axis=1, equal_var=False)
    expected = np.mean((tested.pvalue < alpha) & (tested.statistic > 0))
    assert power(pilot, 2.0, n_seeds, alpha) == pytest.approx(expected, abs=0.012)


@pytest.mark.parametrize("index", [1, 4, 9])
def test_the_projects_own_comparison_finds_as_often_as_is_said(index):
    """100 simulations leave 5 points of standard error; the table of 1,000 is in performance."""
    case = simulated.CASES[index]
    assert simulated.found(case, 100) == pytest.approx(simulated.said(case), abs=2.5 * 5)


def test_the_pilots_values_are_those_of_literal_loops():
    rng = np.random.default_rng(3)
    first, second = (rng.choice([0.0, 50.0, 100.0], (3, 40)) for _ in range(2))
    pilot = pilot_of(first, second, np.arange(40))
    between, inside = [], []
    for one, other in itertools.product(range(3), range(3)):
        for query in range(40):
            between.append(((second[other, query] - first[one, query]) / 100) ** 2)
    for runs in (first, second):
        for one, other in ((0, 1), (0, 2), (1, 2)):
            for query in range(40):
                inside.append(((runs[one, query] - runs[other, query]) / 100) ** 2)
    variances = [np.std([run.mean() for run in runs], ddof=1) ** 2 for runs in (first, second)]
    assert pilot.queries == pytest.approx(40)
    assert pilot.discordance == pytest.approx(np.mean(between))
    assert pilot.within == pytest.approx(np.mean(inside))
    assert pilot.spread == pytest.approx(np.sqrt(np.mean(variances)))


def test_captions_of_a_video_count_for_what_they_are_worth():
    """Held against the bootstrap over videos; forty captions hit or missed together are one."""
    rng = np.random.default_rng(4)
    cluster = np.repeat(np.arange(60), rng.integers(5, 15, 60))
    hit = rng.random((2, 60)) < 0.5
    flipped = rng.random((2, len(cluster))) < 0.2
    first, second = (100.0 * (hit[i, cluster] ^ flipped[i])[None] for i in range(2))
    pilot = pilot_of(first, second, cluster)
    variance = resampled_means(second - first, cluster, rng, 20_000).var()
    assert 1e4 * np.var(second / 100 - first / 100) / variance == pytest.approx(
        pilot.queries, rel=0.05
    )
    together = pilot_of(100.0 * hit[:1, cluster], 100.0 * hit[1:, cluster], cluster)
    assert 40 < together.queries < 65
    assert np.isnan(together.within)
    assert np.isnan(together.spread)


def test_equal_runs_are_worth_their_videos():
    runs = np.full((2, 6), 100.0)
    pilot = pilot_of(runs, runs, np.array([0, 0, 1, 1, 2, 2]))
    assert pilot == Pilot(queries=3, discordance=0, within=0, spread=0)


def test_more_seeds_more_queries_and_larger_differences_are_found_more_often():
    by_seeds = [power(PILOT, 2.0, n) for n in (2, 3, 5, 10, 100)]
    by_queries = [power(replace(PILOT, queries=n), 2.0, 3) for n in (200, 1000, 5000)]
    by_difference = [power(PILOT, d, 3) for d in (0.5, 1.0, 2.0, 4.0)]
    by_level = [power(PILOT, 2.0, 3, 0.05 / m) for m in (10, 3, 1)]
    for powers in (by_seeds, by_queries, by_difference, by_level):
        assert powers == sorted(powers)
        assert 0 < powers[0] < powers[-1] < 1


def test_seeds_needed_are_the_fewest_that_reach_eighty_percent():
    for difference in (2.2, 3.0, 5.0, 20.0):
        needed = seeds_needed(PILOT, difference)
        assert power(PILOT, difference, needed) >= 0.8
        assert needed == 2 or power(PILOT, difference, needed - 1) < 0.8


def test_where_the_queries_are_the_limit_no_number_of_seeds_is_enough():
    assert seeds_needed(PILOT, 1.0) is None
    most = ceiling(PILOT, 1.0)
    assert power(PILOT, 1.0, 20_000) == pytest.approx(most, abs=0.002)
    more = queries_needed(PILOT, 1.0)
    assert ceiling(replace(PILOT, queries=more), 1.0) == pytest.approx(0.8, abs=0.002)


def test_equal_methods_are_found_to_differ_in_at_most_five_percent():
    for n_seeds in (2, 3, 5, 50):
        assert 2 * power(PILOT, 0.0, n_seeds) <= 0.051
    lucky = replace(PILOT, spread=2.0)
    assert 2 * power(lucky, 0.0, 1) > 0.25  # one run each takes the seeds for the methods


def test_a_difference_needs_as_many_discordant_queries():
    same = Pilot(queries=500, discordance=0.0, within=0.0, spread=0.0)
    assert power(same, 2.0, 1) == pytest.approx(stats.binom.sf(5, 500, 0.02), abs=1e-6)
    assert power(same, 2.0, 3) > 0.8


def test_the_range_of_a_spread_holds_the_truth_in_eighty_percent_of_pilots():
    rng = np.random.default_rng(5)
    variances = rng.normal(size=(20_000, 2, 3)).var(axis=2, ddof=1).mean(axis=1)
    low, high = np.transpose([spread_range(np.sqrt(v), 3) for v in variances])
    assert np.mean((low <= 1) & (high >= 1)) == pytest.approx(0.8, abs=0.01)
