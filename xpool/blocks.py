"""Tensor expressions that several poolings share, so that none needs to import another.

Throughout, ``frames`` is ``(video, frame, dim)`` and ``mask`` is ``(video, frame)`` bool, True
where the frame exists, with at least one True per video (``xpool.similarity`` checks it).
"""

import torch
from torch import Tensor


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
    """Set padded frames to zero, so that nothing they hold can reach a result or a gradient.

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
    """Softmax over the last axis in which padded frames get weight zero.

    Args:
        logits: ``(..., frame)``.
        mask: bool, of a shape that broadcasts to ``logits``.

    Returns:
        ``(..., frame)``, each row sums to 1.
    """
    return logits.masked_fill(~mask, -torch.inf).softmax(dim=-1)
