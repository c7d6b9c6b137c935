"""The interface of a method, and the expressions that several methods share.

A method is a :class:`Pooling` in a file that ends in ``METHOD = ...`` (``xpool.project.plugins``).

Throughout, ``frames`` is ``(video, frame, dim)`` and ``mask`` is ``(video, frame)`` bool, True
where the frame exists, with at least one True per video (``xpool.similarity`` checks it).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class TextTransformer:
    """CLIP's text transformer, from which CLIP4Clip's seqTransf starts (modeling.py:105-121)."""

    position: Tensor
    """``(position, dim)`` learned position table."""
    layers: list[dict[str, Tensor]]
    """Weights of each layer under OpenAI's names: ``ln_1.weight`` … ``attn.in_proj_weight`` …
    ``mlp.c_fc.weight`` … ``mlp.c_proj.bias``."""
    heads: int
    activation: str
    """``quick_gelu`` (OpenAI's weights) or ``gelu``."""


class Pooling(nn.Module, ABC):
    """Turns the frames of each video into one embedding per query text.

    Text and frames arrive as the encoder gives them, not normalised; each method normalises where
    its source does. A pooling that ignores the text returns axis 0 of size 1, and callers broadcast
    it.
    """

    @abstractmethod
    def forward(self, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Pool each video's frames for each text.

        Args:
            text: ``(text, dim)`` raw embeddings.
            frames: ``(video, frame, dim)`` raw embeddings; padded frames hold any finite value.
            mask: ``(video, frame)`` bool, True where the frame exists; at least one per video.

        Returns:
            ``(text | 1, video, dim)``, any norm.
        """

    def start_from(self, text_transformer: TextTransformer) -> None:
        """Start from weights of CLIP's text transformer; most methods ignore them."""


def unit(vectors: Tensor) -> Tensor:
    """Scale vectors to Euclidean norm 1 along the last axis; a zero vector stays zero.

    Unlike ``x / max(norm, eps)``, the gradient at a zero vector is of order 1, not of order 1/eps.

    Args:
        vectors: ``(..., dim)``.

    Returns:
        ``(..., dim)``.
    """
    norm = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / torch.where(norm > 0, norm, torch.ones_like(norm))


def without_padding(frames: Tensor, mask: Tensor) -> Tensor:
    """Set padded frames to zero, so that their values cannot reach a result or a gradient.

    Returns:
        ``(video, frame, dim)``.
    """
    return frames.masked_fill(~mask[:, :, None], 0.0)


def masked_mean(frames: Tensor, mask: Tensor) -> Tensor:
    """Average the existing frames of each video.

    Returns:
        ``(video, dim)``.
    """
    count = mask.sum(dim=1, keepdim=True).to(frames.dtype)
    return without_padding(frames, mask).sum(dim=1) / count


def masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the softmax over the last axis in which padded frames get weight zero.

    Args:
        logits: ``(..., frame)``.
        mask: bool, of a shape that broadcasts to ``logits``.

    Returns:
        ``(..., frame)``, each row sums to 1.
    """
    return logits.masked_fill(~mask, -torch.inf).softmax(dim=-1)


ROUNDING = 16
"""Distance within which cosines are tied, in units of rounding: 1.9e-6 in float32. Either scorer of
X-Pool errs by up to 7e-7 where all videos should be alike; the videos of a model that works are 1e4
times as far apart."""


def tied(similarity: Tensor) -> Tensor:
    """Let all videos tie for each text whose similarities differ by no more than :data:`ROUNDING`.

    A model that has collapsed thus scores at the level of chance, and rounding ranks nothing.

    Args:
        similarity: ``(text, video)``, cosine.
    """
    low, high = torch.aminmax(similarity, dim=1, keepdim=True)
    alike = high - low <= ROUNDING * torch.finfo(similarity.dtype).eps
    return torch.where(alike, low, similarity) if alike.any() else similarity


def slices(total: int, size: int) -> Iterator[slice]:
    """Yield slices that cut ``range(total)`` into blocks of one size; the last may be shorter."""
    if size < 1:
        raise ValueError(f"block sizes must be at least 1; got {size}")
    return (slice(start, start + size) for start in range(0, total, size))
