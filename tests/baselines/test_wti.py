"""Weighted token-wise interaction and its decorrelation against slow loops (oracle)."""

import math

import numpy as np
import oracles
import pytest
import torch

from baselines.token_max import TokenMax
from baselines.wti import WeightedTokenMax
from xpool.blocks.words import Words
from xpool.similarity import pair_losses, pair_similarity, similarity

DIM = 8


def inputs(seed, n_text=5, n_video=4):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 6, n_text)
    mask = np.arange(6) < rng.integers(1, 7, n_video)[:, None]
    words = [rng.standard_normal((count, DIM)) for count in counts]
    frames = rng.standard_normal((n_video, 6, DIM))
    packed = Words.of(torch.tensor(np.concatenate(words)), torch.tensor(counts))
    text = torch.tensor(rng.standard_normal((n_text, DIM)))  # has no part in it
    given = text, torch.tensor(frames), torch.tensor(mask), packed
    return words, [f[m] for f, m in zip(frames, mask, strict=True)], given


def made(layers=2, **arguments):
    torch.manual_seed(0)
    method = WeightedTokenMax(DIM, layers, **arguments).double().eval()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    return method


def weights_of(tokens, module):
    linear = [layer for layer in module.mlp if isinstance(layer, torch.nn.Linear)]
    none = np.zeros(1)
    return oracles.token_weights(
        tokens,
        [
            (x.weight.detach().numpy(), none if x.bias is None else x.bias.detach().numpy())
            for x in linear
        ],
    )


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_equals_slow_loops(layers):
    method = made(layers)
    words, frames, given = inputs(layers)

    def score(of_text, of_video):
        a, b = weights_of(of_text, method.word_weights), weights_of(of_video, method.frame_weights)
        return oracles.interaction(of_text, of_video, a, b)

    expected = [[score(w, f) for f in frames] for w in words]
    np.testing.assert_allclose(similarity(method, *given).numpy(), expected, atol=1e-12)


def decorrelation(method, words, frames):
    """Loops over tokens and channels."""
    parts = []
    for tokens, others, module in (
        (words, frames, method.word_weights),
        (frames, words, method.frame_weights),
    ):
        one, other, weight = [], [], []
        for mine, theirs in zip(tokens, others, strict=True):
            for token in mine:
                near = max(theirs, key=lambda there, here=token: oracles.cosine(here, there))
                one.append(token / np.linalg.norm(token))
                other.append(near / np.linalg.norm(near))
            weight += weights_of(mine, module)
        one, other = (
            (np.array(side) - np.mean(side, axis=0)) / np.std(side, axis=0, ddof=1)
            for side in (one, other)
        )
        parts.append(
            np.array(
                [
                    [
                        sum(w * x[i] * y[j] for w, x, y in zip(weight, one, other, strict=True))
                        for j in range(DIM)
                    ]
                    for i in range(DIM)
                ]
            )
            / len(tokens)
        )
    channels = (parts[0] + parts[1]) / 2
    own = sum((channels[i, i] - 1) ** 2 for i in range(DIM))
    rest = sum(channels[i, j] ** 2 for i in range(DIM) for j in range(DIM) if i != j)
    return method.cdcr * (method.alpha_1 * own + method.alpha_2 * rest)


def test_decorrelation_equals_slow_loops():
    method = made(cdcr=0.3, alpha_1=0.7, alpha_2=0.06)
    words, frames, (text, *others, packed) = inputs(3, 4, 4)
    given = torch.tensor(0.0).expand_as, text, *others, *packed.padded(7)
    (name, actual), *none = pair_losses(method, *given).items()
    assert (name, none) == ("cdcr", [])
    assert actual.item() == pytest.approx(decorrelation(method, words, frames), abs=1e-12)


def test_decorrelation_of_a_constant_channel_is_finite():
    method = made(cdcr=0.3)
    _, _, (text, frames, mask, packed) = inputs(3, 4, 4)
    frames, values = torch.ones_like(frames).requires_grad_(), torch.ones_like(packed.values)
    packed = Words.of(values, packed.count)
    loss = pair_losses(method, torch.sum, text, frames, mask, *packed.padded())["cdcr"]
    assert loss.item() == pytest.approx(0.3 * 0.11 * DIM)  # no channel correlates
    loss.backward()
    assert torch.isfinite(frames.grad).all()


def test_without_a_weight_there_is_no_further_loss():
    _, _, (text, frames, mask, packed) = inputs(0, 4, 4)
    assert pair_losses(made(), torch.sum, text, frames, mask, *packed.padded()) == {}


def test_with_weights_all_alike_it_is_token_wise_interaction():
    method = made()
    with torch.no_grad():
        for side in (method.word_weights, method.frame_weights):
            side.mlp[-1].weight.zero_()
    _, _, (text, frames, mask, packed) = inputs(4)
    given = text, frames, mask, *packed.padded()
    torch.testing.assert_close(pair_similarity(method, *given), pair_similarity(TokenMax(), *given))


def test_size_is_the_published():
    method = WeightedTokenMax(512)
    assert sum(p.numel() for p in method.parameters()) == 2 * (512 * 512 + 512 + 512)
    assert method.word_weights.mlp[0].weight.detach().std() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": 0}, "layers must be 1, 2 or 3; got 0"),
        ({"layers": 4}, "layers must be 1, 2 or 3; got 4"),
        ({"cdcr": -0.1}, "got cdcr=-0.1"),
        ({"alpha_1": math.nan}, "alpha_1=nan"),
        ({"alpha_2": -1.0}, "alpha_2=-1.0"),
    ],
)
def test_constructor_impossible_value_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        WeightedTokenMax(DIM, **arguments)
