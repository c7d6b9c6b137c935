"""X-Pool's similarity of all pairs, exactly, without the ``(text, video, dim)`` tensor.

:mod:`xpool.factors` has the rearrangement. A pair costs ``4 frame dim + O((head frame)²)``
multiply-adds instead of ``2 dim² + 2 frame dim``, in two matrix products and a short epilogue over
tiles that stay in the processor's cache. Nothing is approximated; in float32 the result differs
from the direct form by rounding, a few 1e-7 of a cosine. ``docs/performance.md`` has the costs.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xpool.factors import Texts, Videos, fold, of_texts, of_videos

if TYPE_CHECKING:
    from xpool.xpool import XPool

# Working memory of a tile and its videos. On a CPU much larger ones leave the cache; on a GPU much
# smaller ones are not worth their calls.
MEMORY_MIB = {"cpu": 32, "cuda": 2048}
# At 12 frames enough rows for matrix products at full speed.
VIDEOS = {"cpu": 64, "cuda": 1024}


def similarity(
    method: "XPool",
    text: Tensor,
    frames: Tensor,
    mask: Tensor,
    *,
    memory_mib: float | None = None,
) -> Tensor:
    """Cosine of each text with each video as X-Pool pools it for that text; without gradient.

    Memory beyond the inputs and the result: ``memory_mib``, and the texts four times. Values depend
    on the tiles, and so on ``memory_mib``, by rounding only.

    Args:
        method: scored without dropout, in whichever mode it is.
        text: ``(text, dim)`` raw embeddings, float32 or float64.
        frames: ``(video, frame, dim)`` raw embeddings of the same dtype.
        mask: ``(video, frame)`` bool, True where the frame exists; at least one per video.
        memory_mib: rough bound on the working memory of a tile and its videos, in MiB; None: 32,
            and 2048 on a GPU.

    Returns:
        ``(text, video)``, of the inputs' dtype; 0 for a text of zeros.
    """
    scores = text.new_empty(len(text), len(frames))
    n_video, n_text = tile_sizes(method.cross_attn.heads, frames, memory_mib)
    with torch.no_grad(), torch.autocast(text.device.type, enabled=False):
        layers = fold(method, text.dtype)
        of_all = of_texts(layers, text)
        eps = method.layer_norm2.eps, method.layer_norm3.eps
        for videos in _slices(len(frames), n_video):
            block = of_videos(layers, frames[videos], mask[videos])
            for texts in _slices(len(text), n_text):
                scores[texts, videos] = _tile(of_all, texts, block, eps).T
    return scores


def _tile(of_all: Texts, texts: slice, block: Videos, eps: tuple[float, float]) -> Tensor:
    """Score some of the texts with a block of videos: ``(video, text)``."""
    n_head, (n_video, _, n) = len(block.key), block.forms.shape
    # Texts come last, so that everything below runs along them with stride 1.
    shape = (n_head, n_video, n // n_head, -1)
    weights = (block.key @ of_all.query[:, texts].mT).view(shape)
    if block.padding is not None:
        weights.masked_fill_(block.padding, -torch.inf)
    weights = weights.softmax(dim=2)
    values = (block.value @ of_all.value[:, texts].mT).view(shape)
    product = values.mul_(weights).sum(dim=(0, 2))  # (video, text)
    forms = block.forms @ weights.movedim(0, 1).flatten(1, 2)  # (video, row, text)
    square2, square3, square_o = (
        forms[:, : 3 * n].square_().unflatten(1, (3, n)).sum(dim=2).unbind(dim=1)
    )
    lead3, along, across = forms[:, 3 * n :].unbind(dim=1)
    of_shift, of_bias, shift_along, shift_across = block.constants
    text_of_bias, text_of_shift, text_of_bias3 = of_all.constants[:, texts]

    inverse2 = square2.add_(eps[0]).rsqrt_()  # 1 / s2
    variance3 = square3.mul_(inverse2).mul_(inverse2)
    variance3 += lead3.mul_(inverse2).add_(of_shift).square_()
    inverse3 = variance3.add_(eps[1]).rsqrt_()  # 1 / s3
    inverse = inverse2.mul_(inverse3)
    length = square_o.mul_(inverse).mul_(inverse)
    length += along.mul_(inverse).addcmul_(inverse3, shift_along).add_(of_bias).square_()
    length += across.mul_(inverse).addcmul_(inverse3, shift_across).square_()
    product.add_(text_of_bias).mul_(inverse).addcmul_(inverse3, text_of_shift).add_(text_of_bias3)
    # a pooled vector of zeros scores 0, as in `unit`
    return product.div_(length.sqrt_().masked_fill_(length == 0, 1.0))


def pays(heads: int, text: Tensor, frames: Tensor) -> bool:
    """Whether the factorised form is likely faster than the direct one for these inputs.

    Counts the multiply-adds of both. The factors' own count four times, and the weights' products
    twice, for float64 and small matrices; a fixed 2e7 stand for the calls. The estimate is within
    a factor of 2 of what was measured on a CPU (``docs/performance.md``).

    Args:
        heads: of the attention.
        text: ``(text, dim)``.
        frames: ``(video, frame, dim)``.
    """
    if frames.device.type == "mps":  # has no float64
        return False
    n_text, (n_video, n_frame, dim) = len(text), frames.shape
    pairs, n = n_text * n_video, heads * n_frame
    projections = 2 * n_video * n_frame * dim**2
    direct = pairs * 2 * dim * (dim + n_frame) + projections
    factors = 3 * 4 * n_video * n**2 * (dim + n) + 3 * 2 * dim**3 + 2 * 10**7
    return pairs * (2 * n_frame * dim + 3 * n**2) + projections + factors < direct


def tile_sizes(heads: int, frames: Tensor, memory_mib: float | None) -> tuple[int, int]:
    """Numbers of videos and of texts a tile; each side has half of the memory."""
    n_frame, dim = frames.shape[1:]
    kind = "cuda" if frames.is_cuda else "cpu"
    n, half = heads * n_frame, (memory_mib or MEMORY_MIB[kind]) * 2**19
    # of a head and frame: key, value and a product, and the vectors thrice in float64
    video_bytes = n * dim * (3 * frames.element_size() + 3 * 8)
    videos = max(1, min(VIDEOS[kind], int(half / video_bytes)))
    # of a pair: logits, weights, values and three forms for each head and frame; a dozen numbers
    pair_bytes = frames.element_size() * (6 * n + 12)
    return videos, max(1, int(half / (videos * pair_bytes)))


def _slices(total: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, total, size))
