"""The tight interaction against slow loops (oracle), and the memory of its tiles."""

import numpy as np
import oracles
import pytest
import torch
from made_inputs import Largest, text_transformer

from baselines.tight import Tight
from xpool.project.errors import InputError
from xpool.similarity import similarity

DIM, HEADS = 8, 2


def made(**arguments):
    torch.manual_seed(0)
    method = Tight(DIM, HEADS, layers=2, positions=6, **arguments).double().eval()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return method


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    mask = np.arange(6) < rng.integers(1, 7, 4)[:, None]
    return rng.standard_normal((5, DIM)), rng.standard_normal((4, 6, DIM)), mask


def arrays(module):
    return {name: value.numpy() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_equals_slow_loops(activation):
    method = made(activation=activation)
    text, frames, mask = inputs()
    position = arrays(method.transformer)["positional_embedding"]
    layers = [arrays(block) for block in method.transformer.resblocks]
    head = arrays(method.head)

    def score(of_text, of_video):
        tokens = oracles.with_positions([of_text, *of_video], position)
        first = oracles.transformer(tokens, layers, HEADS, activation)[0]
        hidden = oracles.layer_norm(first, head["0.weight"], head["0.bias"])
        hidden = oracles.linear(hidden, head["1.weight"], head["1.bias"])
        hidden = [oracles.quick_gelu(x) for x in hidden]
        return oracles.linear(hidden, head["3.weight"], head["3.bias"])[0]

    expected = [[score(t, f[m]) for f, m in zip(frames, mask, strict=True)] for t in text]
    actual = similarity(method, *(torch.tensor(part) for part in (text, frames, mask)))
    np.testing.assert_allclose(actual.numpy(), expected, atol=1e-12)


def test_tiles_hold_no_more_than_they_may():
    """The largest tensor, of all pairs in one tile and of a memory that holds a hundred of them."""
    rng = np.random.default_rng(1)
    text, frames = (torch.tensor(rng.standard_normal(shape)) for shape in ((60, 8), (50, 6, 8)))
    method = made()

    hundred = 100 * method.numbers_per_pair(0, 6, DIM)
    with torch.no_grad(), Largest() as watched:
        scores = similarity(method, text, frames, memory_mib=8 * hundred / 2**20)
    assert scores.numel() < watched.numel < hundred
    torch.testing.assert_close(scores, similarity(method, text, frames))


def test_starts_from_the_encoders_layers_with_a_position_for_the_text():
    source = text_transformer(positions=7)
    method = made()
    method.start_from(source)
    assert torch.equal(method.transformer.positional_embedding, source.position)
    longer = Tight(DIM, HEADS, layers=2, positions=7)
    with pytest.raises(InputError, match=r"recipes.tight.*positions: 7, .*set it to at most 6"):
        longer.start_from(source)


def test_too_many_frames_name_the_key():
    text, frames, mask = (torch.tensor(part) for part in inputs())
    method = Tight(DIM, HEADS, layers=1, positions=5).double()
    with pytest.raises(InputError, match=r"recipes.tight.*positions: 5, but .* has 6 frames"):
        similarity(method, text, frames, mask)


def test_default_is_the_published_size():
    method = Tight(64)
    assert len(method.transformer.resblocks) == 4
    assert method.transformer.positional_embedding.shape == (77, 64)
    assert method.head[1].weight.detach().std() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"heads": 3}, "heads=3, dim=8"),
        ({"layers": 0}, "layers=0"),
        ({"positions": 0}, "positions=0"),
        ({"activation": "relu"}, "quick_gelu, gelu; got 'relu'"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1; got 1.0"),
    ],
)
def test_constructor_impossible_value_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Tight(DIM, **arguments)
