"""A fine-tuning batch and its loss: each video once, the encoder in parts or whole."""

import numpy as np
import pytest
import torch
import worlds
from test_train import FRAMES, cell

from xpool import transforms
from xpool.batches import Batch, FrameData
from xpool.cell import new_model
from xpool.seeds import seed_for

VIDEOS, CAPTIONS = 6, 4
EXACT = {"rtol": 1e-9, "atol": 1e-12}
"""Float64: what differs is the order of sums."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("project"))
        worlds.write_pixels("mini", "msvd", videos=(VIDEOS, 1, 1), captions=CAPTIONS)
        yield FrameData("mini", "msvd", cell(reads="frames").train, FRAMES)


@pytest.fixture
def rows():
    """Ten pairs of six videos: some with one caption in the batch, some with more."""
    return np.random.default_rng(1).permutation(VIDEOS * CAPTIONS)[:10]


def loss_and_gradients(data, batch, method="xpool.xpool", **train):
    """Both in float64, but for the pixels: they are resized in float32."""
    torch.manual_seed(0)
    model = new_model(cell(method, reads="frames", **train), data).double()
    encode = model.towers.encoder.encode_image
    model.towers.encoder.encode_image = lambda images: encode(images.double())
    torch.manual_seed(0)  # of dropout
    loss = model(*batch)
    loss.backward()
    return loss, {name: value.grad for name, value in model.named_parameters()}


def assert_same(found, expected):
    torch.testing.assert_close(found[0], expected[0], **EXACT)
    for name, gradient in expected[1].items():
        torch.testing.assert_close(found[1][name], gradient, **EXACT, msg=name)


def test_each_video_is_in_a_batch_once(data, rows):
    batch = data.batch(rows, seed=3)
    ids = data.texts["video_id"].iloc[rows].tolist()
    assert len(batch.mask) == len(batch.frames[0]) == len(set(ids)) < len(rows)
    own = dict(zip(ids, batch.video.tolist(), strict=True))
    assert [own[video_id] for video_id in ids] == batch.video.tolist()
    assert sorted(own.values()) == list(range(len(own)))
    for video_id, row in own.items():
        _, mask = data._read(video_id)
        assert batch.mask[row].tolist() == mask.tolist()


def test_a_video_shows_the_same_crop_in_any_share_of_the_batch(data, rows):
    """Its crop is drawn from the step's seed and its name, so processes that share it agree."""
    pixels, shapes = data.batch(rows, seed=3).frames
    (alone, shape), video = data.batch(rows[-1:], seed=3).frames, data.batch(rows, 3).video[-1]
    assert torch.equal(shapes[video], shape[0])
    height, width, _ = shape[0]
    assert torch.equal(pixels[video][:, :height, :width], alone[0])
    assert not torch.equal(data.batch(rows, seed=4).frames[1], shapes)


def test_pixels_are_the_crop_that_the_seed_draws(data, rows):
    video_id = str(data.texts["video_id"].iat[rows[0]])
    frames, _ = data._read(video_id)
    chance = torch.Generator().manual_seed(seed_for("augment", 3, video_id))
    top, left, height, width, _ = transforms.draw_crop(*frames.shape[1:3], chance)
    pixels = data.batch(rows[:1], seed=3).frames[0]
    assert pixels.dtype == torch.uint8
    assert np.array_equal(pixels[0], frames[:, top : top + height, left : left + width])


@pytest.mark.parametrize("method", ["xpool.xpool", "baselines.mean_pool"])
def test_encoding_a_video_once_changes_neither_loss_nor_gradient(data, rows, method):
    """Oracle: the same pairs, each with its own copy of its video."""
    once = data.batch(rows, seed=3)
    copies = Batch(
        once.text, tuple(part[once.video] for part in once.frames), once.mask[once.video],
        torch.arange(len(rows)),
    )  # fmt: skip
    assert_same(*(loss_and_gradients(data, batch, method) for batch in (once, copies)))
