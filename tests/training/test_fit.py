"""The training loop: what it learns, what it selects, and that a killed run ends the same."""

import filecmp
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import accelerate
import numpy as np
import pandas as pd
import pytest
import torch
import worlds
from made_cells import FRAMES, POOLINGS, TRAIN, cell, fitted
from safetensors.torch import load_file

from xpool.project.errors import InputError
from xpool.project.provenance import environment
from xpool.training import fit
from xpool.training.cell import new_model
from xpool.training.data import EmbeddingData
from xpool.training.loader import Order
from xpool.training.recipes import TrainParams, wants_words


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "msvd"
    worlds.write_embeddings(folder)
    return folder


@pytest.fixture(scope="module")
def whole(embeddings, tmp_path_factory):
    """An undisturbed run of each method."""
    folder = tmp_path_factory.mktemp("whole")
    return {method: fitted(cell(method), embeddings, folder / method) for method in POOLINGS}


def same_files(one: Path, other: Path):
    """Whether two finished runs hold the same bytes, file by file."""
    names = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(other) for p in other.rglob("*") if p.is_file())
    return [n for n in names if not filecmp.cmp(one / n, other / n, shallow=False)] == []


@pytest.mark.parametrize("method", POOLINGS)
def test_training_lowers_the_loss_and_writes_all_outputs(method, embeddings, tmp_path):
    finished = fitted(cell(method, epochs=4), embeddings, tmp_path)
    curve = pd.read_csv(finished / "curve.csv")
    assert len(curve) == 8
    assert curve["loss"].iloc[-1] < curve["loss"].iloc[0]
    assert {path.name for path in finished.iterdir()} == set(fit.TRAINED)


def test_every_evaluation_scores_both_splits(embeddings, tmp_path):
    """Oracle: the curve, which the rule reads, and the queries of the manifest."""
    finished = fitted(cell(epochs=3), embeddings, tmp_path)
    curve, kept = (pd.read_csv(finished / f"{name}.csv") for name in ("curve", "evaluations"))
    val = kept[kept["split"] == "val"].set_index("step")
    assert val["R@1"].tolist() == curve.set_index("step")["R@1"].tolist()
    hits = pd.read_parquet(finished / "hits.parquet")
    texts = pd.read_parquet(embeddings / "texts.parquet")
    assert hits["caption_id"].tolist() == texts[texts["split"] == "test"]["caption_id"].tolist()
    test = kept[kept["split"] == "test"].set_index("step")["R@1"]
    assert test.to_dict() == pytest.approx({step: hits[str(step)].mean() for step in curve["step"]})


def test_a_trial_never_sees_the_test_split(embeddings, tmp_path, monkeypatch):
    original, seen = EmbeddingData.gallery, []

    def notes(self, towers, split):
        seen.append(split)
        return original(self, towers, split)

    monkeypatch.setattr(EmbeddingData, "gallery", notes)
    a_cell = cell()
    data = EmbeddingData(embeddings, a_cell.train, FRAMES, wants_words(a_cell.method))
    fit.fit(a_cell, data, tmp_path, accelerate.Accelerator(cpu=True), lambda row: None)
    assert seen == ["val"] * 4


def test_training_twice_gives_the_same_bytes(embeddings, whole, tmp_path):
    assert same_files(whole["xpool.xpool"], fitted(cell(), embeddings, tmp_path))


class Stopped(Exception):
    pass


@pytest.mark.parametrize("method", POOLINGS)
@pytest.mark.parametrize("stop_at", [3, 8, 13])
def test_resumed_run_ends_with_the_same_bytes(
    method, stop_at, embeddings, whole, tmp_path, monkeypatch
):
    original = EmbeddingData.batch
    seen = []

    def stops(self, rows, seed):
        seen.append(seed)
        if len(seen) == stop_at:
            raise Stopped
        return original(self, rows, seed)

    monkeypatch.setattr(EmbeddingData, "batch", stops)
    with pytest.raises(Stopped):
        fitted(cell(method), embeddings, tmp_path / "cut")
    monkeypatch.setattr(EmbeddingData, "batch", original)
    resumed = fitted(cell(method), embeddings, tmp_path / "cut")
    assert same_files(whole[method], resumed)


def test_resumed_run_repeats_no_finished_part(embeddings, tmp_path, monkeypatch):
    original, seen = EmbeddingData.batch, []

    def counts(self, rows, seed):
        seen.append(seed)
        if len(seen) == 7:
            raise Stopped
        return original(self, rows, seed)

    monkeypatch.setattr(EmbeddingData, "batch", counts)
    with pytest.raises(Stopped):
        fitted(cell(), embeddings, tmp_path)
    first = list(seen)
    fitted(cell(), embeddings, tmp_path)
    # 16 steps in all, evaluated (and saved) every 4: the second start begins at step 4
    assert len(seen) - len(first) == 12


