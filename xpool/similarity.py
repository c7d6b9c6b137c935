"""Similarity of every text with every video, for any method, in bounded memory.

The same expression of a method, its ``similarity``, serves in the training loss
(:func:`pair_similarity`), in evaluation (:func:`similarity`), and in retrieval from a gallery that
need not fit into memory (:func:`top_k`).
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from xpool.blocks.words import Words
from xpool.pooling import Contrast, Method, mean_similarity, slices, tied, without_padding
from xpool.project.errors import InputError


def pair_similarity(
    method: Method, text: Tensor, frames: Tensor, mask: Tensor, *words: Tensor
) -> Tensor:
    """Return the similarity of a training batch, in one piece and with gradient.

    It runs in float32 even under autocast: a bfloat16 cosine has two significant digits and makes
    ties, and a temperature of 0.01 multiplies its error.

    Args:
        method: its ``similarity`` scores the pairs.
        text: ``(text, dim)`` raw embeddings.
        frames: ``(video, frame, dim)`` raw embeddings.
        mask: ``(video, frame)`` bool, True where the frame exists.
        words: of a method that wants them: ``(text, word, dim)`` raw embeddings, and their
            ``(text, word)`` mask.

    Returns:
        ``(text, video)``, float32, or float64 if an input is.

    Raises:
        ValueError: the method returned another shape.
    """
    with torch.autocast(text.device.type, enabled=False):
        return _scored(method, *_exact(text, frames, mask, *words))


def pair_losses(
    method: Method, contrast: Contrast, text: Tensor, frames: Tensor, mask: Tensor, *words: Tensor
) -> dict[str, Tensor]:
    """Return a method's own terms of the loss, in the precision of :func:`pair_similarity`.

    Args:
        method: its ``losses`` are asked.
        contrast: the contrastive loss with the present scale.
        text: ``(pair, dim)``; this and the rest as for :func:`pair_similarity`.
        frames: ``(pair, frame, dim)``: the video of each text.
        mask: ``(pair, frame)`` bool.
        words: see :func:`pair_similarity`.
    """
    with torch.autocast(text.device.type, enabled=False):
        return method.losses(contrast, *_exact(text, frames, mask, *words))


def _exact(text: Tensor, frames: Tensor, mask: Tensor, *words: Tensor) -> tuple[Tensor, ...]:
    """Bring the embeddings of a batch to float32 or float64, and leave its masks."""
    text, frames, *of_words = _at_least_float32(text, frames, *words[:1])
    return text, frames, mask, *of_words, *words[1:]


def _scored(method: Method, text: Tensor, frames: Tensor, mask: Tensor, *words: Tensor) -> Tensor:
    """Call the method and check what it returns: ``(text, video)``."""
    scores = method.similarity(text, frames, mask, *words)
    if scores.shape != (len(text), len(frames)):
        raise ValueError(
            f"{type(method).__name__}.similarity: expected the shape {len(text), len(frames)} "
            f"of (text, video); got {tuple(scores.shape)}"
        )
    return scores


def similarity(
    method: Method,
    text: Tensor,
    frames: Tensor,
    mask: Tensor | None = None,
    words: Words | None = None,
    *,
    memory_mib: float = 256,
    blocks: tuple[int, int] | None = None,
    scorer: Literal["auto", "direct", "factorised"] = "auto",
) -> Tensor:
    """Return the similarity of all texts with all videos, without gradient, in tiles over both.

    Block sizes change the result by float rounding only. Texts with the same embedding are scored
    once, so that they tie exactly, whichever tiles they are in, and so are videos with the same
    frames. So do all videos for a text that tells them apart by rounding only
    (:func:`xpool.pooling.tied`).

    ``direct`` calls the method's ``similarity``, which training uses too; the other form is tested
    against it. ``factorised`` calls its ``factorised(text, frames, mask)``, with the words of a
    method that wants them, which must give the same values to rounding, and has its own bound on
    memory. ``auto`` does so if the method has one and its ``factorised_pays(text, frames)``, if
    there is one, says that it is faster.

    Args:
        method: on the device of the inputs; scored in eval mode.
        text: ``(text, dim)`` raw embeddings.
        frames: ``(video, frame, dim)`` raw embeddings; padded frames hold any finite value.
        mask: ``(video, frame)`` bool, True where the frame exists; None: all exist.
        words: the words of the texts, for a method that wants them.
        memory_mib: rough bound on the direct scorer's working memory, in MiB.
        blocks: number of texts and of videos per tile, instead of ``memory_mib``.
        scorer: see above.

    Returns:
        ``(text, video)``, float32, or float64 if an input is.

    Raises:
        InputError: NaN or infinity in an input, a value (also of a weight) whose square overflows
            or vanishes, or a video without any frame.
        ValueError: the shapes do not fit each other, the method wants words and there are none, or
            it has no factorised scorer.
    """
    mask = _checked_mask(text, frames, mask)
    text, frames = _at_least_float32(text, frames)
    words = _checked_words(method, text, words)
    _check_range(method, text, frames, mask)
    distinct, index = torch.unique(text, dim=0, return_inverse=True)
    words = None if words is None else words[_first_of_each(index, len(distinct))]
    frames, mask, column = _distinct_videos(frames, mask)
    with (
        torch.no_grad(),
        torch.autocast(text.device.type, enabled=False),
        _evaluating(method),
    ):
        own = None if scorer == "direct" else getattr(method, "factorised", None)
        if own is None and scorer == "factorised":
            raise ValueError(f"{type(method).__name__} has no factorised form; use 'direct'")
        pays = getattr(method, "factorised_pays", None)
        if own is not None and (scorer != "auto" or pays is None or pays(distinct, frames)):
            scores: Tensor = own(distinct, frames, mask, *([] if words is None else [words]))
        else:
            scores = _tiled(method, distinct, frames, mask, words, memory_mib, blocks)
    return scores[index] if column is None else scores[:, column][index]


def top_k(
    method: Method,
    text: Tensor,
    blocks: Iterable[tuple[Tensor, Tensor]],
    k: int,
    words: Words | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the ``k`` most similar videos of each text, best first.

    Holds one block of videos, its similarities and the ``k`` best of the blocks before. Videos that
    tie are returned in the gallery's order, whatever the blocks. With a thousand videos a block the
    fixed cost of a block does not matter (X-Pool multiplies its weights together).

    Args:
        method: on the device of the inputs.
        text: ``(text, dim)`` raw embeddings.
        blocks: frames ``(video, frame, dim)`` and mask ``(video, frame)`` of some videos at a time,
            in the gallery's order; the number of frames may differ between blocks.
        k: number of videos to keep.
        words: the words of the texts, for a method that wants them.

    Returns:
        Similarity and index in the gallery (from 0), each ``(text, min(k, videos))``.

    Raises:
        InputError: the gallery is empty, or :func:`similarity` refuses a block.
        ValueError: ``k`` is below 1.
    """
    if k < 1:
        raise ValueError(f"top_k: k must be at least 1; got {k}")
    scores, videos, seen = None, None, 0
    for frames, mask in blocks:
        found = similarity(method, text, frames, mask, words)
        number = torch.arange(seen, seen + len(frames), device=found.device).expand_as(found)
        seen += len(frames)
        if scores is not None and videos is not None:
            found = torch.cat([scores, found], dim=1)
            number = torch.cat([videos, number], dim=1)
        order = found.argsort(dim=1, descending=True, stable=True)[:, :k]
        scores, videos = found.gather(1, order), number.gather(1, order)
    if scores is None or videos is None:
        raise InputError("top_k: the gallery holds no video")
    return scores, videos


