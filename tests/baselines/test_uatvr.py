"""UATVR's interaction against slow loops (oracle), and what its extra tokens do (property)."""

import numpy as np
import oracles
import pytest
import torch
from made_inputs import text_transformer

from baselines.uatvr import ExtraTokens
from xpool.blocks.words import Words
from xpool.project.errors import InputError
from xpool.similarity import similarity

DIM, HEADS = 8, 2


def made(extra=2):
    torch.manual_seed(0)
    method = ExtraTokens(DIM, HEADS, layers=2, positions=7, extra=extra).double().eval()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return method


def inputs(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 6, 5)
    mask = np.arange(6) < rng.integers(1, 7, 4)[:, None]
    words = [rng.standard_normal((count, DIM)) for count in counts]
    frames = rng.standard_normal((4, 6, DIM))
    packed = Words.of(torch.tensor(np.concatenate(words)), torch.tensor(counts))
    text = torch.tensor(rng.standard_normal((5, DIM)))  # has no part in it
    given = text, torch.tensor(frames), torch.tensor(mask), packed
    return words, [f[m] for f, m in zip(frames, mask, strict=True)], given


def arrays(module):
    return {name: value.numpy() for name, value in module.state_dict().items()}


def mixed(tokens, extra, method):
    """Tokens of one text or video, through the layers and with the residual of the given ones."""
    position = method.transformer.positional_embedding.detach().numpy()
    layers = [arrays(block) for block in method.transformer.resblocks]
    joined = [*oracles.with_positions(tokens, position), *extra.detach().numpy()]
    hidden = oracles.transformer(joined, layers, HEADS, "quick_gelu")
    count = len(tokens)
    return [*(np.array(h) + t for h, t in zip(hidden, tokens, strict=False)), *hidden[count:]]


def weights(tokens, module):
    state = arrays(module)
    return oracles.token_weights(
        tokens,
        [(state["mlp.0.weight"], state["mlp.0.bias"]), (state["mlp.2.weight"], np.zeros(1))],
    )


@pytest.mark.parametrize("extra", [1, 3])
def test_equals_slow_loops(extra):
    method = made(extra)
    words, frames, given = inputs(extra)
    expected = []
    for of_text in words:
        w = mixed(of_text, method.of_text, method)
        row = []
        for of_video in frames:
            f = mixed(of_video, method.of_video, method)
            a, b = weights(w, method.word_weights), weights(f, method.frame_weights)
            row.append(oracles.interaction(w, f, a, b))
        expected.append(row)
    np.testing.assert_allclose(similarity(method, *given).numpy(), expected, atol=1e-12)


def test_it_starts_from_the_encoders_layers():
    source = text_transformer(layers=3, positions=9)
    method = made()
    method.start_from(source)
    assert torch.equal(method.transformer.positional_embedding, source.position[:7])
    for block, layer in zip(method.transformer.resblocks, source.layers, strict=False):
        assert all(torch.equal(value, layer[name]) for name, value in block.state_dict().items())
    other = ExtraTokens(DIM, HEADS, layers=4, positions=7)
    with pytest.raises(InputError, match=r"recipes.uatvr.<benchmark>.pooling.layers: 4, .*most 3"):
        other.start_from(source)


def test_too_many_words_name_the_key():
    _, _, given = inputs(0)
    method = ExtraTokens(DIM, HEADS, layers=1, positions=3).double()
    with pytest.raises(InputError, match=r"uatvr.<benchmark>.pooling.positions: 3, but a video or"):
        similarity(method, *given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"extra": 0}, "extra must be at least 1; got 0"), ({"heads": 3}, "heads=3, dim=8")],
)
def test_constructor_impossible_value_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ExtraTokens(DIM, **arguments)
