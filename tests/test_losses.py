"""The contrastive loss against slow loops in float64, and against open_clip's."""

import math

import pytest
import torch
from open_clip.loss import ClipLoss
from torch.nn import functional

from xpool.losses import symmetric_contrastive


def slow(similarity, log_scale):
    n = len(similarity)
    total = 0.0
    for i in range(n):
        row = [similarity[i][j] * math.exp(log_scale) for j in range(n)]
        column = [similarity[j][i] * math.exp(log_scale) for j in range(n)]
        for logits in (row, column):
            most = max(logits)
            total += most + math.log(sum(math.exp(v - most) for v in logits)) - logits[i]
    return total / (2 * n)


@pytest.mark.parametrize("size", [1, 2, 5, 32])
@pytest.mark.parametrize("log_scale", [-1.0, 0.0, 2.66, math.log(100)])
def test_loss_equals_slow_loops(size, log_scale):
    rng = torch.Generator().manual_seed(size)
    similarity = 2 * torch.rand(size, size, generator=rng, dtype=torch.float64) - 1
    found = symmetric_contrastive(similarity, torch.tensor(log_scale, dtype=torch.float64))
    assert found.item() == pytest.approx(slow(similarity.tolist(), log_scale), rel=1e-12, abs=1e-12)


def test_loss_and_gradients_equal_open_clips():
    rng = torch.Generator().manual_seed(0)
    log_scale = torch.tensor(2.66, requires_grad=True)
    text, image = (torch.randn(16, 8, generator=rng).requires_grad_() for _ in range(2))

    def units():
        return functional.normalize(text, dim=-1), functional.normalize(image, dim=-1)

    unit_text, unit_image = units()
    ours = symmetric_contrastive(unit_text @ unit_image.T, log_scale)
    gradients = torch.autograd.grad(ours, [text, image, log_scale])
    unit_text, unit_image = units()
    theirs = ClipLoss()(unit_image, unit_text, log_scale.exp())
    torch.testing.assert_close(ours, theirs)
    expected = torch.autograd.grad(theirs, [text, image, log_scale])
    for mine, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_equal_similarities_give_the_loss_of_guessing():
    assert symmetric_contrastive(torch.ones(8, 8), torch.tensor(4.6)).item() == pytest.approx(
        math.log(8)
    )


def test_texts_and_videos_may_change_places():
    similarity = torch.rand(6, 6, generator=torch.Generator().manual_seed(1))
    scale = torch.tensor(3.0)
    torch.testing.assert_close(
        symmetric_contrastive(similarity, scale), symmetric_contrastive(similarity.T, scale)
    )
