"""Verification of a real, tiny run: nothing to say as it is, a clear line for each tampering."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import worlds
import yaml
from safetensors.torch import load_file, save_file

from xpool.project import paths
from xpool.project import provenance as origin
from xpool.project.digests import sha256
from xpool.project.errors import InputError
from xpool.stages import evaluate, ranks, train
from xpool.tools import verify
from xpool.training import evaluate as scoring

CELL = ("mini", "mean_pool", "msvd", 0)
RUN = paths.training(*CELL)
SCORED = paths.similarity(*CELL)
RANKS = paths.rank_file(*CELL)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two runs that went through the real stages: trained, scored, ranked."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        worlds.write_project()
        for method in ("xpool.xpool", "baselines.mean_pool"):
            train.main(method=method, benchmark="msvd")
            evaluate.main(method=method)
        ranks.main()
    return folder


@pytest.fixture(autouse=True)
def here(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")


@pytest.fixture
def verified(capsys):
    """Verify runs; return the exit status and the lines of what is not as recorded."""

    def verified(*runs):
        with pytest.raises(SystemExit) as ended:
            verify.main(list(runs))
        lines = capsys.readouterr().out.splitlines()
        found = [line for line in lines if re.match("  (DIFFERS|no verdict)", line)]
        assert len(lines) > 10 * max(len(runs), 1)
        return ended.value.code, found

    return verified


def change_json(path, *keys, value):
    content = json.loads(path.read_text())
    section = content
    for key in keys[:-1]:
        section = section[key]
    assert section[keys[-1]] != value
    section[keys[-1]] = value
    path.write_text(json.dumps(content))


def test_runs_as_they_were_left_are_confirmed(capsys):
    before = {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()}
    with pytest.raises(SystemExit) as ended:
        verify.main()
    lines = capsys.readouterr().out.splitlines()
    assert ended.value.code == 0, lines
    assert lines[-1] == "2 verified: 2 ok"
    assert [str(RUN), str(paths.training("mini", "xpool", "msvd", 0))] == [
        line for line in lines[:-1] if not line.startswith(" ")
    ]
    assert sum("scored again: all of (60, 20) to the last digit" in line for line in lines) == 2
    assert before == {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()}


def test_one_changed_rank_is_caught(verified):
    table = pd.read_parquet(RANKS)
    was = table.loc[7, "rank"]
    table.loc[7, "rank"] = was + 1
    table.to_parquet(RANKS, index=False)
    status, (line,) = verified(RUN)
    assert status == 1
    assert str(RANKS) in line
    query = table.loc[7, "query_id"]
    assert f"1 of 80 rows differ; first: row 8 (t2v {query}" in line
    assert line.endswith(f"rank: expected {was}, found {was + 1}")


def test_swapped_weights_are_caught(verified):
    path = RUN / "checkpoint.safetensors"
    before = sha256(path)
    weights = load_file(path)
    name = next(name for name, value in weights.items() if value.ndim == 2)
    weights[name] += 0.5 * torch.randn(weights[name].shape, generator=torch.manual_seed(0))
    save_file(weights, path)
    status, lines = verified(RUN)
    assert status == 1
    assert lines[0] == (
        f"  DIFFERS    {path}: expected {before} (provenance.json), found {sha256(path)} (file)"
    )
    assert any("scored again: similarity.npy: " in line for line in lines[1:])


def test_swapped_weights_and_a_record_made_to_fit_are_caught(verified):
    path = RUN / "checkpoint.safetensors"
    weights = {name: value + 0.1 for name, value in load_file(path).items()}
    save_file(weights, path)
    change_json(RUN / "provenance.json", "files", path.name, value=sha256(path))
    status, lines = verified(RUN)
    assert status == 1
    assert "weights that were scored: expected" in lines[0]
    assert any("scored again: similarity.npy: " in line for line in lines[1:])


def test_weights_of_another_method_are_caught(verified):
    shutil.copy(paths.training("mini", "xpool", "msvd", 0) / "checkpoint.safetensors", RUN)
    status, lines = verified(RUN)
    assert status == 1
    assert "scored again: cannot be scored again" in lines[1]
    assert len(lines) == 2, "ranks and figures still are those of the similarity"


@pytest.mark.parametrize(
    ("key", "value"), [("train.epochs", 2), ("recipe.lr_encoder", 0.5), ("selection", "last")]
)
def test_params_edited_afterwards_are_caught(verified, key, value):
    params = yaml.safe_load(Path("params.yaml").read_text())
    section, _, name = key.partition(".")
    if section == "selection":
        params["selection"] = value
    else:
        recipe = params["recipes"]["mean_pool"]["msvd"]
        (recipe if section == "recipe" else params[section])[name] = value
    Path("params.yaml").write_text(yaml.safe_dump(params))
    status, (line,) = verified(RUN)
    assert status == 1
    assert f"params {key}: expected" in line
    assert line.endswith(f"found {value!r} (params.yaml)")


def test_recorded_params_edited_afterwards_are_caught(verified):
    change_json(RUN / "provenance.json", "params", "train", "batch_size", value=64)
    status, (line,) = verified(RUN)
    assert status == 1
    assert "params train.batch_size: expected 64" in line
    assert line.endswith("found 32 (params.yaml)")


def test_one_edited_figure_of_the_table_is_caught(verified):
    path = paths.metrics_table("mini")
    table = pd.read_csv(path, float_precision="round_trip")
    row = table.index[(table["method"] == "mean_pool") & (table["metric"] == "MnR")][0]
    was = table.loc[row, "value"]
    table.loc[row, "value"] = np.nextafter(was, 100)  # the last digit
    table.to_csv(path, index=False)
    status, (line,) = verified(RUN)
    assert status == 1
    assert f"{path}: 1 of 20 rows differ" in line
    assert line.endswith(f"value: expected {was}, found {np.nextafter(was, 100)}")
    assert verified(paths.training("mini", "xpool", "msvd", 0)) == (0, []), "the other run's"


def test_one_edited_figure_of_the_metrics_is_caught(verified):
    path = paths.metrics("mini")
    change_json(path, "msvd", "mean_pool", "0", "v2t", "R@5", value=99.0)
    status, (line,) = verified(RUN)
    assert status == 1
    assert f"{path}: v2t.R@5: expected" in line
    assert "found 99.0 (file)" in line


def test_an_edited_similarity_is_caught(verified):
    path = SCORED / "similarity.npy"
    matrix = np.load(path)
    was = matrix[3, 4]
    matrix[3, 4] += 0.25
    np.save(path, matrix)
    status, lines = verified(RUN)
    assert status == 1
    assert str(path) in lines[0]
    assert (
        f"1 of 1200 differ, by {np.float64(matrix[3, 4]) - was:.3g} at most; first: text "
        in (lines[1])
    )
    assert f"expected {was!s}, found {matrix[3, 4]!s}" in lines[1]
    assert len(lines) == 2, "ranks and figures are those of the weights"


def test_an_edited_bank_is_caught(verified):
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["post_processing"] = {"members": {"qb_norm": {}}, "bank": {"captions": 9, "seed": 0}}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    evaluate.main(method="baselines.mean_pool")
    assert verified(RUN) == (0, [])
    bank = np.load(SCORED / "bank.npy")
    np.save(SCORED / "bank.npy", bank + 0.1)
    status, (line,) = verified(RUN)
    assert status == 1
    assert str(SCORED / "bank.npy") in line


def test_swapped_queries_are_caught(verified):
    path = SCORED / "texts.parquet"
    table = pd.read_parquet(path)
    table.iloc[[0, 5]] = table.iloc[[5, 0]].to_numpy()
    table.to_parquet(path)
    status, lines = verified(RUN)
    assert status == 1
    assert "scored again: texts.parquet: 2 of 60 rows differ" in lines[1]


@pytest.mark.parametrize("folder", [paths.embeddings("mini", "msvd"), paths.encoder("mini")])
def test_other_data_and_another_encoder_are_caught(verified, folder):
    (folder / "more").touch()
    status, (line,) = verified(RUN)
    assert status == 1
    assert f"{folder}: expected" in line


def test_a_run_in_the_folder_of_another_is_caught(verified):
    other = paths.training("mini", "mean_pool", "msvd", 0)
    shutil.rmtree(other)
    shutil.copytree(paths.training("mini", "xpool", "msvd", 0), other)
    status, lines = verified(RUN)
    assert status == 1
    assert "method: expected mean_pool (its path), found xpool" in lines[0]


@pytest.mark.parametrize("path", [RANKS, paths.metrics("mini"), SCORED / "similarity.npy"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"\x00")])
def test_what_cannot_be_read_is_named(verified, path, damage):
    damage(path)
    status, lines = verified(RUN)
    assert status == 1
    assert any(str(path) in line or str(path.parent) in line for line in lines)


def on_another_device(monkeypatch):
    monkeypatch.setattr(origin, "device_name", lambda device: "cpu (another model)")


def test_equal_digits_on_another_device_are_confirmed(verified, monkeypatch):
    on_another_device(monkeypatch)
    assert verified(RUN) == (0, [])


def test_other_digits_on_another_device_are_no_verdict(verified, monkeypatch):
    """How far apart is told, and ranks and figures are still compared, with the similarity."""
    scored = scoring.score

    def rounds_otherwise(*arguments):
        matrix, *names = scored(*arguments)
        return matrix * np.float32(1 + 2**-22), *names

    monkeypatch.setattr("xpool.tools.verification.rescoring.score", rounds_otherwise)
    assert verified(RUN)[0] == 1, "on the same device it is one"
    on_another_device(monkeypatch)
    status, (line,) = verified(RUN)
    assert status == 3
    assert line.startswith(f"  no verdict {SCORED}, scored again: similarity.npy: ")
    assert re.search(r"differ, by [\d.]+e-0[78] at most", line)
    assert "no sign of tampering by itself, as this is device 'cpu (another model)'" in line
    change_json(paths.metrics("mini"), "msvd", "mean_pool", "0", "t2v", "R@1", value=99.0)
    assert verified(RUN)[0] == 1


def test_a_gpu_that_is_not_here_is_said(verified):
    path = SCORED / "provenance.json"
    change_json(path, "device", value="cuda (NVIDIA H100)")
    weights = np.load(SCORED / "similarity.npy")
    weights[0, 0] += 1e-7
    np.save(SCORED / "similarity.npy", weights)
    change_json(path, "files", "similarity.npy", value=sha256(SCORED / "similarity.npy"))
    if torch.cuda.is_available():
        pytest.skip("there is one here")
    status, (line,) = verified(RUN)
    assert status == 3
    assert "in place of 'cuda (NVIDIA H100)'" in line


@pytest.mark.parametrize(
    "folder", ["results", "results/paper/train/mean_pool/msvd/0", "mean_pool/msvd/0", SCORED]
)
def test_what_is_no_run_is_refused(folder):
    with pytest.raises(InputError, match="not a run of the setting mini; expected, e.g., .*xpool"):
        verify.main([Path(folder)])


@pytest.mark.parametrize("folder", [RUN, SCORED])
def test_a_record_without_a_key_is_named(folder):
    path = folder / "provenance.json"
    record = json.loads(path.read_text())
    del record["files"]
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=f"{path}: files is missing; run `dvc repro`"):
        verify.main([RUN])


@pytest.mark.parametrize(
    ("folder", "name", "file"),
    [(RUN, "training", "baselines/mean_pool.py"), (SCORED, "evaluation", "xpool/similarity.py")],
)
def test_code_that_changed_since_is_caught(verified, folder, name, file):
    """As after an edit of it. Of code that neither used, such as X-Pool's, nothing is said."""
    record = json.loads((folder / "provenance.json").read_text())
    assert file in record["code"]
    assert "xpool/xpool.py" not in record["code"]
    change_json(folder / "provenance.json", "code", file, value="another digest")
    status, (line,) = verified(RUN)
    assert status == 1
    assert line == (
        f"  DIFFERS    code of the {name}: {file} changed since; `dvc repro` makes it again"
    )


@pytest.mark.parametrize(
    ("dirty", "said"),
    [(True, "at commit c0ffee with changes that are in no commit; this is "),
     (None, "at commit c0ffee, its changes unknown; this is ")],
)  # fmt: skip
def test_code_that_no_commit_names_is_noted(capsys, monkeypatch, dirty, said):
    monkeypatch.setattr(origin, "checkout", lambda: origin.Checkout("c0ffee", dirty))
    file = RUN / "provenance.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"commit": "c0ffee", "dirty": dirty}))
    with pytest.raises(SystemExit):
        verify.main([RUN])
    notes = [line for line in capsys.readouterr().out.splitlines() if "  note" in line]
    assert said in notes[0]
