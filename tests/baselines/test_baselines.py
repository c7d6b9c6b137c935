"""The baselines against slow loops (oracle), stored numbers (golden), official outputs, limits."""

import inspect
import json
import math
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from made_inputs import text_transformer

from baselines.attention import AttentionPool
from baselines.mean_pool import MeanPool
from baselines.self_attention import SelfAttention
from baselines.top_k import TopK
from xpool.pooling import TextTransformer, masked_mean, masked_softmax, unit
from xpool.project.errors import InputError
from xpool.similarity import similarity

SHARED = Path(__file__).resolve().parents[3] / "shared"
DIM, HEADS = 8, 2


def random_inputs(seed=0, n_text=5, n_video=4, n_frame=6, dim=DIM):
    rng = np.random.default_rng(seed)
    mask = np.arange(n_frame) < rng.integers(1, n_frame + 1, n_video)[:, None]
    text = 3 * rng.standard_normal((n_text, dim))
    frames = 3 * rng.standard_normal((n_video, n_frame, dim))
    return text, frames, mask


def tensors(*arrays):
    return tuple(torch.tensor(np.asarray(array)) for array in arrays)


def self_attention(source, **arguments):
    method = SelfAttention(DIM, heads=HEADS, layers=2, positions=7, **arguments).double()
    method.start_from(source)
    return method.eval()


def loops_of_self_attention(source, text, frames, mask):
    layers = [{k: v.numpy() for k, v in layer.items()} for layer in source.layers]
    return oracles.similarity(
        oracles.self_attention,
        text,
        frames,
        mask,
        position=source.position.numpy(),
        layers=layers,
        heads=source.heads,
        activation=source.activation,
    )


@pytest.mark.parametrize(
    ("method", "pool", "arguments"),
    [
        (MeanPool(), oracles.mean_pool, {}),
        (TopK(1), oracles.top_k, {"k": 1}),
        (TopK(3), oracles.top_k, {"k": 3}),
        (TopK(99), oracles.top_k, {"k": 99}),
        (AttentionPool(), oracles.attention_pool, {"temperature": 0.01}),
        (AttentionPool(0.5), oracles.attention_pool, {"temperature": 0.5}),
    ],
)
def test_parameter_free_matches_loops(method, pool, arguments):
    text, frames, mask = random_inputs()
    expected = oracles.similarity(pool, text, frames, mask, **arguments)
    np.testing.assert_allclose(
        similarity(method, *tensors(text, frames, mask)), expected, atol=1e-12
    )


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_self_attention_matches_loops(activation):
    text, frames, mask = random_inputs()
    source = text_transformer(activation=activation)
    actual = similarity(self_attention(source, activation=activation), *tensors(text, frames, mask))
    expected = loops_of_self_attention(source, text, frames, mask)
    np.testing.assert_allclose(actual, expected, atol=1e-12)


def test_golden_numbers():
    golden = json.loads(oracles.GOLDEN.read_text())
    text, frames, mask = tensors(golden["text"], golden["frames"], golden["mask"])
    methods = {
        "mean_pool": MeanPool(),
        "top_k": TopK(golden["k"]),
        "attention": AttentionPool(golden["attention_temperature"]),
    }
    for name, activation in (
        ("self_attention", "quick_gelu"),
        ("self_attention_gelu", "gelu"),
    ):
        methods[name] = SelfAttention(8, golden["heads"], 2, 5, activation).double()
        methods[name].start_from(
            TextTransformer(
                position=torch.tensor(golden["position"], dtype=torch.float64),
                layers=[
                    {k: torch.tensor(v, dtype=torch.float64) for k, v in layer.items()}
                    for layer in golden["layers"]
                ],
                heads=golden["heads"],
                activation=activation,
            )
        )
    for name, method in methods.items():
        actual = similarity(method, text.double(), frames.double(), mask)
        np.testing.assert_allclose(actual, golden["expected"][name], atol=1e-12, err_msg=name)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/reference")
@pytest.mark.parametrize(
    ("method", "name"),
    [
        (MeanPool(), "sims_avg"),
        (TopK(3), "sims_top3"),
        (AttentionPool(0.05), "sims_attention_t005"),
    ],
)
def test_official_similarity(method, name):
    official = np.load(SHARED / "reference" / "official_small.npz")
    text, frames = tensors(official["text"], official["video"])
    np.testing.assert_allclose(similarity(method, text, frames), official[name], atol=1e-6)


