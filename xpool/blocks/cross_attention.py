"""X-Pool's block, for the methods that build on it."""

import torch
from torch import Tensor, nn

from xpool.pooling import masked_softmax, without_padding


class CrossAttention(nn.Module):
    """Queries attend to the frames of videos as X-Pool's texts do.

    ``k, v = W_k LN1(frame), W_v LN1(frame)``, ``q = W_q LN1(query)``,
    ``a = softmax over frames of q·k / sqrt(dim)``, ``r = LN2(W_o (sum of a v))``, result
    ``LN3(r + dropout(W r))``; each ``W`` has a bias and starts as the identity. X-Pool itself is
    in ``xpool.xpool`` and shares no code with what it is compared with; given the same weights, the
    two agree (``tests/blocks/test_cross_attention.py``).

    Source: X-Pool (arXiv 2203.15086), section 3, with one head; as ``xpool.xpool`` but for that.
    """

    def __init__(self, dim: int, dropout: float) -> None:
        """Make the block.

        Args:
            dim: width of the embeddings.
            dropout: share of the linear branch's outputs dropped in training.

        Raises:
            ValueError: a value is out of its range.
        """
        super().__init__()
        if dim < 1:
            raise ValueError(f"CrossAttention: dim must be at least 1; got {dim}")
        if not 0 <= dropout < 1:
            raise ValueError(
                f"CrossAttention: dropout must be at least 0 and below 1; got {dropout}"
            )
        self.q_proj, self.k_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.v_proj, self.out_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.linear_proj = nn.Linear(dim, dim)
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.layer_norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        for linear in self.children():
            if isinstance(linear, nn.Linear):
                nn.init.eye_(linear.weight)
                nn.init.zeros_(linear.bias)

    def forward(self, query: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Attend.

        Args:
            query: ``(text, video | 1, dim)``, a query for each pair or for each text.
            frames: ``(video, frame, dim)`` raw embeddings.
            mask: ``(video, frame)`` bool, True where the frame exists.

        Returns:
            ``(text, video, dim)``.
        """
        frames = self.layer_norm1(without_padding(frames, mask))
        query = self.q_proj(self.layer_norm1(query)) / query.shape[-1] ** 0.5
        logits = torch.einsum(
            "tvd,vfd->tvf", query.expand(-1, len(frames), -1), self.k_proj(frames)
        )
        attended = torch.einsum("tvf,vfd->tvd", masked_softmax(logits, mask), self.v_proj(frames))
        attended = self.layer_norm2(self.out_proj(attended))
        result: Tensor = self.layer_norm3(attended + self.dropout(self.linear_proj(attended)))
        return result
