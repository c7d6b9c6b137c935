"""The contrastive loss that all methods are trained with."""

import torch
from torch import Tensor
from torch.nn import functional


def symmetric_contrastive(similarity: Tensor, logit_scale: Tensor) -> Tensor:
    """Mean of the text-to-video and video-to-text cross-entropies of a batch.

    Args:
        similarity: ``(text, video)`` cosines; text i belongs to video i, all others are negatives.
        logit_scale: logarithm of the scale, as CLIP stores it.

    Returns:
        A scalar.

    Source: X-Pool (arXiv 2203.15086) section 3.3, as CLIP's InfoNCE.
    """
    logits = similarity * logit_scale.exp()
    target = torch.arange(len(logits), device=logits.device)
    to_video = functional.cross_entropy(logits, target)
    to_text = functional.cross_entropy(logits.T, target)
    return (to_video + to_text) / 2
