"""GARE: each pair of a text and a video moves the text by an increment of its own."""

from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from xpool.blocks.cross_attention import CrossAttention
from xpool.pooling import (
    Contrast,
    Family,
    Method,
    masked_mean,
    masked_softmax,
    unit,
    without_padding,
)

Query = Literal["difference", "text"]
SHARPNESS = 2.0
"""Factor of the angle in the term ``direction``."""
WIDEST = 0.5
"""Spread of the increments' norms above which the term ``radius`` is 0."""
LEAST_SPREAD = 1e-6
"""Standard deviation that keeps the logarithm of the term ``bottleneck`` finite."""


class Gare(Method):
    """Cosine of the moved text with the frames weighted by the text.

    ``v_t = Σ_f a_f c_f`` with ``a = softmax_f(t·c_f / τ)``, ``δ = W ψ(v̄ - t; c_1 … c_F) + b`` with
    the mean frame ``v̄`` and X-Pool's block ``ψ``, ``s = cos(t + δ, v_t)``. Text and frames are raw.
    With the query ``text``, ``δ = W ψ(t; c_1 … c_F) + b``: the paper's own control.

    Three terms of the loss bound the increments ``δ_tv`` of a batch:

    - ``bottleneck``: ``mean_v KL(N(μ_v, σ_v²) || N(0, 1))``, summed over dimensions, of their mean
      and standard deviation over texts;
    - ``direction``: ``mean_t log mean_{v,w} exp(-2 (1 - cos(δ_tv, δ_tw)))``;
    - ``radius``: ``-mean_t var_v |δ_tv|``, and 0 once that variance is above 0.5.

    Source: arXiv 2505.12499; musicman217/GARE-text-video-retrieval@e42b0e2
    ``tvr/models/modeling.py:184-260``, ``psi_module.py:59-126``. Ours differs: frames come from
    the encoder as they are, where theirs pass through CLIP4Clip's seqTransf first (but for MSVD);
    padding has no part in ``v̄``, and the weights of ``v_t`` sum to 1 without it; the layer for a
    standard deviation, which theirs makes and never uses, is left out; variances are those of the
    population, which a batch of one pair has as well, and the logarithm takes
    ``sqrt(σ² + 1e-12)`` where theirs takes ``σ + 1e-6``. The terms are computed from increments
    with a dropout of their own. The layers start from N(0, 0.02²) and biases of 0, as theirs do:
    their block sets the identity, and their model then draws all its linear layers anew.
    """

    family: ClassVar[Family] = "text-conditioned"

    def __init__(
        self,
        dim: int,
        query: Query = "difference",
        temperature: float = 3.0,
        dropout: float = 0.3,
        bottleneck: float = 1e-4,
        direction: float = 0.01,
        radius: float = 0.01,
    ) -> None:
        """Make the block and the layer after it, drawn from torch's global generator.

        Args:
            dim: width of the embeddings.
            query: what asks the frames: ``difference`` of mean frame and text, or ``text``.
            temperature: divisor of the products of text and frame, which are not cosines.
            dropout: share of the block's linear branch dropped in training.
            bottleneck: weight of that term of the loss.
            direction: weight of that term of the loss.
            radius: weight of that term of the loss.

        Raises:
            ValueError: a value is out of its range.
        """
        super().__init__()
        if query not in get_args(Query):
            raise ValueError(f"Gare: query must be difference or text; got {query!r}")
        if not temperature > 0:  # also refuses NaN
            raise ValueError(f"Gare: temperature must be above 0; got {temperature}")
        self.weights = {"bottleneck": bottleneck, "direction": direction, "radius": radius}
        for name, weight in self.weights.items():
            if not weight >= 0:
                raise ValueError(f"Gare: {name} must be at least 0; got {weight}")
        self.query, self.temperature = query, temperature
        self.psi = CrossAttention(dim, dropout)
        self.mean_proj = nn.Linear(dim, dim)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def increments(self, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Return the increment of each pair, ``(text, video, dim)``."""
        query = text[:, None]
        if self.query == "difference":
            query = masked_mean(frames, mask) - query
        increments: Tensor = self.mean_proj(self.psi(query, frames, mask))
        return increments

    def similarity(self, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Score; returns ``(text, video)``."""
        moved = text[:, None] + self.increments(text, frames, mask)
        frames = without_padding(frames, mask)
        logits = torch.einsum("td,vfd->tvf", text, frames) / self.temperature
        pooled = torch.einsum("tvf,vfd->tvd", masked_softmax(logits, mask), frames)
        return torch.einsum("tvd,tvd->tv", unit(moved), unit(pooled))

    def losses(
        self, contrast: Contrast, text: Tensor, frames: Tensor, mask: Tensor
    ) -> dict[str, Tensor]:
        """Return the terms ``bottleneck``, ``direction`` and ``radius``, weighted."""
        increments = self.increments(text, frames, mask)
        terms = {
            "bottleneck": _bottleneck(increments),
            "direction": _direction(increments),
            "radius": _radius(increments),
        }
        return {name: self.weights[name] * term for name, term in terms.items()}


def _bottleneck(increments: Tensor) -> Tensor:
    """Return the divergence of each video's increments from a standard normal distribution."""
    variance, mean = torch.var_mean(increments, dim=0, correction=0)  # (video, dim)
    logarithm = (variance + LEAST_SPREAD**2).log()
    return ((variance + mean.square() - 1 - logarithm) / 2).sum(dim=-1).mean()


def _direction(increments: Tensor) -> Tensor:
    """Return how far each text's increments point the same way."""
    directions = unit(increments)
    cosines = directions @ directions.mT  # (text, video, video)
    return (SHARPNESS * (cosines - 1)).exp().mean(dim=(1, 2)).log().mean()


def _radius(increments: Tensor) -> Tensor:
    """Return the spread of the norms of each text's increments, negative, up to a bound."""
    norms = torch.linalg.vector_norm(increments, dim=-1)
    spread = norms.var(dim=1, correction=0).mean()
    return torch.where(spread <= WIDEST, -spread, 0.0)


METHOD = Gare
