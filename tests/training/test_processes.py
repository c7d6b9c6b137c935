"""Several processes train and evaluate as one does, also where they do not divide a batch."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import accelerate
import numpy as np
import pandas as pd
import pytest
import torch
import worlds
from made_cells import FRAMES, cell
from safetensors.torch import load_file, save_file

from xpool.encoders.processes import part_of
from xpool.project.paths import TOP
from xpool.training import fit
from xpool.training.cell import new_model
from xpool.training.data import EmbeddingData, FrameData
from xpool.training.loader import Order, _Batches
from xpool.training.model import total
from xpool.training.recipes import wants_words

PAIRS = 23
"""Training pairs: with 8 a batch, neither the whole batches nor the last one divide by 3."""


@pytest.mark.parametrize("world", range(1, 8))
@pytest.mark.parametrize("count", [1, 2, 5, 32])
def test_parts_hold_each_row_in_order_and_have_one_length(count, world):
    parts = [part_of(count, rank, world) for rank in range(world)]
    assert np.concatenate(parts)[:count].tolist() == list(range(count))
    assert all(len(one) == len(other) for one, other in pairwise(parts))
    assert len(parts[0]) == int(np.ceil(count / world)), "more is filled up than need be"


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_no_pair_of_an_epoch_is_lost(world, tmp_path):
    """Oracle: the training rows, each once. 100 pairs in batches of 32, of which three made 93."""
    worlds.write_embeddings(tmp_path / "msvd", videos=(100, 1, 1), captions=1)
    data = EmbeddingData(tmp_path / "msvd", cell().train, FRAMES)
    rows = np.arange(100)
    order = Order(rows=rows, epochs=1, batch_size=32, evaluations_per_epoch=1, seed=0)
    seen = []
    for step in range(order.steps):
        parts = [_Batches(data, order, 0, 0, rank, world)[step] for rank in range(world)]
        (pairs,) = {batch.pairs for batch in parts}
        seen += list(torch.cat([batch.text for batch in parts])[:pairs])
    texts = [tuple(text.tolist()) for text in seen]
    assert sorted(texts) == sorted(tuple(text.tolist()) for text in data._cache.text[rows])
    assert [tuple(t.tolist()) for t in data._cache.text[order.batch_rows(0)]] == texts[:32]


CASES = {
    "embeddings": ("embeddings", "xpool.xpool"),
    "frames": ("frames", "xpool.xpool"),
    "words": ("embeddings", "baselines.token_max"),
    "words of frames": ("frames", "baselines.token_max"),
}
"""What is trained: the regime and the method."""


def trained(folder):
    """In any number of processes: train each case, take one step's gradient, embed a split.

    The main process writes all that into ``folder``.
    """
    accelerator = accelerate.Accelerator()
    for name, (reads, method) in CASES.items():
        a_cell = cell(method, reads=reads, epochs=1, batch_size=8, evaluations_per_epoch=1)
        words = wants_words(method)
        source = Path("data/mini/embeddings/msvd")
        frozen = reads == "embeddings"
        data = (
            EmbeddingData(source, a_cell.train, FRAMES, words) if frozen
            else FrameData("mini", "msvd", a_cell.train, FRAMES, words)
        )  # fmt: skip
        work = folder / name
        work.mkdir(parents=True, exist_ok=True)
        fit.fit(a_cell, data, work, accelerator)
        model = new_model(a_cell, data)
        wrapped = accelerator.prepare(model)
        order = fit._order(a_cell, data)
        batches = _Batches(
            data, order, 0, 0, accelerator.process_index, accelerator.num_processes
        )  # fmt: skip
        torch.manual_seed(0)
        loss = total(wrapped(*batches[2]))  # the last batch: 7 pairs
        accelerator.backward(loss)
        with torch.no_grad():
            gallery = data.gallery(model.eval().towers, "val")
        if accelerator.is_main_process:
            gradients = {name: value.grad for name, value in model.named_parameters()}
            found = {"loss": loss.detach()[None]} | gradients
            if gallery.words:
                found |= {"words": gallery.words.values, "counts": gallery.words.count}
            found |= {"texts": gallery.text, "videos": gallery.frames, "masks": gallery.mask}
            save_file({k: v.contiguous() for k, v in found.items()}, work / "step.safetensors")
            (work / "world.json").write_text(json.dumps(accelerator.num_processes))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # an odd number of gallery videos, whose captions are not shared
        worlds.write_embeddings(Path("data/mini/embeddings/msvd"), (PAIRS, 7, 4), captions=1)
        worlds.write_pixels("mini", "msvd", videos=(PAIRS, 7, 4))
    return folder


@pytest.fixture(scope="module")
def alone(project):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        trained(project / "alone")
    return project / "alone"


TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node=2")
LAUNCH = (
    "accelerate.commands.launch", "--multi_gpu", "--num_processes=3", "--num_machines=1",
    "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("world", "launcher"), [(2, TORCHRUN), (3, LAUNCH)])
def test_any_number_of_processes_gives_what_one_gives(world, launcher, project, alone):
    """Loss, gradients, gallery, curve and trained weights, to float rounding."""
    folder = project / f"by{world}"
    done = subprocess.run(
        [sys.executable, "-m", *launcher, __file__, folder], cwd=project, timeout=300, check=False,
        capture_output=True, text=True,
        env=os.environ | {
            "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true",
            "PYTHONPATH": os.pathsep.join([str(TOP), str(TOP / "tests")]),
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    for case in CASES:
        assert json.loads((folder / case / "world.json").read_text()) == world
        one, several = (f / case / "step.safetensors" for f in (alone, folder))
        # a gradient is off by what rounding of the others' sum moves; weights by Adam's first steps
        assert_same(load_file(one), load_file(several), atol=2e-6, rtol=1e-4)
        one, several = (f / case / "finished" for f in (alone, folder))
        checkpoints = (load_file(f / "checkpoint.safetensors") for f in (one, several))
        assert_same(*checkpoints, atol=2e-5, rtol=2e-4)
        curves = [pd.read_csv(f / "curve.csv") for f in (one, several)]
        assert curves[0]["loss"].tolist() == pytest.approx(curves[1]["loss"].tolist(), rel=1e-5)
        evaluated = [pd.read_csv(f / "evaluations.csv") for f in (one, several)]
        pd.testing.assert_frame_equal(*evaluated)


def assert_same(one, other, atol, rtol):
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, atol=atol, rtol=rtol, msg=name)


@pytest.mark.slow
def test_a_launcher_that_starts_one_process_is_named(tmp_path):
    """``accelerate launch --cpu`` starts one process, however many it is asked for."""
    script = tmp_path / "script.py"
    script.write_text(
        "import logging\nlogging.basicConfig()\nfrom made_cells import cell\n"
        "from xpool.training.fit import new_accelerator\n"
        "print(new_accelerator(cell().train).num_processes)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes=2",
         "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", script],
        cwd=tmp_path, timeout=200, check=False, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TOP), str(TOP / "tests")])},
    )  # fmt: skip
    assert done.stdout.strip() == "1", done.stderr
    assert "asked for several processes and started one" in done.stderr
    assert "torchrun --nproc-per-node" in done.stderr


if __name__ == "__main__":
    torch.set_num_threads(1)
    trained(Path(sys.argv[1]))
    torch.distributed.destroy_process_group()
