"""X-Pool's similarity of all pairs, exactly, without the ``(text, video, dim)`` tensor.

Between the softmax and the cosine X-Pool is linear except for two layer norms and a norm, and each
of these needs one number per pair: the length of a weighted sum of the video's own vectors. These
vectors are computed once for each video (:func:`of_videos`), the projections of a text once for
each text (:func:`of_texts`). With ``C = I - 1/dim`` (centring), ``M = I + W``, ``g`` and ``b`` a
layer norm's weight and bias, ``n_f = LN1(frame f)`` and ``a`` the attention weights:

* the vectors before LN2, centred, are the sum of ``a_f u_f``, ``u_f = C (W_o W_v n_f + bias)``;
  the variance is ``|sum of a_f u_f|² / dim``; its square root, with LN2's eps, is ``s2``;
* the vectors before LN3, centred, are the sum of ``a_f p_f / s2``, ``p_f = C M (g2 u_f)``, plus
  one vector for all videos, ``q = C (M b2 + bias)``; their length gives ``s3``;
* the pooled vector is ``o = (sum of a_f g3 p_f / s2 + g3 q) / s3 + b3``. Its length is the third,
  and ``text · o`` follows from ``text · (g3 p_f)``, a matrix product for all pairs at once, like
  the logits.

With several heads each vector belongs to a head and a frame, and ``a`` holds all heads' weights.
The weights of each head sum to 1, which is why a bias may be added to the vectors of the frames.

A pair costs ``4 frame dim + O((head frame)²)`` multiply-adds instead of ``2 dim² + 2 frame dim``,
in two matrix products and a short epilogue over tiles that stay in the processor's cache. Nothing
is approximated; in float32 the result differs from the direct form by rounding, a few 1e-7 of a
cosine. ``docs/running/performance.md`` has the costs.

Source: arXiv 2203.15086, section 3, rearranged; layers as :class:`xpool.xpool.XPool` has them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, pad

from xpool.pooling import slices, tied, unit, without_padding

if TYPE_CHECKING:
    from torch import nn

    from xpool.xpool import XPool


# Working memory of a tile and its videos. On a CPU much larger tiles leave the cache; on a GPU much
# smaller ones are not worth their calls.
MEMORY_MIB = {"cpu": 32, "cuda": 2048}
# At 12 frames enough rows for matrix products at full speed.
VIDEOS = {"cpu": 64, "cuda": 1024}
KEPT_VIDEOS = 1024
"""Videos of a block of a :class:`Gallery`: few texts leave little work for a call."""


@dataclass(frozen=True, kw_only=True)
class Layers:
    """X-Pool's weights, multiplied together; ``width`` is a head's share of dim.

    With a single head the projections of the frames to key and value are folded into the text's
    side, so that the frames need none. Folding several heads would widen each of them to dim.
    """

    norm1: "nn.LayerNorm"
    query: Tensor
    """``(head, width, dim)``: LN1(text) to what meets the key, the logits' scale included."""
    query_bias: Tensor
    """``(head, 1, width)``."""
    key: Tensor | None
    """``(head, width, dim)``; no bias: it would move all logits of a text alike. None: the key is
    ``n_f``."""
    value: Tensor | None
    """``(head, width, dim)``; its bias is in those below. None: the value is ``n_f``."""
    attended: Tensor
    """``(head, dim, width)``: value to ``u``."""
    attended_bias: Tensor
    """``(dim,)``: each head's share."""
    pooled: Tensor
    """``(head, dim, width)``: value to ``p``."""
    pooled_bias: Tensor
    """``(dim,)``: each head's share."""
    shift: Tensor
    """``(dim,)``: ``q``."""
    weight3: Tensor
    """``(dim,)``: ``g3``."""
    bias3: Tensor
    """``(dim,)``: ``b3``."""


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Projections of the texts that the pairs need."""

    query: Tensor
    """``(head, text, width)``: times the key gives the logits."""
    value: Tensor
    """``(head, text, width)``: times the value gives ``text · (g3 p_f)`` without its bias."""
    constants: Tensor
    """``(3, text)``: the text's direction times ``g3`` and the bias of ``p``; ``g3 q``; ``b3``."""


