"""The factorised scorer against the direct form in float64, slow loops and the official outputs."""

from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_inputs import SHAPES, Largest, made

from baselines.mean_pool import MeanPool
from xpool.blocks import factorised
from xpool.metrics import retrieval_metrics
from xpool.similarity import similarity
from xpool.xpool import XPool

SHARED = Path(__file__).resolve().parents[3] / "shared"
# Of a cosine, by rounding, which two layer norms may scale up: the more the fewer the dims.
ATOL = {torch.float64: 1e-10, torch.float32: 2e-5}


def check(method, text, frames, mask, dtype=torch.float64, atol=None):
    """Compare with the direct form in float64, which ``method`` and the inputs arrive in."""
    expected = similarity(method, text, frames, mask, scorer="direct")
    if dtype != torch.float64:
        method, text, frames = method.to(dtype), text.to(dtype), frames.to(dtype)
    actual = similarity(method, text, frames, mask, scorer="factorised")
    assert actual.dtype == dtype
    torch.testing.assert_close(
        actual.double(), expected, atol=ATOL[dtype] if atol is None else atol, rtol=0
    )
    return actual


@given(**SHAPES)
@settings(max_examples=80, deadline=None)
def test_float64_any_shape_mask_heads_temperature_equals_direct(
    seed, n_text, n_video, n_frame, width, heads, temperature
):
    dim = max(2, width) * heads  # a layer norm of one number is its bias
    check(*made(seed, n_text, n_video, n_frame, dim, heads, temperature))


@given(
    seed=st.integers(0, 2**31),
    n_frame=st.integers(1, 13),
    heads=st.sampled_from([1, 2, 4]),
    dim=st.sampled_from([16, 64, 256]),
)
@settings(max_examples=40, deadline=None)
def test_float32_equals_direct_in_float64(seed, n_frame, heads, dim):
    check(*made(seed, 20, 10, n_frame, dim, heads, noise=0.1), dtype=torch.float32)


def test_float32_errs_no_more_than_the_direct_form():
    method, text, frames, mask = made(0, 200, 100, 12, 256, noise=0.05)
    expected = similarity(method, text, frames, mask, scorer="direct")
    inputs = method.float(), text.float(), frames.float(), mask
    direct, own = (similarity(*inputs, scorer=scorer) for scorer in ("direct", "factorised"))
    assert (own - expected).abs().max() < 1e-6
    assert (own - expected).abs().max() < 3 * (direct - expected).abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_scored_in_float32(dtype):
    method, text, frames, mask = made(0, 6, 5, 4, 16)
    method, text, frames = method.float(), text.to(dtype), frames.to(dtype)
    actual = similarity(method, text, frames, mask, scorer="factorised")
    assert actual.dtype == torch.float32
    expected = similarity(method, text, frames, mask, scorer="direct")
    torch.testing.assert_close(actual, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize(("heads", "temperature"), [(1, 1.0), (2, 1.0), (4, 0.3)])
def test_equals_slow_loops(heads, temperature):
    rng = np.random.default_rng(0)
    mask = np.arange(6) < rng.integers(1, 7, 4)[:, None]
    text, frames = 3 * rng.standard_normal((5, 8)), 3 * rng.standard_normal((4, 6, 8))
    state = oracles.random_xpool_state(rng, 8)
    expected = oracles.similarity(
        oracles.xpool, text, frames, mask, state=state, heads=heads, temperature=temperature
    )
    method = XPool(8, heads=heads, temperature=temperature).double()
    method.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    actual = factorised.similarity(method, *map(torch.tensor, (text, frames, mask)))
    np.testing.assert_allclose(actual, expected, atol=1e-12)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/reference")
def test_official_weights_give_official_similarity():
    official = np.load(SHARED / "reference" / "official_small.npz")
    state = {k.removeprefix("state."): official[k] for k in official if k.startswith("state.")}
    method = XPool(official["text"].shape[1], heads=int(official["heads"])).double()
    method.load_state_dict({name: torch.tensor(value).double() for name, value in state.items()})
    text, frames = (torch.tensor(official[name]).double() for name in ("text", "video"))
    actual = similarity(method, text, frames, scorer="factorised")
    np.testing.assert_allclose(actual, official["sims"], atol=1e-6)
    single = similarity(method.float(), text.float(), frames.float(), scorer="factorised")
    np.testing.assert_allclose(single, official["sims"], atol=1e-5)  # float32 rounding


def identical(method, text, frames):
    frames[:] = frames[:, :1]


def duplicated(method, text, frames):
    frames[:, 1::2] = frames[:, ::2]


def nearly_identical(method, text, frames):
    frames[:] = frames[:, :1] + 1e-6 * frames


def opposite(method, text, frames):
    frames[:, 1::2] = -frames[:, ::2]


def huge(method, text, frames):
    text *= 1e4
    frames *= 1e4


def tiny(method, text, frames):
    text *= 1e-4
    frames *= 1e-4


def zero_frames(method, text, frames):
    frames[::2] = 0


def cancelling_branch(method, text, frames):
    """The linear branch takes away nearly all of what it is added to."""
    weight = method.linear_proj.weight
    weight[:] = -torch.eye(len(weight)) + 1e-3 * weight


def constant_value(method, text, frames):
    """All frames of all videos have one value."""
    method.cross_attn.v_proj.weight[:] = 0


def plain_last_norm(method, text, frames):
    method.layer_norm3.weight[:] = 1
    method.layer_norm3.bias[:] = 0


def no_shift(method, text, frames):
    """Nothing precedes the frames' vectors."""
    for vector in (method.layer_norm2.bias, method.layer_norm3.bias, method.linear_proj.bias):
        vector[:] = 0


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    "case",
    [
        identical,
        duplicated,
        nearly_identical,
        opposite,
        huge,
        tiny,
        zero_frames,
        cancelling_branch,
        constant_value,
        plain_last_norm,
        no_shift,
    ],
)
def test_hard_numbers_equal_direct(case, dtype, heads):
    method, text, frames, mask = made(1, 7, 6, 8, 48, heads, noise=0.1)
    with torch.no_grad():
        case(method, text, frames)
    scores = check(method, text, frames, mask, dtype)
    assert scores.abs().max() <= 1 + 1e-5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_one_frame_equals_direct(dtype):
    check(*made(2, 7, 6, 1, 32, noise=0.1), dtype)


