"""Properties that every method must have, run over each one found on disk (property tests).

A new file in ``baselines/`` is tested without being listed here. A constructor argument without a
default needs a small value in :data:`SMALL`.
"""

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_inputs import Largest

from xpool.blocks.words import Words
from xpool.pooling import Method, Pooling
from xpool.project.plugins import load
from xpool.similarity import pair_losses, pair_similarity, similarity
from xpool.training.optimisation import symmetric_contrastive

TOP = Path(__file__).resolve().parents[1]
DIM, N_TEXT, N_VIDEO, N_FRAME, N_WORD = 16, 7, 5, 6, 5
SMALL = {
    "dim": DIM,
    "k": 2,
    "heads": 4,
    "layers": 2,
    "positions": 12,
    "dropout": 0.3,
    "words": 12,
    "cdcr": 0.1,
    "frames": N_FRAME,
}
# Rounding of float64, with room for sums in another order.
CLOSE = {"atol": 1e-10, "rtol": 0}

SAMPLES_IN_TRAINING = {"baselines.tmass"}
"""Methods that see a random text in training, and a fixed set of them in evaluation."""

# X-Pool scored by its own ``similarity``, which for so few texts it would not choose.
FACTORISED = "xpool.xpool factorised"

METHODS = [
    *(
        f"baselines.{file.stem}"
        for file in sorted((TOP / "baselines").glob("*.py"))
        if file.stem != "__init__"
    ),
    "xpool.xpool",
    FACTORISED,
]


def make(path):
    path, _, factorised = path.partition(" ")
    kind = load(path, "METHOD")
    arguments = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        if name in SMALL:
            arguments[name] = SMALL[name]
        elif parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            assert parameter.default is not parameter.empty, (
                f"{path}: give a small value for {name} in SMALL"
            )
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    method = kind(**arguments).double()
    with torch.no_grad():  # away from the initial weights, which are too regular to test with
        for parameter in method.parameters():
            parameter += 0.1 * torch.randn(
                parameter.shape, generator=generator, dtype=torch.float64
            )
    if factorised:
        method.factorised_pays = lambda text, frames: True
    return method.eval()


@pytest.fixture(params=METHODS)
def method(request):
    return make(request.param)


@pytest.fixture
def inputs():
    return random_inputs()


def random_inputs(n_text=N_TEXT, n_video=N_VIDEO):
    """Text, frames, mask and words, as ``similarity`` takes them."""
    generator = torch.Generator().manual_seed(1)
    text = 3 * torch.randn(n_text, DIM, generator=generator, dtype=torch.float64)
    frames = 3 * torch.randn(n_video, N_FRAME, DIM, generator=generator, dtype=torch.float64)
    count = torch.randint(1, N_FRAME + 1, (n_video, 1), generator=generator)
    words = torch.randint(1, N_WORD + 1, (n_text,), generator=generator)
    values = 3 * torch.randn(int(words.sum()), DIM, generator=generator, dtype=torch.float64)
    return text, frames, torch.arange(N_FRAME) < count, Words.of(values, words)


def batch(method, text, frames, mask, words):
    """The same as ``pair_similarity`` takes them."""
    return text, frames, mask, *(words.padded() if method.wants_words else ())


def scored(method, *inputs):
    return pair_similarity(method, *batch(method, *inputs))


def contrast(scores):
    return symmetric_contrastive(scores, scores.new_tensor(1.0))


def total(method, *inputs):
    """A loss that all that a method computes has a part in; needs as many texts as videos."""
    own = pair_losses(method, contrast, *batch(method, *inputs))
    return scored(method, *inputs).square().sum() + sum(own.values())


def check_adding_a_video(method, text, frames, mask, words):
    """Without video i, the other columns are as they were, wherever i stood."""
    whole = similarity(method, text, frames, mask, words)
    for added in range(len(frames)):
        others = [v for v in range(len(frames)) if v != added]
        fewer = similarity(method, text, frames[others], mask[others], words)
        torch.testing.assert_close(whole[:, others], fewer, **CLOSE)


def check_permuting_videos(method, text, frames, mask, words):
    order = torch.randperm(len(frames), generator=torch.Generator().manual_seed(2))
    moved = similarity(method, text, frames[order], mask[order], words)
    whole = similarity(method, text, frames, mask, words)
    torch.testing.assert_close(moved, whole[:, order], **CLOSE)


def check_permuting_texts(method, text, frames, mask, words):
    """In one batch: ``similarity`` itself puts texts into an order of its own."""
    order = torch.randperm(len(text), generator=torch.Generator().manual_seed(3))
    moved = scored(method, text[order], frames, mask, words[order])
    torch.testing.assert_close(moved, scored(method, text, frames, mask, words)[order], **CLOSE)