def test_top_k_of_all_frames_is_the_mean():
    text, frames, mask = tensors(*random_inputs())
    expected = similarity(MeanPool(), text, frames, mask)
    torch.testing.assert_close(similarity(TopK(6), text, frames, mask), expected)


DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
LIMIT = {"atol": 1e-5, "rtol": 0}


@DTYPES
@pytest.mark.parametrize("temperature", [1e9, math.inf])
def test_attention_temperature_large_is_the_mean(temperature, dtype):
    text, frames, mask = tensors(*random_inputs())
    inputs = text.to(dtype), frames.to(dtype), mask
    actual = similarity(AttentionPool(temperature), *inputs)
    torch.testing.assert_close(actual, similarity(MeanPool(), *inputs), **LIMIT)


@DTYPES
def test_attention_temperature_small_is_the_best_frame(dtype):
    text, frames, mask = tensors(*random_inputs())
    inputs = text.to(dtype), frames.to(dtype), mask
    actual = similarity(AttentionPool(1e-7), *inputs)
    torch.testing.assert_close(actual, similarity(TopK(1), *inputs), **LIMIT)


@DTYPES
@pytest.mark.parametrize("padding", [0, 3])
def test_one_frame_all_parameter_free_agree(dtype, padding):
    text, frames, _ = tensors(*random_inputs(n_frame=1 + padding))
    text, frames = text.to(dtype), frames.to(dtype)
    mask = (torch.arange(1 + padding) < 1).expand(len(frames), -1)
    expected = torch.einsum("td,vd->tv", unit(text), unit(frames[:, 0]))
    poolings = [MeanPool(), TopK(1), TopK(5)]
    poolings += [AttentionPool(temperature) for temperature in (1e-7, 0.01, 1.0, math.inf)]
    for method in poolings:
        torch.testing.assert_close(similarity(method, text, frames, mask), expected, **LIMIT)


def without_layers(method):
    """Let each layer add nothing, and take the positions away."""
    with torch.no_grad():
        method.transformer.positional_embedding.zero_()
        for block in method.transformer.resblocks:
            for layer in (block.attn.out_proj, block.mlp.c_proj):
                layer.weight.zero_()
                layer.bias.zero_()
    return method


@DTYPES
@pytest.mark.parametrize("frame", [1, 6])
def test_self_attention_whose_layers_add_nothing_is_the_mean(dtype, frame):
    """With one frame it then agrees with all that have no parameters."""
    text, frames, mask = tensors(*random_inputs(n_frame=frame))
    inputs = text.to(dtype), frames.to(dtype), mask
    method = without_layers(self_attention(text_transformer())).to(dtype)
    actual = similarity(method, *inputs)
    torch.testing.assert_close(actual, similarity(MeanPool(), *inputs), **LIMIT)


def test_self_attention_one_frame_is_that_frame_through_the_layers():
    """Attention over a single frame has weight 1: what is left is the frame's own value."""
    text, frames, mask = tensors(*random_inputs(n_frame=1))
    method = self_attention(text_transformer())
    mixed = frames + method.transformer.positional_embedding[:1]
    for block in method.transformer.resblocks:
        normed = block.ln_1(mixed)
        weight, bias = block.attn.in_proj_weight[-DIM:], block.attn.in_proj_bias[-DIM:]
        mixed = mixed + block.attn.out_proj(normed @ weight.T + bias)
        mixed = mixed + block.mlp(block.ln_2(mixed))
    expected = torch.einsum("td,vd->tv", unit(text), unit((mixed + frames)[:, 0]))
    torch.testing.assert_close(similarity(method, text, frames, mask), expected, **LIMIT)


def test_mean_pool_weights_frames_equally_whatever_their_norm():
    text, frames, mask = tensors(*random_inputs())
    scaled = frames * torch.arange(1, 7)[None, :, None]
    torch.testing.assert_close(
        similarity(MeanPool(), text, scaled, mask), similarity(MeanPool(), text, frames, mask)
    )