@dataclass(frozen=True, kw_only=True)
class Videos:
    """Projections of a block of videos that the pairs need."""

    key: Tensor
    """``(head, video * frame, width)``."""
    value: Tensor
    """``(head, video * frame, width)``."""
    padding: Tensor | None
    """``(video, frame, 1)`` bool, True where there is no frame; None if all exist."""
    forms: Tensor
    """``(video, row, head * frame)``: rows of the factors of the three lengths. Their products with
    the attention weights are, with ``n = head * frame``, n numbers for each length, whose squares
    are most of its square; then one more number of the second length and two more of the third."""
    constants: Tensor
    """``(4, video, 1)``: what is added to these three numbers: ``|q|``; ``|b3|`` and the part of
    ``g3 q`` along ``b3``; its part across."""


def fold(method: "XPool", dtype: torch.dtype) -> Layers:
    """Multiply the weights together, in float64, and round the products once to a dtype."""
    attention, heads = method.cross_attn, method.cross_attn.heads
    w_q, b_q = _weights(attention.q_proj)
    w_k, _ = _weights(attention.k_proj)
    w_v, b_v = _weights(attention.v_proj)
    w_o, b_o = _weights(attention.out_proj)
    w, b = _weights(method.linear_proj)
    g2, b2 = _weights(method.layer_norm2)
    g3, b3 = _weights(method.layer_norm3)
    mixed = w + torch.eye(len(w), dtype=w.dtype, device=w.device)
    query, query_bias = attention.scale * w_q, attention.scale * b_q
    key, value, out = w_k.unflatten(0, (heads, -1)), w_v.unflatten(0, (heads, -1)), w_o
    if folded := heads == 1:
        query, query_bias, out = w_k.T @ query, w_k.T @ query_bias, w_o @ w_v
    attended, attended_bias = _centred(out), _centred(w_o @ b_v + b_o) / heads
    pooled = _centred(mixed @ (g2[:, None] * attended))
    return Layers(
        norm1=method.layer_norm1,
        query=query.unflatten(0, (heads, -1)).to(dtype),
        query_bias=query_bias.view(heads, 1, -1).to(dtype),
        key=None if folded else key.to(dtype),
        value=None if folded else value.to(dtype),
        attended=attended.unflatten(1, (heads, -1)).movedim(1, 0).to(dtype),
        attended_bias=attended_bias.to(dtype),
        pooled=pooled.unflatten(1, (heads, -1)).movedim(1, 0).to(dtype),
        pooled_bias=_centred(mixed @ (g2 * attended_bias)).to(dtype),
        shift=_centred(mixed @ b2 + b).to(dtype),
        weight3=g3.to(dtype),
        bias3=b3.to(dtype),
    )


def of_texts(layers: Layers, text: Tensor) -> Texts:
    """Project texts, ``(text, dim)`` raw embeddings in the layers' dtype."""
    direction = unit(text)
    bias = layers.pooled_bias * len(layers.query)
    constants = torch.stack([layers.weight3 * bias, layers.weight3 * layers.shift, layers.bias3])
    return Texts(
        query=torch.baddbmm(layers.query_bias, *_each(_normed(layers, text), layers.query)),
        value=torch.matmul(direction * layers.weight3, layers.pooled),
        constants=constants @ direction.T,
    )


