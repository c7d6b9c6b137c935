"""Metrics against slow loops (oracle), official outputs, published matrices; ties."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch

from xpool import metrics
from xpool.metrics import ranks, recall_of_any, retrieval_metrics
from xpool.project.errors import InputError

SHARED = Path(__file__).resolve().parents[2] / "shared"


def assert_same(actual, expected, **tolerance):
    assert list(actual) == ["t2v", "v2t"]
    for direction, values in expected.items():
        assert list(actual[direction]) == [*metrics.METRICS, *metrics.GRADED]
        for name, value in values.items():
            assert actual[direction][name] == pytest.approx(value, **tolerance), (direction, name)


@pytest.mark.parametrize("levels", [2, 5, 10_000])
@pytest.mark.parametrize(("n_text", "n_video"), [(12, 12), (40, 9), (130, 70), (3, 8)])
def test_metrics_random_matrix_matches_loops(n_text, n_video, levels):
    """With few levels most queries tie; with fewer texts than videos some videos have none."""
    rng = np.random.default_rng(n_text + levels)
    scores = rng.integers(0, levels, (n_text, n_video)) / levels
    video = rng.integers(0, n_video, n_text)
    expected = oracles.metrics(scores, video)
    assert_same(retrieval_metrics(scores, video), expected, abs=1e-9)
    assert_same(retrieval_metrics(torch.tensor(scores), torch.tensor(video)), expected, abs=1e-9)


def test_metrics_golden_numbers():
    golden = json.loads(oracles.GOLDEN.read_text())
    actual = retrieval_metrics(
        np.array(golden["expected"]["xpool"]), np.array(golden["video_of_text"])
    )
    assert_same(actual, golden["metrics"], abs=1e-9)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/reference")
def test_metrics_official_outputs_exactly():
    official = np.load(SHARED / "reference" / "official_small.npz")
    expected = json.loads(str(official["metrics"]))
    actual = retrieval_metrics(official["sims"], official["video_index"])
    names = {"R@1": "R1", "R@5": "R5", "R@10": "R10", "R@50": "R50", "MdR": "MedR", "MnR": "MeanR"}
    for direction, values in actual.items():
        for ours, theirs in names.items():
            assert values[ours] == pytest.approx(expected[direction][theirs], abs=1e-12)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/reference")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("video", {"R@1": 48.0, "R@5": 73.0, "R@10": 82.9, "MdR": 2, "MnR": 13.129}),
        ("titles", {"R@1": 29.7, "R@5": 55.8, "R@10": 66.6, "MdR": 4, "MnR": 26.743}),
    ],
)
def test_metrics_published_matrix(name, expected):
    matrix = np.load(SHARED / "reference" / f"cap4video_msrvtt_{name}_matrix.npy")
    actual = retrieval_metrics(matrix, np.arange(1000))["t2v"]
    assert {key: actual[key] for key in expected} == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("n", [10, 11, 60])
@pytest.mark.parametrize("value", [0.0, 0.3, -1.0])
def test_constant_matrix_is_exactly_chance(n, value):
    """A collapsed model must not be rewarded, whatever the order of rows and columns."""
    video = np.random.default_rng(0).permutation(n)
    for values in retrieval_metrics(np.full((n, n), value), video).values():
        for k in (1, 5, 10, 50):
            assert values[f"R@{k}"] == pytest.approx(100 * min(1, k / n))
        assert values["MdR"] == values["MnR"] == (n + 1) / 2


def test_constant_matrix_with_several_captions_is_chance_of_the_videos():
    video = np.array([0, 0, 0, 1, 2, 2, 3])
    result = retrieval_metrics(np.zeros((7, 4)), video)
    assert result["t2v"]["R@1"] == result["v2t"]["R@1"] == 25
    assert result["t2v"]["MdR"] == result["v2t"]["MnR"] == 2.5


def test_collapsed_columns_do_not_beat_chance():
    """Every text scores the videos alike: t2v must be at chance although nothing ties in a row."""
    n = 50
    scores = np.tile(np.random.default_rng(0).standard_normal(n), (n, 1))
    assert retrieval_metrics(scores, np.arange(n))["t2v"]["R@1"] == 100 / n
    assert retrieval_metrics(scores, np.arange(n))["v2t"]["R@1"] == pytest.approx(100 / n)


def test_perfect_matrix():
    expected = {"R@1": 100, "R@5": 100, "R@10": 100, "R@50": 100, "MdR": 1, "MnR": 1}
    expected |= {"nDCG@10": 100, "MRR": 100}
    assert retrieval_metrics(np.eye(9), np.arange(9)) == {"t2v": expected, "v2t": expected}


def test_worst_matrix_is_last():
    assert retrieval_metrics(-np.eye(9), np.arange(9))["t2v"]["MnR"] == 9


def test_ties_share_the_places():
    scores = np.array([[0.9, 0.9, 0.1], [0.5, 0.5, 0.5], [0.1, 0.2, 0.3]])
    t2v = ranks(scores, np.arange(3))["t2v"]
    assert t2v.n_greater.tolist() == [0, 0, 0]
    assert t2v.n_tied.tolist() == [2, 3, 1]
    assert t2v.rank.tolist() == [1.5, 2, 1]
    assert t2v.recall(1) == pytest.approx(100 * (1 / 2 + 1 / 3 + 1) / 3)
    assert t2v.tied() == pytest.approx(200 / 3)


@pytest.mark.parametrize(("n_greater", "n_tied"), [(0, 1), (0, 4), (2, 3), (7, 5), (9, 2), (12, 3)])
def test_ndcg_and_mrr_are_the_mean_over_all_orders_of_what_ties(n_greater, n_tied):
    """By listing the orders: the right answer is candidate 0 of those that tie."""
    scores = [0.5] * n_tied + [0.9] * n_greater + [0.1] * 3
    better = list(range(n_tied, n_tied + n_greater))
    gains, inverse = [], []
    for order in itertools.permutations(range(n_tied)):
        rank = [*better, *order].index(0) + 1
        gains.append(1 / math.log2(rank + 1) if rank <= 10 else 0)
        inverse.append(1 / rank)
    found = ranks(np.array([scores]), np.array([0]))["t2v"].metrics()
    assert found["nDCG@10"] == pytest.approx(100 * np.mean(gains), abs=1e-12)
    assert found["MRR"] == pytest.approx(100 * np.mean(inverse), abs=1e-12)


def test_what_is_reported_and_corrected_for_is_as_before():
    """A further compared metric would make Holm's correction stricter."""
    assert metrics.REPORTED == ("R@1", "R@5", "R@10", "MdR", "MnR")
    assert not {*metrics.GRADED} & {*metrics.METRICS, *metrics.REPORTED}


