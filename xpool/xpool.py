"""X-Pool: each text attends to a video's frames, and is compared with what it attends to.

Notation of the paper → here: ``c_t`` → ``text``, ``C_v`` → ``frames``, ``D = D_p`` → ``dim``
(queries, keys and values are as wide as the embeddings), ``z_{v|t}`` → the returned vector.
"""

import math

import torch
from torch import Tensor, nn

from xpool.blocks import factorised
from xpool.blocks.factorised import Gallery
from xpool.pooling import Pooling, masked_softmax, without_padding


class CrossAttention(nn.Module):
    """Attention of texts (queries) over the frames of videos (keys and values)."""

    def __init__(self, dim: int, heads: int, temperature: float) -> None:
        """Make four projections that start as the identity; arguments as for :class:`XPool`."""
        super().__init__()
        self.heads = heads
        self.scale = 1.0 / (math.sqrt(dim // heads) * temperature)
        self.q_proj = _identity(dim)
        self.k_proj = _identity(dim)
        self.v_proj = _identity(dim)
        self.out_proj = _identity(dim)

    def weights(self, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Return attention weights ``(text, video, head, frame)``; each sums to 1 over frames."""
        query = self.q_proj(text).unflatten(-1, (self.heads, -1))  # (text, head, dim)
        key = self.k_proj(frames).unflatten(-1, (self.heads, -1))  # (video, frame, head, dim)
        logits = torch.einsum("thd,vfhd->tvhf", query * self.scale, key)
        return masked_softmax(logits, mask[:, None, :])

    def forward(self, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Return the sum of each video's frames, weighted for each text: ``(text, video, dim)``."""
        weights = self.weights(text, frames, mask)
        value = self.v_proj(frames).unflatten(-1, (self.heads, -1))  # (video, frame, head, dim)
        attended = torch.einsum("tvhf,vfhd->tvhd", weights.to(value.dtype), value)
        projected: Tensor = self.out_proj(attended.flatten(-2))
        return projected


class XPool(Pooling):
    """The paper's pooling, with the parameter names of the authors' released weights.

    ``q = W_q LN1(text)``, ``k, v = W_k LN1(frame), W_v LN1(frame)`` (one LN1 for both),
    ``a = softmax over frames of q·k / (sqrt(dim / heads) temperature)``,
    ``r = LN2(W_o (sum of a v))``, result ``LN3(r + dropout(W r))``; each ``W`` has a bias. Neither
    the text nor the frames are added back. Inputs are not normalised: with LN1's eps of 1e-5, unit
    vectors would give other numbers.

    Source: arXiv 2203.15086, section 3; layer norms and dropout are arranged as in the official
    code (layer6ai-labs/xpool@bc88718 modules/transformer.py). Ours adds ``temperature`` and the
    padding mask; with temperature 1 and full masks it is the paper's.
    """

    released_names = {"pool_frames.": ""}

    def __init__(
        self, dim: int, heads: int = 1, dropout: float = 0.0, temperature: float = 1.0
    ) -> None:
        """Make a pooling that starts as plain attention: all projections are the identity.

        Args:
            dim: width of the embeddings.
            heads: attention heads; the paper has 1.
            dropout: share of the linear branch's outputs dropped in training.
            temperature: extra divisor of the attention logits; towards infinity each text sees the
                mean frame, towards 0 the best frame. 1 is the paper's.

        Raises:
            ValueError: ``heads`` does not divide ``dim``, or a value is out of its range.
        """
        super().__init__()
        if heads < 1 or dim < 1 or dim % heads:
            raise ValueError(f"XPool: heads must be a divisor of dim; got heads={heads}, dim={dim}")
        if not temperature > 0:  # also refuses NaN
            raise ValueError(f"XPool: temperature must be above 0; got {temperature}")
        if not 0 <= dropout < 1:
            raise ValueError(f"XPool: dropout must be at least 0 and below 1; got {dropout}")
        self.cross_attn = CrossAttention(dim, heads, temperature)
        self.linear_proj = _identity(dim)
        self.layer_norm1 = nn.LayerNorm(dim)
        self.layer_norm2 = nn.LayerNorm(dim)
        self.layer_norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def pool(self, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Pool for each pair of a text and a video.

        Holds several arrays of the result's size at once; callers bound the memory by passing
        blocks.

        Returns:
            ``(text, video, dim)``.
        """
        frames = self.layer_norm1(without_padding(frames, mask))
        attended = self.layer_norm2(self.cross_attn(self.layer_norm1(text), frames, mask))
        pooled: Tensor = self.layer_norm3(attended + self.dropout(self.linear_proj(attended)))
        return pooled

    def attention(self, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Return the weights that each text puts on each video's frames.

        Args:
            text: ``(text, dim)`` raw embeddings.
            frames: ``(video, frame, dim)`` raw embeddings.
            mask: ``(video, frame)`` bool, True where the frame exists.

        Returns:
            ``(text, video, head, frame)``; sums to 1 over frames, 0 at padded frames.
        """
        frames = self.layer_norm1(without_padding(frames, mask))
        weights: Tensor = self.cross_attn.weights(self.layer_norm1(text), frames, mask)
        return weights

    def factorised(self, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Score all pairs by the factorised form: ``(text, video)``, 0 for a text of zeros.

        Gives the cosine of :meth:`pool`'s result, to rounding, for a fraction of the work.
        :func:`xpool.similarity.similarity` checks the inputs and calls it.
        """
        return factorised.similarity(self, text, frames, mask)

    def factorised_pays(self, text: Tensor, frames: Tensor) -> bool:
        """Return whether :meth:`factorised` is likely faster than pooling for each pair."""
        return factorised.pays(self.cross_attn.heads, text, frames)

    def prepared(self, frames: Tensor, mask: Tensor) -> Gallery:
        """Return videos that texts can be scored with one by one, by the factorised form."""
        return Gallery(self, frames, mask)


def _identity(dim: int) -> nn.Linear:
    """Return a linear layer that starts as the identity."""
    linear = nn.Linear(dim, dim)
    nn.init.eye_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


METHOD = XPool
