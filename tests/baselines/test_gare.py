"""GARE against loops over pairs, its terms of the loss, and X-Pool, whose block it has."""

import math

import numpy as np
import oracles
import pytest
import torch

from baselines.gare import Gare
from xpool.similarity import similarity
from xpool.xpool import XPool

DIM = 8


def inputs(seed=0, n_text=5, n_video=4):
    rng = np.random.default_rng(seed)
    mask = rng.random((n_video, 6)) < 0.6
    mask[:, 2] = True
    return rng.standard_normal((n_text, DIM)), rng.standard_normal((n_video, 6, DIM)), mask


def method(query="difference", **arguments):
    torch.manual_seed(1)
    made = Gare(DIM, query, **arguments).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return made


def state_of_block(made):
    """The block's weights under X-Pool's names."""
    named = {name: value.numpy() for name, value in made.psi.state_dict().items()}
    return {
        f"cross_attn.{name}" if name[1:].startswith("_proj") or name.startswith("out_") else name: v
        for name, v in named.items()
    }


def increment(made, text, frames):
    query = text if made.query == "text" else sum(frames) / len(frames) - text
    asked = oracles.xpool(list(query), [list(f) for f in frames], state_of_block(made), heads=1)
    weight, bias = made.mean_proj.weight.detach().numpy(), made.mean_proj.bias.detach().numpy()
    return weight @ np.array(asked) + bias


def score(made, text, frames):
    weights = [math.exp(text @ frame / made.temperature) for frame in frames]
    pooled = sum(w * f for w, f in zip(weights, frames, strict=True)) / sum(weights)
    moved = text + increment(made, text, frames)
    return moved @ pooled / (np.linalg.norm(moved) * np.linalg.norm(pooled))


@pytest.mark.parametrize("query", ["difference", "text"])
@pytest.mark.parametrize("seed", range(3))
def test_equals_loops_over_pairs(query, seed):
    text, frames, mask = inputs(seed)
    made = method(query, temperature=0.7)
    expected = [[score(made, t, f[m]) for f, m in zip(frames, mask, strict=True)] for t in text]
    actual = similarity(made, *map(torch.tensor, (text, frames, mask)))
    np.testing.assert_allclose(actual, expected, atol=1e-12)


def loops_of_terms(increments):
    """The three terms from ``(text, video, dim)``, a number at a time."""
    n_text, n_video, dim = increments.shape
    bottleneck = direction = radius = 0.0
    for v in range(n_video):
        for d in range(dim):
            column = increments[:, v, d]
            mean = sum(column) / n_text
            variance = sum((x - mean) ** 2 for x in column) / n_text
            bottleneck += (variance + mean**2 - 1 - math.log(variance + 1e-12)) / 2 / n_video
    for t in range(n_text):
        near = 0.0
        for a in increments[t]:
            for b in increments[t]:
                cosine = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
                near += math.exp(-2 * (1 - cosine)) / n_video**2
        direction += math.log(near) / n_text
        norms = [np.linalg.norm(a) for a in increments[t]]
        mean = sum(norms) / n_video
        radius -= sum((n - mean) ** 2 for n in norms) / n_video / n_text
    return {
        "bottleneck": bottleneck,
        "direction": direction,
        "radius": radius if radius >= -0.5 else 0.0,
    }


@pytest.mark.parametrize("size", [0.2, 5.0])
def test_terms_equal_loops(size):
    """With small increments, and with increments whose norms differ by more than the bound."""
    text, frames, mask = inputs(2, n_text=4, n_video=4)
    weights = {"bottleneck": 0.5, "direction": 2.0, "radius": 3.0}
    made = method(**weights)
    with torch.no_grad():
        made.mean_proj.weight *= size
        made.mean_proj.bias *= size
    pairs = [[increment(made, t, f[m]) for f, m in zip(frames, mask, strict=True)] for t in text]
    expected = loops_of_terms(np.array(pairs))
    assert (expected["radius"] == 0) == (size == 5)
    actual = made.losses(None, *map(torch.tensor, (text, frames, mask)))
    assert actual.keys() == expected.keys()
    for name, term in actual.items():
        assert term.item() == pytest.approx(weights[name] * expected[name], abs=1e-10)


def test_one_pair_has_finite_terms_and_gradients():
    """The last batch of an epoch may be that small."""
    text, frames, mask = inputs(0, n_text=1, n_video=1)
    made = method()
    terms = made.losses(None, *map(torch.tensor, (text, frames, mask)))
    sum(terms.values()).backward()
    for parameter in made.parameters():
        assert torch.isfinite(parameter.grad).all()


def test_the_text_as_query_asks_as_xpool_does():
    """Given the same weights, the increment is the layer ``mean_proj`` of X-Pool's result."""
    text, frames, mask = map(torch.tensor, inputs(1))
    made, source = method("text"), XPool(DIM).double().eval()
    weights = {name: torch.tensor(value) for name, value in state_of_block(made).items()}
    source.load_state_dict(weights)
    expected = made.mean_proj(source.pool(text, frames, mask))
    torch.testing.assert_close(made.increments(text, frames, mask), expected, atol=1e-12, rtol=0)


def test_without_increment_it_is_the_text_against_its_weighted_frames():
    text, frames, mask = map(torch.tensor, inputs(1))
    made = method(temperature=1e9)  # the mean frame
    with torch.no_grad():
        made.mean_proj.weight.zero_()
        made.mean_proj.bias.zero_()
    mean = torch.stack([video[there].mean(0) for video, there in zip(frames, mask, strict=True)])
    expected = torch.nn.functional.cosine_similarity(text[:, None], mean[None], dim=-1)
    actual = similarity(made, text, frames, mask)
    torch.testing.assert_close(actual, expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, "dim must be at least 1; got 0"),
        ({"query": "video"}, "query must be difference or text; got 'video'"),
        ({"temperature": 0.0}, "temperature must be above 0; got 0"),
        ({"temperature": math.nan}, "temperature"),
        ({"dropout": 1.0}, "dropout"),
        ({"bottleneck": -1.0}, "bottleneck must be at least 0; got -1"),
        ({"radius": math.nan}, "radius"),
    ],
)
def test_value_out_of_range_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Gare(**{"dim": DIM} | arguments)
