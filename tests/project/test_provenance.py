"""Records of results: the commit that runs, and digests of params and data (oracle)."""

import hashlib
import json
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import accelerate
import pytest
import torch
import worlds
import yaml

from xpool.project import paths
from xpool.project import provenance as module
from xpool.project.digests import content
from xpool.project.fingerprints import code_digests
from xpool.project.provenance import device_name, inputs_of, of_training, provenance
from xpool.stages import evaluate, train
from xpool.training import runs
from xpool.training.data import EmbeddingData

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch):
    """A folder that may become a git checkout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "TOP", tmp_path)
    Path("params.yaml").write_text("setting: mini\n")
    module.checkout.cache_clear()
    yield
    module.checkout.cache_clear()


def git(*words):
    flags = ["-c", "user.name=t", "-c", "user.email=t@t"]
    done = subprocess.run(["git", *flags, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def committed():
    """Commit all files, some code among them."""
    for file in (Path("xpool/fit.py"), Path("baselines/mean_pool.py")):
        file.parent.mkdir(exist_ok=True)
        file.touch()
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--allow-empty", "-m", "t")
    return git("rev-parse", "HEAD")


def found():
    module.checkout.cache_clear()
    return module.checkout()


def test_commit_is_that_of_the_checkout():
    commit = committed()
    assert found() == (commit, False, "")
    assert provenance(CPU)["commit"] == commit


@pytest.mark.parametrize(
    "file", ["params.yaml", "settings/mini.yaml", "dvc.lock", "notes.txt", "notebooks/a.ipynb"]
)
def test_what_is_no_code_makes_nothing_dirty(file):
    """As switching the setting does, which moves two tracked files."""
    Path(file).parent.mkdir(exist_ok=True)
    Path(file).write_text("of the commit")
    commit = committed()
    Path(file).write_text("changed")
    assert found() == (commit, False, "")
    Path(file).unlink()
    assert found() == (commit, False, "")


@pytest.mark.parametrize("file", ["xpool/fit.py", "baselines/max_pool.py", "studies/width.py"])
def test_code_that_is_in_no_commit_is_dirty(file):
    """Also a file that git does not know yet: the commit alone would not give the result."""
    commit = committed()
    Path(file).parent.mkdir(exist_ok=True)
    Path(file).write_text("changed")
    assert found() == (commit, True, "")
    assert provenance(CPU)["commit"] == f"{commit}+"


def test_code_that_was_removed_or_moved_is_dirty():
    commit = committed()
    Path("xpool/fit.py").rename("xpool/train.py")
    assert found() == (commit, True, "")


def test_bytecode_is_no_change():
    commit = committed()
    Path("xpool/__pycache__").mkdir()
    Path("xpool/__pycache__/fit.cpython-311.pyc").touch()
    assert found() == (commit, False, "")


def test_commit_is_the_one_that_the_process_began_with():
    commit = committed()
    assert provenance(CPU)["commit"] == commit
    Path("new.py").touch()
    assert committed() != commit
    assert provenance(CPU)["commit"] == commit


# --- what git does not tell is unknown, never clean ---


def test_a_folder_without_git_is_unknown(monkeypatch):
    assert found() == ("unknown: not a git checkout", None, module.NO_CHECKOUT)
    unknown = {"commit": "unknown: not a git checkout", "dirty": None}
    assert module.code() == unknown | {"code": {}}


def test_the_repository_of_another_project_around_it_is_not_its_own(monkeypatch):
    """As where an archive is unpacked, or the package installed, inside somebody's checkout."""
    committed()
    inner = Path("unpacked").resolve()
    (inner / "xpool").mkdir(parents=True)
    (inner / "xpool/fit.py").touch()
    monkeypatch.setattr(module, "TOP", inner)
    assert found() == ("unknown: the code is in no git checkout", None, module.NO_CHECKOUT)


def test_git_that_refuses_is_unknown_and_its_remedy_is_given(monkeypatch):
    """As in a checkout that another user owns, by git's own switch for its tests."""
    committed()
    Path("xpool/fit.py").write_text("changed")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    commit, dirty, remedy = found()
    assert (commit, dirty) == ("unknown: git refused (dubious ownership)", None)
    assert remedy == f"git config --global --add safe.directory {Path.cwd()}"


def test_a_broken_repository_is_unknown():
    committed()
    Path(".git/HEAD").write_text("nonsense")
    commit, dirty, _ = found()
    assert commit.startswith("unknown: git refused (not a git repository")
    assert dirty is None


def test_a_repository_without_a_commit_is_unknown():
    Path("xpool").mkdir()
    Path("xpool/fit.py").touch()
    git("init", "--quiet")
    git("add", "--all")
    commit, dirty, _ = found()
    assert commit.startswith("unknown: git refused (")
    assert dirty is None


