"""Learning rate over the steps of a run: linear warm-up, then cosine to zero."""

import math

from torch.optim import Optimizer


def factor(step: int, steps: int, warmup: float) -> float:
    """Share of the full rate at a step.

    Args:
        step: steps taken so far.
        steps: steps of the whole run.
        warmup: share of the steps in which the rate rises.

    Source: the schedule of Hugging Face's ``get_cosine_schedule_with_warmup`` (half a cosine),
    which the official code uses. Written out because importing it costs seconds in each of many
    short runs, and because a function of the step alone needs no state to resume.

    Example:
        >>> [round(factor(step, 10, 0.2), 3) for step in (0, 1, 2, 6, 10)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    rising = int(steps * warmup)
    if step < rising:
        return step / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def set_rates(optimizer: Optimizer, step: int, steps: int, warmup: float) -> None:
    """Set each parameter group's ``lr`` for the coming step, from its ``full_rate``."""
    for group in optimizer.param_groups:
        group["lr"] = group["full_rate"] * factor(step, steps, warmup)
