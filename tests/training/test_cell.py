"""A cell's model as it starts, in both regimes: its contrastive temperature, and whose it is."""

import dataclasses
import math

import accelerate
import pytest
import torch
import worlds
from made_cells import FRAMES, cell
from safetensors.torch import load_file

from xpool.project import paths
from xpool.training import cell as cells
from xpool.training import fit
from xpool.training.cell import new_model
from xpool.training.data import EmbeddingData, FrameData

OWN_SCALE = {"embeddings": 2.0, "frames": math.log(1 / 0.07)}
"""Logarithms: that of the made-up cache, and that with which CLIP starts its own training."""


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Open the data of both regimes once, as a worker does that runs many trials."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        worlds.write_embeddings(paths.embeddings("mini", "msvd"), videos=(16, 8, 4), captions=2)
        worlds.write_pixels("mini", "msvd")
        train = {reads: cell(reads=reads, batch_size=8).train for reads in OWN_SCALE}
        yield {
            "embeddings": EmbeddingData(
                paths.embeddings("mini", "msvd"), train["embeddings"], FRAMES
            ),
            "frames": FrameData("mini", "msvd", train["frames"], FRAMES),
        }


@pytest.fixture(params=OWN_SCALE)
def reads(request):
    return request.param


def start(opened, reads, temperature="encoder", learn=True):
    made = cell(
        reads=reads, contrastive_temperature=temperature, learn_contrastive_temperature=learn
    )
    return new_model(made, opened[reads])


def scales(opened, reads, folder, epochs=2, **train):
    """Train, and return the logarithms of the selected and of the last step's scale."""
    made = cell(reads=reads, epochs=epochs, batch_size=8, **train)
    folder.mkdir(exist_ok=True)
    finished = fit.fit(made, opened[reads], folder, accelerate.Accelerator(cpu=True))
    (last,) = folder.glob("step-*/model.safetensors")
    name = "towers.logit_scale" if reads == "embeddings" else "towers.encoder.model.logit_scale"
    return [load_file(path)[name] for path in (finished / "checkpoint.safetensors", last)]


@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0, 5.0])
def test_the_temperature_asked_for_is_the_inverse_of_the_scale(opened, reads, temperature):
    scale = start(opened, reads, temperature).towers.logit_scale
    assert scale.exp().item() == pytest.approx(1 / temperature, rel=1e-6)
    assert scale.requires_grad


def test_the_encoders_own_scale_is_the_default_and_learns(opened, reads):
    """With this and what the loop does to it as before, the official protocol is as it was."""
    scale = start(opened, reads).towers.logit_scale
    assert scale.item() == pytest.approx(OWN_SCALE[reads], abs=1e-6)
    assert scale.requires_grad


def test_a_model_leaves_nothing_to_the_next_one_of_the_same_data(opened, reads):
    """A worker trains one after the other: neither a scale nor a weight may be handed on."""
    first = start(opened, reads, temperature=0.5, learn=False)
    with torch.no_grad():
        for value in first.parameters():
            value.add_(1.0)
    again = start(opened, reads)
    assert again.towers.logit_scale.item() == pytest.approx(OWN_SCALE[reads], abs=1e-6)
    assert all(value.requires_grad for value in again.parameters())
    assert not any(
        torch.equal(moved, fresh)
        for moved, fresh in zip(first.parameters(), again.parameters(), strict=True)
    )


def test_gallery_is_embedded_by_the_towers_it_is_given(opened):
    data = opened["frames"]
    towers, other = data.towers(), data.towers()
    with torch.no_grad():
        for value in other.encoder.model.visual.parameters():
            value.add_(0.1)
    before, moved, after = (data.gallery(t, "val") for t in (towers, other, towers))
    assert torch.equal(before.frames, after.frames)
    assert not torch.allclose(before.frames, moved.frames)
    assert torch.equal(before.text, moved.text)


@pytest.mark.parametrize("temperature", ["encoder", 0.3])
def test_a_fixed_temperature_stays_to_the_bit(opened, reads, temperature, tmp_path):
    """Neither gradient nor weight decay (large here) moves it, while all else trains."""
    started = start(opened, reads, temperature, learn=False).towers.logit_scale.detach()
    found = scales(
        opened, reads, tmp_path / "run", weight_decay=50.0,
        contrastive_temperature=temperature, learn_contrastive_temperature=False,
    )  # fmt: skip
    assert all(torch.equal(scale, started) for scale in found)