def test_a_machine_without_git_is_unknown(monkeypatch):
    committed()
    monkeypatch.setenv("PATH", str(Path.cwd()))
    assert found() == ("unknown: git is not installed", None, "install git")


def test_params_are_those_of_the_moment():
    """Their values: comments and order do not count."""
    for text, values in (
        ("setting: mini # synthetic\n", b'{"setting": "mini"}'),
        ("setting: paper\nframes: 12\n", b'{"frames": 12, "setting": "paper"}'),
    ):
        Path("params.yaml").write_text(text)
        assert provenance(CPU)["params"] == hashlib.sha256(values).hexdigest()[:16]


def test_device_and_versions_are_named():
    found = provenance(CPU)
    assert found["device"].startswith("cpu (")
    assert torch.__version__ in found["versions"]


CELL = ("mini", "mean_pool", "msvd", 0)
METHOD = "baselines.mean_pool"


def trained():
    train.main(method=METHOD, benchmark="msvd")


def record_of(folder):
    return json.loads((folder(*CELL) / "provenance.json").read_text())


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_training_leaves_what_it_was_made_with():
    worlds.write_project()
    commit = committed()
    before = datetime.now(UTC).isoformat(timespec="seconds")
    trained()
    found = record_of(paths.training)
    assert (found["commit"], found["dirty"]) == (commit, False)
    assert found["run"] == dict(zip(("setting", "method", "benchmark", "seed"), CELL, strict=True))
    params = yaml.safe_load(Path("params.yaml").read_text())
    assert found["params"] == {
        "train": params["train"],
        "frames": params["frames"],
        "recipe": params["recipes"]["mean_pool"]["msvd"],
        "selection": "val",
        "manifest": params["manifest"]["msvd"],
    }
    assert found["code"] == code_digests("xpool.training.runs", METHOD, "xpool.encoders.openclip")
    assert found["data"] == {"embeddings": content([paths.embeddings("mini", "msvd")])}
    assert found["encoder"] == content([paths.encoder("mini")])
    assert (found["global_batch"], found["decoder"]) == (params["train"]["batch_size"], "unknown")
    names = ("checkpoint.safetensors", "curve.csv", "run.json", "evaluations.csv", "hits.parquet")
    assert found["files"] == {name: digest(paths.training(*CELL) / name) for name in names}
    assert found["versions"]["torch"] == version("torch")
    assert {"python", "numpy", "open_clip_torch", "transformers", "accelerate", "av"} < set(
        found["versions"]
    )
    assert found["threads"] == torch.get_num_threads() == 1
    assert before <= found["started"] <= datetime.now(UTC).isoformat(timespec="seconds")
    if not torch.cuda.is_available():
        assert found["device"] == device_name(CPU)
        assert found["precision"] == "fp32"
        assert found["gpu_hours"] == 0
        assert found["cpu_hours"] == pytest.approx(found["seconds"] / 3600, abs=1e-6)
    assert 0 < found["seconds"] < 600


def test_a_run_without_steps_took_no_time():
    worlds.write_project(epochs=0)
    trained()
    assert record_of(paths.training)["seconds"] == 0


def test_a_resumed_run_records_the_whole_time(monkeypatch):
    """Its first start lies years back and took an hour, by what is in its work folder."""
    worlds.write_project(epochs=2)
    original, seen = EmbeddingData.batch, []

    def stops(self, rows, seed):
        seen.append(seed)
        if len(seen) == 6:
            raise KeyboardInterrupt
        return original(self, rows, seed)

    monkeypatch.setattr(EmbeddingData, "batch", stops)
    with pytest.raises(KeyboardInterrupt):
        trained()
    monkeypatch.setattr(EmbeddingData, "batch", original)
    (folder,) = Path(".work/train").glob("*@*")
    (state,) = folder.glob("step-*/state.json")
    state.write_text(json.dumps(json.loads(state.read_text()) | {"seconds": 3600.0}))
    assert (folder / "started").is_file()
    (folder / "started").write_text("2020-01-01T00:00:00+00:00")
    trained()
    found = record_of(paths.training)
    assert found["started"] == "2020-01-01T00:00:00+00:00"
    assert 3600 < found["seconds"] < 4200
    assert [path.name for path in folder.iterdir()] == ["finished"]


@pytest.fixture
def fitted(monkeypatch):
    """Seeds of the runs that were trained, in their order."""
    seeds, fit = [], runs.fit

    def notes(cell, *arguments):
        seeds.append(cell.seed)
        return fit(cell, *arguments)

    monkeypatch.setattr(runs, "fit", notes)
    monkeypatch.setattr(runs, "available_cores", lambda: 1)  # in this process, which notes them
    return seeds


