"""Self-attention over the frames: CLIP4Clip's seqTransf, the text-agnostic trained control."""

from torch import Tensor

from xpool.blocks.transformer import Transformer
from xpool.pooling import Pooling, masked_mean, unit, without_padding

RECIPE = "params.yaml recipes.self_attention.<benchmark>.pooling"


class SelfAttention(Pooling):
    """Transformer over the frames of each video, then their mean; the same for every text.

    Each raw frame plus its learned position → pre-norm transformer with padded frames masked → plus
    the raw frames again → L2-normalise each frame → mean of the existing frames.

    Source: ArrowLuo/CLIP4Clip modules/modeling.py:370-395 (seqTransf), arXiv 2104.08860.
    """

    family = "text-agnostic"
    released_names = {
        "frame_position_embeddings.weight": "transformer.positional_embedding",
        "transformerClip.": "transformer.",
    }

    def __init__(
        self,
        dim: int,
        heads: int = 8,
        layers: int = 4,
        positions: int = 77,
        activation: str = "quick_gelu",
    ) -> None:
        """Make the transformer with CLIP's random initialisation, from torch's global generator.

        Args:
            dim: width of the embeddings.
            heads: attention heads per layer.
            layers: number of layers.
            positions: length of the position table, and the largest number of frames.
            activation: ``quick_gelu`` or ``gelu``.

        Raises:
            ValueError: ``heads`` does not divide ``dim``, or a value is out of its range.
        """
        super().__init__()
        self.transformer = Transformer(dim, heads, layers, positions, activation, RECIPE)

    def pool(self, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Pool; returns ``(1, video, dim)``.

        Raises:
            InputError: more frames than positions.
        """
        frames = without_padding(frames, mask)
        mixed = self.transformer(self.transformer.placed(frames), mask)
        return masked_mean(unit(mixed + frames), mask)[None]


METHOD = SelfAttention
