"""Top-k pooling: the text-conditioned control without parameters that selects frames."""

import torch
from torch import Tensor

from xpool.blocks import unit, without_padding
from xpool.interfaces import Pooling


class TopK(Pooling):
    """Sum of the k L2-normalised frames nearest to the text by cosine.

    k = 1 compares the text with its best frame; k = all frames has the direction of the mean.

    Source: layer6ai-labs/xpool@bc88718 modules/baseline_pooling.py, ``topk`` (a sum there, a mean
    in the paper: the same cosine). Ours adds the padding mask.
    """

    def __init__(self, k: int) -> None:
        """Select ``k`` frames; a video with fewer gives all it has.

        Raises:
            ValueError: ``k`` is below 1.
        """
        super().__init__()
        if k < 1:
            raise ValueError(f"TopK: k must be at least 1; got {k}")
        self.k = k

    def forward(self, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Pool; returns ``(text, video, dim)``."""
        frames = unit(without_padding(frames, mask))
        cosine = torch.einsum("td,vfd->tvf", unit(text), frames)
        k = min(self.k, frames.shape[1])
        nearest = cosine.masked_fill(~mask, -torch.inf).topk(k, dim=-1).indices  # (text, video, k)
        chosen = torch.zeros_like(cosine).scatter(-1, nearest, 1.0)
        # A video with fewer than k frames has padded ones chosen too; they are zero vectors.
        return torch.einsum("tvf,vfd->tvd", chosen, frames.to(chosen.dtype))


METHOD = TopK
