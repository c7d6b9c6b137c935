"""UATVR's interaction: WTI in which texts and videos have learnt extra tokens."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from xpool.blocks.transformer import Transformer
from xpool.blocks.words import TokenWeights, interaction
from xpool.pooling import Method, without_padding

RECIPE = "params.yaml recipes.uatvr.<benchmark>.pooling"


class ExtraTokens(Method):
    """Words and frames each get learnt tokens that gather a whole, then WTI compares all tokens.

    One transformer mixes either side with its ``k`` extra tokens: ``[h; g] = Transf([w + p; e])``,
    and the tokens compared are ``[h + w; g]``. The score is that of WTI (``baselines/wti.py``).

    Source: UATVR (ICCV 2023), the token-wise part; bofang98/UATVR@db0062a
    modules/modeling.py:451-490, 577-600. How ours differs: UATVR draws samples of a distribution
    about each text and video for two further terms of its loss, which no score needs and which are
    left out; its extra tokens stand behind the padding and have that position's embedding, here
    they are parameters of their own, so that padding does not matter; and words and frames share
    one table of positions, from CLIP's (UATVR draws the one of words at random).
    """

    wants_words: ClassVar[bool] = True

    def __init__(
        self,
        dim: int,
        heads: int = 8,
        layers: int = 4,
        positions: int = 77,
        extra: int = 2,
        activation: str = "quick_gelu",
    ) -> None:
        """Draw the transformer, the extra tokens and the weights, from torch's global generator.

        Args:
            dim: width of the embeddings.
            heads: attention heads per layer.
            layers: number of layers.
            positions: length of the position table, and the largest number of words or frames.
            extra: number of extra tokens of a text, and of a video.
            activation: ``quick_gelu`` or ``gelu``.

        Raises:
            ValueError: a value is out of its range.
        """
        super().__init__()
        if extra < 1:
            raise ValueError(f"extra must be at least 1; got {extra}")
        self.transformer = Transformer(dim, heads, layers, positions, activation, RECIPE)
        self.of_text = nn.Parameter(0.01 * torch.randn(extra, dim))
        self.of_video = nn.Parameter(0.01 * torch.randn(extra, dim))
        self.word_weights = TokenWeights(dim, 2)
        self.frame_weights = TokenWeights(dim, 2)

    def similarity(
        self, text: Tensor, frames: Tensor, mask: Tensor, words: Tensor, word_mask: Tensor
    ) -> Tensor:
        """Score; returns ``(text, video)``.

        Raises:
            InputError: more words or frames than positions.
        """
        words, word_mask = self._mixed(words, word_mask, self.of_text)
        frames, mask = self._mixed(frames, mask, self.of_video)
        return interaction(
            (words, word_mask, self.word_weights(words, word_mask)),
            (frames, mask, self.frame_weights(frames, mask)),
        )

    def _mixed(self, tokens: Tensor, mask: Tensor, extra: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(row, token + extra, dim)`` tokens and their mask."""
        tokens = without_padding(tokens, mask)
        further = extra.expand(len(tokens), -1, -1)
        joined = torch.cat([self.transformer.placed(tokens), further], dim=1)
        mask = torch.cat([mask, mask.new_ones(further.shape[:2])], dim=1)
        mixed = self.transformer(joined, mask)
        return mixed + torch.cat([tokens, torch.zeros_like(further)], dim=1), mask

    def numbers_per_pair(self, n_word: int, n_frame: int, dim: int) -> int:
        """Return how many numbers a pair takes: its cosines, extra tokens among them."""
        extra = len(self.of_text)
        return super().numbers_per_pair(n_word + extra, n_frame + extra, dim)


METHOD = ExtraTokens
