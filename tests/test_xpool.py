"""X-Pool against slow loops (oracle), stored numbers (golden), the official outputs, its limits."""

import json
import math
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch

from xpool.similarity import pair_similarity, similarity
from xpool.xpool import METHOD, XPool

SHARED = Path(__file__).resolve().parents[2] / "shared"
OFFICIAL_NAMES = {
    *(
        f"{layer}.{kind}"
        for layer in (
            *(f"cross_attn.{projection}_proj" for projection in ("q", "k", "v", "out")),
            "linear_proj",
            *(f"layer_norm{number}" for number in (1, 2, 3)),
        )
        for kind in ("weight", "bias")
    )
}


def loaded(state, **arguments):
    state = {name: torch.tensor(np.asarray(value)).double() for name, value in state.items()}
    method = XPool(len(state["linear_proj.bias"]), **arguments).double()
    method.load_state_dict(state, strict=True)
    return method.eval()


def random_inputs(seed=0, n_text=5, n_video=4, n_frame=6, dim=8):
    rng = np.random.default_rng(seed)
    mask = np.arange(n_frame) < rng.integers(1, n_frame + 1, n_video)[:, None]
    text = 3 * rng.standard_normal((n_text, dim))
    frames = 3 * rng.standard_normal((n_video, n_frame, dim))
    return text, frames, mask, oracles.random_xpool_state(rng, dim)


def tensors(*arrays):
    return tuple(torch.tensor(np.asarray(array)) for array in arrays)


def test_method_is_xpool():
    assert METHOD is XPool


def test_parameters_official_names_and_count():
    method = XPool(512)
    assert set(method.state_dict()) == OFFICIAL_NAMES
    assert sum(p.numel() for p in method.parameters()) == 1_316_352  # stated by the paper's code


def test_projections_start_as_identity():
    method = XPool(6, heads=2)
    for name, value in method.state_dict().items():
        if "proj" in name:
            assert torch.equal(value, torch.eye(6) if name.endswith("weight") else torch.zeros(6))


@pytest.mark.parametrize(("heads", "temperature"), [(1, 1.0), (2, 1.0), (4, 0.3)])
def test_similarity_random_weights_matches_loops(heads, temperature):
    text, frames, mask, state = random_inputs()
    method = loaded(state, heads=heads, temperature=temperature)
    expected = oracles.similarity(
        oracles.xpool, text, frames, mask, state=state, heads=heads, temperature=temperature
    )
    actual = similarity(method, *tensors(text, frames, mask))
    np.testing.assert_allclose(actual, expected, atol=1e-12)


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_weights_match_loops(heads):
    text, frames, mask, state = random_inputs()
    weights = loaded(state, heads=heads).attention(*tensors(text, frames, mask)).detach()
    assert weights.shape == (5, 4, heads, 6)
    for t in range(5):
        for v in range(4):
            count = mask[v].sum()
            expected = oracles.xpool_attention(
                list(text[t]), frames[v][:count].tolist(), state, heads
            )
            np.testing.assert_allclose(weights[t, v, :, :count], expected, atol=1e-12)
            assert (weights[t, v, :, count:] == 0).all()


def test_golden_numbers():
    golden = json.loads(oracles.GOLDEN.read_text())
    method = loaded(golden["state"], heads=golden["heads"], temperature=golden["temperature"])
    text, frames, mask = tensors(golden["text"], golden["frames"], golden["mask"])
    actual = similarity(method, text.double(), frames.double(), mask)
    np.testing.assert_allclose(actual, golden["expected"]["xpool"], atol=1e-12)


