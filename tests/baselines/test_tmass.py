"""T-MASS against loops over pairs and draws, in evaluation and in training."""

import math

import numpy as np
import oracles
import pytest
import torch

from baselines.tmass import TMass
from xpool.project.errors import InputError
from xpool.similarity import similarity

DIM, FRAMES = 8, 6


def inputs(seed=0, n_text=5, n_video=4):
    rng = np.random.default_rng(seed)
    mask = rng.random((n_video, FRAMES)) < 0.6
    mask[:, 2] = True
    return rng.standard_normal((n_text, DIM)), rng.standard_normal((n_video, FRAMES, DIM)), mask


def method(**arguments):
    torch.manual_seed(1)
    made = TMass(DIM, FRAMES, dropout=0.0, **arguments).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return made


def pooled(made, text, frames, mask):
    """X-Pool's block for one pair, by the oracle."""
    state = {
        f"cross_attn.{name}" if name[1:].startswith("_proj") or name.startswith("out_") else name: v
        for name, v in ((name, v.numpy()) for name, v in made.psi.state_dict().items())
    }
    return np.array(oracles.xpool(list(text), oracles.existing(frames, mask), state, heads=1))


def radius(made, text, frames, mask):
    weight, bias = (p.detach().numpy() for p in (made.radius.weight, made.radius.bias))
    cosines = [oracles.cosine(text, f) if m else 0.0 for f, m in zip(frames, mask, strict=True)]
    return np.array([math.exp(sum(w * c for w, c in zip(weight[d], cosines, strict=True)) + bias[d])
                     for d in range(DIM)])  # fmt: skip


@pytest.mark.parametrize("arguments", [{}, {"prior": "normal", "scale": 0.5, "samples": 3}])
@pytest.mark.parametrize("seed", range(2))
def test_evaluation_equals_loops_over_pairs_and_draws(arguments, seed):
    text, frames, mask = inputs(seed)
    made = method(**arguments)
    noise = made.noise.numpy()
    expected = [
        [
            max(
                oracles.cosine(t + draw * radius(made, t, f, m), pooled(made, t, f, m))
                for draw in noise
            )
            for f, m in zip(frames, mask, strict=True)
        ]
        for t in text
    ]
    actual = similarity(made, *map(torch.tensor, (text, frames, mask)))
    np.testing.assert_allclose(actual, expected, atol=1e-12)


def test_training_draws_once_for_each_text():
    text, frames, mask = inputs(3)
    made = method(prior="normal", scale=0.5).train()
    torch.manual_seed(5)
    draws = 0.5 * torch.empty(5, DIM, dtype=torch.float64).normal_().numpy()
    expected = [
        [
            oracles.cosine(t + draw * radius(made, t, f, m), pooled(made, t, f, m))
            for f, m in zip(frames, mask, strict=True)
        ]
        for t, draw in zip(text, draws, strict=True)
    ]
    torch.manual_seed(5)
    actual = made.similarity(*map(torch.tensor, (text, frames, mask)))
    np.testing.assert_allclose(actual.detach(), expected, atol=1e-12)


def test_support_term_equals_loops():
    """One point a text, on the surface of its own pair, contrasted with every video."""
    text, frames, mask = inputs(4, n_text=4, n_video=4)
    made = method(support=0.5)
    expected = np.empty((4, 4))
    for i in range(4):
        towards = pooled(made, text[i], frames[i], mask[i]) - text[i]
        step = towards / np.linalg.norm(towards) * radius(made, text[i], frames[i], mask[i])
        for j in range(4):
            seen = pooled(made, text[i], frames[j], mask[j])
            expected[i, j] = oracles.cosine(text[i] + step, seen)
    given = []

    def contrast(scores):
        given.append(scores.detach().numpy())
        return scores.sum()

    terms = made.losses(contrast, *map(torch.tensor, (text, frames, mask)))
    np.testing.assert_allclose(given[0], expected, atol=1e-12)
    assert terms.keys() == {"support"}
    assert terms["support"].item() == pytest.approx(0.5 * expected.sum(), abs=1e-12)


def test_the_draws_of_evaluation_are_fixed_and_of_their_prior():
    torch.manual_seed(1)
    first = TMass(64, FRAMES, samples=200).noise
    torch.manual_seed(2)
    assert torch.equal(first, TMass(64, FRAMES, samples=200).noise)
    assert 0 <= first.min() < first.max() <= 1
    normal = TMass(64, FRAMES, samples=200, prior="normal", scale=0.003).noise
    assert float(normal.std()) == pytest.approx(0.003, rel=0.05)


def test_without_noise_it_is_the_block_alone():
    text, frames, mask = map(torch.tensor, inputs(1))
    made = method(scale=0.0)
    pairs = made.psi(text[:, None], frames, mask)
    expected = torch.nn.functional.cosine_similarity(text[:, None], pairs, dim=-1)
    torch.testing.assert_close(similarity(made, text, frames, mask), expected)


def test_another_number_of_frames_is_refused():
    text, frames, mask = map(torch.tensor, inputs())
    made = method()
    longer = torch.cat([frames, frames[:, :2]], dim=1)
    whole = torch.ones(4, FRAMES + 2, dtype=torch.bool)
    with pytest.raises(InputError, match=r"recipes.tmass.*frames: 6, but the videos have 8 frames"):
        similarity(made, text, longer, whole)
    with pytest.raises(InputError, match=r"pooling.frames: 6, but the videos have 4 frames"):
        similarity(made, text, frames[:, :4], torch.ones(4, 4, dtype=torch.bool))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, "dim must be at least 1; got 0"),
        ({"frames": 0}, "frames=0"),
        ({"samples": 0}, "samples=0"),
        ({"prior": "cauchy"}, "prior must be uniform or normal; got 'cauchy'"),
        ({"scale": -1.0}, "scale=-1"),
        ({"support": math.nan}, "support=nan"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_value_out_of_range_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        TMass(**{"dim": DIM, "frames": FRAMES} | arguments)
