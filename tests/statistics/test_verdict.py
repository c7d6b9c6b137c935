"""Verdicts on published figures: t-tests (oracle), limits, reasons, the reruns of X-Pool."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from performance.simulations import coverage
from xpool.statistics.verdict import Conditions, obstacles, verdict

PAPER = Conditions(
    synthetic=False,
    backbone="ViT-B/32",
    split="train 9k, test 1k-A",
    selected_on="test",
    test_size=(1000, 1000),
)
RERUNS = np.array([45.4, 46.0, 46.3])  # layer6ai-labs/xpool#13, #12 (lr 3e-5), #12 (lr 1e-5)


def test_reruns_of_xpool_are_not_distinguishable_from_the_paper():
    """By hand: s = 0.458, so t = -1.0 / (0.458 sqrt(4/3)) = -1.89 with 2 degrees of freedom."""
    found = verdict(RERUNS, 46.9, 1000)
    assert found.label == "not distinguishable"
    assert found.difference == pytest.approx(-1.0)
    these = found.these_queries
    assert (these.low, these.high) == pytest.approx((-3.28, 1.28), abs=0.005)
    assert these.p_difference == pytest.approx(0.199, abs=0.0005)
    assert these.p_equivalence == pytest.approx(0.0997, abs=0.0005)
    assert (found.like_these.low, found.like_these.high) == pytest.approx((-5.5, 3.5), abs=0.01)


def test_one_rerun_rests_on_the_sampling_error_of_both():
    found = verdict(RERUNS[:1], 46.9, 1000)
    assert found.these_queries is None
    shares = [(hits + 1) / 1002 for hits in (454, 469)]  # Agresti and Caffo: a hit and a miss more
    error = 100 * math.sqrt(sum(share * (1 - share) / 1002 for share in shares))
    assert found.like_these.high == pytest.approx(-1.5 + stats.norm.ppf(0.975) * error)
    assert found.like_these.p_difference == pytest.approx(2 * stats.norm.cdf(-1.5 / error))
    assert found.label == "not distinguishable"
    assert verdict(np.array([41.0]), 46.9, 1000).word == "lower"
    assert verdict(np.array([46.5]), 46.9, 100_000).word == "reproduced"


@pytest.mark.parametrize("n_seed", [2, 3, 8])
def test_these_queries_are_a_t_test_against_one_more_run(n_seed):
    """Oracle: Welch's and Student's t-test agree on one value when variances are pooled."""
    runs = 46 + np.random.default_rng(n_seed).normal(0, 0.6, n_seed)
    found = verdict(runs, 46.9, 1000).these_queries
    error = runs.std(ddof=1) * math.sqrt(1 + 1 / n_seed)
    t = (runs.mean() - 46.9) / error
    assert found.p_difference == pytest.approx(2 * stats.t.sf(abs(t), n_seed - 1))
    one_sided = [
        stats.t.sf((runs.mean() - 46.9 + 2) / error, n_seed - 1),
        stats.t.cdf((runs.mean() - 46.9 - 2) / error, n_seed - 1),
    ]
    assert found.p_equivalence == pytest.approx(max(one_sided))
    assert (found.low + found.high) / 2 == pytest.approx(runs.mean() - 46.9)


@pytest.mark.parametrize(
    ("runs", "word"),
    [
        ([46.8, 47.1, 46.9, 47.0], "reproduced"),
        ([46.4, 46.5, 46.45, 46.5], "reproduced"),  # different, but by less than the margin
        ([43.0, 43.3, 43.1, 43.4], "lower"),
        ([50.0, 50.3, 50.1, 50.4], "higher"),
        ([44.0, 48.0, 46.0], "not distinguishable"),  # no difference shown, no equality either
        ([46.9], "not distinguishable"),  # the very same figure shows little
        ([46.9, 46.9], "not distinguishable"),  # equal runs say nothing about seeds
    ],
)
def test_words(runs, word):
    assert verdict(np.array(runs), 46.9, 1000).word == word


def test_smaller_margin_is_harder_to_meet():
    runs = np.array([46.8, 47.1, 46.9, 47.0])
    assert verdict(runs, 46.9, 1000, margin=0.2).word == "not distinguishable"


def test_verdict_mirrors():
    """100 - R@1 is the share of misses: everything turns around."""
    found, turned = verdict(RERUNS, 46.9, 1000), verdict(100 - RERUNS, 53.1, 1000)
    assert turned.difference == pytest.approx(-found.difference)
    for one, other in (
        (found.these_queries, turned.these_queries),
        (found.like_these, turned.like_these),
    ):
        assert (-other.high, -other.low) == pytest.approx((one.low, one.high))
        assert other.p_equivalence == pytest.approx(one.p_equivalence)


def test_fifty_of_fifty_do_not_show_that_both_are_perfect():
    """Either could miss 7 % of other queries: 0 of 50 leaves [0, 7.1] (Clopper and Pearson)."""
    found = verdict(np.array([100.0]), 100.0, 50)
    assert found.word == "not distinguishable"
    assert found.like_these.high > 2
    assert verdict(np.array([100.0]), 100.0, 5000).word == "reproduced"


@pytest.mark.parametrize(("runs", "published"), [([], 46.9), ([46.0], 146.0), ([math.nan], 46.9)])
def test_what_is_no_percentage_is_refused(runs, published):
    with pytest.raises(ValueError, match="expected R@K in percent"):
        verdict(np.array(runs), published, 1000)


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        ({}, ()),
        ({"synthetic": True, "backbone": "mini"}, ("synthetic data",)),
        ({"backbone": "ViT-B/16"}, ("other backbone: ViT-B/32, ours ViT-B/16",)),
        (
            {"split": "train 7k, test 1k-A"},
            ("other split: train 9k, test 1k-A, ours train 7k, test 1k-A",),
        ),
        ({"selected_on": "val"}, ("test-set selection: published on test, ours on val",)),
        ({"selected_on": "unknown"}, ()),
        (
            {"test_size": (500, 500)},
            ("other test set: 1,000 texts of 1,000 videos, ours 500 texts of 500 videos",),
        ),
        (
            {"test_size": (999, 1000)},
            ("other test set: 1,000 texts of 1,000 videos, ours 999 texts of 1,000 videos",),
        ),
        ({"held_out": 4000}, ("4,000 training videos held out for validation, published 0",)),
        ({"missing": 3}, ("3 training videos missing or unreadable, published 0",)),
        (
            {"post_processing": "dual softmax"},
            ("other post-processing: none, ours dual softmax",),
        ),
    ],
)
def test_obstacles_are_named(change, reasons):
    found = obstacles(replace(PAPER, **change), PAPER)
    assert found == reasons
    result = verdict(RERUNS, 46.9, 1000, obstacles=found)
    assert (result.word == "not comparable") == bool(reasons)
    if reasons:
        assert result.label == f"not comparable ({reasons[0]})"
        assert math.isnan(result.difference)


def test_all_obstacles_are_named_at_once():
    ours = replace(PAPER, backbone="ViT-B/16", selected_on="nothing")
    assert len(obstacles(ours, PAPER)) == 2


def test_a_further_run_is_called_different_in_five_percent():
    """Simulation; 2,000 sets of normal runs: 3 standard errors of 0.5."""
    source = np.random.default_rng(0)
    wrong = 0
    for _ in range(2000):
        figures = 46 + source.normal(0, 0.7, 4)
        wrong += verdict(figures[1:], figures[0], 1000, margin=1e-9).word in {"lower", "higher"}
    assert wrong / 2000 == pytest.approx(0.05, abs=0.015)


def test_simulated_runs_are_called_different_in_at_most_six_percent():
    assert coverage.published("3 seeds", coverage.seeds(3, 0.7), 300).rejected <= 6