def test_golden_file_is_what_the_oracles_give():
    golden, made = json.loads(oracles.GOLDEN.read_text()), oracles.golden()
    for name, value in made["expected"].items():
        np.testing.assert_allclose(golden["expected"][name], value, atol=1e-12)
    assert golden["state"] == made["state"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/reference")
def test_official_weights_give_official_similarity():
    official = np.load(SHARED / "reference" / "official_small.npz")
    state = {k.removeprefix("state."): official[k] for k in official if k.startswith("state.")}
    method = loaded(state, heads=int(official["heads"]))
    text, frames = tensors(official["text"], official["video"])
    np.testing.assert_allclose(similarity(method, text, frames), official["sims"], atol=1e-6)
    single = similarity(method.float(), text.float(), frames.float())
    np.testing.assert_allclose(single, official["sims"], atol=1e-5)  # float32 rounding


def without_last_layers(method):
    """Leave attention only, so that limits of the weights show as limits of the result."""
    method.layer_norm2, method.layer_norm3 = torch.nn.Identity(), torch.nn.Identity()
    torch.nn.init.zeros_(method.linear_proj.weight)
    torch.nn.init.zeros_(method.linear_proj.bias)
    return method


@pytest.mark.parametrize("temperature", [1e9, math.inf])
def test_temperature_large_gives_mean_of_projected_frames(temperature):
    text, frames, mask, state = random_inputs()
    method = without_last_layers(loaded(state, temperature=temperature))
    text, frames, mask = tensors(text, frames, mask)
    attention = method.cross_attn
    projected = attention.out_proj(attention.v_proj(method.layer_norm1(frames)))
    mean = (projected * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    actual = method(text, frames, mask)
    torch.testing.assert_close(actual, mean.expand(5, -1, -1), atol=1e-6, rtol=0)


def test_temperature_small_gives_best_frame():
    text, frames, mask, state = random_inputs()
    cold, paper = (loaded(state, temperature=t) for t in (1e-6, 1.0))
    best = paper.attention(*tensors(text, frames, mask)).argmax(-1)
    weights = cold.attention(*tensors(text, frames, mask))
    torch.testing.assert_close(weights, torch.nn.functional.one_hot(best, 6).double())


def in_precision(dtype, method, text, frames, mask):
    return method.to(dtype), text.to(dtype), frames.to(dtype), mask


def tail(method, attended):
    """What follows attention: the rest of the method, for any mixture of projected frames."""
    attended = method.layer_norm2(method.cross_attn.out_proj(attended))
    return method.layer_norm3(attended + method.linear_proj(attended))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("temperature", [1e7, math.inf])
def test_limit_of_large_temperature_is_mean_pooling_of_the_same_projected_frames(
    temperature, heads, dtype
):
    """The whole method: the plain mean of the values, then the same layers, for every text."""
    text, frames, mask, state = random_inputs()
    method, text, frames, mask = in_precision(
        dtype, loaded(state, heads=heads, temperature=temperature), *tensors(text, frames, mask)
    )
    values = method.cross_attn.v_proj(method.layer_norm1(frames))
    means = torch.stack([v[m].mean(dim=0) for v, m in zip(values, mask, strict=True)])
    expected = tail(method, means).expand(len(text), -1, -1)
    torch.testing.assert_close(method(text, frames, mask), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("heads", [1, 2])
def test_limit_of_small_temperature_is_the_best_frame(heads, dtype):
    """The whole method: each head takes the value of the frame that it prefers at temperature 1."""
    text, frames, mask, state = random_inputs()
    cold, text, frames, mask = in_precision(
        dtype, loaded(state, heads=heads, temperature=1e-7), *tensors(text, frames, mask)
    )
    paper = loaded(state, heads=heads).to(dtype)
    best = paper.attention(text, frames, mask).argmax(-1)  # (text, video, head)
    values = cold.cross_attn.v_proj(cold.layer_norm1(frames)).unflatten(-1, (heads, -1))
    for t in range(len(text)):
        for v in range(len(frames)):
            chosen = [values[v, best[t, v, head], head] for head in range(heads)]
            expected = tail(cold, torch.cat(chosen))
            actual = cold(text, frames, mask)[t, v]
            torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_limits_are_approached_from_both_sides(dtype):
    """Property: the distance to each limit shrinks as the temperature goes there."""
    text, frames, mask, state = random_inputs()

    def at(temperature):
        method, *inputs = in_precision(
            dtype, loaded(state, temperature=temperature), *tensors(text, frames, mask)
        )
        return method(*inputs)

    for limit, towards in ((math.inf, [1.0, 10.0, 100.0, 1e4]), (1e-8, [1.0, 0.1, 0.01, 1e-4])):
        distances = [(at(t) - at(limit)).norm().item() for t in towards]
        assert distances == sorted(distances, reverse=True)
        assert distances[-1] < 0.1 * distances[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("padding", [0, 3])
def test_one_frame_leaves_nothing_to_the_temperature(dtype, padding):
    """With one frame its best frame and its mean are the same, and so is all between."""
    text, frames, _, state = random_inputs(n_frame=1 + padding)
    mask = np.arange(1 + padding) < np.ones((len(frames), 1))
    pooled = []
    for temperature in (1e-7, 0.3, 1.0, 100.0, math.inf):
        method, *inputs = in_precision(
            dtype, loaded(state, temperature=temperature), *tensors(text, frames, mask)
        )
        pooled.append(method(*inputs))
        alone = tail(method, method.cross_attn.v_proj(method.layer_norm1(inputs[1][:, 0])))
        torch.testing.assert_close(pooled[-1], alone.expand(len(text), -1, -1), atol=1e-5, rtol=0)
    for other in pooled[1:]:
        torch.testing.assert_close(other, pooled[0], atol=1e-6, rtol=0)


def test_temperature_divides_the_logits():
    """Property: weights at temperature T are the paper's weights to the power 1/T, rescaled."""
    text, frames, mask, state = random_inputs()
    warm, paper = (
        loaded(state, temperature=t).attention(*tensors(text, frames, mask)) for t in (3.0, 1.0)
    )
    powered = paper ** (1 / 3)
    torch.testing.assert_close(warm, powered / powered.sum(-1, keepdim=True))


def test_no_residual_from_text():
    """Property: one frame leaves no choice, so the text cannot change the pooled video."""
    text, frames, _, state = random_inputs(n_frame=1)
    pooled = loaded(state)(*tensors(text, frames), torch.ones(4, 1, dtype=torch.bool))
    torch.testing.assert_close(pooled, pooled[:1].expand_as(pooled))


def test_dropout_acts_in_training_only():
    text, frames, mask, state = random_inputs()
    method = loaded(state, dropout=0.5)
    inputs = tensors(text, frames, mask)
    plain = loaded(state)(*inputs)
    assert torch.equal(method(*inputs), plain)
    torch.manual_seed(0)
    assert not torch.allclose(method.train()(*inputs), plain)
    torch.nn.init.zeros_(method.linear_proj.weight)
    torch.nn.init.zeros_(method.linear_proj.bias)
    torch.testing.assert_close(method(*inputs), method.eval()(*inputs))  # only the linear branch


def test_inputs_are_not_normalised():
    """Property: LN1's eps shows at unit norm; scaling large inputs hardly matters."""
    text, frames, mask, state = random_inputs()
    text, frames, mask = tensors(text, frames, mask)
    method = loaded(state)
    raw = similarity(method, text, frames, mask)
    short = similarity(method, text * 1e-2, frames * 1e-2, mask)
    assert (raw - short).abs().max() > 1e-4


def test_training_learns_to_choose_the_frame():
    """Smoke: gradients lead somewhere. One frame of each video matches its text."""
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(16, 8, generator=generator)
    frames = torch.randn(16, 4, 8, generator=generator)
    frames[:, 2] = text
    mask = torch.ones(16, 4, dtype=torch.bool)
    method = XPool(8)
    optimiser = torch.optim.AdamW(method.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        scores = 20 * pair_similarity(method, text, frames, mask)
        loss = torch.nn.functional.cross_entropy(scores, torch.arange(16))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 8, "heads": 3}, "heads=3, dim=8"),
        ({"dim": 8, "heads": 0}, "heads=0"),
        ({"dim": 8, "temperature": 0.0}, "temperature"),
        ({"dim": 8, "temperature": -1.0}, "temperature"),
        ({"dim": 8, "temperature": math.nan}, "temperature"),
        ({"dim": 8, "dropout": 1.0}, "dropout"),
    ],
)
def test_constructor_impossible_value_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        XPool(**arguments)
