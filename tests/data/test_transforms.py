"""Pixels for the encoder against torchvision's transforms, which the official code uses."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms import CenterCrop, InterpolationMode, RandomResizedCrop, Resize

from xpool.data import transforms
from xpool.data.transforms import CROP_AREA, CROP_ASPECT, cut, draw_crop, evaluation

SHAPES = [
    (48, 64), (64, 48), (50, 116), (116, 50), (64, 64), (48, 48), (30, 40), (72, 96),
    (48, 111), (111, 48), (48, 49), (61, 97), (240, 320), (20, 200),
]  # fmt: skip


def noise(height, width, frames=2, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8))


def training(frames, size, antialias, generator):
    """Draw a crop of one video and resize it."""
    crop = draw_crop(*frames.shape[1:3], generator)
    return transforms.training(*cut([frames.numpy()], [crop]), size, antialias)[0] / 255


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [48, 33])
@pytest.mark.parametrize("shape", SHAPES)
def test_evaluation_equals_torchvisions_resize_and_center_crop(shape, size, antialias):
    """Oracle. Bicubic overshoot, which torchvision leaves in floats, is cut as 8-bit images do."""
    frames = noise(*shape)
    pixels = frames.permute(0, 3, 1, 2).float() / 255
    resize = Resize(size, interpolation=InterpolationMode.BICUBIC, antialias=antialias)
    expected = CenterCrop(size)(resize(pixels).clamp(0, 1))
    found = evaluation(frames, size, antialias)
    assert found.shape == (len(frames), 3, size, size)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_evaluation_of_frames_that_fit_is_exact():
    frames = noise(48, 48)
    expected = frames.permute(0, 3, 1, 2).float() / 255
    assert torch.equal(evaluation(frames, 48, True), expected)


def test_antialias_matters_when_shrinking():
    frames = noise(240, 320)
    assert (evaluation(frames, 48, True) - evaluation(frames, 48, False)).abs().max() > 0.1


def ramps(height, width, frames=2):
    """Frames in which a pixel's red is its row, its green its column, its blue the frame."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    made = torch.stack([rows, columns, torch.zeros_like(rows)], dim=-1).to(torch.uint8)
    made = made.repeat(frames, 1, 1, 1)
    made[..., 2] = torch.arange(frames, dtype=torch.uint8)[:, None, None]
    return made


