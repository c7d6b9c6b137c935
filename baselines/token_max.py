"""Token-wise interaction (TI): each word meets its best frame, and each frame its best word."""

from typing import ClassVar

import torch
from torch import Tensor

from xpool.blocks.prefixes import Prefixes
from xpool.blocks.words import Words, interaction
from xpool.pooling import Method


class TokenMax(Method):
    """Mean over words of the nearest frame's cosine, and over frames of the nearest word's.

    ``s = ½ (mean_n max_f w_n·c_f + mean_f max_n w_n·c_f)`` with L2-normalised words and frames. No
    parameters.

    Source: DRL (arXiv 2203.07111), section 3.3, the interaction without weights;
    foolwood/DRL@475f96c tvr/models/modeling.py:424. There a padded word or frame has the similarity
    0, which a maximum below 0 loses to; here it takes no part.
    """

    wants_words: ClassVar[bool] = True

    def similarity(
        self, text: Tensor, frames: Tensor, mask: Tensor, words: Tensor, word_mask: Tensor
    ) -> Tensor:
        """Score; returns ``(text, video)``."""
        return interaction(
            (words, word_mask, _shares(word_mask, words.dtype)),
            (frames, mask, _shares(mask, frames.dtype)),
        )

    def factorised(self, text: Tensor, frames: Tensor, mask: Tensor, words: Words) -> Tensor:
        """Score all pairs; what texts have in common at their beginning is computed once."""
        exists = words.rows()[1]
        return Prefixes.of(words).interaction(
            words,
            _shares(exists, frames.dtype)[exists],
            (frames, mask, _shares(mask, frames.dtype)),
        )


def _shares(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the weights of a mean over what exists."""
    exists = mask.to(dtype)
    return exists / exists.sum(dim=1, keepdim=True)


METHOD = TokenMax
