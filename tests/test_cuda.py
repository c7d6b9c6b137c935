"""The fast paths on a GPU against the same on the CPU in float64; skipped where there is none."""

import accelerate
import pytest
import torch
from hypothesis import given, settings
from made_inputs import SHAPES, made

from baselines.mean_pool import MeanPool
from xpool.blocks.factorised import similarity as factorised
from xpool.data import transforms
from xpool.similarity import pair_similarity, similarity, top_k

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def scored(method, text, frames, mask, dtype=torch.float64, device="cpu", **options):
    method = method.to(device, dtype)
    return (
        similarity(
            method, text.to(device, dtype), frames.to(device, dtype), mask.to(device), **options
        )
        .double()
        .cpu()
    )


@given(**SHAPES)
@settings(max_examples=60, deadline=None)
def test_both_forms_equal_the_cpus_direct_form(
    seed, n_text, n_video, n_frame, width, heads, temperature
):
    inputs = made(seed, n_text, n_video, n_frame, max(2, width) * heads, heads, temperature)
    expected = scored(*inputs, scorer="direct")
    for scorer in ("direct", "factorised"):
        actual = scored(*inputs, device="cuda", scorer=scorer)
        torch.testing.assert_close(actual, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("heads", [1, 4])
def test_float32_has_the_precision_of_float32(heads):
    """Products are not rounded to TF32, which would be a thousand times coarser."""
    inputs = made(0, 200, 100, 12, 256, heads, noise=0.05)
    expected = scored(*inputs, scorer="direct")
    for scorer in ("direct", "factorised"):
        actual = scored(*inputs, dtype=torch.float32, device="cuda", scorer=scorer)
        assert (actual - expected).abs().max() < 2e-6


def test_tiles_change_only_rounding():
    method, text, frames, mask = made(0, 150, 90, 6, 32)
    moved = method.cuda(), text.cuda(), frames.cuda(), mask.cuda()
    whole = factorised(*moved)
    for memory_mib in (0.01, 0.3):
        tiles = factorised(*moved, memory_mib=memory_mib)
        torch.testing.assert_close(tiles, whole, atol=1e-12, rtol=0)


def test_top_k_of_a_gallery_in_blocks():
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(20, 16, generator=generator, dtype=torch.float64).cuda()
    frames = torch.randn(70, 5, 16, generator=generator, dtype=torch.float64).cuda()
    scores = similarity(MeanPool().cuda(), text, frames)
    best = torch.topk(scores, 4, dim=1)
    exists = torch.ones(frames.shape[:2], dtype=torch.bool, device="cuda")
    blocks = zip(frames.split(32), exists.split(32), strict=True)
    values, videos = top_k(MeanPool().cuda(), text, blocks, 4)
    assert torch.equal(videos, best.indices)
    torch.testing.assert_close(values, best.values, atol=1e-12, rtol=0)


@pytest.mark.parametrize("antialias", [True, False])
def test_augmentation_equals_the_cpus(antialias):
    generator = torch.Generator().manual_seed(0)
    videos = [
        torch.randint(256, (3, h, w, 3), generator=generator, dtype=torch.uint8).numpy()
        for h, w in ((40, 60), (70, 50))
    ]
    crops = [transforms.draw_crop(*video.shape[1:3], generator) for video in videos]
    cut = transforms.cut(videos, crops)
    expected = transforms.training(*cut, 32, antialias)
    actual = transforms.training(*(part.cuda() for part in cut), 32, antialias)
    torch.testing.assert_close(actual.cpu(), expected, atol=1e-3, rtol=0)  # of a level


def test_the_loss_stays_float32_under_autocast():
    method, text, frames, mask = made(0, 8, 8, 4, 32)
    expected = pair_similarity(method, text, frames, mask)
    accelerator = accelerate.Accelerator(mixed_precision="bf16")
    with accelerator.autocast():
        actual = pair_similarity(
            method.float().cuda(), text.float().cuda(), frames.float().cuda(), mask.cuda()
        )
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double().cpu(), expected, atol=1e-5, rtol=0)