@pytest.mark.parametrize("kind", [MeanPool, TopK, AttentionPool])
def test_parameter_free_needs_no_width_and_has_no_parameters(kind):
    assert "dim" not in inspect.signature(kind).parameters
    assert not list((kind(2) if kind is TopK else kind()).parameters())


def test_self_attention_default_is_the_published_size():
    method = SelfAttention(64)
    assert len(method.transformer.resblocks) == 4
    assert method.transformer.heads == 8
    assert method.transformer.positional_embedding.shape == (77, 64)
    assert method.transformer.activation == "quick_gelu"


def test_self_attention_layer_names_are_openai_s():
    names = set(SelfAttention(8, heads=2, layers=1).transformer.resblocks[0].state_dict())
    assert names == set(oracles.random_layer(np.random.default_rng(0), 8))


def test_self_attention_start_takes_the_first_layers_and_positions():
    source = text_transformer(layers=5, positions=20)
    method = self_attention(source)
    assert torch.equal(method.transformer.positional_embedding, source.position[:7])
    for block, layer in zip(method.transformer.resblocks, source.layers[:2], strict=True):
        for name, value in block.state_dict().items():
            assert torch.equal(value, layer[name])
    source.position.zero_()  # a copy was taken
    assert method.transformer.positional_embedding.abs().sum() > 0


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"heads": 4}, "pooling.heads: 2.*has 4"),
        ({"activation": "gelu"}, "pooling.activation: quick_gelu.*has gelu"),
        ({"layers": 1}, "pooling.layers: 2.*at most 1"),
        ({"positions": 3}, "pooling.positions: 7.*at most 3"),
        ({"dim": 4}, "8, but.* 4 wide"),
    ],
)
def test_self_attention_start_mismatch_names_the_key(changed, key):
    with pytest.raises(InputError, match=f"recipes.self_attention.<benchmark>.*{key}"):
        self_attention(text_transformer(**changed))


def test_self_attention_initialisation_is_seeded_and_clip_sized():
    torch.manual_seed(3)
    first = SelfAttention(64, layers=2).state_dict()
    torch.manual_seed(3)
    second = SelfAttention(64, layers=2).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name, std in (
        ("positional_embedding", 0.01),
        ("resblocks.1.attn.in_proj_weight", 64**-0.5),
        ("resblocks.1.mlp.c_proj.weight", 64**-0.5 / 2),
    ):
        assert first[f"transformer.{name}"].std() == pytest.approx(std, rel=0.1)


def test_self_attention_too_many_frames_names_the_key():
    text, frames, mask = tensors(*random_inputs())
    method = SelfAttention(DIM, heads=HEADS, positions=5).double()
    with pytest.raises(ValueError, match="positions: 5, but a video or a text has 6 frames"):
        similarity(method, text, frames, mask)


def test_self_attention_frame_order_matters():
    text, frames, mask = tensors(*random_inputs(n_video=1))
    mask[:] = True
    method = self_attention(text_transformer())
    moved = similarity(method, text, frames.flip(1), mask)
    assert not torch.allclose(similarity(method, text, frames, mask), moved)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopK(0), "k must be at least 1"),
        (lambda: AttentionPool(0.0), "temperature"),
        (lambda: AttentionPool(math.nan), "temperature"),
        (lambda: SelfAttention(8, heads=3), "heads=3, dim=8"),
        (lambda: SelfAttention(8, layers=0), "layers=0"),
        (lambda: SelfAttention(8, positions=0), "positions=0"),
        (lambda: SelfAttention(8, activation="relu"), "quick_gelu, gelu; got 'relu'"),
    ],
)
def test_constructor_impossible_value_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_unit_zero_vector_stays_zero_with_moderate_gradient():
    vectors = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    scaled = unit(vectors)
    scaled.sum().backward()
    torch.testing.assert_close(scaled, torch.tensor([[0.0, 0.0], [0.6, 0.8]]))
    assert vectors.grad.abs().max() <= 1


def test_masked_mean_and_softmax_ignore_padding():
    frames = torch.tensor([[[1.0], [3.0], [100.0]]])
    mask = torch.tensor([[True, True, False]])
    assert masked_mean(frames, mask).item() == 2
    weights = masked_softmax(torch.tensor([[1.0, 1.0, 9.0]]), mask)
    torch.testing.assert_close(weights, torch.tensor([[0.5, 0.5, 0.0]]))