def test_the_curve_so_far_lies_in_the_work_folder(embeddings, tmp_path, monkeypatch):
    """Oracle: the finished run's curve."""
    with monkeypatch.context() as patch:
        original, seen = fit.RunState.save, []

        def stops(self, *arguments):
            if len(seen) == 2:
                raise Stopped
            seen.append(original(self, *arguments))

        patch.setattr(fit.RunState, "save", stops)
        with pytest.raises(Stopped):
            fitted(cell(), embeddings, tmp_path)
    so_far = pd.read_csv(tmp_path / "curve.csv")
    assert len(so_far) == 2
    pd.testing.assert_frame_equal(
        so_far, pd.read_csv(fitted(cell(), embeddings, tmp_path) / "curve.csv").head(2)
    )


def test_val_rule_keeps_the_best_evaluation(embeddings, tmp_path):
    """Oracle: the selected step is the first row of the curve with the highest R@1 (then MnR)."""
    import json

    finished = fitted(cell(epochs=6), embeddings, tmp_path)
    curve = pd.read_csv(finished / "curve.csv")
    best = curve.sort_values(["R@1", "MnR", "step"], ascending=[False, True, True]).iloc[0]
    assert json.loads((finished / "run.json").read_text())["selected_step"] == best["step"]


def test_last_rule_keeps_the_end(embeddings, tmp_path):
    last = fitted(cell(rule="last"), embeddings, tmp_path / "last")
    assert '"selected_step": 16' in (last / "run.json").read_text()


@pytest.mark.parametrize(("rule", "other"), [("val", "test"), ("test_window", "val")])
def test_a_rule_selects_by_its_own_split_alone(rule, other, embeddings, tmp_path, monkeypatch):
    """The other split is evaluated too; shuffled, it changes nothing but its own evaluations."""
    plain = fitted(cell(rule=rule), embeddings, tmp_path / "plain")
    original = EmbeddingData.gallery

    def shuffles(self, towers, split):
        gallery = original(self, towers, split)
        return gallery._replace(text=gallery.text.flip(0)) if split == other else gallery

    monkeypatch.setattr(EmbeddingData, "gallery", shuffles)
    shuffled = fitted(cell(rule=rule), embeddings, tmp_path / "shuffled")
    for name in ("checkpoint.safetensors", "curve.csv", "run.json"):
        assert filecmp.cmp(plain / name, shuffled / name, shallow=False), name
    assert not filecmp.cmp(plain / "evaluations.csv", shuffled / "evaluations.csv", shallow=False)


def test_missing_validation_split_is_an_input_error(tmp_path):
    worlds.write_embeddings(tmp_path / "data", videos=(20, 0, 10))
    with pytest.raises(InputError, match=r"no 'val' rows.*val_videos"):
        fitted(cell(), tmp_path / "data", tmp_path / "work")
    finished = fitted(cell(rule="last"), tmp_path / "data", tmp_path / "work")
    assert list(pd.read_csv(finished / "curve.csv").columns) == ["step", "epoch", "loss"]


def test_not_finite_loss_is_an_input_error(embeddings, tmp_path):
    data = EmbeddingData(embeddings, TrainParams(**TRAIN), FRAMES)
    data._cache.text[:] = float("nan")
    with pytest.raises(InputError, match="the loss is nan at step 4; lower recipes.xpool.msvd"):
        fit.fit(cell(), data, tmp_path, accelerate.Accelerator(cpu=True))


def test_zero_epochs_scores_the_encoder_as_it_is(tmp_path):
    """Zero-shot: no training split is needed, and the weights are the initial ones."""
    worlds.write_embeddings(tmp_path / "data", videos=(0, 0, 10))
    finished = fitted(cell("baselines.mean_pool", epochs=0), tmp_path / "data", tmp_path / "work")
    weights = load_file(finished / "checkpoint.safetensors")
    assert torch.equal(weights["towers.text_projection"], torch.eye(worlds.DIM))
    assert pd.read_csv(finished / "curve.csv").empty


def test_logit_scale_is_clamped(embeddings, tmp_path):
    finished = fitted(cell(max_logit_scale=7.0), embeddings, tmp_path)
    scale = load_file(finished / "checkpoint.safetensors")["towers.logit_scale"]
    assert scale <= np.log(7) + 1e-6


def test_order_visits_every_row_once_an_epoch_in_another_order():
    order = Order(
        rows=np.arange(100, 150), epochs=2, batch_size=16, evaluations_per_epoch=3, seed=1
    )
    first = np.concatenate([order.batch_rows(s) for s in range(4)])
    second = np.concatenate([order.batch_rows(s) for s in range(4, 8)])
    assert sorted(first) == sorted(second) == list(range(100, 150))
    assert list(first) != list(second)
    assert len(order.batch_rows(3)) == 2, "the last, smaller batch is kept"
    assert order.evaluations() == {1, 3, 4, 5, 7, 8}


