"""The videos nearest to each text, from a gallery that need not fit into memory."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from xpool.command import InputError
from xpool.similarity import similarity


def top_k(
    method: nn.Module, text: Tensor, blocks: Iterable[tuple[Tensor, Tensor]], k: int
) -> tuple[Tensor, Tensor]:
    """Return the ``k`` most similar videos of each text, best first.

    Holds one block of videos, its similarities and the ``k`` best of the blocks before. Videos that
    tie stand in the gallery's order, wherever the blocks part. A thousand videos a block hide the
    fixed cost of one (X-Pool multiplies its weights together).

    Args:
        method: a ``Pooling``, on the device of the inputs.
        text: ``(text, dim)`` raw embeddings.
        blocks: frames ``(video, frame, dim)`` and mask ``(video, frame)`` of some videos at a time,
            in the gallery's order; the number of frames may differ between blocks.
        k: number of videos to keep.

    Returns:
        Similarity and number in the gallery (from 0), each ``(text, min(k, videos))``.

    Raises:
        InputError: no video at all, or what :func:`xpool.similarity.similarity` refuses.
        ValueError: ``k`` is below 1.
    """
    if k < 1:
        raise ValueError(f"top_k: k must be at least 1; got {k}")
    scores, videos, seen = None, None, 0
    for frames, mask in blocks:
        found = similarity(method, text, frames, mask)
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
