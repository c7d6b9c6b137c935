"""The first layer of a vision transformer, computed as one matrix product."""

from torch import Tensor, nn
from torch.nn import functional


class Patches(nn.Conv2d):
    """A convolution over patches that do not overlap, which on a GPU is one matrix product.

    For ViT-B/32 in bfloat16 cuDNN takes 16 times as long, a tenth of a training step
    (``docs/running/performance.md``). On a CPU it stays a convolution.
    """

    def forward(self, pixels: Tensor) -> Tensor:
        """``(image, channel, height, width)`` to ``(image, dim, rows, columns)`` of patches."""
        return self.product(pixels) if pixels.is_cuda else super().forward(pixels)

    def product(self, pixels: Tensor) -> Tensor:
        """Return the convolution's result for images that consist of whole patches."""
        height, width = self.kernel_size
        patches = pixels.unfold(2, height, height).unfold(3, width, width)
        patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(3)
        return functional.linear(patches, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


def multiply_patches(tower: nn.Module) -> None:
    """Turn a tower's convolutions over patches into :class:`Patches`, in place.

    The weights keep their names.
    """
    for layer in tower.modules():
        if type(layer) is nn.Conv2d and _has_patches(layer):
            layer.__class__ = Patches


def _has_patches(layer: nn.Conv2d) -> bool:
    side = layer.kernel_size[0]
    geometry = layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups
    return side > 1 and geometry == ((side, side), (side, side), (0, 0), (1, 1), 1)
