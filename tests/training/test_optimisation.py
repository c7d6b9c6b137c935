"""The loss against slow loops and open_clip's, the learning rate against Hugging Face's."""

import math

import pytest
import torch
from open_clip.loss import ClipLoss
from torch.nn import functional
from transformers import get_cosine_schedule_with_warmup

from xpool.training.optimisation import factor, set_rates, symmetric_contrastive


def slow(similarity, log_scale):
    n = len(similarity)
    total = 0.0
    for i in range(n):
        row = [similarity[i][j] * math.exp(log_scale) for j in range(n)]
        column = [similarity[j][i] * math.exp(log_scale) for j in range(n)]
        for logits in (row, column):
            most = max(logits)
            total += most + math.log(sum(math.exp(v - most) for v in logits)) - logits[i]
    return total / (2 * n)


@pytest.mark.parametrize("size", [1, 2, 5, 32])
@pytest.mark.parametrize("log_scale", [-1.0, 0.0, 2.66, math.log(100)])
def test_loss_equals_slow_loops(size, log_scale):
    rng = torch.Generator().manual_seed(size)
    similarity = 2 * torch.rand(size, size, generator=rng, dtype=torch.float64) - 1
    found = symmetric_contrastive(similarity, torch.tensor(log_scale, dtype=torch.float64))
    assert found.item() == pytest.approx(slow(similarity.tolist(), log_scale), rel=1e-12, abs=1e-12)


def test_loss_and_gradients_equal_open_clips():
    rng = torch.Generator().manual_seed(0)
    log_scale = torch.tensor(2.66, requires_grad=True)
    text, image = (torch.randn(16, 8, generator=rng).requires_grad_() for _ in range(2))

    def units():
        return functional.normalize(text, dim=-1), functional.normalize(image, dim=-1)

    unit_text, unit_image = units()
    ours = symmetric_contrastive(unit_text @ unit_image.T, log_scale)
    gradients = torch.autograd.grad(ours, [text, image, log_scale])
    unit_text, unit_image = units()
    theirs = ClipLoss()(unit_image, unit_text, log_scale.exp())
    torch.testing.assert_close(ours, theirs)
    expected = torch.autograd.grad(theirs, [text, image, log_scale])
    for mine, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_equal_similarities_give_the_loss_of_guessing():
    assert symmetric_contrastive(torch.ones(8, 8), torch.tensor(4.6)).item() == pytest.approx(
        math.log(8)
    )


def test_texts_and_videos_may_change_places():
    similarity = torch.rand(6, 6, generator=torch.Generator().manual_seed(1))
    scale = torch.tensor(3.0)
    torch.testing.assert_close(
        symmetric_contrastive(similarity, scale), symmetric_contrastive(similarity.T, scale)
    )


def optimizer(*rates):
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate, "full_rate": rate}
        for rate in rates
    ]
    return torch.optim.AdamW(groups)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 99, 1000])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.1, 0.29, 0.5, 0.99])
def test_factor_equals_transformers(steps, warmup):
    """Oracle; the number of warm-up steps is rounded down, as in the official code."""
    schedule = get_cosine_schedule_with_warmup(
        optimizer(1.0), num_warmup_steps=int(steps * warmup), num_training_steps=steps
    )
    for step in range(steps + 1):
        assert factor(step, steps, warmup) == pytest.approx(schedule.lr_lambdas[0](step), abs=1e-12)


def test_rates_over_a_run_equal_transformers():
    steps, warmup, rates = 20, 0.2, (1e-6, 3e-5)
    ours, theirs = optimizer(*rates), optimizer(*rates)
    schedule = get_cosine_schedule_with_warmup(theirs, 4, steps)
    for step in range(steps):
        set_rates(ours, step, steps, warmup)
        for mine, other in zip(ours.param_groups, theirs.param_groups, strict=True):
            assert mine["lr"] == pytest.approx(other["lr"], rel=1e-9)
        theirs.step()
        schedule.step()


def test_it_rises_to_the_full_rate_and_falls_to_zero():
    values = [factor(step, 100, 0.1) for step in range(101)]
    assert values[0] == 0
    assert max(values) == values[10] == 1
    assert values[100] == pytest.approx(0, abs=1e-15)
    assert values[:11] == sorted(values[:11])
    assert values[10:] == sorted(values[10:], reverse=True)


def test_a_rate_of_zero_stays_zero():
    made = optimizer(0.0)
    set_rates(made, 5, 10, 0.1)
    assert made.param_groups[0]["lr"] == 0
