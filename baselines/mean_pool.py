"""Mean pooling: the text-agnostic control without parameters (CLIP4Clip's meanP)."""

from torch import Tensor

from xpool.blocks import masked_mean, unit, without_padding
from xpool.interfaces import Pooling


class MeanPool(Pooling):
    """Average of the L2-normalised frames; the same for every text.

    Each frame is normalised before the average: averaging raw embeddings would weight frames by
    their norm, which is another baseline.

    Source: layer6ai-labs/xpool@bc88718 modules/baseline_pooling.py, ``avg``; arXiv 2104.08860.
    """

    def __init__(self) -> None:
        """Make it; it has no settings."""
        super().__init__()

    def forward(
        self,
        text: Tensor,
        frames: Tensor,
        mask: Tensor,
    ) -> Tensor:
        """Pool; returns ``(1, video, dim)``."""
        return masked_mean(unit(without_padding(frames, mask)), mask)[None]


METHOD = MeanPool