def of_videos(layers: Layers, frames: Tensor, mask: Tensor) -> Videos:
    """Project a block of videos and factorise its three lengths.

    Args:
        layers: from :func:`fold`.
        frames: ``(video, frame, dim)`` raw embeddings in the layers' dtype.
        mask: ``(video, frame)`` bool, True where the frame exists.
    """
    n_head, (n_video, n_frame, dim) = len(layers.query), frames.shape
    padding = None if mask.all() else ~mask[:, :, None]
    normed = _normed(layers, without_padding(frames, mask)).flatten(0, 1)
    key = normed[None] if layers.key is None else torch.bmm(*_each(normed, layers.key))
    value = normed[None] if layers.value is None else torch.bmm(*_each(normed, layers.value))

    def vectors(weight: Tensor, bias: Tensor) -> Tensor:
        product = torch.baddbmm(bias, value, weight.mT).view(n_head, n_video, n_frame, dim)
        if padding is not None:  # equal vectors make a factor inexact; zeros do not
            product.masked_fill_(padding, 0.0)
        return product.movedim(0, 1).flatten(1, 2).double()

    attended = vectors(layers.attended, layers.attended_bias)  # (video, head * frame, dim)
    pooled = _preceded(vectors(layers.pooled, layers.pooled_bias), layers.shift)
    factor2, factor3 = _factor(attended) / dim**0.5, _factor(pooled) / dim**0.5
    factor_o = _factor(_preceded(pooled * layers.weight3, layers.bias3))
    # The vectors before the frames' own have no attention weight. As they come first in a
    # triangular factor, they reach its leading rows only; all other rows are squared and summed.
    forms = torch.cat(
        [factor2, factor3[:, 1:, 1:], factor_o[:, 2:, 2:], factor3[:, :1, 1:], factor_o[:, :2, 2:]],
        dim=1,
    )
    constants = [factor3[:, 0, 0], factor_o[:, 0, 0], factor_o[:, 0, 1], factor_o[:, 1, 1]]
    return Videos(
        key=key,
        value=value,
        padding=padding,
        forms=forms.to(frames),
        constants=torch.stack(constants)[:, :, None].to(frames),
    )


def _factor(vectors: Tensor) -> Tensor:
    """Return the upper triangular ``R`` with ``|R a| = |sum of a_i vector_i|`` for any ``a``.

    Its squared length is never negative. Where the vectors cancel, the error of the length is of
    the order of rounding times their lengths; ``aᵀ G a`` with the Gram matrix has that error in the
    square.

    Args:
        vectors: ``(video, vector, dim)`` float64.

    Returns:
        ``(video, vector, vector)``: the transposed Cholesky factor of their Gram matrix, or, if
        equal frames or more vectors than dims make that singular, the factor of the slower QR
        decomposition.
    """
    gram = vectors @ vectors.mT
    # the smallest pivot, so that vectors of zeros are not singular
    gram.diagonal(dim1=1, dim2=2).add_(torch.finfo(gram.dtype).tiny)
    factor: Tensor
    factor, failed_at = torch.linalg.cholesky_ex(gram, upper=True)
    singular = failed_at > 0
    if singular.any():
        rows = torch.linalg.qr(vectors[singular].mT, mode="r").R
        factor[singular] = pad(rows, (0, 0, 0, vectors.shape[1] - rows.shape[1]))
    return factor


def _preceded(vectors: Tensor, first: Tensor) -> Tensor:
    """Put one vector that all videos share before their own: ``(video, 1 + vector, dim)``."""
    return torch.cat([first.to(vectors).expand(len(vectors), 1, -1), vectors], dim=1)


