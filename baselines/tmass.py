"""T-MASS, with the corrected pairing: a text is a cloud of points, as wide as the pair asks for."""

from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from xpool.blocks.cross_attention import CrossAttention
from xpool.pooling import Contrast, Family, Method, cosine, unit, without_padding
from xpool.project.errors import InputError

Prior = Literal["uniform", "normal"]
KEY = "params.yaml recipes.tmass.<benchmark>.pooling.frames"


class TMass(Method):
    """Cosine of a point drawn around the text with the frames that X-Pool's block pools for it.

    ``t_s = t + ε ⊙ R_tv`` with the radius ``R_tv = exp(W (cos(t, c_1) … cos(t, c_F)) + b)``,
    ``z_tv = ψ(t; c_1 … c_F)`` with X-Pool's block ``ψ``, ``s = cos(t_s, z_tv)``. In training each
    text draws one ``ε``, the same for all videos. In evaluation ``s`` is the largest of ``samples``
    fixed draws, the same for all pairs.

    The term ``support`` of the loss is the contrastive loss of ``t_sup = t + û ⊙ R_tv`` with the
    ``z_tw`` of all videos ``w``, where ``û`` points from the text to ``z_tv`` of its own video
    ``v``: the point of the cloud's surface that is nearest to it.

    ``W`` is ``(dim, frames)``, so that a model takes videos of one number of frames. A frame that a
    short video lacks counts as a cosine of 0.

    Source: arXiv 2403.17998, section 3; Jiamian-Wang/T-MASS-text-video-retrieval@417fdf1 has no
    licence, and was read for what the paper leaves open: the start of ``W`` (ones on the diagonal)
    and of ``b`` (0), the priors, and the weight of the support term. Ours differs in the pairing.
    There the score of text t and video v is made with v pooled for the caption of v's own index,
    which leaks the right answer, and with the radius of t's own video; the published figures come
    from that. Here both belong to the pair (t, v), in training too. There ``û`` points to the mean
    of a video pooled for all texts of the batch, and a draw is made anew in each evaluation.
    """

    family: ClassVar[Family] = "text-conditioned"
    noise: Tensor

    def __init__(
        self,
        dim: int,
        frames: int,
        dropout: float = 0.3,
        prior: Prior = "uniform",
        scale: float = 1.0,
        samples: int = 20,
        support: float = 0.8,
    ) -> None:
        """Make the block, which starts as X-Pool's, the radius and the draws of evaluation.

        Args:
            dim: width of the embeddings.
            frames: number of frames of a video.
            dropout: share of the block's linear branch dropped in training.
            prior: distribution of ``ε``: ``uniform`` from 0 to 1, or ``normal`` with deviation 1.
            scale: factor of ``ε``.
            samples: number of draws in evaluation.
            support: weight of the term ``support`` of the loss.

        Raises:
            ValueError: a value is out of its range.
        """
        super().__init__()
        if frames < 1 or samples < 1:
            raise ValueError(
                "TMass: frames and samples must be at least 1; "
                f"got frames={frames}, samples={samples}"
            )
        if prior not in get_args(Prior):
            raise ValueError(f"TMass: prior must be uniform or normal; got {prior!r}")
        if not (scale >= 0 and support >= 0):  # also refuses NaN
            raise ValueError(
                f"TMass: scale and support must be at least 0; got scale={scale}, support={support}"
            )
        self.prior, self.scale, self.support = prior, scale, support
        self.psi = CrossAttention(dim, dropout)
        self.radius = nn.Linear(frames, dim)
        nn.init.eye_(self.radius.weight)
        nn.init.zeros_(self.radius.bias)
        fixed = torch.Generator().manual_seed(0)
        self.register_buffer("noise", self._drawn(torch.empty(samples, dim), fixed))

    def similarity(self, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Score; returns ``(text, video)``.

        Raises:
            InputError: the videos have another number of frames than the radius is made for.
        """
        pooled, radius = self._of_pairs(text, frames, mask)
        if self.training:
            drawn = self._drawn(torch.empty_like(text))
            return _cosine(text[:, None] + drawn[:, None] * radius, pooled)
        best = _cosine(text[:, None] + self.noise[0] * radius, pooled)
        for noise in self.noise[1:]:
            best = torch.maximum(best, _cosine(text[:, None] + noise * radius, pooled))
        return best

    def losses(
        self, contrast: Contrast, text: Tensor, frames: Tensor, mask: Tensor
    ) -> dict[str, Tensor]:
        """Return the term ``support``, weighted; its dropout is its own.

        Raises:
            InputError: see :meth:`similarity`.
        """
        pooled, radius = self._of_pairs(text, frames, mask)
        own = torch.arange(len(text), device=text.device)
        surface = text + unit(pooled[own, own] - text) * radius[own, own]
        return {"support": self.support * contrast(cosine(pooled, surface))}

    def _of_pairs(self, text: Tensor, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return each pair's pooled frames and radius, both ``(text, video, dim)``."""
        frames, mask = self._as_many(frames, mask)
        frames = without_padding(frames, mask)
        cosines = torch.einsum("td,vfd->tvf", unit(text), unit(frames))
        return self.psi(text[:, None], frames, mask), self.radius(cosines).exp()

    def _as_many(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the frames that the radius is made for; further ones must be padding."""
        given, made_for = frames.shape[1], self.radius.in_features
        if given < made_for or (given > made_for and bool(mask[:, made_for:].any())):
            raise InputError(
                f"{KEY}: {made_for}, but the videos have {given} frames, and the radius is made "
                f"for one number of frames; set it to {given} and train again"
            )
        return frames[:, :made_for], mask[:, :made_for]

    def _drawn(self, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Fill a tensor with noise."""
        drawn = like.uniform_ if self.prior == "uniform" else like.normal_
        return self.scale * drawn(generator=generator)


def _cosine(one: Tensor, other: Tensor) -> Tensor:
    """Return the cosine of two vectors a pair: ``(text, video, dim)`` to ``(text, video)``."""
    return torch.einsum("tvd,tvd->tv", unit(one), unit(other))


METHOD = TMass
