"""A fine-tuning batch and its loss: each video once, the encoder in parts or whole."""

import accelerate
import numpy as np
import pytest
import torch
import worlds
from made_cells import FRAMES, cell
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import xpool.data.frame_cache
from xpool.data import transforms
from xpool.project.seeds import seed_for
from xpool.training.cell import new_model
from xpool.training.data import Batch, EmbeddingData, FrameData
from xpool.training.fit import new_optimizer, update
from xpool.training.loader import on_device
from xpool.training.model import total
from xpool.training.recipes import wants_words

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
    loss = total(model(*batch))
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
        _, mask = data.read(video_id)
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
    frames, _ = data.read(video_id)
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
        torch.arange(len(rows)), once.pairs,
    )  # fmt: skip
    assert_same(*(loss_and_gradients(data, batch, method) for batch in (once, copies)))


@pytest.mark.parametrize(
    "method", ["xpool.xpool", "baselines.self_attention", "baselines.token_max"]
)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 10, 64])
def test_micro_batches_change_neither_loss_nor_gradient(data, rows, method, size, monkeypatch):
    """Oracle: the batch in one piece. Sizes that divide it and that do not, and larger ones."""
    monkeypatch.setattr(data, "_words", wants_words(method))
    batch = data.batch(rows, seed=3)
    found = loss_and_gradients(data, batch, method, micro_batch=size)
    assert_same(found, loss_and_gradients(data, batch, method))


def test_micro_batches_draw_one_dropout_for_both_passes(data, rows):
    """Were the masks of the second pass others, the gradient would not be that of the loss."""
    model = new_model(cell(reads="frames", micro_batch=3), data).double()
    encode = model.towers.encoder.encode_image
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    drop = torch.nn.Dropout(0.5)
    model.towers.encoder.encode_image = lambda images: drop(encode(images.double())) * weight
    batch = data.batch(rows, seed=3)

    def loss():
        torch.manual_seed(0)
        return total(model(*batch))

    loss().backward()
    with torch.no_grad():
        losses = []
        for value in (1 + 1e-6, 1 - 1e-6):
            weight.fill_(value)
            losses.append(loss())
    # central difference: the step's square, and the rounding of a loss near 3 over the step
    assert (losses[0] - losses[1]).item() / 2e-6 == pytest.approx(weight.grad.item(), abs=1e-8)


def test_a_micro_batch_is_all_that_the_encoder_sees_and_keeps_nothing(data, rows):
    seen, kept = {}, {}
    for size in (None, 2):
        model = new_model(cell(reads="frames", micro_batch=size), data)
        encode, images, held = model.towers.encoder.encode_image, [], []

        def notes(pixels, encode=encode, images=images):
            images.append(len(pixels))
            return encode(pixels)

        def holds(tensor, held=held):
            held.append(tensor.nbytes)
            return tensor

        model.towers.encoder.encode_image = notes
        with torch.autograd.graph.saved_tensors_hooks(holds, lambda tensor: tensor):
            loss = total(model(*data.batch(rows, seed=3)))
        loss.backward()
        seen[size], kept[size] = images, sum(held)
    (whole,) = seen[None]
    assert max(seen[2]) == 2 * worlds.FRAMES < whole
    assert sum(seen[2]) == 2 * whole, "each is encoded for the loss, and again for its gradient"
    assert kept[2] < kept[None] / 2, "what is left is the pooling's and the loss's"


@pytest.mark.parametrize("method", ["xpool.xpool", "baselines.self_attention"])
@pytest.mark.parametrize("size", [None, 2])
def test_a_step_reads_nothing_back_from_the_device(data, rows, method, size):
    """On tensors without values, which cannot be read, a step runs to its end."""
    a_cell = cell(method, reads="frames", micro_batch=size)
    model, accelerator = new_model(a_cell, data), accelerate.Accelerator(cpu=True)
    optimizer, batch = new_optimizer(model, a_cell), data.batch(rows, seed=3)
    with FakeTensorMode(allow_non_fake_inputs=True):
        loss = update(model, batch, optimizer, accelerator, a_cell.train)
        with pytest.raises(DataDependentOutputException):
            float(total(loss))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_step_does_not_wait_for_the_gpu(data, rows, precision):
    a_cell = cell(reads="frames", micro_batch=2)
    accelerator = accelerate.Accelerator(mixed_precision=precision)
    model = new_model(a_cell, data).to(accelerator.device)
    model, optimizer = accelerator.prepare(model, new_optimizer(model, a_cell))
    batches = [data.batch(rows, seed) for seed in (3, 4)]
    first, second = on_device(batches, accelerator.device)
    assert torch.equal(second.frames[0].cpu(), batches[1].frames[0])
    update(model, first, optimizer, accelerator, a_cell.train)  # libraries open their handles
    torch.cuda.set_sync_debug_mode("error")
    try:
        update(model, second, optimizer, accelerator, a_cell.train)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_an_epoch_of_embeddings_has_a_bounded_part_in_memory(tmp_path, monkeypatch):
    """Of LSMDC, with 512 dimensions: 2.6 GB of frames, and as much of words."""
    monkeypatch.setattr(xpool.data.frame_cache, "RESIDENT", 1 << 20)
    worlds.write_embeddings(tmp_path / "msvd", (8000, 2, 2), 1)
    size = sum((tmp_path / "msvd" / name).stat().st_size for name in ("frames.npy", "words.bin"))
    assert size > 4 << 20
    data = EmbeddingData(tmp_path / "msvd", cell().train, FRAMES, words=True)
    batches = np.random.default_rng(0).permutation(8000).reshape(-1, 2)[:500]
    for number, rows in enumerate(batches, 1):
        data.batch(rows, 0)
        if number % 83 == 0:  # looking takes as long as many batches
            assert worlds.mapped_kib(tmp_path / "msvd") < 2 << 10
