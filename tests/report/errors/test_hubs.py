"""How often a video is among the first, and how uneven that is, against slow loops and draws."""

import numpy as np
import pytest

from xpool.report.errors import hubs


@pytest.mark.parametrize(("texts", "videos", "k"), [(30, 12, 3), (7, 5, 10), (1, 4, 1)])
def test_occurrences_match_a_slow_loop(texts, videos, k):
    """Oracle: sort the videos of each text; scores of one digit tie often."""
    scores = np.random.default_rng(texts).integers(0, 9, (texts, videos)) / 10 - 0.4
    slow = [0] * videos
    for row in scores.tolist():
        for video in sorted(range(videos), key=lambda v: (-row[v], v))[:k]:
            slow[video] += 1
    found = hubs.occurrences(scores, k)
    assert found.tolist() == slow
    assert found.sum() == texts * min(k, videos)


def test_skewness_is_the_third_standardised_moment():
    counts = np.array([0, 0, 1, 2, 17])
    mean = sum(counts) / 5
    deviation = (sum((n - mean) ** 2 for n in counts) / 5) ** 0.5
    slow = sum(((n - mean) / deviation) ** 3 for n in counts) / 5
    assert hubs.skewness(counts) == pytest.approx(slow, rel=1e-12)
    assert hubs.skewness(np.array([3, 3, 3])) == 0


def test_skewness_by_chance_is_that_of_random_lists():
    """Oracle: k videos drawn for each of many texts, over many worlds; within 4 standard errors."""
    rng = np.random.default_rng(0)
    texts, videos, k = 60, 40, 10
    drawn = [
        hubs.occurrences(rng.random((texts, videos)), k) for _ in range(400)
    ]  # random scores are random lists
    counts = np.concatenate(drawn).astype(float)
    moments = [((counts[i::20] - 15) ** 3).mean() / 15**1.5 / (0.75) ** 1.5 for i in range(20)]
    error = np.std(moments, ddof=1) / 20**0.5
    assert abs(np.mean(moments) - hubs.skewness_by_chance(texts, videos, k)) < 4 * error
    assert hubs.skewness_by_chance(5, 8, 8) == 0, "each text finds all"