def changed(**changes):
    """Set dotted keys of params.yaml, with ``__`` for the dot, as before another process."""
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    params = yaml.safe_load(Path("params.yaml").read_text())
    for key, value in changes.items():
        *parents, last = key.split("__")
        section = params
        for parent in parents:
            section = section[parent]
        section[last] = value
    Path("params.yaml").write_text(yaml.safe_dump(params))


def published():
    return {path.name: path.read_bytes() for path in paths.training(*CELL).glob("*.*")}


def test_a_finished_run_is_not_trained_again(fitted):
    """As DVC has it run when a seed is added: what the stage had made is gone."""
    worlds.write_project()
    trained()
    before = published()
    shutil.rmtree(paths.training(*CELL).parent)
    changed(seeds=[0, 3])
    trained()
    assert fitted == [0, 3]
    assert published() == before
    assert paths.training(*CELL[:-1], 3).is_dir()
    changed(selection="last")
    trained()
    assert fitted == [0, 3, 0, 3], "by other params"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train__workers", 1), ("train__compile", True), ("train__micro_batch", 4),
        ("train__precision", "fp32"), ("frames__timeout_s", 5.0),
        ("frames__allowed_unreadable", 0.5), ("manifest__msvd__allowed_missing", 0.5),
    ],
)  # fmt: skip
def test_what_changes_no_result_trains_nothing(fitted, key, value):
    """``auto`` is fp32 without a GPU. The record keeps what the run was made with."""
    if key == "train__precision" and torch.cuda.is_available():
        pytest.skip("auto is bf16 here")
    worlds.write_project()
    trained()
    before = published()
    changed(**{key: value})
    trained()
    assert fitted == [0]
    assert published() == before


@pytest.mark.parametrize(
    ("key", "value"),
    [("train__precision", "bf16"), ("train__batch_size", 8), ("frames__sampling", "rand")],
)
def test_what_changes_results_trains_again(fitted, key, value):
    worlds.write_project()
    trained()
    changed(**{key: value})
    trained()
    assert fitted == [0, 0]


def test_params_that_are_changed_back_find_the_run_that_they_had_made(fitted):
    worlds.write_project()
    trained()
    before = published()
    changed(train__epochs=2)
    trained()
    assert published() != before
    changed(train__epochs=1)
    trained()
    assert fitted == [0, 0]
    assert published() == before


def test_the_same_data_checked_out_again_find_the_run(fitted):
    """Other files with the same bytes, as `dvc checkout` writes them."""
    worlds.write_project()
    trained()
    for folder in (paths.embeddings("mini", "msvd"), paths.encoder("mini")):
        shutil.copytree(folder, "copy")
        shutil.rmtree(folder)
        Path("copy").rename(folder)
    trained()
    assert fitted == [0]
    (paths.encoder("mini") / "weights.safetensors").write_bytes(b"of another encoder")
    trained()
    assert fitted == [0, 0]


def test_an_evaluation_leaves_the_same_record_each_time():
    worlds.write_project()
    trained()
    evaluate.main(method=METHOD)
    path = paths.similarity(*CELL) / "provenance.json"
    before = path.read_bytes()
    found = record_of(paths.similarity)
    assert found["checkpoint"] == digest(paths.training(*CELL) / "checkpoint.safetensors")
    assert {"xpool/similarity.py", "baselines/mean_pool.py"} <= set(found["code"])
    names = ("similarity.npy", "texts.parquet", "videos.parquet")
    assert found["files"] == {name: digest(path.with_name(name)) for name in names}
    evaluate.main(method=METHOD)
    assert path.read_bytes() == before


def test_hours_are_those_of_all_devices(tmp_path, monkeypatch):
    """Oracle: half an hour on two GPUs is one GPU hour; on two processes of a CPU, one CPU hour."""
    monkeypatch.setattr(module, "device_name", str)
    hours = {}
    for device in ("cuda", "cpu"):
        found = of_training(
            run={}, folder=tmp_path, files=(), device=torch.device(device), started="",
            seconds=1800.0, processes=2,
        )  # fmt: skip
        hours[device] = (found["gpu_hours"], found["cpu_hours"])
    assert hours == {"cuda": (1.0, 0.0), "cpu": (0.0, 1.0)}


def test_fine_tuning_reads_frames_and_the_manifest():
    for path in (paths.frames("mini", "msvd"), paths.encoder("mini")):
        path.mkdir(parents=True)
        (path / "index").write_bytes(b"x")
    manifest = paths.manifest("mini", "msvd")
    manifest.parent.mkdir()
    manifest.write_bytes(b"captions")
    before = inputs_of("mini", "msvd", "frames")
    assert set(before["data"]) == {"frames", "manifest"}
    manifest.write_bytes(b"Captions")
    after = inputs_of("mini", "msvd", "frames")
    assert before["data"]["manifest"] != after["data"]["manifest"]
    assert before["data"]["frames"] == after["data"]["frames"]
