"""The stage that ranks every query of every run: files, order, refusals."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import worlds
import yaml

from xpool.data.manifest import COLUMNS
from xpool.metrics import GRADED, METRICS, retrieval_metrics
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.stages import ranks

PARAMS = {
    "setting": "mini",
    "benchmarks": ["msvd", "msrvtt"],
    "baselines": ["mean_pool"],
    "seeds": [1, 0],
    "selection": "val",
    "mixing": "refuse",
    "post_processing": {"members": {}, "bank": None},
}

CELLS = list(itertools.product(["xpool", "mean_pool"], PARAMS["benchmarks"], PARAMS["seeds"]))


EXTRA = ("R@1 dup", "dup")


def videos_of(benchmark):
    """Number of the video of each text."""
    return [0, 0, 1, 2, 2] if benchmark == "msvd" else [2, 0, 1]


def write_manifest(setting, benchmark, captions):
    videos = [f"video{v}" for v in videos_of(benchmark)]
    file = paths.manifest(setting, benchmark)
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame({"split": "test", "video_id": videos, "caption": captions, "path": ""})
    table["caption_id"] = [f"caption{i}" for i in range(len(videos))]
    table[list(COLUMNS)].to_parquet(file, index=False)


def write_cells(params):
    for benchmark in params["benchmarks"]:
        n_text = len(videos_of(benchmark))
        write_manifest(params["setting"], benchmark, [f"text {i}" for i in range(n_text)])
        for method in ("xpool", *params["baselines"]):
            for seed in params["seeds"]:
                folder = paths.similarity(params["setting"], method, benchmark, seed)
                folder.mkdir(parents=True)
                rng = np.random.default_rng(seed)
                videos = videos_of(benchmark)
                np.save(folder / "similarity.npy", rng.random((len(videos), 4), np.float32))
                pd.DataFrame(
                    {
                        "caption_id": [f"caption{i}" for i in range(len(videos))],
                        "video_id": [f"video{v}" for v in videos],
                    }
                ).to_parquet(folder / "texts.parquet")
                pd.DataFrame({"video_id": [f"video{v}" for v in range(4)]}).to_parquet(
                    folder / "videos.parquet"
                )


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS))
    write_cells(PARAMS)
    worlds.write_records("mini", CELLS)


@pytest.mark.usefixtures("project")
def test_stage_writes_table_json_and_ranks():
    ranks.main()
    table = pd.read_csv(paths.metrics_table("mini"))
    assert list(table.columns) == [
        "benchmark", "method", "seed", "split", "selection", "direction", "metric", "value",
        "n_text", "n_video", "mixed", "imported",
    ]  # fmt: skip
    assert table[["mixed", "imported"]].isna().all(axis=None)
    assert len(table) == 2 * 2 * 2 * (2 * 9 + 2)
    keys = ["benchmark", "method", "seed"]
    assert table[keys].drop_duplicates().equals(table[keys].drop_duplicates().sort_values(keys))
    assert set(table["metric"]) == {*METRICS, *GRADED, "tied", *EXTRA}
    assert set(table[table["metric"].isin(EXTRA)]["direction"]) == {"t2v"}
    nested = json.loads(paths.metrics("mini").read_text())
    for row in table.itertuples():
        value = nested[row.benchmark][row.method][str(row.seed)][row.direction][row.metric]
        assert value == row.value  # the CSV holds full precision
    matrix = np.load(paths.similarity("mini", "xpool", "msvd", 1) / "similarity.npy")
    expected = retrieval_metrics(matrix, np.array([0, 0, 1, 2, 2]))
    found = nested["msvd"]["xpool"]["1"]["t2v"]
    assert {name: found[name] for name in found if name not in ("tied", *EXTRA)} == expected["t2v"]


@pytest.mark.usefixtures("project")
def test_stage_ranks_rebuild_the_metrics():
    ranks.main()
    saved = pd.read_parquet(paths.ranks("mini") / "xpool" / "msvd" / "0.parquet")
    assert list(saved.columns) == [
        "direction", "query_id", "video_id", "rank", "n_greater", "n_tied",
    ]  # fmt: skip
    nested = json.loads(paths.metrics("mini").read_text())["msvd"]["xpool"]["0"]
    for direction, queries in saved.groupby("direction"):
        assert queries["rank"].mean() == nested[direction]["MnR"]
        assert queries["rank"].median() == nested[direction]["MdR"]
    names = saved.groupby("direction")["query_id"].agg(list)
    assert names["t2v"] == [f"caption{i}" for i in range(5)]
    assert names["v2t"] == ["video0", "video1", "video2"]
    videos = saved.groupby("direction")["video_id"].agg(list)
    assert videos["t2v"] == ["video0", "video0", "video1", "video2", "video2"]
    assert videos["v2t"] == names["v2t"]


@pytest.mark.usefixtures("project")
def test_stage_twice_gives_the_same_bytes():
    ranks.main()
    first = {p: p.read_bytes() for p in Path("results").rglob("*") if p.is_file()}
    Path("params.yaml").write_text(yaml.safe_dump({**PARAMS, "seeds": [0, 1]}))
    ranks.main()
    assert first == {p: p.read_bytes() for p in Path("results").rglob("*") if p.is_file()}


def metrics_of_cells():
    """Metrics by cell, and the cells that the next stage takes."""
    table = pd.read_csv(paths.metrics_table("mini"))
    cells = pd.read_csv(paths.ranked_cells("mini")).itertuples(index=False, name=None)
    return dict(list(table.groupby(["benchmark", "method", "seed"]))), set(cells)


@pytest.mark.usefixtures("project")
def test_stage_takes_the_runs_that_are_there(caplog):
    """A method without a run on a benchmark is left out there, and so are seeds that one lacks."""
    ranks.main()
    before, all_cells = metrics_of_cells()
    assert set(before) == all_cells == {(cell[1], cell[0], cell[2]) for cell in CELLS}
    first, second = sorted({benchmark for benchmark, *_ in all_cells})
    gone = {(first, "mean_pool", 0), (first, "mean_pool", 1), (second, "xpool", 1)}
    for benchmark, method, seed in gone:
        shutil.rmtree(paths.similarity("mini", method, benchmark, seed))
    ranks.main()
    after, cells = metrics_of_cells()
    assert set(after) == cells == all_cells - gone - {(second, "mean_pool", 1)}
    for cell, rows in after.items():
        pd.testing.assert_frame_equal(
            rows.reset_index(drop=True), before[cell].reset_index(drop=True)
        )
    assert f"left out: mean_pool on {second}, seed 1" in caplog.text


@pytest.mark.usefixtures("project")
def test_stage_refuses_methods_without_a_seed_in_common_and_no_run_at_all():
    benchmark = CELLS[0][1]
    shutil.rmtree(paths.similarity("mini", "xpool", benchmark, 0))
    shutil.rmtree(paths.similarity("mini", "mean_pool", benchmark, 1))
    with pytest.raises(InputError, match=rf"{benchmark}: no seed .*mean_pool \[0\]; xpool \[1\]"):
        ranks.main()
    shutil.rmtree(Path("results/mini/similarity"))
    with pytest.raises(InputError, match="results/mini/similarity/.*: not found"):
        ranks.main()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", ["similarity.npy", "texts.parquet", "videos.parquet"])
def test_stage_missing_file_is_named(name):
    file = paths.similarity("mini", "mean_pool", "msvd", 1) / name
    file.unlink()
    with pytest.raises(InputError, match=f"{file}: not found.*dvc repro"):
        ranks.main()
    assert not paths.metrics_table("mini").exists()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("name", "table", "message"),
    [
        ("texts", {"caption_id": [*"abcde"], "video_id": ["video0"] * 4 + ["x"]}, "video x is not"),
        (
            "texts",
            {"caption_id": [*"abcdd"], "video_id": ["video0"] * 5},
            "caption_id d appears twice",
        ),
        ("texts", {"caption_id": [*"abcd"], "video_id": ["video0"] * 4}, r"shape \(5, 4\)"),
        ("texts", {"caption_id": [*"abcde"]}, "no column video_id"),
        ("videos", {"video_id": ["video0"] * 4}, "video_id video0 appears twice"),
    ],
)
def test_stage_files_that_do_not_fit_are_named(name, table, message):
    folder = paths.similarity("mini", "xpool", "msvd", 0)
    pd.DataFrame(table).to_parquet(folder / f"{name}.parquet")
    with pytest.raises(InputError, match=message):
        ranks.main()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__embeddings": "x"}, "data.embeddings is 'msvd0+' in the one and 'x' in the other"),
        ({"encoder": "x"}, "encoder is 'e+' in the one and 'x' in the other"),
        ({"params__train__epochs": 5}, "params.train.epochs is 3 in the one and 5 in the other"),
        ({"params__frames__sampling": "rand"}, "params.frames.sampling is 'uniform'.*'rand'"),
        ({"params__frames": {}}, "params.frames is 'nothing' in the one and {} in the other"),
        ({"params__selection": "last"}, "params.selection is 'val' in the one and 'last'"),
        (
            {"params__manifest__training_videos": "7k"},
            "params.manifest.training_videos is '9k'.*7k",
        ),
        ({"precision": "bf16"}, "precision is 'fp32' in the one and 'bf16' in the other"),
        ({"global_batch": 30}, "global_batch is 32 in the one and 30 in the other"),
        ({"decoder": "PyAV 15"}, "decoder is 'PyAV 14' in the one and 'PyAV 15' in the other"),
        ({"params__recipe__lr_pooling": 1.0}, "params.recipe.lr_pooling is 0.001.*1.0"),
    ],
)
def test_stage_refuses_runs_that_no_table_may_mix(changes, message):
    other = paths.training("mini", "xpool", "msvd", 1)
    worlds.write_records("mini", [("xpool", "msvd", 1)], **changes)
    with pytest.raises(InputError, match=f"train/.* and {other} differ: {message}.*dvc repro"):
        ranks.main()
    assert not paths.metrics_table("mini").exists()
    assert not paths.ranks("mini").exists()


@pytest.mark.usefixtures("project")
def test_stage_refuses_runs_that_were_scored_in_another_precision():
    file = paths.similarity("mini", "xpool", "msvd", 1) / "provenance.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"precision": "bf16"}))
    with pytest.raises(InputError, match="scored.precision is 'fp32' in the one and 'bf16' in"):
        ranks.main()


@pytest.mark.usefixtures("project")
def test_stage_mixes_runs_where_it_is_asked_to_and_names_them():
    worlds.write_records("mini", [("xpool", "msvd", 1)], params__train__epochs=5)
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS | {"mixing": "allow"}))
    ranks.main()
    table = pd.read_csv(paths.metrics_table("mini"))
    odd = table[table["mixed"].notna()]
    assert set(zip(odd["method"], odd["benchmark"], odd["seed"], strict=True)) == {
        ("xpool", "msvd", 1)
    }
    assert "params.train.epochs is 3 in the one and 5 in the other" in odd["mixed"].iloc[0]


@pytest.mark.usefixtures("project")
def test_stage_takes_what_may_differ():
    """Data between benchmarks, recipes between methods, commits, devices and speed between runs."""
    of_msvd = [cell for cell in CELLS if cell[1] == "msvd"]
    worlds.write_records("mini", of_msvd, data={"frames": "x"}, params__manifest={})
    worlds.write_records(
        "mini", [("xpool", "msrvtt", 0)], commit="b", device="cuda (H100)", processes=3,
        params__train__workers=8, params__train__precision="fp32", params__train__compile=True,
        params__train__micro_batch=4, params__frames__timeout_s=9.0,
        params__frames__allowed_unreadable=0.5, params__manifest__allowed_missing=0.5,
    )  # fmt: skip
    ranks.main()


@pytest.mark.usefixtures("project")
def test_stage_refuses_a_similarity_of_other_weights():
    run = paths.training("mini", "xpool", "msvd", 1)
    worlds.write_records("mini", [("xpool", "msvd", 1)], **{"files__checkpoint.safetensors": "new"})
    with pytest.raises(InputError, match=f"similarity/.* and {run} do not belong together.*xpool1"):
        ranks.main()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("folder", [paths.training, paths.similarity])
@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "not found; run `dvc repro`"), ("{", "not JSON"), ("[]", "expected an object")],
)
def test_stage_names_a_record_that_cannot_be_read(folder, text, message):
    path = folder("mini", "mean_pool", "msrvtt", 0) / "provenance.json"
    path.unlink()
    if text:
        path.write_text(text)
    with pytest.raises(InputError, match=f"{path}: {message}"):
        ranks.main()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("levels", [2, 1000])
def test_a_video_with_the_same_caption_is_right_too(levels):
    """Oracle: enumeration of which video may come first; with two levels most texts tie."""
    captions = ["a dog", "a cat", "a dog", "a dog", "a horse"]
    write_manifest("mini", "msvd", captions)
    folder = paths.similarity("mini", "xpool", "msvd", 0)
    scores = np.random.default_rng(levels).integers(0, levels, (5, 4)) / levels
    np.save(folder / "similarity.npy", scores)
    ranks.main()
    found = json.loads(paths.metrics("mini").read_text())["msvd"]["xpool"]["0"]["t2v"]
    videos, chances = videos_of("msvd"), []
    for text, row in enumerate(scores):
        right = {videos[other] for other in range(5) if captions[other] == captions[text]}
        first = [video for video in range(4) if row[video] == max(row)]
        chances.append(sum(video in right for video in first) / len(first))
    assert found["R@1 dup"] == pytest.approx(100 * sum(chances) / 5)
    assert found["R@1 dup"] >= found["R@1"]
    assert found["dup"] == 60


@pytest.mark.usefixtures("project")
def test_without_shared_captions_both_recalls_are_one():
    ranks.main()
    table = pd.read_csv(paths.metrics_table("mini"))
    of = {name: table[(table["metric"] == name) & (table["direction"] == "t2v")] for name in
          ("R@1", *EXTRA)}  # fmt: skip
    assert of["R@1"]["value"].tolist() == pytest.approx(of["R@1 dup"]["value"].tolist())
    assert (of["dup"]["value"] == 0).all()


@pytest.mark.usefixtures("project")
def test_a_text_that_is_not_in_the_manifest_is_named():
    file = paths.manifest("mini", "msvd")
    pd.read_parquet(file).iloc[:-1].to_parquet(file, index=False)
    with pytest.raises(
        InputError, match=r"msvd\.parquet: no test caption caption4; run 'dvc repro"
    ):
        ranks.main()