def check_pair_alone(method, text, frames, mask, words):
    """A pair's value does not depend on what else is in the batch."""
    whole = scored(method, text, frames, mask, words)
    for v in range(len(frames)):
        t = torch.tensor([(3 * v + 1) % len(text)])
        alone = scored(method, text[t], frames[[v]], mask[[v]], words[t])
        torch.testing.assert_close(alone[0, 0], whole[t[0], v], **CLOSE)


CHECKS = [check_adding_a_video, check_permuting_videos, check_permuting_texts, check_pair_alone]


def test_methods_found_on_disk():
    assert {"xpool.xpool", "baselines.mean_pool", "baselines.self_attention"} <= set(METHODS)


def test_output_shape(method, inputs):
    assert isinstance(method, Method)
    assert similarity(method, *inputs).shape == (N_TEXT, N_VIDEO)
    if isinstance(method, Pooling):
        pooled = method.pool(*batch(method, *inputs))
        agnostic = method.family == "text-agnostic"
        assert pooled.shape == (1 if agnostic else N_TEXT, N_VIDEO, DIM)
    else:
        assert method.family in {"text-conditioned", "late interaction"}


@pytest.mark.parametrize("check", CHECKS)
def test_videos_and_texts_do_not_touch_each_other(method, check):
    for n_text, n_video in ((N_TEXT, N_VIDEO), (3, 8), (5, 5)):
        check(method, *random_inputs(n_text, n_video))


@pytest.mark.parametrize("blocks", [(1, 1), (2, 3), (7, 1), (1, 5), (100, 100)])
def test_block_size_does_not_matter(method, inputs, blocks):
    expected = scored(method, *inputs)
    actual = similarity(method, *inputs, blocks=blocks, scorer="direct")
    torch.testing.assert_close(actual, expected, **CLOSE)


def test_factorised_form_is_the_direct_one(method):
    if not hasattr(method, "factorised"):
        pytest.skip("has no factorised form")
    for n_text, n_video in ((N_TEXT, N_VIDEO), (1, 3), (9, 1)):
        inputs = random_inputs(n_text, n_video)
        direct, factorised = (
            similarity(method, *inputs, scorer=form) for form in ("direct", "factorised")
        )
        torch.testing.assert_close(factorised, direct, **CLOSE)


def test_masked_frames_do_not_matter(method, inputs):
    text, frames, mask, words = inputs
    expected = similarity(method, *inputs)
    for content in (0.0, 1e4, 1e30):
        other = torch.where(mask[..., None], frames, content)
        torch.testing.assert_close(similarity(method, text, other, mask, words), expected, **CLOSE)


def test_added_padding_does_not_matter(method, inputs):
    text, frames, mask, words = inputs
    longer = torch.cat([frames, torch.full((N_VIDEO, 3, DIM), 7.0)], dim=1).double()
    mask_of_longer = torch.nn.functional.pad(mask, (0, 3))
    torch.testing.assert_close(
        similarity(method, text, longer, mask_of_longer, words),
        similarity(method, *inputs),
        **CLOSE,
    )


def test_padding_of_words_does_not_matter(method, inputs):
    if not method.wants_words:
        return
    text, frames, mask, words = inputs
    expected = scored(method, *inputs)
    for content in (0.0, 1e4, 1e30):
        values, exists = words.padded(N_WORD + 3)
        values = torch.where(exists[..., None], values, content)
        actual = pair_similarity(method, text, frames, mask, values, exists)
        torch.testing.assert_close(actual, expected, **CLOSE)


def test_mask_left_out_means_all_frames_exist(method, inputs):
    text, frames, mask, words = inputs
    expected = similarity(method, text, frames, torch.ones_like(mask), words)
    assert torch.equal(similarity(method, text, frames, words=words), expected)