def _each(rows: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factors of the rows' product with each head's weight, ``(head, row, width)``."""
    return rows.expand(len(weight), -1, -1), weight.mT


def _normed(layers: Layers, vectors: Tensor) -> Tensor:
    """Apply LN1 in the vectors' dtype, whatever the weights'."""
    norm = layers.norm1
    weight, bias = norm.weight.to(vectors), norm.bias.to(vectors)
    normed: Tensor = layer_norm(vectors, norm.normalized_shape, weight, bias, norm.eps)
    return normed


def _weights(layer: "nn.Linear | nn.LayerNorm") -> tuple[Tensor, Tensor]:
    return layer.weight.double(), layer.bias.double()


def _centred(values: Tensor) -> Tensor:
    """Subtract the mean over the first axis, dim."""
    return values - values.mean(dim=0)


def similarity(
    method: "XPool",
    text: Tensor,
    frames: Tensor,
    mask: Tensor,
    *,
    memory_mib: float | None = None,
) -> Tensor:
    """Return the cosine of each text with each video as X-Pool pools it for that text.

    Without gradient. Takes ``memory_mib``, and four times the memory of the texts, beyond the
    inputs and the result. Tiles, and with them ``memory_mib``, change values by rounding only.

    Args:
        method: scored without dropout, whatever its mode.
        text: ``(text, dim)`` raw embeddings, float32 or float64.
        frames: ``(video, frame, dim)`` raw embeddings of the same dtype.
        mask: ``(video, frame)`` bool, True where the frame exists; at least one per video.
        memory_mib: rough bound on the working memory of a tile and its videos, in MiB; None: 32,
            and 2048 on a GPU.

    Returns:
        ``(text, video)``, of the inputs' dtype; 0 for a text of zeros. For a text that tells the
        videos apart by rounding only, all are equal.
    """
    scores = text.new_empty(len(text), len(frames))
    n_video, n_text = tile_sizes(method.cross_attn.heads, frames, memory_mib)
    with torch.no_grad(), torch.autocast(text.device.type, enabled=False):
        layers = fold(method, text.dtype)
        of_all = of_texts(layers, text)
        eps = method.layer_norm2.eps, method.layer_norm3.eps
        for videos in slices(len(frames), n_video):
            block = of_videos(layers, frames[videos], mask[videos])
            for texts in slices(len(text), n_text):
                scores[texts, videos] = _tile(of_all, texts, block, eps).T
    return tied(scores)


class Gallery:
    """Videos whose projections are kept, for texts that come one after the other.

    Takes the memory of the frames, and ``3 head frame`` numbers for each head and frame.
    """

    def __init__(self, method: "XPool", frames: Tensor, mask: Tensor) -> None:
        """Project all videos, in blocks; arguments as :func:`similarity`."""
        self._eps = method.layer_norm2.eps, method.layer_norm3.eps
        with torch.no_grad():
            self._layers = fold(method, frames.dtype)
            self._blocks = [
                of_videos(self._layers, frames[videos], mask[videos])
                for videos in slices(len(frames), KEPT_VIDEOS)
            ]

    @torch.no_grad()
    def similarity(self, text: Tensor) -> Tensor:
        """Return ``(text, video)``, as :func:`similarity` does, for a few texts."""
        of_all = of_texts(self._layers, text)
        every = slice(None)
        return tied(torch.cat([_tile(of_all, every, b, self._eps) for b in self._blocks]).T)


def _tile(of_all: Texts, texts: slice, block: Videos, eps: tuple[float, float]) -> Tensor:
    """Score some of the texts with a block of videos: ``(video, text)``."""
    n_head, (n_video, _, n) = len(block.key), block.forms.shape
    # Texts are the last axis, so that everything below runs along them with stride 1.
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
    """Return whether the factorised form is likely faster than the direct one for these inputs.

    Counts the multiply-adds of both. Those of the factors count four times and those of the
    products of weights twice, for float64 and small matrices; a fixed 2e7 stands for the calls. The
    estimate is within a factor of 2 of the measurements on a CPU (``docs/running/performance.md``).

    Args:
        heads: number of attention heads.
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
    """Return the numbers of videos and of texts in a tile; each side has half of the memory."""
    n_frame, dim = frames.shape[1:]
    kind = "cuda" if frames.is_cuda else "cpu"
    n, half = heads * n_frame, (memory_mib or MEMORY_MIB[kind]) * 2**19
    # for each head and frame: key, value and a product, and the vectors three times in float64
    video_bytes = n * dim * (3 * frames.element_size() + 3 * 8)
    videos = max(1, min(VIDEOS[kind], int(half / video_bytes)))
    # for each pair: logits, weights, values and three forms of each head and frame; a dozen numbers
    pair_bytes = frames.element_size() * (6 * n + 12)
    return videos, max(1, int(half / (videos * pair_bytes)))