def test_video_query_takes_the_best_of_each_group():
    """Captions 0, 1 describe video 0; caption 2 video 1. By hand."""
    scores = np.array([[0.1, 0.8], [0.9, 0.2], [0.5, 0.7]])
    v2t = ranks(scores, np.array([0, 0, 1]))["v2t"]
    assert v2t.query.tolist() == [0, 1]
    assert v2t.rank.tolist() == [1, 2]  # 0.9 over 0.5; 0.7 under the group's 0.8


def test_video_without_caption_distracts_only():
    scores = np.array([[0.5, 0.9, 0.1], [0.2, 0.9, 0.8]])
    both = ranks(scores, np.array([0, 2]))
    assert both["t2v"].rank.tolist() == [2, 2]
    assert both["v2t"].query.tolist() == [0, 2]
    assert both["v2t"].rank.tolist() == [1, 1]


def test_permuting_rows_and_columns_changes_nothing():
    rng = np.random.default_rng(0)
    scores, video = rng.integers(0, 9, (60, 20)) / 9, rng.integers(0, 20, 60)
    rows, columns = rng.permutation(60), rng.permutation(20)
    moved = scores[rows][:, columns]
    index = np.argsort(columns)
    assert_same(
        retrieval_metrics(moved, index[video[rows]]), retrieval_metrics(scores, video), abs=1e-9
    )


def test_blocks_do_not_matter(monkeypatch):
    rng = np.random.default_rng(0)
    scores, video = rng.integers(0, 50, (90, 33)) / 50, rng.integers(0, 33, 90)
    expected = retrieval_metrics(scores, video)
    for block in (1, 100, 333):
        monkeypatch.setattr(metrics, "BLOCK", block)
        assert retrieval_metrics(scores, video) == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_tensors_of_any_float_type_are_read(dtype):
    scores = torch.eye(5, dtype=dtype, requires_grad=True)
    assert retrieval_metrics(scores, torch.arange(5))["t2v"]["R@1"] == 100


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_is_named(value):
    scores = np.eye(4)
    scores[2, 3] = value
    with pytest.raises(InputError, match="similarity row 2: NaN or infinity"):
        retrieval_metrics(scores, np.arange(4))


@pytest.mark.parametrize("stray", [-1, 4])
def test_video_out_of_range_is_named(stray):
    with pytest.raises(InputError, match=f"row 3: video {stray} is no column"):
        retrieval_metrics(np.eye(4), np.array([0, 1, 2, stray]))


@pytest.mark.parametrize(
    ("scores", "video"),
    [
        (np.zeros((3, 4)), np.arange(4)),
        (np.zeros(3), np.arange(3)),
        (np.zeros((0, 4)), np.arange(0)),
        (np.zeros((3, 4)), np.array([0.0, 1.0, 2.0])),
    ],
)
def test_shapes_and_kinds_that_do_not_fit_are_refused(scores, video):
    with pytest.raises(ValueError, match="expected"):
        retrieval_metrics(scores, video)


@pytest.mark.parametrize("levels", [1, 2, 5, 10_000])
def test_recall_of_any_matches_every_order_of_the_ties(levels):
    """Oracle: all orders of the columns; the first of the highest is taken."""
    rng = np.random.default_rng(levels)
    scores = rng.integers(0, levels, (12, 4)) / levels
    right = rng.random((12, 4)) < 0.4
    right[:, 0] |= ~right.any(axis=1)
    orders = list(itertools.permutations(range(4)))
    hits = [
        [right[text, max(order, key=lambda video: scores[text, video])] for order in orders]
        for text in range(12)
    ]
    assert recall_of_any(scores, *np.nonzero(right)) == pytest.approx(100 * np.mean(hits))


def test_recall_of_any_with_one_right_video_is_recall():
    rng = np.random.default_rng(0)
    scores, video = rng.integers(0, 3, (50, 6)) / 3, rng.integers(0, 6, 50)
    expected = retrieval_metrics(scores, video)["t2v"]["R@1"]
    assert recall_of_any(scores, np.arange(50), video) == pytest.approx(expected)
