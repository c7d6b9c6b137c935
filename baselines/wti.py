"""Weighted token-wise interaction (WTI): as TI, with learnt weights of words and of frames."""

from typing import ClassVar

import torch
from torch import Tensor

from xpool.blocks.prefixes import Prefixes
from xpool.blocks.words import TokenWeights, Words, interaction
from xpool.pooling import Contrast, Method, unit


class WeightedTokenMax(Method):
    """Each word meets its nearest frame, and each frame its nearest word; both sums are weighted.

    ``s = ½ (sum_n a_n max_f w_n·c_f + sum_f b_f max_n w_n·c_f)`` with L2-normalised words and
    frames; ``a`` and ``b`` are the softmax of an MLP over the raw words and frames. With
    ``cdcr > 0`` the loss has DRL's channel decorrelation as well: ``cdcr (alpha_1 sum_i (C_ii - 1)²
    + alpha_2 sum_i≠j C_ij²)``. ``C`` is the mean of two correlations between channels: of the
    batch's words, weighted by ``a``, with the frame of their video that is nearest to each; and of
    its frames, weighted by ``b``, with their nearest word.

    Source: DRL (arXiv 2203.07111), section 3.3 and its decorrelation; foolwood/DRL@475f96c
    tvr/models/modeling.py:397-438, and 496-535 for the decorrelation that its rows of WTI have
    (``--cdcr 3``), which draws nothing at random. How ours differs: padding takes no part in the
    maxima (DRL: similarity 0); a channel in which all tokens are alike has correlation 0 (DRL:
    NaN); and the frames come as the encoder gives them (DRL's own rows put CLIP4Clip's seqTransf
    in front of it).
    """

    wants_words: ClassVar[bool] = True

    def __init__(
        self,
        dim: int,
        layers: int = 2,
        cdcr: float = 0.0,
        alpha_1: float = 0.11,
        alpha_2: float = 0.0,
    ) -> None:
        """Draw the two MLPs, from torch's global generator.

        Args:
            dim: width of the embeddings.
            layers: linear layers of each MLP, 1 to 3.
            cdcr: weight of the decorrelation in the loss; 0: none (DRL: 0.001).
            alpha_1: weight of each channel's correlation with itself (DRL: 0.11 for MSR-VTT).
            alpha_2: weight of its correlation with others.

        Raises:
            ValueError: a value is out of its range.
        """
        super().__init__()
        if not all(value >= 0 for value in (cdcr, alpha_1, alpha_2)):
            raise ValueError(
                "cdcr, alpha_1 and alpha_2 must be at least 0; "
                f"got cdcr={cdcr}, alpha_1={alpha_1}, alpha_2={alpha_2}"
            )
        self.cdcr, self.alpha_1, self.alpha_2 = cdcr, alpha_1, alpha_2
        self.word_weights = TokenWeights(dim, layers)
        self.frame_weights = TokenWeights(dim, layers)

    def similarity(
        self, text: Tensor, frames: Tensor, mask: Tensor, words: Tensor, word_mask: Tensor
    ) -> Tensor:
        """Score; returns ``(text, video)``."""
        return interaction(
            (words, word_mask, self.word_weights(words, word_mask)),
            (frames, mask, self.frame_weights(frames, mask)),
        )

    def factorised(self, text: Tensor, frames: Tensor, mask: Tensor, words: Words) -> Tensor:
        """Score all pairs; what texts have in common at their beginning is computed once."""
        prefixes = Prefixes.of(words)
        return prefixes.interaction(
            words,
            prefixes.weights(words, self.word_weights),
            (frames, mask, self.frame_weights(frames, mask)),
        )

    def losses(
        self,
        contrast: Contrast,
        text: Tensor,
        frames: Tensor,
        mask: Tensor,
        words: Tensor,
        word_mask: Tensor,
    ) -> dict[str, Tensor]:
        """Return the decorrelation of the pairs, if it has a weight."""
        if self.cdcr == 0:
            return {}
        cosines = unit(words) @ unit(frames).mT  # (pair, word, frame)
        both = word_mask[:, :, None] & mask[:, None, :]
        cosines = torch.where(both, cosines, -torch.inf)
        of_word, of_frame = cosines.argmax(dim=2), cosines.argmax(dim=1)
        pair = torch.arange(len(frames), device=frames.device)[:, None]
        weights = self.word_weights(words, word_mask), self.frame_weights(frames, mask)
        by_words = _correlation(words, frames[pair, of_word], word_mask, weights[0])
        by_frames = _correlation(frames, words[pair, of_frame], mask, weights[1])
        channels = (by_words + by_frames) / 2
        own = channels.diagonal()
        others = channels.square().sum() - own.square().sum()
        loss = self.alpha_1 * (own - 1).square().sum() + self.alpha_2 * others
        return {"cdcr": self.cdcr * loss}


def _correlation(tokens: Tensor, partners: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    """Return the ``(dim, dim)`` weighted correlation of tokens with their partners.

    Args:
        tokens: ``(pair, token, dim)``.
        partners: ``(pair, token, dim)``.
        mask: ``(pair, token)`` bool.
        weights: ``(pair, token)``; those of a pair sum to 1.
    """
    one, other = (_standardised(unit(side[mask])) for side in (tokens, partners))
    return (one * weights[mask][:, None]).mT @ other / len(mask)


def _standardised(tokens: Tensor) -> Tensor:
    """Bring each channel to mean 0 and variance 1 over ``(token, dim)``; a constant one to 0."""
    centred = tokens - tokens.mean(dim=0)
    # the norm of a channel of zeros has no derivative there
    variance = centred.square().sum(dim=0) / max(1, len(tokens) - 1)
    return centred / torch.where(variance > 0, variance, torch.ones_like(variance)).sqrt()


METHOD = WeightedTokenMax
