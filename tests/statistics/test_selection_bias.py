"""What each rule gives, and its luck, against the rules applied evaluation by evaluation."""

import numpy as np
import pandas as pd
import pytest

from xpool.statistics.selection_bias import by_chance, chosen, selection_rows
from xpool.training import evaluations


def evaluations_of(val, test):
    rows = [
        {
            "step": 10 * (number + 1),
            "split": split,
            "R@1": float(value),
            "R@5": value + 0.5,
            "R@10": value + 0.75,
            "MnR": 5.0,
        }
        for split, values in (("val", val), ("test", test))
        for number, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["step", "split", "R@1", "R@5", "R@10", "MnR"])


def test_each_rule_sees_its_own_split():
    evaluations = evaluations_of(val=[1, 9, 3, 2], test=[8, 1, 2, 3])
    assert chosen("val", evaluations) == 20
    assert chosen("last", evaluations) == 40
    assert chosen("test_window", evaluations) == 10


def test_without_a_validation_split_only_its_rule_has_nothing():
    evaluations = evaluations_of(val=[], test=[0, 50, 100])
    assert chosen("val", evaluations) is None
    assert chosen("last", evaluations) == 30
    hits = pd.DataFrame({"caption_id": ["a", "b"], "video_id": ["u", "v"]})
    hits = hits.assign(**{"10": [0.0, 0.0], "20": [0.0, 100.0], "30": [100.0, 100.0]})
    rows = selection_rows({7: (evaluations, hits)}, 0, 50)
    assert {row["seed"] for row in rows} == {7}
    assert [row["rule"] for row in rows] == ["last", "test_window"]
    assert [row["R@1"] for row in rows] == [100.0, 100.0]
    assert [(row["R@5"], row["R@10"]) for row in rows] == [(100.5, 100.75)] * 2


def test_a_run_without_evaluations_has_no_rows():
    hits = pd.DataFrame({"caption_id": [], "video_id": []})
    assert selection_rows({0: (evaluations_of([], []), hits)}, 0, 50) == []


def luck_of(n_evaluations, shared, n_query, rng):
    """One run of equally good evaluations: the figure that the rule selects, less any other's.

    A share of the queries is answered alike in all evaluations, the others anew each time.
    """
    truth = 40.0
    same = rng.random(n_query) < shared
    always = rng.random(n_query) < truth / 100
    hits = np.where(same, always, rng.random((n_evaluations, n_query)) < truth / 100) * 100.0
    curve, best, reported = [], None, 0.0
    for evaluation in hits:
        curve.append({"R@1": evaluation.mean(), "MnR": 0.0, "step": len(curve)})
        now = evaluations.score("test_window", curve)
        if best is None or now > best:
            best, reported = now, evaluation.mean()
    return hits, reported - hits[rng.integers(n_evaluations)].mean()


@pytest.mark.parametrize(("n_evaluations", "shared"), [(6, 0.0), (50, 0.0), (50, 0.8)])
def test_luck_is_what_fresh_runs_without_a_difference_show(n_evaluations, shared):
    """Oracle: a few thousand simulated runs, the rule applied as in training."""
    rng = np.random.default_rng(n_evaluations)
    runs = [luck_of(n_evaluations, shared, 200, rng) for _ in range(2000)]
    expected = np.mean([luck for _, luck in runs])
    video = np.arange(200)
    found = [by_chance(hits, video, rng, rng, 1000) for hits, _ in runs[:30]]
    assert np.mean(found) == pytest.approx(expected, rel=0.15, abs=0.05)
    high = np.quantile([luck for _, luck in runs], 0.975)
    assert np.mean(np.quantile(found, 0.975, axis=1)) == pytest.approx(high, rel=0.15)


def test_equal_evaluations_leave_nothing_to_luck():
    """All evaluations answer the same queries: choosing among them adds nothing."""
    hits = np.tile(100.0 * (np.arange(200) < 90), (50, 1))
    rng = np.random.default_rng(0)
    found = by_chance(hits, np.arange(200), rng, rng, 500)
    assert found == pytest.approx(np.zeros(500), abs=1e-9)


def test_captions_of_one_video_are_drawn_together():
    """Ten captions of a video that are hit together leave the luck of a tenth of the queries."""
    rng = np.random.default_rng(1)
    few = 100.0 * (rng.random((20, 60)) < 0.4)
    many = np.repeat(few, 10, axis=1)
    together, alone = (
        by_chance(hits, video, np.random.default_rng(2), np.random.default_rng(3), 4000)
        for hits, video in ((many, np.repeat(np.arange(60), 10)), (few, np.arange(60)))
    )
    assert together == pytest.approx(alone)


def test_the_bracket_is_of_the_mean_over_the_runs_like_the_difference_beside_it():
    """Oracle: fresh tables of three equal runs each; 2.5 % of their mean differences lie above."""
    rng = np.random.default_rng(5)
    tables = [[luck_of(20, 0.5, 200, rng) for _ in range(3)] for _ in range(1000)]
    expected = np.quantile([np.mean([luck for _, luck in table]) for table in tables], 0.975)
    brackets = []
    for table in tables[:20]:
        runs = {}
        for seed, (hits, _) in enumerate(table):
            columns = {str(step): row for step, row in enumerate(hits)}
            of_run = pd.DataFrame({"video_id": np.arange(200)} | columns)
            runs[seed] = (
                evaluations_of([], hits.mean(axis=1)).assign(
                    step=lambda rows: rows["step"] // 10 - 1
                ),
                of_run,
            )
        rows = selection_rows(runs, 0, 1000)
        assert len({row["chance_high"] for row in rows if row["rule"] == "test_window"}) == 1
        brackets += [row["chance_high"] for row in rows if row["rule"] == "test_window"]
    one_run = np.quantile([luck for table in tables for _, luck in table], 0.975)
    assert np.mean(brackets) == pytest.approx(expected, rel=0.15)
    assert np.mean(brackets) < 0.8 * one_run
