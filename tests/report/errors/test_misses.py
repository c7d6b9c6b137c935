"""Likeness of captions against the edit distance of words, by its textbook recursion."""

import itertools
from functools import cache

import numpy as np
import pytest

from xpool.report.errors import misses
from xpool.report.errors.misses import NEAR, SAME


@cache
def distance(one, other):
    """Levenshtein's distance of two tuples, written as its definition."""
    if not one or not other:
        return len(one) + len(other)
    exchanged = distance(one[1:], other[1:]) + (one[0] != other[0])
    return min(exchanged, distance(one[1:], other) + 1, distance(one, other[1:]) + 1)


def likeness(one, other):
    return {0: SAME, 1: NEAR}.get(distance(one, other), 0)


def test_likeness_is_the_edit_distance_of_words():
    """Exact: all pairs of up to four words out of two."""
    texts = [t for n in range(5) for t in itertools.product("ab", repeat=n)]
    for one, other in itertools.product(texts, texts):
        assert misses.likeness(one, other) == likeness(one, other), (one, other)


@pytest.mark.parametrize("seed", range(3))
def test_likeness_of_the_first_video_matches_a_slow_loop(seed):
    rng = np.random.default_rng(seed)
    captions = [" ".join(rng.choice(["a", "b", "C."], rng.integers(1, 4))) for _ in range(40)]
    video_of_text = rng.integers(0, 9, 40)
    first = rng.integers(0, 10, 40)  # video 9 has no caption
    slow = []
    for text in range(40):
        own = tuple(captions[text].lower().replace(".", "").split())
        others = [
            tuple(captions[n].lower().replace(".", "").split())
            for n in range(40)
            if video_of_text[n] == first[text]
        ]
        slow.append(max((likeness(own, other) for other in others), default=0))
    found = misses.likeness_of_first(captions, video_of_text, first)
    assert found.tolist() == slow
    assert {0, NEAR, SAME} <= set(slow), "all three are asked"


def test_case_and_punctuation_do_not_count():
    found = misses.likeness_of_first(["A dog!", "a dog"], np.array([0, 1]), np.array([1, 0]))
    assert found.tolist() == [SAME, SAME]
