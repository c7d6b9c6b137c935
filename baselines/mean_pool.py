"""Mean pooling: a text-agnostic control without parameters (CLIP4Clip's meanP)."""

from torch import Tensor

from xpool.pooling import Pooling, mean_of_units


class MeanPool(Pooling):
    """Average of the L2-normalised frames; the same for every text.

    Each frame is normalised before the average. Averaging raw embeddings would weight frames by
    their norm, and be another baseline.

    Source: layer6ai-labs/xpool@bc88718 modules/baseline_pooling.py, ``avg``; arXiv 2104.08860.
    """

    family = "text-agnostic"

    def __init__(self) -> None:
        """Make the pooling; it has no settings."""
        super().__init__()

    def pool(
        self,
        text: Tensor,
        frames: Tensor,
        mask: Tensor,
    ) -> Tensor:
        """Pool; returns ``(1, video, dim)``."""
        return mean_of_units(frames, mask)[None]


METHOD = MeanPool
