"""Turn frames into the encoder's pixels, batched on the device.

Source: the official code's transforms (X-Pool, arXiv 2203.15086, section 4.2): training takes
RandomResizedCrop(scale 0.5 to 1, bilinear) and a horizontal flip, shared by all frames of a video;
evaluation takes Resize (bicubic) and CenterCrop.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

CROP_AREA = (0.5, 1.0)
CROP_ASPECT = (3 / 4, 4 / 3)


def resize(pixels: Tensor, height: int, width: int, mode: str, antialias: bool) -> Tensor:
    """Resize ``(frame, 3, h, w)`` to ``(frame, 3, height, width)``, clipped to [0, 1]."""
    if pixels.shape[-2:] == (height, width):
        return pixels
    resized = functional.interpolate(
        pixels, (height, width), mode=mode, antialias=antialias, align_corners=False
    )
    return resized.clamp(0, 1)


def evaluation(frames: Tensor, size_px: int, antialias: bool) -> Tensor:
    """Turn ``(frame, h, w, 3)`` uint8 into ``(frame, 3, size_px, size_px)`` in [0, 1]."""
    pixels = frames.permute(0, 3, 1, 2).float() / 255
    height, width = pixels.shape[-2:]
    short = min(height, width)
    pixels = resize(
        pixels, size_px * height // short, size_px * width // short, "bicubic", antialias
    )
    # rounds half to even, as torchvision's CenterCrop does
    top = round((pixels.shape[-2] - size_px) / 2)
    left = round((pixels.shape[-1] - size_px) / 2)
    return pixels[..., top : top + size_px, left : left + size_px]


class Crop(NamedTuple):
    """The part of all frames of a video that is shown, and whether it is mirrored."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool


def draw_crop(height: int, width: int, generator: torch.Generator) -> Crop:
    """Draw a crop of random area and aspect; after ten that do not fit, take the largest that does.

    Args:
        height: height of the frames.
        width: width of the frames.
        generator: a generator on the CPU, the only source of randomness.
    """
    box = _box(height, width, generator)
    return Crop(*box, mirrored=bool(torch.rand((), generator=generator) < 0.5))


def _box(height: int, width: int, generator: torch.Generator) -> tuple[int, int, int, int]:
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


def cut(videos: Sequence[NDArray[np.uint8]], crops: Sequence[Crop]) -> tuple[Tensor, Tensor]:
    """Cut the crops out of videos of any sizes, to be sent to the device.

    Args:
        videos: each ``(frame, h, w, 3)``, all with the same number of frames.
        crops: one for each video.

    Returns:
        ``(video, frame, height, width, 3)`` uint8, padded to the largest crop, and ``(video, 3)``:
        each crop's height and width, and 1 if it is to be mirrored.
    """
    height, width = max(crop.height for crop in crops), max(crop.width for crop in crops)
    pixels = torch.zeros(len(videos), len(videos[0]), height, width, 3, dtype=torch.uint8)
    for row, (frames, (top, left, h, w, _)) in enumerate(zip(videos, crops, strict=True)):
        part = frames[:, top : top + h, left : left + w]
        pixels[row, :, :h, :w] = torch.from_numpy(np.ascontiguousarray(part))
    shapes = [(crop.height, crop.width, int(crop.mirrored)) for crop in crops]
    return pixels, torch.tensor(shapes)


def training(
    pixels: Tensor,
    shapes: Tensor,
    size_px: int,
    antialias: bool,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Resize and mirror a batch's crops, all videos at once on their device.

    A row of the result is a weighted sum of the crop's rows, with other weights for each video, so
    two batched matrix products resize crops of any sizes. No value is read back to the host.

    Args:
        pixels: as :func:`cut` returns them.
        shapes: as :func:`cut` returns them.
        size_px: height and width of the result.
        antialias: whether shrinking averages pixels (the official code's torchvision did not).
        dtype: type of the products and the result; float16 is off by up to a quarter of a level.

    Returns:
        ``(video, frame, 3, size_px, size_px)`` from 0 to 255.
    """
    n_video, n_frame, height, width, _ = pixels.shape
    rows = _weights(shapes[:, 0], height, size_px, antialias)
    columns = _weights(shapes[:, 1], width, size_px, antialias)
    columns = torch.where(shapes[:, 2, None, None] > 0, columns.flip(1), columns)
    values = pixels.permute(0, 2, 1, 4, 3).contiguous().to(dtype)
    values = rows.to(dtype) @ values.flatten(2)  # (video, size_px, frame * 3 * width)
    values = values.reshape(n_video, -1, width) @ columns.to(dtype).mT
    return values.reshape(n_video, size_px, n_frame, 3, size_px).permute(0, 2, 3, 1, 4)


def _weights(lengths: Tensor, longest: int, size_px: int, antialias: bool) -> Tensor:
    """Return the weight of each pixel of a line in each pixel of the resized line.

    The weights form a triangle around the position of the resized pixel, widened by the factor of
    shrinking if ``antialias`` is true. Scaling them to sum to 1 at the line's ends has the same
    effect as repeating the edge pixel.

    Args:
        lengths: ``(video,)`` length of each video's line in pixels.
        longest: length of the padded line; the padding gets no weight.
        size_px: length of the resized line.
        antialias: whether shrinking averages pixels.

    Returns:
        ``(video, size_px, longest)``.
    """
    scale = lengths[:, None, None] / size_px
    position = (torch.arange(size_px, device=lengths.device)[:, None] + 0.5) * scale
    source = torch.arange(longest, device=lengths.device)
    reach = scale.clamp(min=1) if antialias else 1
    weights = (1 - (source + 0.5 - position).abs() / reach).clamp(min=0)
    weights = weights.masked_fill(source >= lengths[:, None, None], 0)
    return weights / weights.sum(dim=2, keepdim=True)
