"""Max pooling: a text-agnostic control without parameters."""

import torch
from torch import Tensor

from xpool.pooling import Pooling, unit


class MaxPool(Pooling):
    """Largest value over the L2-normalised frames in each dimension; the same for every text.

    ``z_j = max_f c_fj / |c_f|``. A frame that stands out in a dimension reaches the result whole,
    where a mean divides it by the number of frames.

    Source: none that reports it for CLIP's frames; it is a control of our own beside the mean.
    """

    family = "text-agnostic"

    def __init__(self) -> None:
        """Make the pooling; it has no settings."""
        super().__init__()

    def pool(self, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Pool; returns ``(1, video, dim)``."""
        exists = mask[:, :, None]
        frames = unit(frames.masked_fill(~exists, 0.0)).masked_fill(~exists, -torch.inf)
        return frames.amax(dim=1)[None]


METHOD = MaxPool
