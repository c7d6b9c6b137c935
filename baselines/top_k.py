"""Top-k pooling: a text-conditioned control without parameters that selects frames."""

import torch
from torch import Tensor

from xpool.pooling import Pooling, unit, without_padding


class TopK(Pooling):
    """Sum of the k L2-normalised frames nearest to the text by cosine.

    With k = 1 the text meets its best frame; with all frames the sum has the mean's direction.

    Source: layer6ai-labs/xpool@bc88718 modules/baseline_pooling.py, ``topk`` (a sum there, a mean
    in the paper: the same cosine). Ours adds the padding mask.
    """

    def __init__(self, k: int) -> None:
        """Set the number of frames; a video with fewer gives all of them.

        Raises:
            ValueError: ``k`` is below 1.
        """
        super().__init__()
        if k < 1:
            raise ValueError(f"TopK: k must be at least 1; got {k}")
        self.k = k

    def pool(self, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Pool; returns ``(text, video, dim)``."""
        frames = unit(without_padding(frames, mask))
        cosine = torch.einsum("td,vfd->tvf", unit(text), frames)
        k = min(self.k, frames.shape[1])
        nearest = cosine.masked_fill(~mask, -torch.inf).topk(k, dim=-1).indices  # (text, video, k)
        chosen = torch.zeros_like(cosine).scatter(-1, nearest, 1.0)
        # For a video with fewer than k frames this includes padded ones, which are zero vectors.
        return torch.einsum("tvf,vfd->tvd", chosen, frames.to(chosen.dtype))


METHOD = TopK
