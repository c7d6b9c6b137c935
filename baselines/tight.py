"""Tight interaction: a transformer over text and frames of each pair (CLIP4Clip's tightTransf)."""

import torch
from torch import Tensor, nn

from xpool.blocks.transformer import QuickGELU, Transformer
from xpool.pooling import Method, without_padding

RECIPE = "params.yaml recipes.tight.<benchmark>.pooling"
NUMBERS_PER_TOKEN = 16
"""Upper estimate of the ``(pair, token, dim)`` arrays that a layer holds at once."""


class Tight(Method):
    """Each pair is a sequence of its own, text first; its score is a logit of the first token.

    ``h = Transf(Drop([t; c_1 … c_F] + p))``, ``s = w·QuickGELU(W LN(h_1) + b) + b'``. Nothing of a
    video can be computed before the text is known, so a score costs a whole transformer: the dear
    end of the comparison.

    Source: CLIP4Clip (arXiv 2104.08860), its tight type; ArrowLuo/CLIP4Clip@508ffa3
    modules/modeling.py:320-444, modules/module_cross.py:132-223. How ours differs: a padded frame
    has weight 0 in place of a logit lowered by 1e6; and training multiplies the logit by the
    contrastive scale, as it does every score (DRL's cross-transformer does too, CLIP4Clip does
    not). Attention has no dropout there either.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 8,
        layers: int = 4,
        positions: int = 76,
        dropout: float = 0.1,
        activation: str = "quick_gelu",
    ) -> None:
        """Draw the transformer and the head, from torch's global generator.

        Args:
            dim: width of the embeddings.
            heads: attention heads per layer.
            layers: number of layers.
            positions: the largest number of frames.
            dropout: of the sequence, in training.
            activation: ``quick_gelu`` or ``gelu``.

        Raises:
            ValueError: ``heads`` does not divide ``dim``, or a value is out of its range.
        """
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1; got {dropout}")
        self.dropout = nn.Dropout(dropout)
        self.transformer = Transformer(dim, heads, layers, positions, activation, RECIPE, beside=1)
        self.head = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, dim), QuickGELU(), nn.Linear(dim, 1)
        )
        for layer in self.head:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def similarity(self, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Score; returns ``(text, video)``.

        Raises:
            InputError: more frames than positions.
        """
        n_text, n_video = len(text), len(frames)
        of_text = text[:, None, None, :].expand(-1, n_video, -1, -1)
        of_video = without_padding(frames, mask).expand(n_text, -1, -1, -1)
        pairs = torch.cat([of_text, of_video], dim=2).flatten(0, 1)  # (pair, token, dim)
        exists = nn.functional.pad(mask, (1, 0), value=True).repeat(n_text, 1)
        mixed = self.transformer(self.dropout(self.transformer.placed(pairs)), exists)
        scores: Tensor = self.head(mixed[:, 0])
        return scores.view(n_text, n_video)

    def numbers_per_pair(self, n_word: int, n_frame: int, dim: int) -> int:
        """Return how many numbers the sequence of a pair takes in a layer."""
        return (1 + n_frame) * (NUMBERS_PER_TOKEN * dim + self.transformer.heads * (1 + n_frame))


METHOD = Tight