@pytest.mark.parametrize("case", ["random", "zero text", "zero frames", "identical frames", "huge"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite(method, case, dtype):
    text, frames, mask, words = random_inputs(N_VIDEO, N_VIDEO)
    if case == "zero text":
        text[2] = 0
        words.values[words.start[2] : words.start[2] + words.count[2]] = 0
    elif case == "zero frames":
        frames[1] = 0
    elif case == "identical frames":
        frames[:] = frames[:, :1]
    elif case == "huge":
        frames[~mask] = 1e30
    method = method.to(dtype).train()
    text, frames = text.to(dtype).requires_grad_(), frames.to(dtype).requires_grad_()
    words = replace(words, values=words.values.to(dtype).requires_grad_())
    total(method, text, frames, mask, words).backward()
    for tensor in (text, frames, *method.parameters()):
        assert tensor.grad is not None or (tensor is text and method.wants_words)
        assert tensor.grad is None or torch.isfinite(tensor.grad).all()
    if method.wants_words:
        assert torch.isfinite(words.values.grad).all()
    assert (frames.grad[~mask] == 0).all()


def test_training_reaches_every_parameter(method):
    text, frames, *others = random_inputs(N_VIDEO, N_VIDEO)
    total(method, text, frames.requires_grad_(), *others).backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name


def test_eval_is_deterministic(method, inputs):
    assert torch.equal(similarity(method, *inputs), similarity(method, *inputs))


def test_train_mode_differs_by_dropout_only(method, inputs, request):
    if request.node.callspec.params["method"] in SAMPLES_IN_TRAINING:
        return
    for module in method.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    expected = scored(method.eval(), *inputs)
    torch.testing.assert_close(scored(method.train(), *inputs), expected, **CLOSE)


def test_training_draws_from_torchs_generator_alone(method, inputs):
    """So that a resumed run, and each process of several, draws the same."""
    method.train()
    drawn = []
    for _ in range(2):
        torch.manual_seed(4)
        drawn.append(scored(method, *inputs))
    assert torch.equal(*drawn)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(method, inputs, dtype):
    text, frames, mask, words = inputs
    method = method.to(dtype)
    cast = replace(words, values=words.values.to(dtype))
    assert scored(method, text.to(dtype), frames.to(dtype), mask, cast).dtype == dtype
    scores = similarity(method, text.to(dtype), frames.to(dtype), mask, cast)
    assert scores.dtype == dtype
    if dtype == torch.float32:
        double = similarity(method.double(), *inputs)
        torch.testing.assert_close(scores.double(), double, atol=1e-4, rtol=0)


def test_device_is_kept(method, inputs):
    """On torch's shape-only device, where a tensor made on the CPU by mistake would fail."""
    there = [tensor.to("meta") for tensor in batch(method, *inputs)]
    assert method.to("meta").similarity(*there).device.type == "meta"


def test_inputs_are_not_changed(method, inputs):
    given = [*inputs[:3], inputs[3].values]
    copies = [tensor.clone() for tensor in given]
    scored(method, *inputs)
    similarity(method, *inputs)
    assert all(torch.equal(a, b) for a, b in zip(given, copies, strict=True))


def test_state_survives_safetensors(method, inputs, tmp_path):
    from safetensors.torch import load_file, save_file

    expected = similarity(method, *inputs)
    save_file(method.state_dict(), tmp_path / "weights.safetensors")
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.zero_()
    method.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(similarity(method, *inputs), expected)


def test_stated_memory_holds_what_a_tile_takes(method):
    """``numbers_per_pair`` bounds the largest tensor that scoring makes for a tile of pairs."""
    text, frames, mask, words = random_inputs(40, 30)

    with torch.no_grad(), Largest() as watched:
        scored(method, text, frames, mask, words)
    longest = int(words.count.max()) if method.wants_words else 0
    weights = sum(parameter.numel() for parameter in method.parameters())
    shared = 4 * max(frames.numel(), words.values.numel(), weights)
    assert watched.numel <= 40 * 30 * method.numbers_per_pair(longest, N_FRAME, DIM) + shared


class OwnCaption(Pooling):
    """A leak as published: each video is pooled with the text of its own index, for all texts."""

    family = "text-agnostic"

    def pool(self, text, frames, mask):
        own = text[torch.arange(len(frames)) % len(text)]
        weights = torch.einsum("vd,vfd->vf", own, frames).masked_fill(~mask, -np.inf).softmax(-1)
        return torch.einsum("vf,vfd->vd", weights, frames)[None]


class BatchCentred(Pooling):
    """Another leak: each video is seen relative to the mean of the gallery."""

    family = "text-agnostic"

    def pool(self, text, frames, mask):
        pooled = (frames * mask[..., None]).sum(1)
        return (pooled - pooled.mean(dim=0))[None]


@pytest.mark.parametrize(
    ("leak", "check"),
    [
        (OwnCaption, check_adding_a_video),
        (OwnCaption, check_permuting_videos),
        (OwnCaption, check_permuting_texts),
        (OwnCaption, check_pair_alone),
        (BatchCentred, check_adding_a_video),
        (BatchCentred, check_pair_alone),
    ],
)
def test_leaky_pooling_is_caught(leak, check):
    """Negative control: the checks above can fail."""
    for n_text, n_video in ((N_TEXT, N_VIDEO), (5, 5)):
        with pytest.raises(AssertionError, match="not close"):
            check(leak(), *random_inputs(n_text, n_video))
