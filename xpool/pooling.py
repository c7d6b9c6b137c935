"""The interface of a method, and the expressions that several methods share.

A method is a :class:`Method`, most often a :class:`Pooling`, in a file that ends in
``METHOD = ...`` (``xpool.project.plugins``).

Throughout, ``frames`` is ``(video, frame, dim)`` and ``mask`` is ``(video, frame)`` bool, True
where the frame exists, with at least one True per video (``xpool.similarity`` checks it).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

Family = Literal["text-agnostic", "text-conditioned", "late interaction"]
"""How tables group methods, by what the gallery holds: one vector a video, whatever the text; or
the frames, which a method pools for each text, or compares with the text one by one."""
Contrast = Callable[[Tensor], Tensor]
"""Contrastive loss of a ``(text, video)`` similarity of pairs, whose diagonal is right."""


@dataclass(frozen=True, kw_only=True)
class TextTransformer:
    """CLIP's text transformer, from which CLIP4Clip's seqTransf starts (modeling.py:105-121)."""

    position: Tensor
    """``(position, dim)`` learned position table."""
    layers: list[dict[str, Tensor]]
    """Weights of each layer under OpenAI's names: ``ln_1.weight`` … ``attn.in_proj_weight`` …
    ``mlp.c_fc.weight`` … ``mlp.c_proj.bias``."""
    heads: int
    activation: str
    """``quick_gelu`` (OpenAI's weights) or ``gelu``."""


def no_losses(*batch: object) -> dict[str, Tensor]:
    """Return no further terms of the loss."""
    return {}


class Method(nn.Module):
    """Scores texts with videos.

    Text and frames arrive as the encoder gives them, not normalised; each method normalises where
    its source does. A pair's score depends on that text and that video alone: whatever else is in
    the batch or the gallery must not change it (``tests/test_contracts.py``).
    """

    family: ClassVar[Family] = "late interaction"
    wants_words: ClassVar[bool] = False
    """Whether :attr:`similarity` and :attr:`losses` get ``words`` and ``word_mask`` as well."""
    released_names: ClassVar[Mapping[str, str]] = {}
    """Beginnings of its weights' names in checkpoints of the authors' code, and here."""

    similarity: Callable[..., Tensor]
    """Score each text with each video, with gradient.

    Args:
        text: ``(text, dim)`` raw embeddings.
        frames: ``(video, frame, dim)`` raw embeddings; padded frames hold any finite value.
        mask: ``(video, frame)`` bool, True where the frame exists; at least one per video.
        words: only if wanted: ``(text, word, dim)`` raw embeddings of the text tower's tokens,
            start and end among them; padding holds any finite value.
        word_mask: only if wanted: ``(text, word)`` bool, True where the word exists.

    Returns:
        ``(text, video)``, higher is nearer, of the order of a cosine: training multiplies it by
        the contrastive scale.
    """

    losses: Callable[..., dict[str, Tensor]] = no_losses
    """Return further terms of the loss of a batch of pairs, weighted, by name.

    Training adds them to the contrastive loss of :attr:`similarity`, and logs each by its name.

    Args:
        contrast: :data:`Contrast` with the present scale.
        text: ``(pair, dim)``; the rest as for :attr:`similarity`, a video for each text, in order.
    """

    def start_from(self, text_transformer: TextTransformer) -> None:
        """Let the parts that are made like CLIP's text transformer start from its weights.

        Raises:
            InputError: a part and the text transformer do not fit
                (:meth:`xpool.blocks.transformer.Transformer.start_from`).
        """
        for part in self.children():
            start_from = getattr(part, "start_from", None)
            if start_from is not None:
                start_from(text_transformer)

    def numbers_per_pair(self, n_word: int, n_frame: int, dim: int) -> int:
        """Return how many numbers :attr:`similarity` holds at once for a pair, at most.

        Evaluation chooses its tiles by it, so that they fit into memory.

        Args:
            n_word: words a text, 0 for a method that wants none.
            n_frame: frames a video.
            dim: width of the embeddings.
        """
        if n_word:  # cosines of words and frames, and their maxima, which a product may copy
            return 2 * (n_word + 1) * (n_frame + 1)
        return COPIES_PER_PAIR * dim + 4 * n_frame


class Pooling(Method, ABC):
    """Turns the frames of each video into one embedding per query text; its score is their cosine.

    A pooling that ignores the text returns axis 0 of size 1, and says so by its family.
    """

    family: ClassVar[Family] = "text-conditioned"

    @abstractmethod
    def pool(self, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Pool each video's frames for each text.

        Args:
            text: ``(text, dim)`` raw embeddings.
            frames: ``(video, frame, dim)`` raw embeddings; padded frames hold any finite value.
            mask: ``(video, frame)`` bool, True where the frame exists; at least one per video.

        Returns:
            ``(text | 1, video, dim)``, any norm.
        """

    def forward(self, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Pool, as torch calls a module."""
        return self.pool(text, frames, mask)

    def similarity(self, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Return the cosine of each text with each video pooled for it, ``(text, video)``.

        Raises:
            ValueError: :meth:`pool` returned another shape than ``(text | 1, video, dim)``.
        """
        pooled = self.pool(text, frames, mask)
        if pooled.shape not in {(n, len(frames), text.shape[1]) for n in (1, len(text))}:
            raise ValueError(
                f"{type(self).__name__}: expected the shape (1 or {len(text)}, {len(frames)}, "
                f"{text.shape[1]}) of (text, video, dim); got {tuple(pooled.shape)}"
            )
        return cosine(pooled, text)


COPIES_PER_PAIR = 8
"""Upper estimate of the ``(text, video, dim)`` arrays that a pooling holds at once."""


def unit(vectors: Tensor) -> Tensor:
    """Scale vectors to Euclidean norm 1 along the last axis; a zero vector stays zero.

    Unlike ``x / max(norm, eps)``, the gradient at a zero vector is of order 1, not of order 1/eps.

    Args:
        vectors: ``(..., dim)``.

    Returns:
        ``(..., dim)``.
    """
    norm = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / torch.where(norm > 0, norm, torch.ones_like(norm))


def cosine(pooled: Tensor, text: Tensor) -> Tensor:
    """Return the cosine of each text with each video pooled for it.

    Args:
        pooled: ``(text | 1, video, dim)``.
        text: ``(text, dim)``.

    Returns:
        ``(text, video)``.
    """
    return torch.einsum("tvd,td->tv", unit(pooled), unit(text))


def without_padding(frames: Tensor, mask: Tensor) -> Tensor:
    """Set padded frames to zero, so that their values cannot reach a result or a gradient.

    Returns:
        ``(video, frame, dim)``.
    """
    return frames.masked_fill(~mask[:, :, None], 0.0)


def masked_mean(frames: Tensor, mask: Tensor) -> Tensor:
    """Average the existing frames of each video.

    Returns:
        ``(video, dim)``.
    """
    count = mask.sum(dim=1, keepdim=True).to(frames.dtype)
    return without_padding(frames, mask).sum(dim=1) / count


def mean_of_units(frames: Tensor, mask: Tensor) -> Tensor:
    """Average the L2-normalised existing frames of each video, as mean pooling does.

    Returns:
        ``(video, dim)``.
    """
    return masked_mean(unit(without_padding(frames, mask)), mask)


def mean_similarity(text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
    """Return the cosine of each text with each video's :func:`mean_of_units`, ``(text, video)``."""
    return cosine(mean_of_units(frames, mask)[None], text)


def masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the softmax over the last axis in which padded frames get weight zero.

    Args:
        logits: ``(..., frame)``.
        mask: bool, of a shape that broadcasts to ``logits``.

    Returns:
        ``(..., frame)``, each row sums to 1.
    """
    return logits.masked_fill(~mask, -torch.inf).softmax(dim=-1)


ROUNDING = 16
"""Distance within which cosines are tied, in units of rounding: 1.9e-6 in float32. Either scorer of
X-Pool errs by up to 7e-7 where all videos should be alike; the videos of a model that works are 1e4
times as far apart."""


def tied(similarity: Tensor) -> Tensor:
    """Let all videos tie for each text whose similarities differ by no more than :data:`ROUNDING`.

    A model that has collapsed thus scores at the level of chance, and rounding ranks nothing.

    Args:
        similarity: ``(text, video)``, cosine.
    """
    low, high = torch.aminmax(similarity, dim=1, keepdim=True)
    alike = high - low <= ROUNDING * torch.finfo(similarity.dtype).eps
    return torch.where(alike, low, similarity) if alike.any() else similarity


def slices(total: int, size: int) -> Iterator[slice]:
    """Yield slices that cut ``range(total)`` into blocks of one size; the last may be shorter."""
    if size < 1:
        raise ValueError(f"block sizes must be at least 1; got {size}")
    return (slice(start, start + size) for start in range(0, total, size))
