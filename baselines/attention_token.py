"""Attention pooling by one learned query: the smallest trained text-agnostic control."""

import torch
from torch import Tensor, nn

from xpool.pooling import Pooling, masked_softmax, without_padding


class AttentionToken(Pooling):
    """Frames weighted by one learned query; the same for every text.

    ``a = softmax_f(q·c_f / √d)``, ``z = Σ_f a_f c_f``, with raw frames ``c_f``. It learns which
    frames matter whatever the text, where X-Pool asks the text.

    Source: the pooling with a learned query of Set Transformer (arXiv 1810.00825, section 3.2) with
    one seed vector, and without its projections and its feed-forward layer. The query starts at
    zero, so that the pooling starts as the mean of the raw frames.
    """

    family = "text-agnostic"

    def __init__(self, dim: int) -> None:
        """Make a query of zeros.

        Args:
            dim: width of the embeddings.

        Raises:
            ValueError: ``dim`` is below 1.
        """
        super().__init__()
        if dim < 1:
            raise ValueError(f"AttentionToken: dim must be at least 1; got {dim}")
        self.query = nn.Parameter(torch.zeros(dim))

    def pool(self, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Pool; returns ``(1, video, dim)``."""
        frames = without_padding(frames, mask)
        weights = masked_softmax(frames @ self.query / len(self.query) ** 0.5, mask)
        return torch.einsum("vf,vfd->vd", weights, frames)[None]


METHOD = AttentionToken