def test_a_learned_temperature_moves(opened, reads, tmp_path):
    started = start(opened, reads, 0.3).towers.logit_scale.item()
    last = scales(opened, reads, tmp_path / "run", contrastive_temperature=0.3)[1].item()
    assert last != started
    assert abs(last - started) < 1, "a few small steps away from where it was asked to start"


@pytest.mark.parametrize("learn", [True, False])
def test_only_a_learned_scale_is_clamped(opened, reads, learn, tmp_path):
    """The encoder's own scale lies above the bound here; if fixed, it stays there."""
    found = scales(
        opened, reads, tmp_path / "run", max_logit_scale=3.0, learn_contrastive_temperature=learn
    )
    expected = math.log(3) if learn else OWN_SCALE[reads]
    for scale in found:
        assert scale.item() <= expected + 1e-6
        assert learn or scale.item() == pytest.approx(expected, abs=1e-6)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("learn", [True, False])
def test_a_resumed_run_keeps_its_temperature(opened, reads, learn, tmp_path, monkeypatch):
    """The fixed scale has no moments in the optimiser's state, and the others keep their slots."""
    asked = {"contrastive_temperature": 0.2, "learn_contrastive_temperature": learn}
    whole = scales(opened, reads, tmp_path / "whole", **asked)
    kind = type(opened[reads])
    original = kind.batch

    def stops(self, rows, seed):
        if list((tmp_path / "cut").glob("step-*")):
            raise Stopped
        return original(self, rows, seed)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "batch", stops)
        with pytest.raises(Stopped):
            scales(opened, reads, tmp_path / "cut", **asked)
    resumed = scales(opened, reads, tmp_path / "cut", **asked)
    assert all(torch.equal(one, other) for one, other in zip(whole, resumed, strict=True))
    for file in ("checkpoint.safetensors", "curve.csv"):
        one, other = (tmp_path / name / "finished" / file for name in ("whole", "cut"))
        assert one.read_bytes() == other.read_bytes()


PURPOSES = ("init", "order", "dropout")


def drawn(opened, reads, folder, monkeypatch, seed=0, **seeds):
    """Train with a purpose's own seed; return what each purpose drew, and the trained weights."""
    made = dataclasses.replace(
        cell(reads=reads, epochs=2, batch_size=8), seed=seed, seeds={**seeds}
    )
    found = {"init": [], "order": [], "dropout": []}
    build, batch, seeded = cells.build_pooling, type(opened[reads]).batch, fit._seed

    def spied_build(*arguments):
        found["init"].append(torch.initial_seed())
        return build(*arguments)

    def spied_batch(self, rows, seed):
        found["order"].append(rows.tolist())
        found["dropout"].append(("augmentation", seed))
        return batch(self, rows, seed)

    def spied_seed(device, seed):
        found["dropout"].append(("dropout", seed))
        seeded(device, seed)

    folder.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(cells, "build_pooling", spied_build)
        patch.setattr(type(opened[reads]), "batch", spied_batch)
        patch.setattr(fit, "_seed", spied_seed)
        finished = fit.fit(made, opened[reads], folder, accelerate.Accelerator(cpu=True))
    return found, (finished / "checkpoint.safetensors").read_bytes()


@pytest.fixture(scope="module")
def base(opened, tmp_path_factory):
    """What :func:`drawn` returns in each regime where no purpose has a seed of its own."""
    folder = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        return {reads: drawn(opened, reads, folder / reads, patch) for reads in OWN_SCALE}


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_purpose_with_its_own_seed_draws_alone_anew(
    opened, base, reads, purpose, tmp_path, monkeypatch
):
    base, weights = base[reads]
    other, moved = drawn(opened, reads, tmp_path / "other", monkeypatch, **{purpose: 7})
    assert [name for name in PURPOSES if base[name] != other[name]] == [purpose]
    assert (moved != weights) == (purpose != "init"), "X-Pool starts as the identity"


def test_the_purposes_together_are_the_run_of_that_seed(opened, base, reads, tmp_path, monkeypatch):
    """There is nothing else that a seed decides; and the run's own seed, named, changes nothing."""
    seven = drawn(opened, reads, tmp_path / "seven", monkeypatch, seed=7)
    every = drawn(opened, reads, tmp_path / "every", monkeypatch, **dict.fromkeys(PURPOSES, 7))
    named = drawn(opened, reads, tmp_path / "named", monkeypatch, **dict.fromkeys(PURPOSES, 0))
    assert every == seven
    assert named == base[reads]
    assert base[reads] != seven
