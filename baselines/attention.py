"""Softmax pooling: a text-conditioned control without parameters that weights frames."""

import torch
from torch import Tensor

from xpool.pooling import Pooling, masked_softmax, unit, without_padding


class AttentionPool(Pooling):
    """Frames weighted by the softmax over frames of their cosine with the text / temperature.

    At infinite temperature it is the mean, and towards 0 the best frame.

    Source: layer6ai-labs/xpool@bc88718 modules/baseline_pooling.py, ``attention``, whose default
    temperature is 0.01. Ours adds the padding mask.

    GLSCL (zchoi/GLSCL@06979f8 tvr/models/modeling.py:302) scores by this formula too when it
    retrieves; what it adds is in its training.
    """

    def __init__(self, temperature: float = 0.01) -> None:
        """Set the temperature.

        Raises:
            ValueError: ``temperature`` is not above 0.
        """
        super().__init__()
        if not temperature > 0:  # also refuses NaN
            raise ValueError(f"AttentionPool: temperature must be above 0; got {temperature}")
        self.temperature = temperature

    def pool(self, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Pool; returns ``(text, video, dim)``."""
        frames = unit(without_padding(frames, mask))
        cosine = torch.einsum("td,vfd->tvf", unit(text), frames)
        weights = masked_softmax(cosine / self.temperature, mask)
        return torch.einsum("tvf,vfd->tvd", weights, frames.to(weights.dtype))


METHOD = AttentionPool
