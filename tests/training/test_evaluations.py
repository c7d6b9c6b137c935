"""Which evaluation is selected, on curves made by hand."""

import pytest

from xpool.training.evaluations import SPLIT, WINDOW, score


def selected(rule, r1, mnr=None):
    """Index of the first strictly best evaluation, seen one after the other as in training."""
    curve, best, chosen = [], None, None
    for step, value in enumerate(r1):
        curve.append({"step": 10 * step, "R@1": value, "MnR": mnr[step] if mnr else 5.0})
        now = score(rule, curve)
        if best is None or now > best:
            best, chosen = now, step
    return chosen


@pytest.mark.parametrize(
    ("r1", "expected"),
    [([1, 3, 2], 1), ([1, 3, 3], 1), ([3, 1, 2], 0), ([1, 2, 3], 2), ([2, 2, 2], 0), ([0.0], 0)],
)
def test_val_takes_the_first_highest(r1, expected):
    assert selected("val", r1) == expected


@pytest.mark.parametrize(
    ("r1", "mnr", "expected"),
    [
        ([3, 3, 3], [9, 7, 8], 1),
        ([3, 3, 3], [9, 7, 7], 1),
        ([3, 4, 3], [9, 99, 1], 1),
    ],
)
def test_val_lets_the_mean_rank_decide_between_equals_only(r1, mnr, expected):
    assert selected("val", r1, mnr) == expected


@pytest.mark.parametrize("r1", [[5, 4, 3], [1, 2, 3], [2, 2, 2], [7]])
def test_last_takes_the_last(r1):
    assert selected("last", r1) == len(r1) - 1


def test_test_window_takes_the_best_mean_of_five():
    # means: 10, 5, 3.3, 2.5, 2, 2, 4, 6, 8, 10, 8 -> the first 10 wins over the later, equal one
    assert selected("test_window", [10, 0, 0, 0, 0, 10, 10, 10, 10, 10, 0]) == 0
    # means: 0, 0, 0, 0, 2, 4, 6, 8, 10, 9: a single high value does not decide
    assert selected("test_window", [0, 0, 0, 0, 10, 10, 10, 10, 10, 5]) == 8
    # a peak counts in all five windows that hold it; the first of equal means wins
    assert selected("test_window", [1, 1, 1, 1, 1, 6, 1, 1, 1, 1, 1]) == 5


def test_test_window_equals_a_slow_loop():
    r1 = [12, 15, 14, 19, 18, 22, 21, 17, 23, 20, 24, 19, 25, 18, 16]
    means = [sum(r1[max(0, i - 4) : i + 1]) / len(r1[max(0, i - 4) : i + 1]) for i in range(15)]
    assert WINDOW == 5
    for i, expected in enumerate(means):
        curve = [{"step": k, "R@1": v, "MnR": 1.0} for k, v in enumerate(r1[: i + 1])]
        assert score("test_window", curve) == (pytest.approx(expected),)
    assert selected("test_window", r1) == means.index(max(means))


def test_only_test_window_looks_at_the_test_split():
    assert {rule for rule, split in SPLIT.items() if split == "test"} == {"test_window"}
