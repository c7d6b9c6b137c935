"""Self-attention over the frames: CLIP4Clip's seqTransf, the text-agnostic trained control.

It starts from layers and positions of CLIP's text transformer (:meth:`SelfAttention.start_from`). A
randomly initialised one would be a weaker and unfair control.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from xpool.pooling import Pooling, TextTransformer, masked_mean, unit, without_padding
from xpool.project.errors import InputError

RECIPE = "params.yaml recipes.self_attention.<benchmark>.pooling"


class QuickGELU(nn.Module):
    """``x * sigmoid(1.702 x)``, the activation of OpenAI's CLIP weights."""

    def forward(self, values: Tensor) -> Tensor:
        """Apply to each element."""
        return values * torch.sigmoid(1.702 * values)


ACTIVATIONS: dict[str, type[nn.Module]] = {"quick_gelu": QuickGELU, "gelu": nn.GELU}


class ResidualBlock(nn.Module):
    """One pre-norm transformer layer, under the parameter names of OpenAI's CLIP."""

    def __init__(self, dim: int, heads: int, activation: str, into_residual: float) -> None:
        """Draw the layer as OpenAI's CLIP draws those of its text transformer.

        Args:
            dim: as for :class:`SelfAttention`.
            heads: as for :class:`SelfAttention`.
            activation: as for :class:`SelfAttention`.
            into_residual: standard deviation of the two weights whose output is added to the input.
        """
        super().__init__()
        self.ln_1 = nn.LayerNorm(dim)
        self.attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(dim)
        c_fc, c_proj = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        nn.init.normal_(self.attn.in_proj_weight, std=dim**-0.5)
        nn.init.normal_(self.attn.out_proj.weight, std=into_residual)
        nn.init.normal_(c_fc.weight, std=(2 * dim) ** -0.5)
        nn.init.normal_(c_proj.weight, std=into_residual)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=c_fc, activation=ACTIVATIONS[activation](), c_proj=c_proj)
        )

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Mix the frames of each video: ``(video, frame, dim)`` to the same shape."""
        normed = self.ln_1(frames)
        attended, _ = self.attn(normed, normed, normed, key_padding_mask=~mask, need_weights=False)
        frames = frames + attended
        mixed: Tensor = frames + self.mlp(self.ln_2(frames))
        return mixed


class SelfAttention(Pooling):
    """Transformer over the frames of each video, then their mean; the same for every text.

    Each raw frame plus its learned position → pre-norm transformer with padded frames masked → plus
    the raw frames again → L2-normalise each frame → mean of the existing frames.

    Source: ArrowLuo/CLIP4Clip modules/modeling.py:370-395 (seqTransf), arXiv 2104.08860. It lowers
    the logit of a padded frame by 1e6; here the weight of a padded frame is exactly 0.
    """

    family = "text-agnostic"

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
        if heads < 1 or dim < 1 or dim % heads:
            raise ValueError(
                f"SelfAttention: heads must be a divisor of dim; got heads={heads}, dim={dim}"
            )
        if layers < 1 or positions < 1:
            raise ValueError(
                "SelfAttention: layers and positions must be at least 1; "
                f"got layers={layers}, positions={positions}"
            )
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"SelfAttention: activation must be one of {', '.join(ACTIVATIONS)}; "
                f"got {activation!r}"
            )
        self.heads = heads
        self.activation = activation
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(positions, dim))
        into_residual = dim**-0.5 * (2 * layers) ** -0.5
        self.resblocks = nn.ModuleList(
            ResidualBlock(dim, heads, activation, into_residual) for _ in range(layers)
        )

    def start_from(self, text_transformer: TextTransformer) -> None:
        """Take the first positions and the first layers of CLIP's text transformer.

        Raises:
            InputError: the text transformer has another width, number of heads or activation, or
                fewer layers or positions than this one.
        """
        positions, dim = self.positional_embedding.shape
        theirs = text_transformer
        if theirs.position.shape[1] != dim:
            raise InputError(
                f"{RECIPE}: self-attention is as wide as the embeddings, {dim}, but the encoder's "
                f"text transformer is {theirs.position.shape[1]} wide; choose an encoder in which "
                "the two agree"
            )
        for key, mine, other in (
            ("heads", self.heads, theirs.heads),
            ("activation", self.activation, theirs.activation),
        ):
            if mine != other:
                raise InputError(
                    f"{RECIPE}.{key}: {mine}, but the encoder's text transformer, whose weights "
                    f"it starts from, has {other}; set it to {other}"
                )
        for key, mine, available in (
            ("layers", len(self.resblocks), len(theirs.layers)),
            ("positions", positions, theirs.position.shape[0]),
        ):
            if mine > available:
                raise InputError(
                    f"{RECIPE}.{key}: {mine}, but the encoder's text transformer, whose weights "
                    f"it starts from, has {available}; set it to at most {available}"
                )
        with torch.no_grad():
            self.positional_embedding.copy_(theirs.position[:positions])
        for block, layer in zip(self.resblocks, theirs.layers, strict=False):
            block.load_state_dict(layer)

    def pool(
        self,
        text: Tensor,
        frames: Tensor,
        mask: Tensor,
    ) -> Tensor:
        """Pool; returns ``(1, video, dim)``.

        Raises:
            InputError: more frames than positions.
        """
        count, positions = frames.shape[1], self.positional_embedding.shape[0]
        if count > positions:
            raise InputError(
                f"{RECIPE}.positions: {positions}, but the videos have {count} frames; "
                f"set it to at least {count}"
            )
        frames = without_padding(frames, mask)
        mixed = frames + self.positional_embedding[:count]
        for block in self.resblocks:
            mixed = block(mixed, mask)
        return masked_mean(unit(mixed + frames), mask)[None]


METHOD = SelfAttention
