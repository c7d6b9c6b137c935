"""Token-wise interaction against slow loops."""

import numpy as np
import pytest
import torch

from baselines.token_max import TokenMax
from xpool.blocks.words import Words
from xpool.similarity import similarity


@pytest.mark.parametrize("seed", range(5))
def test_equals_slow_loops(seed):
    rng = np.random.default_rng(seed)
    counts, mask = rng.integers(1, 6, 5), np.arange(6) < rng.integers(1, 7, 4)[:, None]
    words = [rng.standard_normal((count, 8)) for count in counts]
    frames = rng.standard_normal((4, 6, 8))

    def score(of_text, of_video):
        cosine = [
            [w @ f / np.linalg.norm(w) / np.linalg.norm(f) for f in of_video] for w in of_text
        ]
        by_word = [max(row) for row in cosine]
        by_frame = [max(column) for column in zip(*cosine, strict=True)]
        return (sum(by_word) / len(by_word) + sum(by_frame) / len(by_frame)) / 2

    expected = [[score(w, f[m]) for f, m in zip(frames, mask, strict=True)] for w in words]
    packed = Words.of(torch.tensor(np.concatenate(words)), torch.tensor(counts))
    text = torch.tensor(rng.standard_normal((5, 8)))  # has no part in it
    actual = similarity(TokenMax(), text, torch.tensor(frames), torch.tensor(mask), packed)
    np.testing.assert_allclose(actual.numpy(), expected, atol=1e-12)
