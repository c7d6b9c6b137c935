"""Properties that every pooling must have, run over each method found on disk (property tests).

A new file in ``baselines/`` is tested without being listed here. A constructor argument without a
default needs a small value in :data:`SMALL`.
"""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

from xpool.pooling import Pooling
from xpool.project.plugins import load
from xpool.similarity import pair_similarity, similarity

TOP = Path(__file__).resolve().parents[1]
DIM, N_TEXT, N_VIDEO, N_FRAME = 16, 7, 5, 6
SMALL = {"dim": DIM, "k": 2, "heads": 4, "layers": 2, "positions": 12, "dropout": 0.3}
# Rounding of float64, with room for sums in another order.
CLOSE = {"atol": 1e-10, "rtol": 0}

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
        method.similarity_pays = lambda text, frames: True
    return method.eval()


@pytest.fixture(params=METHODS)
def method(request):
    return make(request.param)


@pytest.fixture
def inputs():
    return random_inputs()


def random_inputs(n_text=N_TEXT, n_video=N_VIDEO):
    generator = torch.Generator().manual_seed(1)
    text = 3 * torch.randn(n_text, DIM, generator=generator, dtype=torch.float64)
    frames = 3 * torch.randn(n_video, N_FRAME, DIM, generator=generator, dtype=torch.float64)
    count = torch.randint(1, N_FRAME + 1, (n_video, 1), generator=generator)
    return text, frames, torch.arange(N_FRAME) < count


def check_adding_a_video(method, text, frames, mask):
    """Without video i, the other columns are as they were, wherever i stood."""
    whole = similarity(method, text, frames, mask)
    for added in range(len(frames)):
        others = [v for v in range(len(frames)) if v != added]
        fewer = similarity(method, text, frames[others], mask[others])
        torch.testing.assert_close(whole[:, others], fewer, **CLOSE)


def check_permuting_videos(method, text, frames, mask):
    order = torch.randperm(len(frames), generator=torch.Generator().manual_seed(2))
    moved = similarity(method, text, frames[order], mask[order])
    torch.testing.assert_close(moved, similarity(method, text, frames, mask)[:, order], **CLOSE)


def check_permuting_texts(method, text, frames, mask):
    """In one batch: ``similarity`` itself puts texts into an order of its own."""
    order = torch.randperm(len(text), generator=torch.Generator().manual_seed(3))
    moved = pair_similarity(method, text[order], frames, mask)
    torch.testing.assert_close(moved, pair_similarity(method, text, frames, mask)[order], **CLOSE)


def check_pair_alone(method, text, frames, mask):
    """A pair's value does not depend on what else is in the batch."""
    whole = pair_similarity(method, text, frames, mask)
    for v in range(len(frames)):
        t = (3 * v + 1) % len(text)
        alone = pair_similarity(method, text[[t]], frames[[v]], mask[[v]])
        torch.testing.assert_close(alone[0, 0], whole[t, v], **CLOSE)


CHECKS = [check_adding_a_video, check_permuting_videos, check_permuting_texts, check_pair_alone]


def test_methods_found_on_disk():
    assert {"xpool.xpool", "baselines.mean_pool", "baselines.self_attention"} <= set(METHODS)


def test_output_shape(method, inputs):
    assert isinstance(method, Pooling)
    pooled = method(*inputs)
    assert pooled.shape[0] in (1, N_TEXT)
    assert pooled.shape[1:] == (N_VIDEO, DIM)
    assert similarity(method, *inputs).shape == (N_TEXT, N_VIDEO)


@pytest.mark.parametrize("check", CHECKS)
def test_videos_and_texts_do_not_touch_each_other(method, check):
    for n_text, n_video in ((N_TEXT, N_VIDEO), (3, 8), (5, 5)):
        check(method, *random_inputs(n_text, n_video))


@pytest.mark.parametrize("blocks", [(1, 1), (2, 3), (7, 1), (1, 5), (100, 100)])
def test_block_size_does_not_matter(method, inputs, blocks):
    expected = pair_similarity(method, *inputs)
    torch.testing.assert_close(similarity(method, *inputs, blocks=blocks), expected, **CLOSE)