def crop_of(pixels, size):
    """Read top, left, height, width and flip off a crop of ramps (bilinear keeps ramps exact)."""
    first, last = size // 4, 3 * size // 4
    values = pixels[0].double() * 255
    found = []
    for axis, line in ((0, values[0, :, size // 2]), (1, values[1, size // 2, :])):
        slope = (line[last] - line[first]).item() / (last - first)
        start = line[first].item() - (first + 0.5) * slope + 0.5
        extent = slope * size
        if extent < 0:
            start, extent = start + extent, -extent
            assert axis == 1
        found.append((start, extent, slope < 0))
    (top, height, _), (left, width, flipped) = found
    return np.array([top, left, height, width]), flipped


def draws(height, width, count, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    frames = ramps(height, width)
    crops, flips = zip(
        *(crop_of(training(frames, size, False, generator), size) for _ in range(count)),
        strict=True,
    )
    crops = np.stack(crops)
    assert np.abs(crops - crops.round()).max() < 1e-2
    return crops.round().astype(int), np.array(flips)


def test_training_crops_lie_inside_and_keep_area_and_aspect():
    height, width = 60, 80
    crops, flips = draws(height, width, 400)
    top, left, h, w = crops.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + h <= height).all()
    assert (left + w <= width).all()
    area, aspect = h * w / (height * width), w / h
    rounding = 1 / h.min()  # sides are whole pixels
    assert (area >= CROP_AREA[0] - 2 * rounding).all()
    assert (area <= CROP_AREA[1]).all()
    assert (aspect >= CROP_ASPECT[0] * (1 - 2 * rounding)).all()
    assert (aspect <= CROP_ASPECT[1] * (1 + 2 * rounding)).all()
    assert abs(flips.mean() - 0.5) < 4 * 0.5 / math.sqrt(len(flips))


@pytest.mark.parametrize("shape", [(60, 80), (80, 60), (64, 64), (50, 116)])
def test_training_crops_are_distributed_as_torchvisions(shape):
    """Oracle: two-sample Kolmogorov-Smirnov of each number; the seeds are fixed, so no flakes."""
    height, width = shape
    ours, _ = draws(height, width, 600)
    torch.manual_seed(1)
    image = torch.zeros(3, height, width)
    theirs = np.array(
        [RandomResizedCrop.get_params(image, (0.5, 1.0), (3 / 4, 4 / 3)) for _ in range(3000)]
    )
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3
    assert ks_2samp(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(20, 200), (200, 20), (24, 90)])
def test_an_image_in_which_no_crop_fits_gives_the_largest_in_its_middle(shape):
    torch.manual_seed(0)
    image = torch.zeros(3, *shape)
    impossible = (0.999, 1.0)  # never fits in a long image: torchvision's fall-back
    expected = RandomResizedCrop.get_params(image, impossible, (3 / 4, 4 / 3))
    crops, _ = draws(*shape, 20)
    assert tuple(expected) in {tuple(crop) for crop in crops.tolist()}


def test_all_frames_of_a_video_share_crop_and_flip():
    generator = torch.Generator().manual_seed(3)
    for _ in range(10):
        pixels = training(ramps(60, 80, frames=5), 32, True, generator) * 255
        assert torch.equal(pixels[:1, :2].expand(5, -1, -1, -1), pixels[:, :2])
        torch.testing.assert_close(pixels[:, 2].mean((1, 2)), torch.arange(5.0))


def test_the_generator_is_the_only_chance():
    frames = noise(60, 80)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    one, two, other = (
        training(frames, 48, True, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("antialias", [True, False])
def test_a_training_crop_is_resized_as_torchvision_does(antialias):
    """The crop itself is read off ramps drawn with the same generator."""
    size, shape = 32, (60, 80)
    for seed in range(5):
        (top, left, height, width), flipped = crop_of(
            training(ramps(*shape), size, False, torch.Generator().manual_seed(seed)), size
        )
        frames = noise(*shape)
        top, left, height, width = (round(v) for v in (top, left, height, width))
        pixels = frames.permute(0, 3, 1, 2).float() / 255
        cut = pixels[..., top : top + height, left : left + width]
        bilinear = InterpolationMode.BILINEAR
        expected = Resize((size, size), interpolation=bilinear, antialias=antialias)(cut)
        if flipped:
            expected = expected.flip(-1)
        found = training(frames, size, antialias, torch.Generator().manual_seed(seed))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [48, 33, 224])
def test_a_batch_of_crops_is_resized_as_each_alone_by_interpolation(size, antialias):
    """Oracle: torch's own interpolation of each crop by itself."""
    videos = [noise(*shape, seed=seed).numpy() for seed, shape in enumerate(SHAPES)]
    crops = [
        draw_crop(*video.shape[1:3], torch.Generator().manual_seed(seed))
        for seed, video in enumerate(videos)
    ]
    assert {crop.mirrored for crop in crops} == {True, False}
    found = transforms.training(*cut(videos, crops), size, antialias)
    for video, crop, pixels in zip(videos, crops, found, strict=True):
        part = video[:, crop.top :, crop.left :][:, : crop.height, : crop.width]
        part = torch.from_numpy(part).permute(0, 3, 1, 2).float() / 255
        expected = torch.nn.functional.interpolate(
            part, (size, size), mode="bilinear", antialias=antialias, align_corners=False
        )
        expected = expected.flip(-1) if crop.mirrored else expected
        # float32 holds a position near 240 to 2e-5 of a pixel; a level of 8 bits is 4e-3
        torch.testing.assert_close(pixels / 255, expected, rtol=0, atol=2e-5)


def test_float16_errs_by_a_quarter_of_a_level():
    videos = [noise(*shape, seed=seed).numpy() for seed, shape in enumerate(SHAPES)]
    crops = [draw_crop(*video.shape[1:3], torch.Generator().manual_seed(0)) for video in videos]
    exact = transforms.training(*cut(videos, crops), 48, True)
    half = transforms.training(*cut(videos, crops), 48, True, torch.float16)
    assert half.dtype == torch.float16
    assert 0 < (half - exact).abs().max() < 0.25


def test_what_pads_a_crop_reaches_no_pixel():
    videos = [noise(*shape).numpy() for shape in ((48, 64), (90, 100))]
    crops = [transforms.Crop(2, 3, 40, 30, True), transforms.Crop(0, 5, 80, 90, False)]
    pixels, shapes = cut(videos, crops)
    before = transforms.training(pixels, shapes, 32, True)
    pixels[0, :, 40:], pixels[0, :, :, 30:] = 255, 255
    assert torch.equal(transforms.training(pixels, shapes, 32, True), before)


def test_pixels_stay_in_their_range_and_the_frames_untouched():
    frames = ramps(60, 80)
    before = frames.clone()
    for pixels in (
        evaluation(frames, 48, True),
        training(frames, 48, True, torch.Generator().manual_seed(0)),
    ):
        assert pixels.dtype == torch.float32
        assert pixels.min() >= 0
        assert pixels.max() <= 1
    assert torch.equal(frames, before)
