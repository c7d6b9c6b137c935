"""What X-Pool's similarity needs of each text and of each video, so that a pair costs little.

Between the softmax and the cosine X-Pool is linear but for two layer norms and a norm, and each of
those needs one number a pair: the length of a weighted sum of a video's own vectors. With
``C = I - 1/dim`` (centring), ``M = I + W``, ``g`` and ``b`` a layer norm's weight and bias,
``n_f = LN1(frame f)`` and ``a`` the attention weights:

* the vectors before LN2, centred, are the sum of ``a_f u_f``, ``u_f = C (W_o W_v n_f + bias)``;
  the variance is ``|sum of a_f u_f|² / dim``; its square root, with LN2's eps, is ``s2``;
* the vectors before LN3, centred, are the sum of ``a_f p_f / s2``, ``p_f = C M (g2 u_f)``, plus
  one vector for all videos, ``q = C (M b2 + bias)``; their length gives ``s3``;
* the pooled vector is ``o = (sum of a_f g3 p_f / s2 + g3 q) / s3 + b3``. Its length is the third,
  and ``text · o`` follows from ``text · (g3 p_f)``, a matrix product for all pairs at once, like
  the logits.

With several heads each vector belongs to a head and a frame, and ``a`` holds all heads' weights.
Each head's sum to 1, which is why a bias may be added to the vectors of the frames.

Source: arXiv 2203.15086, section 3, rearranged; layers as :class:`xpool.xpool.XPool` has them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, pad

from xpool.blocks import unit, without_padding

if TYPE_CHECKING:
    from torch import nn

    from xpool.xpool import XPool


@dataclass(frozen=True, kw_only=True)
class Layers:
    """X-Pool's weights, multiplied together; ``width`` is a head's share of dim.

    A single head has the projections of the frames to key and value folded into the text's side,
    so that the frames need none. Folding several would widen each of them to dim.
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
    """What the pairs need of the texts."""

    query: Tensor
    """``(head, text, width)``: times the key gives the logits."""
    value: Tensor
    """``(head, text, width)``: times the value gives ``text · (g3 p_f)`` without its bias."""
    constants: Tensor
    """``(3, text)``: the text's direction times ``g3`` and the bias of ``p``; ``g3 q``; ``b3``."""


@dataclass(frozen=True, kw_only=True)
class Videos:
    """What the pairs need of a block of videos."""

    key: Tensor
    """``(head, video * frame, width)``."""
    value: Tensor
    """``(head, video * frame, width)``."""
    padding: Tensor | None
    """``(video, frame, 1)`` bool, True where there is no frame; None where all exist."""
    forms: Tensor
    """``(video, row, head * frame)``: rows of the factors of the three lengths. Times the attention
    weights they give, with ``n = head * frame``, first n numbers for each length, whose squares
    make most of it, then one more number of the second length and two more of the third."""
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
        if padding is not None:  # zeros need no place in a factor; equal vectors make it inexact
            product.masked_fill_(padding, 0.0)
        return product.movedim(0, 1).flatten(1, 2).double()

    attended = vectors(layers.attended, layers.attended_bias)  # (video, head * frame, dim)
    pooled = _preceded(vectors(layers.pooled, layers.pooled_bias), layers.shift)
    factor2, factor3 = _factor(attended) / dim**0.5, _factor(pooled) / dim**0.5
    factor_o = _factor(_preceded(pooled * layers.weight3, layers.bias3))
    # What precedes the frames' vectors meets no attention weight. Being first in a triangular
    # factor, it reaches the leading rows alone; only they are not simply squared and summed.
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
    """Upper triangular ``R`` with ``|R a| = |sum of a_i vector_i|`` for any weights ``a``.

    A length made so is never negative. Where the vectors cancel, its error is of the order of
    rounding times their lengths; ``aᵀ G a`` with the Gram matrix has that error in the square.

    Args:
        vectors: ``(video, vector, dim)`` float64.

    Returns:
        ``(video, vector, vector)``: the transposed Cholesky factor of their Gram matrix, or, where
        equal frames or more vectors than dims make that singular, the slower QR decomposition's.
    """
    gram = vectors @ vectors.mT
    # the least pivot, so that vectors of zeros are not singular
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
    """Factors of the rows' product with each head's weight: ``(head, row, width)`` of it."""
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