def test_masked_frames_do_not_matter(method, inputs):
    text, frames, mask = inputs
    expected = similarity(method, text, frames, mask)
    for content in (0.0, 1e4, 1e30):
        other = torch.where(mask[..., None], frames, content)
        torch.testing.assert_close(similarity(method, text, other, mask), expected, **CLOSE)


def test_added_padding_does_not_matter(method, inputs):
    text, frames, mask = inputs
    longer = torch.cat([frames, torch.full((N_VIDEO, 3, DIM), 7.0)], dim=1).double()
    mask_of_longer = torch.nn.functional.pad(mask, (0, 3))
    torch.testing.assert_close(
        similarity(method, text, longer, mask_of_longer),
        similarity(method, text, frames, mask),
        **CLOSE,
    )


def test_mask_left_out_means_all_frames_exist(method, inputs):
    text, frames, mask = inputs
    expected = similarity(method, text, frames, torch.ones_like(mask))
    assert torch.equal(similarity(method, text, frames), expected)


@pytest.mark.parametrize("case", ["random", "zero text", "zero frames", "identical frames", "huge"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite(method, inputs, case, dtype):
    text, frames, mask = (tensor.clone() for tensor in inputs)
    if case == "zero text":
        text[2] = 0
    elif case == "zero frames":
        frames[1] = 0
    elif case == "identical frames":
        frames[:] = frames[:, :1]
    elif case == "huge":
        frames[~mask] = 1e30
    method = method.to(dtype).train()
    text, frames = text.to(dtype).requires_grad_(), frames.to(dtype).requires_grad_()
    pair_similarity(method, text, frames, mask).square().sum().backward()
    for tensor in (text, frames, *method.parameters()):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
    assert (frames.grad[~mask] == 0).all()


def test_training_reaches_every_parameter(method, inputs):
    text, frames, mask = inputs
    pair_similarity(method, text.requires_grad_(), frames, mask).square().sum().backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name


def test_eval_is_deterministic(method, inputs):
    assert torch.equal(similarity(method, *inputs), similarity(method, *inputs))


def test_train_mode_differs_by_dropout_only(method, inputs):
    for module in method.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    torch.testing.assert_close(method.train()(*inputs), method.eval()(*inputs), **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(method, inputs, dtype):
    text, frames, mask = inputs
    method = method.to(dtype)
    assert method(text.to(dtype), frames.to(dtype), mask).dtype == dtype
    scores = similarity(method, text.to(dtype), frames.to(dtype), mask)
    assert scores.dtype == dtype
    if dtype == torch.float32:
        double = similarity(method.double(), text, frames, mask)
        torch.testing.assert_close(scores.double(), double, atol=1e-4, rtol=0)


def test_device_is_kept(method, inputs):
    """On torch's shape-only device, where a tensor made on the CPU by mistake would fail."""
    pooled = method.to("meta")(*(tensor.to("meta") for tensor in inputs))
    assert pooled.device.type == "meta"


def test_inputs_are_not_changed(method, inputs):
    copies = [tensor.clone() for tensor in inputs]
    pair_similarity(method, *inputs)
    similarity(method, *inputs)
    assert all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))


def test_state_survives_safetensors(method, inputs, tmp_path):
    from safetensors.torch import load_file, save_file

    expected = similarity(method, *inputs)
    save_file(method.state_dict(), tmp_path / "weights.safetensors")
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.zero_()
    method.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(similarity(method, *inputs), expected)


class OwnCaption(Pooling):
    """A leak as published: each video is pooled with the text of its own index, for all texts."""

    def forward(self, text, frames, mask):
        own = text[torch.arange(len(frames)) % len(text)]
        weights = torch.einsum("vd,vfd->vf", own, frames).masked_fill(~mask, -np.inf).softmax(-1)
        return torch.einsum("vf,vfd->vd", weights, frames)[None]


class BatchCentred(Pooling):
    """Another leak: each video is seen relative to the mean of the gallery."""

    def forward(self, text, frames, mask):
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