def test_zero_text_scores_zero():
    method, text, frames, mask = made(3, 5, 4, 3, 16)
    text[2] = 0
    for scorer in ("direct", "factorised"):
        scores = similarity(method, text, frames, mask, scorer=scorer)
        assert (scores[2] == 0).all()
        assert (scores[1] != 0).all()


def test_pooled_vector_of_zeros_scores_zero():
    method, text, frames, mask = made(3, 5, 4, 3, 16)
    with torch.no_grad():
        method.layer_norm3.weight.zero_()
        method.layer_norm3.bias.zero_()
    assert (similarity(method, text, frames, mask, scorer="factorised") == 0).all()


def test_broken_weights_show_in_the_scores():
    """A diverged training must not come out as numbers."""
    method, text, frames, mask = made(3, 5, 4, 3, 16)
    with torch.no_grad():
        method.linear_proj.weight[0, 0] = torch.nan
    assert similarity(method, text, frames, mask, scorer="factorised").isnan().all()


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("memory_mib", [1e-9, 1e-2, 0.1, 1000])
def test_tile_sizes_do_not_matter(memory_mib, heads):
    method, text, frames, mask = made(4, 40, 70, 5, 16, heads)
    expected = similarity(method, text, frames, mask, scorer="direct")
    actual = factorised.similarity(method, text, frames, mask, memory_mib=memory_mib)
    torch.testing.assert_close(actual, expected, atol=1e-11, rtol=0)


@pytest.mark.parametrize("heads", [1, 4])
def test_no_tensor_grows_with_the_pairs_but_the_result(heads):
    method, text, frames, mask = made(5, 300, 200, 12, 64, heads)
    inputs = method.float(), text.float(), frames.float(), mask
    with Largest() as largest:
        factorised.similarity(*inputs, memory_mib=2)
    assert largest.nbytes <= max(300 * 200 * 4, 2**20)  # the result, or half of the budget


@pytest.mark.parametrize(("heads", "dim"), [(1, 512), (8, 512), (4, 64)])
def test_memory_bounds_the_tile(heads, dim):
    frames = torch.empty(670, 12, dim)
    for memory_mib in (4, 32, 256):
        videos, texts = factorised.tile_sizes(heads, frames, memory_mib)
        assert videos * texts * 12 * heads * 4 * 6 <= memory_mib * 2**20 / 2
        assert 1 <= videos <= factorised.VIDEOS["cpu"]
    assert factorised.tile_sizes(heads, frames, 1e-9) == (1, 1)


