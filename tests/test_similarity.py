"""Tiles, memory, modes and refusals of ``similarity``; the methods' values are tested elsewhere."""

import pytest
import torch

from baselines.mean_pool import MeanPool
from baselines.top_k import TopK
from xpool.pooling import Pooling
from xpool.project.errors import InputError
from xpool.similarity import _block_sizes, pair_similarity, similarity
from xpool.xpool import XPool


def inputs(n_text=9, n_video=7, n_frame=3, dim=8, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(n_text, dim, generator=generator, dtype=dtype),
        torch.randn(n_video, n_frame, dim, generator=generator, dtype=dtype),
    )


class Recorder(Pooling):
    """Notes the shapes it is called with."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.family = inner, inner.family
        self.calls = []

    def pool(self, text, frames, mask):
        assert not torch.is_grad_enabled()
        assert not self.training
        self.calls.append((len(text), len(frames)))
        return self.inner(text, frames, mask)


def test_tiles_cover_every_pair_once():
    method = Recorder(TopK(2))
    similarity(method, *inputs(), blocks=(4, 3))
    assert sorted(method.calls) == sorted([(t, v) for t in (4, 4, 1) for v in (3, 3, 1)])


def test_text_agnostic_pools_each_video_once():
    method = Recorder(MeanPool())
    scores = similarity(method, *inputs(), blocks=(4, 3))
    assert method.calls == [(9, 3), (9, 3), (9, 1)]
    torch.testing.assert_close(scores, similarity(MeanPool(), *inputs()))


def test_memory_bounds_the_tile():
    frames = torch.empty(670, 12, 512)
    for memory_mib in (1, 16, 256):
        texts, videos = _block_sizes(27_763, frames, 8 * 512, memory_mib)
        assert texts * videos * 512 * 4 * 8 <= memory_mib * 2**20
        assert texts >= videos >= 1
    assert _block_sizes(3, frames, 8 * 512, 1e6) == (3, 670)
    assert _block_sizes(27_763, frames, 8 * 512, 1e-9) == (1, 1)
    method = Recorder(TopK(2))
    similarity(method, *inputs(), memory_mib=8 * 9 * 4 * 8 / 2**20)
    assert max(t * v for t, v in method.calls) < 9


def test_same_text_ties_exactly_whatever_its_place():
    """With a pooling whose result depends on the index in the tile, as that of rounding may."""

    class Uneven(MeanPool):
        def pool(self, text, frames, mask):
            index = torch.arange(len(text))[:, None, None]
            return super().pool(text, frames, mask) + 1e-3 * index

    text, frames = inputs(n_text=50)
    order = torch.randperm(117, generator=torch.Generator().manual_seed(0))
    text = torch.cat([text, text, text[:17]])[order]
    _, index = torch.unique(text, dim=0, return_inverse=True)
    scores = similarity(Uneven(), text, frames, blocks=(7, 11))
    for same in index.unique():
        rows = scores[index == same]
        assert torch.equal(rows, rows[:1].expand_as(rows))


def test_rows_stay_in_the_order_of_the_texts():
    text, frames = inputs(n_text=30)
    mask = torch.ones(7, 3, dtype=torch.bool)
    expected = pair_similarity(TopK(2), text, frames, mask)
    torch.testing.assert_close(similarity(TopK(2), text, frames, blocks=(7, 2)), expected)


def test_modes_are_restored_also_after_an_error():
    method = XPool(8, dropout=0.5)
    method.layer_norm2.eval()
    text, frames = inputs()
    similarity(method, text, frames)
    assert method.training
    assert method.dropout.training
    assert not method.layer_norm2.training

    class Failing(MeanPool):
        def pool(self, text, frames, mask):
            raise RuntimeError("no")

    failing = Failing().train()
    with pytest.raises(RuntimeError):
        similarity(failing, text, frames)
    assert failing.training


def test_result_carries_no_gradient_but_a_batch_does():
    method = XPool(8)
    text, frames = inputs()
    assert not similarity(method, text, frames).requires_grad
    scores = pair_similarity(method, text, frames, torch.ones(7, 3, dtype=torch.bool))
    assert scores.requires_grad
    torch.testing.assert_close(scores.detach(), similarity(method, text, frames))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_result_is_float32(dtype):
    text, frames = (tensor.to(dtype) for tensor in inputs())
    scores = similarity(XPool(8), text, frames)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, similarity(XPool(8), text.float(), frames.float()))


def test_autocast_does_not_reach_the_cosine():
    method = XPool(8)
    text, frames = inputs()
    mask = torch.ones(7, 3, dtype=torch.bool)
    expected = pair_similarity(method, text, frames, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(pair_similarity(method, text, frames, mask), expected)
        assert torch.equal(similarity(method, text, frames), similarity(method, text, frames))
    torch.testing.assert_close(expected.detach(), similarity(method, text, frames))


def test_cosine_is_bounded():
    scores = similarity(TopK(1), *inputs(n_text=40, n_video=30))
    assert scores.abs().max() <= 1 + 1e-6


def test_method_may_bring_its_own():
    class Own(MeanPool):
        def similarity(self, text, frames, mask):
            assert mask.all()
            return text.sum(1)[:, None] + torch.arange(len(frames))

    text, frames = inputs()
    expected = text.sum(1)[:, None] + torch.arange(7)
    torch.testing.assert_close(similarity(Own(), text, frames), expected)


def test_own_similarity_of_wrong_shape_is_refused():
    class Own(MeanPool):
        def similarity(self, text, frames, mask):
            return torch.zeros(len(frames), len(text))

    with pytest.raises(ValueError, match=r"Own.similarity: expected .*\(9, 7\)"):
        similarity(Own(), *inputs())


@pytest.mark.parametrize("shape", [(7, 9, 8), (9, 7, 4), (2, 7, 8), (7, 8)])
def test_pooled_of_wrong_shape_is_refused(shape):
    class Wrong(Pooling):
        def pool(self, text, frames, mask):
            return torch.zeros(shape)

    with pytest.raises(ValueError, match=r"Wrong: expected the shape \(1 or 9, 7, 8\)"):
        similarity(Wrong(), *inputs())


def test_video_without_frames_is_named():
    text, frames = inputs()
    mask = torch.ones(7, 3, dtype=torch.bool)
    mask[[4, 6]] = False
    with pytest.raises(InputError, match=r"frames row 4: this video has no frame.*2 of 7"):
        similarity(MeanPool(), text, frames, mask)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_finite_is_named(value):
    text, frames = inputs()
    text[3, 1] = value
    with pytest.raises(InputError, match=r"text row 3: NaN or infinity.*1 of 9"):
        similarity(MeanPool(), text, frames)
    text, frames = inputs()
    frames[5, 0, 1] = value
    with pytest.raises(InputError, match="frames row 5"):
        similarity(MeanPool(), text, frames)


@pytest.mark.parametrize(
    ("text", "frames", "mask"),
    [
        ((9, 8), (7, 3, 6), None),
        ((9, 8), (7, 8), None),
        ((8,), (7, 3, 8), None),
        ((0, 8), (7, 3, 8), None),
        ((9, 8), (7, 0, 8), None),
        ((9, 8), (7, 3, 8), (3, 7)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(text, frames, mask):
    mask = None if mask is None else torch.ones(mask, dtype=torch.bool)
    with pytest.raises(ValueError, match="expected"):
        similarity(MeanPool(), torch.ones(text), torch.ones(frames), mask)


def test_mask_of_numbers_is_refused():
    with pytest.raises(ValueError, match="bool mask"):
        similarity(MeanPool(), *inputs(), torch.ones(7, 3))


def test_block_of_zero_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        similarity(TopK(1), *inputs(), blocks=(0, 1))


@pytest.mark.parametrize("scorer", ["auto", "direct"])
@pytest.mark.parametrize("method", [XPool(8), MeanPool(), TopK(2)])
@pytest.mark.parametrize(("name", "value"), [("text", 1e30), ("frames", -1e30), ("text", 1e-30)])
def test_values_whose_squares_float32_cannot_hold_are_refused(name, value, method, scorer):
    """Finite, but a norm is infinite or zero: the scores would be NaN, or 0 for every video."""
    text, frames = inputs()
    (text if name == "text" else frames)[3] = value
    with pytest.raises(InputError, match=rf"{name} row 3: values of up to 1e[+-]30.*1 of [79]"):
        similarity(method, text, frames, scorer=scorer)
    found = similarity(method.double(), text.double(), frames.double(), scorer=scorer)
    method.float()
    assert found.isfinite().all()


def test_largest_values_that_are_accepted_score_as_in_float64():
    text, frames = inputs()
    text, frames = 5e17 * text, 5e17 * frames
    for method in (XPool(8), MeanPool()):
        found = similarity(method, text, frames)
        expected = similarity(method.double(), text.double(), frames.double())
        torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)


def test_padding_of_any_size_is_ignored():
    text, frames = inputs()
    mask = torch.ones(frames.shape[:2], dtype=torch.bool)
    mask[:, 2] = False
    expected = similarity(XPool(8), text, frames, mask)
    frames[:, 2] = 1e30
    assert torch.equal(similarity(XPool(8), text, frames, mask), expected)


def test_a_weight_that_diverged_is_named():
    method = XPool(8)
    with torch.no_grad():
        method.layer_norm3.weight[2] = 1e30
    with pytest.raises(InputError, match=r"XPool: weight layer_norm3.weight holds 1e\+30"):
        similarity(method, *inputs())
