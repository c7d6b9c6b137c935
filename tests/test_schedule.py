"""The learning rate against Hugging Face's schedule, which the official code uses."""

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from xpool.schedule import factor, set_rates


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
