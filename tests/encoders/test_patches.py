"""Patches as a matrix product against the convolution."""

import pytest
import torch
from torch import nn

from xpool.encoders.patches import Patches, multiply_patches


@pytest.mark.parametrize("bias", [True, False])
def test_the_product_equals_the_convolution(bias):
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 10, 4, stride=4, bias=bias).double()
    pixels = torch.randn(5, 3, 12, 20, dtype=torch.float64, requires_grad=True)
    expected = layer(pixels)
    weights = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * weights).sum(), [pixels, *layer.parameters()])
    names = list(layer.state_dict())
    multiply_patches(layer)
    assert isinstance(layer, Patches)
    assert list(layer.state_dict()) == names
    found = layer.product(pixels)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    gradients = torch.autograd.grad((found * weights).sum(), [pixels, *layer.parameters()])
    for gradient, value in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, value, rtol=0, atol=1e-12)
    assert torch.equal(layer(pixels), expected), "on a CPU it stays a convolution"


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 8, 3, stride=2),
        nn.Conv2d(3, 8, 4, stride=4, padding=1),
        nn.Conv2d(4, 8, 4, stride=4, groups=2),
        nn.Conv2d(3, 8, 4, stride=4, dilation=2),
        nn.Conv2d(3, 8, 1),
        nn.Conv2d(3, 8, (4, 2), stride=(4, 2)),
    ],
)
def test_other_convolutions_stay(layer):
    multiply_patches(nn.Sequential(layer))
    assert type(layer) is nn.Conv2d
