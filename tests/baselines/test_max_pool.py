"""Max pooling against a loop."""

import math

import numpy as np
import pytest
import torch

from baselines.max_pool import MaxPool
from xpool.similarity import similarity


def pooled(frames):
    """One dimension after the other, over a video's existing frames."""
    scaled = [[x / math.sqrt(sum(y * y for y in frame)) for x in frame] for frame in frames]
    return np.array([max(frame[d] for frame in scaled) for d in range(len(frames[0]))])


@pytest.mark.parametrize("seed", range(3))
def test_equals_a_loop(seed):
    rng = np.random.default_rng(seed)
    text, frames = rng.standard_normal((5, 8)), 3 * rng.standard_normal((4, 6, 8))
    mask = rng.random((4, 6)) < 0.6
    mask[:, 2] = True
    videos = [pooled(video[there]) for video, there in zip(frames, mask, strict=True)]
    expected = [[t @ v / (np.linalg.norm(t) * np.linalg.norm(v)) for v in videos] for t in text]
    actual = similarity(MaxPool(), *map(torch.tensor, (text, frames, mask)))
    np.testing.assert_allclose(actual, expected, atol=1e-12)
