"""CLIP4Clip's seqLSTM, against a loop over frames and gates."""

import numpy as np
import pytest
import torch

from baselines.seq_lstm import SeqLstm
from xpool.similarity import similarity

DIM = 8


def inputs(seed):
    """Existing frames may stand anywhere."""
    rng = np.random.default_rng(seed)
    mask = rng.random((4, 6)) < 0.6
    mask[:, 2] = True
    return rng.standard_normal((5, DIM)), 3 * rng.standard_normal((4, 6, DIM)), mask


def method(seed=0):
    torch.manual_seed(seed)
    return SeqLstm(DIM).double().eval()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def pooled(state, frames):
    """The existing frames of one video; gates in torch's order: input, forget, cell, output."""
    hidden, cell, total = np.zeros(DIM), np.zeros(DIM), np.zeros(DIM)
    for frame in frames:
        gates = state["lstm.weight_ih_l0"] @ frame + state["lstm.bias_ih_l0"]
        gates = gates + state["lstm.weight_hh_l0"] @ hidden + state["lstm.bias_hh_l0"]
        admit, forget, new, show = (gates[i * DIM : (i + 1) * DIM] for i in range(4))
        cell = sigmoid(forget) * cell + sigmoid(admit) * np.tanh(new)
        hidden = sigmoid(show) * np.tanh(cell)
        summed = hidden + frame
        total += summed / np.linalg.norm(summed)
    return total / len(frames)


@pytest.mark.parametrize("seed", range(3))
def test_equals_a_loop(seed):
    text, frames, mask = inputs(seed)
    made = method(seed)
    state = {name: value.numpy() for name, value in made.state_dict().items()}
    videos = [pooled(state, video[there]) for video, there in zip(frames, mask, strict=True)]
    expected = [[t @ v / (np.linalg.norm(t) * np.linalg.norm(v)) for v in videos] for t in text]
    actual = similarity(made, *map(torch.tensor, (text, frames, mask)))
    np.testing.assert_allclose(actual, expected, atol=1e-12)


def test_the_order_of_frames_matters():
    text, frames, _ = map(torch.tensor, inputs(0))
    made = method()
    whole = torch.ones(4, 6, dtype=torch.bool)
    forwards, backwards = made.pool(text, frames, whole), made.pool(text, frames.flip(1), whole)
    assert not torch.allclose(forwards, backwards)


def test_where_padding_stands_does_not_matter():
    """Between the frames, before them or behind them; nor what it holds, nor in the gradient."""
    text, frames, mask = map(torch.tensor, inputs(1))
    made = method()
    expected = made.pool(text, frames, mask)
    for before in (True, False):
        width = int(mask.sum(dim=1).max()) + 2
        moved = torch.full((4, width, DIM), 1e30, dtype=torch.float64)
        there = torch.zeros(4, width, dtype=torch.bool)
        for v in range(4):
            count = int(mask[v].sum())
            where = slice(width - count, width) if before else slice(0, count)
            moved[v, where], there[v, where] = frames[v, mask[v]], True
        moved.requires_grad_()
        actual = made.pool(text, moved, there)
        torch.testing.assert_close(actual, expected)
        actual.square().sum().backward()
        assert (moved.grad[~there] == 0).all()
        assert (moved.grad[there] != 0).any()


def test_dim_below_one_is_named():
    with pytest.raises(ValueError, match="dim must be at least 1; got 0"):
        SeqLstm(0)
