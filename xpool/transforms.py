"""Pixels as the encoder takes them: batched on the device, one random crop a video.

Source: the official code's transforms (X-Pool, arXiv 2203.15086, section 4.2): training takes
RandomResizedCrop(scale 0.5 to 1, bilinear) and a horizontal flip, shared by all frames of a video;
evaluation takes Resize (bicubic) and CenterCrop.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

CROP_AREA = (0.5, 1.0)
CROP_ASPECT = (3 / 4, 4 / 3)


def resize(pixels: Tensor, height: int, width: int, mode: str, antialias: bool) -> Tensor:
    """``(frame, 3, h, w)`` floats to ``(frame, 3, height, width)``; bicubic overshoot is cut."""
    if pixels.shape[-2:] == (height, width):
        return pixels
    resized = functional.interpolate(
        pixels, (height, width), mode=mode, antialias=antialias, align_corners=False
    )
    return resized.clamp(0, 1)


def evaluation(frames: Tensor, size_px: int, antialias: bool) -> Tensor:
    """``(frame, h, w, 3)`` uint8 of one video to ``(frame, 3, size_px, size_px)`` in [0, 1]."""
    pixels = frames.permute(0, 3, 1, 2).float() / 255
    height, width = pixels.shape[-2:]
    short = min(height, width)
    pixels = resize(
        pixels, size_px * height // short, size_px * width // short, "bicubic", antialias
    )
    # half to even, as torchvision's CenterCrop rounds
    top = round((pixels.shape[-2] - size_px) / 2)
    left = round((pixels.shape[-1] - size_px) / 2)
    return pixels[..., top : top + size_px, left : left + size_px]


def training(frames: Tensor, size_px: int, antialias: bool, generator: torch.Generator) -> Tensor:
    """The same, with one random crop and flip for all frames of the video.

    Args:
        frames: ``(frame, h, w, 3)`` uint8.
        size_px: side of the result.
        antialias: whether shrinking averages (the official code's torchvision did not).
        generator: on the CPU; the only source of chance.
    """
    pixels = frames.permute(0, 3, 1, 2).float() / 255
    top, left, height, width = _crop(pixels.shape[-2], pixels.shape[-1], generator)
    pixels = pixels[..., top : top + height, left : left + width]
    pixels = resize(pixels, size_px, size_px, "bilinear", antialias)
    return pixels.flip(-1) if torch.rand((), generator=generator) < 0.5 else pixels


def _crop(height: int, width: int, generator: torch.Generator) -> tuple[int, int, int, int]:
    """Draw a crop of random area and aspect that fits; after ten misses, the largest that fits."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=generator).item()

    for _ in range(10):
        area = height * width * uniform(*CROP_AREA)
        aspect = math.exp(uniform(math.log(CROP_ASPECT[0]), math.log(CROP_ASPECT[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(torch.randint(height - h + 1, (), generator=generator))
            left = int(torch.randint(width - w + 1, (), generator=generator))
            return top, left, h, w
    w = min(width, round(height * CROP_ASPECT[1]))
    h = min(height, round(width / CROP_ASPECT[0]))
    return (height - h) // 2, (width - w) // 2, h, w
