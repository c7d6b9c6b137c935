"""The contrastive loss, and the schedule of the learning rate over the steps.

The tiny CLIP's pretraining and all runs share both.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer


def symmetric_contrastive(similarity: Tensor, logit_scale: Tensor) -> Tensor:
    """Return the mean of a batch's text-to-video and video-to-text cross-entropies.

    Args:
        similarity: ``(text, video)`` cosines; text i belongs to video i, all others are negatives.
        logit_scale: logarithm of the scale, as CLIP stores it.

    Returns:
        A scalar.

    Source: X-Pool (arXiv 2203.15086) section 3.3, as CLIP's InfoNCE.
    """
    logits = similarity * logit_scale.exp()
    target = torch.arange(len(logits), device=logits.device)
    to_video = functional.cross_entropy(logits, target)
    to_text = functional.cross_entropy(logits.T, target)
    return (to_video + to_text) / 2


def factor(step: int, steps: int, warmup: float) -> float:
    """Return the share of the full rate at a step.

    Args:
        step: steps taken so far.
        steps: steps of the whole run.
        warmup: share of the steps in which the rate rises.

    Own code, since importing transformers' costs seconds in each of many short runs, and a function
    of the step alone has no state to resume.

    Source: transformers' ``get_cosine_schedule_with_warmup`` (half a cosine), which the official
    code uses.

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
