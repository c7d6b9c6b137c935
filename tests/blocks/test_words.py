"""Packed words against lists of them, and the nearest words and frames against slow loops."""

import numpy as np
import pytest
import torch

from xpool.blocks.words import Words, nearest

COUNTS = [3, 1, 4, 2]


@pytest.fixture
def lists():
    rng = np.random.default_rng(0)
    return [torch.tensor(rng.standard_normal((count, 5))) for count in COUNTS]


@pytest.fixture
def words(lists):
    return Words.of(torch.cat(lists), torch.tensor(COUNTS))


def as_lists(words):
    values, exists = words.padded()
    return [row[mask] for row, mask in zip(values, exists, strict=True)]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_padding_leaves_each_text_as_it_was(words, lists):
    assert len(words) == len(COUNTS)
    assert_same(as_lists(words), lists)
    values, exists = words.padded(6)
    assert values.shape == (4, 6, 5)
    assert exists.sum(dim=1).tolist() == COUNTS


@pytest.mark.parametrize("rows", [[2], [3, 0], [1, 1, 2], [0, 1, 2, 3]])
def test_chosen_texts_keep_their_words(words, lists, rows):
    chosen = words[torch.tensor(rows)]
    assert_same(as_lists(chosen), [lists[row] for row in rows])
    alone = chosen.alone()
    assert_same(as_lists(alone), [lists[row] for row in rows])
    assert len(alone.values) == sum(COUNTS[row] for row in rows)


@pytest.mark.parametrize("seed", range(5))
def test_nearest_equals_slow_loops(seed):
    rng = np.random.default_rng(seed)
    words, frames = rng.standard_normal((4, 5, 8)), rng.standard_normal((3, 6, 8))
    word_mask, mask = rng.random((4, 5)) < 0.6, rng.random((3, 6)) < 0.6
    word_mask[:, rng.integers(5)] = mask[:, rng.integers(6)] = True
    of_words, of_frames = nearest(*map(torch.tensor, (words, word_mask, frames, mask)))
    for t in range(4):
        for v in range(3):
            cosine = np.array([
                [w @ f / np.linalg.norm(w) / np.linalg.norm(f) for f in frames[v]] for w in words[t]
            ])  # fmt: skip
            cosine = cosine[word_mask[t]][:, mask[v]]
            found = of_words[t, v][torch.tensor(word_mask[t])]
            np.testing.assert_allclose(found.numpy(), cosine.max(axis=1), atol=1e-12)
            found = of_frames[t, v][torch.tensor(mask[v])]
            np.testing.assert_allclose(found.numpy(), cosine.max(axis=0), atol=1e-12)
