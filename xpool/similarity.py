"""Similarity of every text with every video, for any pooling, in bounded memory.

The one expression for all methods: cosine of the text's raw embedding with the video as pooled for
that text. Training's loss (:func:`pair_similarity`) and evaluation (:func:`similarity`) share it.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from xpool.blocks import unit
from xpool.command import InputError

# Arrays of (text, video, dim) that a pooling may hold at once, counted generously.
COPIES_PER_PAIR = 8


def cosine(pooled: Tensor, text: Tensor) -> Tensor:
    """Cosine of each text with each video pooled for it.

    Args:
        pooled: ``(text | 1, video, dim)``.
        text: ``(text, dim)``.

    Returns:
        ``(text, video)``.
    """
    return torch.einsum("tvd,td->tv", unit(pooled), unit(text))


def pair_similarity(method: nn.Module, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
    """Similarity of a training batch, in one piece and with gradient.

    Pooling and cosine run in float32 also under autocast, where the encoder may not: a bfloat16
    cosine has two significant digits, makes ties, and a temperature of 0.01 blows its error up.

    Args:
        method: a ``Pooling``.
        text: ``(text, dim)`` raw embeddings.
        frames: ``(video, frame, dim)`` raw embeddings.
        mask: ``(video, frame)`` bool, True where the frame exists.

    Returns:
        ``(text, video)`` cosine, float32, or float64 if an input is.

    Raises:
        ValueError: the method returned another shape than ``(text | 1, video, dim)``.
    """
    with torch.autocast(text.device.type, enabled=False):
        text, frames = _at_least_float32(text, frames)
        return cosine(_pooled(method, text, frames, mask), text)


def _pooled(method: nn.Module, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
    """Call the method and check what it returns: ``(text | 1, video, dim)``."""
    pooled: Tensor = method(text, frames, mask)
    if pooled.shape not in {(n, len(frames), text.shape[1]) for n in (1, len(text))}:
        raise ValueError(
            f"{type(method).__name__}: expected the shape (1 or {len(text)}, {len(frames)}, "
            f"{text.shape[1]}) of (text, video, dim); got {tuple(pooled.shape)}"
        )
    return pooled


def similarity(
    method: nn.Module,
    text: Tensor,
    frames: Tensor,
    mask: Tensor | None = None,
    *,
    memory_mib: float = 256,
    blocks: tuple[int, int] | None = None,
    scorer: Literal["auto", "direct", "factorised"] = "auto",
) -> Tensor:
    """Similarity of all texts with all videos, without gradient, in tiles over both.

    Block sizes change the result by float rounding only. Texts with the same embedding are scored
    once, so that they tie exactly, wherever they would have fallen in the tiles.

    ``direct`` pools for each pair and takes the cosine; it fits every method and is what the others
    are tested against. ``factorised`` asks the method for its own ``similarity(text, frames,
    mask)``, which has to give the same values to rounding. ``auto`` does so where the method has
    one and its ``similarity_pays(text, frames)`` says that it is faster.

    Args:
        method: a ``Pooling``, on the device of the inputs; scored in eval mode.
        text: ``(text, dim)`` raw embeddings.
        frames: ``(video, frame, dim)`` raw embeddings; padded frames hold any finite value.
        mask: ``(video, frame)`` bool, True where the frame exists; None: all exist.
        memory_mib: rough bound on the direct scorer's working memory, in MiB; a method's own has
            its own bound.
        blocks: number of texts and of videos per tile, in place of ``memory_mib``.
        scorer: see above.

    Returns:
        ``(text, video)`` cosine, float32, or float64 if an input is.

    Raises:
        InputError: NaN or infinity in an input, or a video without any frame.
        ValueError: shapes that do not fit each other, or no factorised scorer where one is asked
            for.
    """
    mask = _checked_mask(text, frames, mask)
    text, frames = _at_least_float32(text, frames)
    distinct, index = torch.unique(text, dim=0, return_inverse=True)
    with (
        torch.no_grad(),
        torch.autocast(text.device.type, enabled=False),
        _evaluating(method),
    ):
        own = None if scorer == "direct" else getattr(method, "similarity", None)
        if own is None and scorer == "factorised":
            raise ValueError(f"{type(method).__name__} has no similarity of its own; use 'direct'")
        pays = getattr(method, "similarity_pays", None)
        if own is not None and (scorer != "auto" or pays is None or pays(distinct, frames)):
            scores: Tensor = own(distinct, frames, mask)
        else:
            if blocks is None:
                blocks = _block_sizes(len(distinct), frames, memory_mib)
            scores = _tiled(method, distinct, frames, mask, blocks)
    if scores.shape != (len(distinct), len(frames)):
        raise ValueError(
            f"{type(method).__name__}.similarity: expected the shape {len(distinct), len(frames)} "
            f"of (text, video); got {tuple(scores.shape)}"
        )
    return scores[index]


def _tiled(
    method: nn.Module, text: Tensor, frames: Tensor, mask: Tensor, blocks: tuple[int, int]
) -> Tensor:
    """Fill ``(text, video)`` tile by tile."""
    scores = text.new_empty(len(text), len(frames))
    for videos in _slices(len(frames), blocks[1]):
        for texts in _slices(len(text), blocks[0]):
            tile = text[texts]
            pooled = _pooled(method, tile, frames[videos], mask[videos])
            if len(pooled) < len(tile):  # one embedding for all texts: pool these videos once
                scores[:, videos] = cosine(pooled, text)
                break
            scores[texts, videos] = cosine(pooled, tile)
    return scores


def _slices(total: int, size: int) -> Iterator[slice]:
    if size < 1:
        raise ValueError(f"block sizes must be at least 1; got {size}")
    return (slice(start, start + size) for start in range(0, total, size))


def _block_sizes(n_text: int, frames: Tensor, memory_mib: float) -> tuple[int, int]:
    """Numbers of texts and of videos whose tile fits into the memory.

    A method projects a block's frames once per tile, so tiles are longer over texts than videos.
    """
    n_video, n_frame, dim = frames.shape
    pair_bytes = frames.element_size() * (COPIES_PER_PAIR * dim + 4 * n_frame)
    pairs = max(1, int(memory_mib * 2**20 / pair_bytes))
    texts = min(n_text, 2 * math.isqrt(pairs))
    videos = max(1, min(n_video, pairs // texts))
    return max(1, min(n_text, pairs // videos)), videos


def _checked_mask(text: Tensor, frames: Tensor, mask: Tensor | None) -> Tensor:
    """Check shapes and values; return the mask, made of True where it is None."""
    if text.ndim != 2 or frames.ndim != 3 or text.shape[1] != frames.shape[2]:
        raise ValueError(
            "expected text (text, dim) and frames (video, frame, dim) of the same dim; "
            f"got {tuple(text.shape)} and {tuple(frames.shape)}"
        )
    if 0 in text.shape or 0 in frames.shape:
        raise ValueError(
            "expected at least one text, video and frame; "
            f"got text {tuple(text.shape)} and frames {tuple(frames.shape)}"
        )
    if mask is None:
        mask = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
    if mask.dtype != torch.bool or mask.shape != frames.shape[:2]:
        raise ValueError(
            f"expected a bool mask of shape {tuple(frames.shape[:2])} (video, frame); "
            f"got {mask.dtype} {tuple(mask.shape)}"
        )
    for name, values in (("text", text), ("frames", frames)):
        finite = torch.isfinite(values).flatten(1).all(dim=1)
        if not finite.all():
            raise InputError(
                f"{name} row {_first(~finite)}: NaN or infinity among the embeddings of "
                f"{int((~finite).sum())} of {len(values)} rows; make them again"
            )
    empty = ~mask.any(dim=1)
    if empty.any():
        raise InputError(
            f"frames row {_first(empty)}: this video has no frame at all "
            f"({int(empty.sum())} of {len(mask)} videos); leave such videos out"
        )
    return mask


def _first(rows: Tensor) -> int:
    return int(rows.nonzero()[0, 0])


def _at_least_float32(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Bring tensors to one dtype: float64 if one of them is, else float32."""
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
    return tuple(tensor.to(dtype) for tensor in tensors)


@contextmanager
def _evaluating(method: nn.Module) -> Iterator[None]:
    """Put a module and all in it into eval mode, and back into the modes they had."""
    modes = [(module, module.training) for module in method.modules()]
    method.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
