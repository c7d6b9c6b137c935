"""CLIP's text transformer as methods use it: positions and pre-norm layers over their tokens.

A randomly initialised one would be a weaker and unfair control, so it starts from the layers and
positions of the encoder's text transformer (:meth:`Transformer.start_from`).
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from xpool.pooling import TextTransformer
from xpool.project.errors import InputError


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
            dim: as for :class:`Transformer`.
            heads: as for :class:`Transformer`.
            activation: as for :class:`Transformer`.
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

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Mix the tokens of each row: ``(row, token, dim)`` to the same shape."""
        normed = self.ln_1(tokens)
        attended, _ = self.attn(normed, normed, normed, key_padding_mask=~mask, need_weights=False)
        tokens = tokens + attended
        mixed: Tensor = tokens + self.mlp(self.ln_2(tokens))
        return mixed


class Transformer(nn.Module):
    """A table of positions, and pre-norm layers in which padded tokens are masked.

    Source: ArrowLuo/CLIP4Clip@508ffa3 modules/modeling.py:370-385, arXiv 2104.08860. It lowers the
    logit of a padded token by 1e6; here the weight of a padded token is exactly 0.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        layers: int,
        positions: int,
        activation: str,
        recipe: str,
        beside: int = 0,
    ) -> None:
        """Make it with CLIP's random initialisation, from torch's global generator.

        Args:
            dim: width of the embeddings.
            heads: attention heads per layer.
            layers: number of layers.
            positions: the largest number of frames or words of a row.
            activation: ``quick_gelu`` or ``gelu``.
            recipe: where these arguments stand in ``params.yaml``, for messages.
            beside: number of tokens of a row that have positions beside those.

        Raises:
            ValueError: ``heads`` does not divide ``dim``, or a value is out of its range.
        """
        super().__init__()
        if heads < 1 or dim < 1 or dim % heads:
            raise ValueError(f"heads must be a divisor of dim; got heads={heads}, dim={dim}")
        if layers < 1 or positions < 1:
            raise ValueError(
                "layers and positions must be at least 1; "
                f"got layers={layers}, positions={positions}"
            )
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {', '.join(ACTIVATIONS)}; got {activation!r}"
            )
        self.heads = heads
        self.activation = activation
        self.recipe = recipe
        self.beside = beside
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(positions + beside, dim))
        into_residual = dim**-0.5 * (2 * layers) ** -0.5
        self.resblocks = nn.ModuleList(
            ResidualBlock(dim, heads, activation, into_residual) for _ in range(layers)
        )

    def start_from(self, theirs: TextTransformer) -> None:
        """Take the first positions and the first layers of CLIP's text transformer.

        Args:
            theirs: the encoder's text transformer.

        Raises:
            InputError: the text transformer has another width, number of heads or activation, or
                fewer layers or positions than this one.
        """
        recipe, (length, dim) = self.recipe, self.positional_embedding.shape
        if theirs.position.shape[1] != dim:
            raise InputError(
                f"{recipe}: its transformer is as wide as the embeddings, {dim}, but the encoder's "
                f"text transformer is {theirs.position.shape[1]} wide; choose an encoder in which "
                "the two agree"
            )
        for key, mine, other in (
            ("heads", self.heads, theirs.heads),
            ("activation", self.activation, theirs.activation),
        ):
            if mine != other:
                raise InputError(
                    f"{recipe}.{key}: {mine}, but the encoder's text transformer, whose weights "
                    f"it starts from, has {other}; set it to {other}"
                )
        for key, mine, available in (
            ("layers", len(self.resblocks), len(theirs.layers)),
            ("positions", length - self.beside, len(theirs.position) - self.beside),
        ):
            if mine > available:
                raise InputError(
                    f"{recipe}.{key}: {mine}, but the encoder's text transformer, whose weights "
                    f"it starts from, has {available}; set it to at most {available}"
                )
        with torch.no_grad():
            self.positional_embedding.copy_(theirs.position[:length])
        for block, layer in zip(self.resblocks, theirs.layers, strict=False):
            block.load_state_dict(layer)

    def placed(self, tokens: Tensor) -> Tensor:
        """Add each token's position, ``(row, token, dim)``.

        Args:
            tokens: ``(row, token, dim)``.

        Raises:
            InputError: more frames or words than positions.
        """
        recipe, length = self.recipe, len(self.positional_embedding)
        count, most = tokens.shape[1] - self.beside, length - self.beside
        if count > most:
            raise InputError(
                f"{recipe}.positions: {most}, but a video or a text has {count} frames or words; "
                f"set it to at least {count}"
            )
        return tokens + self.positional_embedding[: tokens.shape[1]]

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Mix the tokens of each row by all layers.

        Args:
            tokens: ``(row, token, dim)``, with their positions.
            mask: ``(row, token)`` bool, True where the token exists; at least one per row.

        Returns:
            ``(row, token, dim)``.
        """
        for block in self.resblocks:
            tokens = block(tokens, mask)
        return tokens