def test_self_attention_starts_from_the_text_transformer(embeddings):
    """CLIP4Clip's initialisation: a random one is an unfair stand-in."""
    a_cell = cell("baselines.self_attention")
    data = EmbeddingData(embeddings, a_cell.train, FRAMES, wants_words(a_cell.method))
    state = new_model(a_cell, data).state_dict()
    source = data.text_transformer()
    assert torch.equal(
        state["pooling.transformer.resblocks.1.mlp.c_fc.weight"],
        source.layers[1]["mlp.c_fc.weight"],
    )
    assert torch.equal(state["pooling.transformer.positional_embedding"], source.position[:8])


WORKER = """
import sys, torch
sys.path[:0] = [{top!r}, {tests!r}]
import torch.distributed as dist
torch.set_num_threads(1)
from pathlib import Path
from made_cells import cell, fitted
a_cell = cell({method!r}, epochs=1, batch_size=16, micro_batch={micro_batch})
fitted(a_cell, Path({embeddings!r}), Path({folder!r}))
if dist.is_initialized():
    dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_train_as_one_in_micro_batches(embeddings, tmp_path):
    """Oracle: one process that encodes the batch all at once; test_processes has the rest."""
    method, micro_batch = "baselines.mean_pool", 3
    results = {}
    for world in (1, 2):
        script = tmp_path / f"worker{world}.py"
        folder = tmp_path / f"work{world}"
        script.write_text(
            WORKER.format(
                top=str(fit.__file__).rsplit("/xpool/", 1)[0], tests=str(Path(__file__).parents[1]),
                method=method, embeddings=str(embeddings), folder=str(folder),
                micro_batch=micro_batch if world == 2 else None,
            )
        )  # fmt: skip
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={world}", str(script)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=240, check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        results[world] = load_file(folder / "finished" / "checkpoint.safetensors")
    for name, value in results[1].items():
        torch.testing.assert_close(value, results[2][name], atol=2e-5, rtol=2e-4, msg=name)


def test_killed_process_resumes(embeddings, tmp_path):
    """SIGKILL, not an exception: what is on disk is all that is left."""
    script = tmp_path / "worker.py"
    folder = tmp_path / "killed"
    script.write_text(
        WORKER.format(
            top=str(fit.__file__).rsplit("/xpool/", 1)[0], tests=str(Path(__file__).parents[1]),
            method="xpool.xpool", embeddings=str(embeddings), folder=str(folder), micro_batch=None,
        ).replace("epochs=1, batch_size=16", "epochs=40")
    )  # fmt: skip
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not list(folder.glob("step-*")):
            assert process.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert not (folder / "finished").exists()
    resumed = fitted(cell(epochs=40), embeddings, folder)
    assert same_files(fitted(cell(epochs=40), embeddings, tmp_path / "whole"), resumed)


@pytest.mark.parametrize(
    ("asked", "device", "supported", "expected"),
    [
        ("auto", "cuda", True, True), ("auto", "cuda", False, False), ("auto", "cpu", True, False),
        ("fp32", "cuda", True, False), ("bf16", "cuda", True, True), ("bf16", "cpu", False, True),
    ],
)  # fmt: skip
def test_bf16_is_chosen_where_the_gpu_computes_in_it(
    asked, device, supported, expected, monkeypatch
):
    def is_supported(including_emulation=True):
        return supported or including_emulation  # a GPU before Ampere emulates it

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    train = TrainParams(**TRAIN | {"precision": asked})
    assert fit.computes_in_bf16(train, torch.device(device)) == expected


def test_bf16_that_a_gpu_has_not_is_an_input_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    train = TrainParams(**TRAIN | {"precision": "bf16"})
    with pytest.raises(InputError, match=r"train.precision: this GPU \(Tesla T4\) does not"):
        fit.computes_in_bf16(train, torch.device("cuda"))


def test_deterministic_asks_torch_for_it_and_changes_nothing_on_a_cpu(
    embeddings, tmp_path, monkeypatch
):
    """On a CPU with one thread the bytes are the same in any case; a GPU has its own test."""
    plain = fitted(cell(), embeddings, tmp_path / "plain")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    a_cell = cell(deterministic=True)
    try:
        accelerator = fit.new_accelerator(a_cell.train)
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert environment(accelerator.device)["determinism"]["algorithms"] is True
        data = EmbeddingData(embeddings, a_cell.train, FRAMES, wants_words(a_cell.method))
        (tmp_path / "same").mkdir()
        assert same_files(plain, fit.fit(a_cell, data, tmp_path / "same", accelerator))
    finally:
        torch.use_deterministic_algorithms(False)


def test_files_of_a_run_have_the_mode_that_the_umask_asks_for(embeddings, tmp_path):
    finished = fitted(cell(epochs=1), embeddings, tmp_path)
    (tmp_path / "plain").write_text("as the umask has it")
    expected = (tmp_path / "plain").stat().st_mode
    files = [*finished.iterdir(), *tmp_path.glob("step-*/*"), embeddings.parent / "msvd/text.npy"]
    files += embeddings.glob("*.safetensors")
    assert {
        path.name: path.stat().st_mode for path in files if path.stat().st_mode != expected
    } == {}
