"""Attention by one learned query, against a loop and at its limits."""

import numpy as np
import pytest
import torch

from baselines.attention_token import AttentionToken
from xpool.similarity import similarity


def inputs(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((4, 6)) < 0.6
    mask[:, 2] = True
    return rng.standard_normal((5, 8)), 3 * rng.standard_normal((4, 6, 8)), mask


def method(query):
    made = AttentionToken(8).double()
    made.load_state_dict({"query": torch.tensor(query)})
    return made


def pooled(query, frames):
    """Σ_f exp(q·c_f/√d) c_f / Σ_f exp(q·c_f/√d), over a video's existing frames."""
    weights = [np.exp(query @ frame / np.sqrt(len(query))) for frame in frames]
    return sum(w * frame for w, frame in zip(weights, frames, strict=True)) / sum(weights)


@pytest.mark.parametrize("seed", range(3))
def test_equals_a_loop(seed):
    text, frames, mask = inputs(seed)
    query = np.random.default_rng(seed + 10).standard_normal(8)
    videos = [pooled(query, video[there]) for video, there in zip(frames, mask, strict=True)]
    expected = [[t @ v / (np.linalg.norm(t) * np.linalg.norm(v)) for v in videos] for t in text]
    actual = similarity(method(query), *map(torch.tensor, (text, frames, mask)))
    np.testing.assert_allclose(actual, expected, atol=1e-12)


def test_starts_as_the_mean_of_the_raw_frames():
    text, frames, mask = map(torch.tensor, inputs(0))
    mean = torch.stack([video[there].mean(0) for video, there in zip(frames, mask, strict=True)])
    torch.testing.assert_close(AttentionToken(8).double().pool(text, frames, mask)[0], mean)


def test_a_large_query_selects_the_frame_that_lies_along_it():
    text, frames, mask = map(torch.tensor, inputs(0))
    query = np.random.default_rng(1).standard_normal(8)
    nearest = (frames @ torch.tensor(query)).masked_fill(~mask, -torch.inf).argmax(dim=1)
    chosen = frames[torch.arange(len(frames)), nearest]
    torch.testing.assert_close(method(1e6 * query).pool(text, frames, mask)[0], chosen)


def test_dim_below_one_is_named():
    with pytest.raises(ValueError, match="dim must be at least 1; got 0"):
        AttentionToken(0)