def test_default_takes_the_cheaper_form():
    wide = torch.empty(1000, 512)
    assert factorised.pays(1, wide, torch.empty(1000, 12, 512))
    assert not factorised.pays(1, wide[:1], torch.empty(1000, 12, 512))
    assert not factorised.pays(16, wide, torch.empty(1000, 64, 512))
    assert factorised.pays(1, torch.empty(1000, 64), torch.empty(100, 12, 64))
    assert not factorised.pays(1, torch.empty(9, 8), torch.empty(7, 3, 8))


class Noting(XPool):
    """Notes which form is asked for."""

    def pool(self, text, frames, mask):
        self.form = "direct"
        return super().pool(text, frames, mask)

    def factorised(self, text, frames, mask):
        self.form = "factorised"
        return super().factorised(text, frames, mask)


@pytest.mark.parametrize("pays", [True, False])
def test_scorer_names_the_form(pays):
    method = Noting(8)
    method.factorised_pays = lambda text, frames: pays
    text, frames = torch.randn(5, 8), torch.randn(4, 3, 8)
    for scorer in ("direct", "factorised"):
        similarity(method, text, frames, scorer=scorer)
        assert method.form == scorer
    similarity(method, text, frames)
    assert method.form == ("factorised" if pays else "direct")


def test_method_without_its_own_scorer_is_refused_by_name():
    with pytest.raises(ValueError, match="MeanPool has no factorised form"):
        similarity(MeanPool(), torch.ones(2, 4), torch.ones(3, 2, 4), scorer="factorised")


def test_same_text_ties_exactly():
    method, text, frames, mask = made(6, 30, 20, 4, 16)
    scores = similarity(method, torch.cat([text, text]), frames, mask, scorer="factorised")
    assert torch.equal(scores[:30], scores[30:])


def no_output(method):
    method.cross_attn.out_proj.weight[:] = 0


def no_value(method):
    method.cross_attn.v_proj.weight[:] = 0


def no_frames(method):
    method.layer_norm1.weight[:] = 0


def no_scale(method):
    method.layer_norm2.weight[:] = 0


def last_bias(method):
    method.layer_norm3.weight[:] = 0


def branch_takes_all(method):
    method.linear_proj.weight[:] = -torch.eye(len(method.linear_proj.weight))


COLLAPSED = [no_output, no_value, no_frames, no_scale, last_bias, branch_takes_all]


@pytest.mark.parametrize("scorer", ["direct", "factorised"])
@pytest.mark.parametrize(("heads", "dim"), [(1, 8), (1, 256), (8, 64)])
@pytest.mark.parametrize("collapse", COLLAPSED)
def test_collapsed_model_scores_at_chance(collapse, heads, dim, scorer):
    """All videos are pooled to the same vector; the biases are not zero."""
    method, text, frames, _ = made(8, 100, 100, 12, dim, heads, noise=0.1)
    with torch.no_grad():
        collapse(method)
    for dtype in (torch.float32, torch.float64):
        inputs = method.to(dtype), text.to(dtype), frames.to(dtype)
        scores = similarity(*inputs, scorer=scorer)
        assert (scores == scores[:, :1]).all()
        found = retrieval_metrics(scores, np.arange(100))
        for direction in found.values():
            assert direction["R@1"] == pytest.approx(1)
            assert direction["MnR"] == pytest.approx(50.5)


def test_videos_of_a_working_model_do_not_tie():
    method, text, frames, mask = made(8, 50, 40, 12, 64)
    scores = similarity(method.float(), text.float(), frames.float(), mask, scorer="factorised")
    spread = scores.amax(dim=1) - scores.amin(dim=1)
    assert spread.min() > 1e4 * 16 * torch.finfo(torch.float32).eps


@pytest.mark.parametrize("scorer", ["direct", "factorised"])
def test_same_video_ties_exactly(scorer):
    """Padding, of any value, does not tell videos apart; a mask does."""
    method, text, frames, mask = made(9, 30, 75, 6, 32, 4, noise=0.1)
    again = frames.masked_fill(~mask[:, :, None], 3.0)
    inputs = torch.cat([frames, again]).float(), torch.cat([mask, mask])
    scores = similarity(method.float(), text.float(), *inputs, scorer=scorer)
    assert torch.equal(scores[:, :75], scores[:, 75:])
    alone = similarity(method, text.float(), frames.float(), mask, scorer=scorer)
    torch.testing.assert_close(scores[:, :75], alone, atol=2e-6, rtol=0)


def test_gradient_is_left_out():
    method, text, frames, mask = made(7, 3, 2, 2, 8)
    assert not factorised.similarity(method, text.requires_grad_(), frames, mask).requires_grad