@torch.no_grad()
def two_stage(
    method: Method,
    text: Tensor,
    frames: Tensor,
    k: int,
    mask: Tensor | None = None,
    words: Words | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the ``k`` videos nearest to each text by mean pooling, as a method ranks them.

    The first stage needs one vector a video, for which there are indices; the second scores ``k``
    videos for each text. What mean pooling leaves out of the first ``k`` cannot be found.

    Args:
        method: scores the shortlist; this and the rest as for :func:`similarity`, with its errors.
        text: ``(text, dim)``.
        frames: ``(video, frame, dim)``.
        k: length of the shortlist.
        mask: ``(video, frame)`` bool.
        words: of the texts.

    Returns:
        Similarity, best first, and index of the video, each ``(text, min(k, videos))``.
    """
    if k < 1:
        raise ValueError(f"two_stage: k must be at least 1; got {k}")
    mask = _checked_mask(text, frames, mask)
    nearness = mean_similarity(text, frames, mask)
    shortlist = nearness.topk(min(k, len(frames)), dim=1).indices
    scores = torch.empty_like(nearness[:, : shortlist.shape[1]])
    for row, videos in enumerate(shortlist):
        one = torch.tensor([row], device=text.device)
        of_text = None if words is None else words[one]
        found = similarity(method, text[one], frames[videos], mask[videos], of_text)[0]
        order = found.argsort(descending=True, stable=True)
        scores[row], shortlist[row] = found[order], videos[order]
    return scores, shortlist


def _tiled(
    method: Method,
    text: Tensor,
    frames: Tensor,
    mask: Tensor,
    words: Words | None,
    memory_mib: float,
    blocks: tuple[int, int] | None,
) -> Tensor:
    """Fill ``(text, video)`` tile by tile; texts of one length share a tile, for less padding."""
    n_word = 0 if words is None else int(words.count.max())
    numbers = method.numbers_per_pair(n_word, *frames.shape[1:])
    n_text, n_video = blocks or _block_sizes(len(text), frames, numbers, memory_mib)
    if method.family == "text-agnostic":
        n_text = len(text)  # each video is pooled once
    order = None if words is None else words.count.argsort(stable=True)
    scores = text.new_empty(len(text), len(frames))
    for videos in slices(len(frames), n_video):
        for texts in slices(len(text), n_text):
            pairs = frames[videos], mask[videos]
            if words is None or order is None:
                scores[texts, videos] = _scored(method, text[texts], *pairs)
            else:
                rows = order[texts]
                of_tile = words[rows].padded()
                scores[rows, videos] = _scored(method, text[rows], *pairs, *of_tile)
    return tied(scores)


def _block_sizes(n_text: int, frames: Tensor, numbers: int, memory_mib: float) -> tuple[int, int]:
    """Return the numbers of texts and of videos whose tile fits into the memory.

    A method projects a block's frames once per tile, so a tile holds more texts than videos.

    Args:
        n_text: number of all texts.
        frames: ``(video, frame, dim)``: all videos.
        numbers: how many numbers a pair takes.
        memory_mib: memory of a tile.
    """
    pairs = max(1, int(memory_mib * 2**20 / (frames.element_size() * numbers)))
    texts = min(n_text, 2 * math.isqrt(pairs))
    videos = max(1, min(len(frames), pairs // texts))
    return max(1, min(n_text, pairs // videos)), videos


def _checked_words(method: Method, text: Tensor, words: Words | None) -> Words | None:
    """Return the words in the texts' dtype, or None for a method that wants none."""
    if not method.wants_words:
        return None
    if words is None or len(words) != len(text) or words.values.shape[1:] != text.shape[1:]:
        given = "none" if words is None else f"{len(words)} x {tuple(words.values.shape[1:])}"
        raise ValueError(
            f"{type(method).__name__} wants the words of {len(text)} texts, each of dim "
            f"{text.shape[1]}; got {given}"
        )
    if not torch.isfinite(words.values.abs().amax()):
        raise InputError("words: NaN or infinity among the embeddings; make them again")
    return Words(values=words.values.to(text.dtype), start=words.start, count=words.count)


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
        finite = torch.isfinite(values.abs().flatten(1).amax(dim=1))
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


def _check_range(method: nn.Module, text: Tensor, frames: Tensor, mask: Tensor) -> None:
    """Refuse finite values with which a norm or a variance would be infinite, or zero.

    The similarity would then be NaN, or 0 for every video, which ranks like a score.
    """
    kind = torch.finfo(text.dtype)
    most = (kind.max / text.shape[1]) ** 0.5 / 2  # of a value, for the squares' sum about the mean
    least = kind.tiny**0.5
    of_text, of_frames = text.abs().amax(dim=1), frames.abs().amax(dim=2)
    of_frames = of_frames.masked_fill(~mask, 0.0)
    for name, size in (("text", of_text), ("frames", of_frames)):
        wrong = ((size > most) | ((size > 0) & (size < least))).view(len(size), -1)
        if wrong.any():
            row = _first(wrong.any(dim=1))
            value = float(size.view(len(size), -1)[row][wrong[row]][0])
            raise InputError(
                f"{name} row {row}: values of up to {value:.0e}, whose squares {kind.dtype} cannot "
                f"hold ({int(wrong.any(dim=1).sum())} of {len(size)} rows); embeddings have norms "
                "between 1 and 100, so make them again"
            )
    for name, weight in method.named_parameters():
        largest = float(weight.detach().abs().amax())
        if most < largest < float("inf"):  # infinity and NaN show in the similarity
            raise InputError(
                f"{type(method).__name__}: weight {name} holds {largest:.0e}, whose square "
                f"{kind.dtype} cannot hold; the training diverged"
            )


def _distinct_videos(frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return frames and mask of each distinct video, and each video's index among them.

    The index is None where no two videos are the same, which a few numbers of each tell quickly.
    """
    start = frames[:, 0, :4].masked_fill(~mask[:, :1], 0.0)
    if len(torch.unique(start, dim=0)) == len(frames):
        return frames, mask, None
    whole = without_padding(frames, mask)
    keys = torch.cat([whole.flatten(1), mask.to(whole)], dim=1)
    found, index = torch.unique(keys, dim=0, return_inverse=True)
    if len(found) == len(frames):
        return frames, mask, None
    first = _first_of_each(index, len(found))
    return frames[first], mask[first], index


def _first_of_each(index: Tensor, count: int) -> Tensor:
    """Return ``(count,)``: the first position of each number below ``count`` in an index."""
    first = index.new_full((count,), len(index))
    return first.scatter_reduce_(0, index, torch.arange(len(index), device=index.device), "amin")


def _first(rows: Tensor) -> int:
    return int(rows.nonzero()[0, 0])


def _at_least_float32(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Bring tensors to one dtype: float64 if one of them is, else float32."""
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
    return tuple(tensor.to(dtype) for tensor in tensors)


@contextmanager
def _evaluating(method: nn.Module) -> Iterator[None]:
    """Put a module and its submodules into eval mode, and restore their modes afterwards."""
    modes = [(module, module.training) for module in method.modules()]
    method.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
