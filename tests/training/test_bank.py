"""The bank of an evaluation: drawn from training alone, and held against the test split."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import worlds
import yaml

from xpool.data.frame_cache import FramesParams
from xpool.postprocessing.banks import FILES, BankParams
from xpool.project import paths, plugins
from xpool.project.errors import InputError
from xpool.project.params import read
from xpool.project.provenance import SCORED
from xpool.similarity import similarity
from xpool.stages import evaluate, ranks, train
from xpool.training.cell import new_model, read_cell
from xpool.training.checkpoints.run_state import load_weights
from xpool.training.data import open_data
from xpool.training.evaluate import bank_texts, checkpoint_of

METHODS = {"xpool": "xpool.xpool", "mean_pool": "baselines.mean_pool"}
CAPTIONS = 30
MEMBERS = {name: {} for name in plugins.members("xpool.postprocessing", "POSTPROCESSING")}
MEMBERS["nnn"] = {"k": 8}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project whose two methods are scored, with a bank; with the files of before the bank."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        worlds.write_project()
        for method in METHODS.values():
            train.main(method=method, benchmark="msvd")
            evaluate.main(method=method)
        plain = {name: files(name) for name in METHODS}
        params = yaml.safe_load(Path("params.yaml").read_text())
        bank = {"captions": CAPTIONS, "seed": 0}
        params["post_processing"] = {"members": MEMBERS, "bank": bank}
        Path("params.yaml").write_text(yaml.safe_dump(params))
        for method in METHODS.values():
            evaluate.main(method=method)
        yield plain


@pytest.fixture
def texts(project):
    return pd.read_parquet(paths.similarity("mini", "xpool", "msvd", 0) / "bank_texts.parquet")


def files(name):
    folder = paths.similarity("mini", name, "msvd", 0)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def captions(splits=(50, 20, 30)):
    """Captions of three splits, in turn, with two captions a video."""
    names = np.repeat(["train", "val", "test"], splits)
    shuffled = pd.Series(np.random.default_rng(0).permutation(names))
    return pd.DataFrame(
        {"split": shuffled, "caption_id": range(len(names)), "caption": "of a video"}
    )


# --- the draw ---


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("count", [1, 49, 50])
def test_a_bank_is_of_training_captions_alone(seed, count):
    """Property, up to all of them: none of validation or test, and none twice."""
    rows = bank_texts(captions(), BankParams(captions=count, seed=seed), "msvd")
    assert len(rows) == rows["caption_id"].nunique() == count
    assert set(rows["split"]) == {"train"}
    assert rows.index.is_monotonic_increasing


def test_what_is_no_training_caption_changes_no_draw():
    bank = BankParams(captions=10, seed=3)
    all_rows = captions()
    alone = all_rows[all_rows["split"] == "train"]
    assert bank_texts(all_rows, bank, "msvd").equals(bank_texts(alone, bank, "msvd"))


def test_seed_and_benchmark_draw_other_captions():
    draws = [
        tuple(bank_texts(captions(), BankParams(captions=10, seed=seed), name).index)
        for seed, name in ((0, "msvd"), (0, "msvd"), (1, "msvd"), (0, "lsmdc"))
    ]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3


def test_more_captions_than_there_are_is_refused():
    with pytest.raises(InputError) as caught:
        bank_texts(captions(), BankParams(captions=51, seed=0), "msvd")
    assert str(caught.value) == (
        "params.yaml: post_processing.bank.captions: 51, but msvd has 50 training captions; "
        "write 50 or fewer"
    )


# --- what evaluate writes ---


def test_a_bank_adds_its_files_and_changes_no_other(project):
    for name, plain in project.items():
        found = files(name)
        assert set(plain) == {*SCORED, "provenance.json"}
        assert set(found) == {*plain, *FILES}
        assert all(found[file] == plain[file] for file in SCORED)


def test_the_written_bank_names_training_captions(texts):
    """All captions of the made-up benchmark have their split in the names of their videos."""
    assert len(texts) == CAPTIONS
    assert texts["video_id"].str.startswith("train").all()
    test = pd.read_parquet(paths.similarity("mini", "xpool", "msvd", 0) / "texts.parquet")
    assert not set(texts["caption_id"]) & set(test["caption_id"])
    folders = [paths.similarity("mini", name, "msvd", 0) for name in METHODS]
    first, second = (pd.read_parquet(folder / "bank_texts.parquet") for folder in folders)
    assert first.equals(second), "the same for every method"


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", METHODS)
def test_each_matrix_is_the_similarity_of_its_pairs(name):
    """Oracle: each bank text scored alone by the direct scorer; cosines in double precision."""
    cell = read_cell(METHODS[name], "msvd", 0)
    data = open_data("mini", "msvd", cell.train, read("frames", FramesParams))
    model = new_model(cell, data)
    load_weights(model, checkpoint_of(cell))
    model.eval()
    folder = paths.similarity("mini", name, "msvd", 0)
    ids = pd.read_parquet(folder / "bank_texts.parquet")["caption_id"]
    chosen = data.texts[data.texts["caption_id"].isin(set(ids))]
    assert chosen["caption_id"].tolist() == ids.tolist()
    test, bank = data.gallery(model.towers, "test"), data.embedded(model.towers, chosen)
    found = {file: np.load(folder / file) for file in FILES if file.endswith(".npy")}

    def scored(text, other):
        rows = [similarity(model.pooling, t[None], *other, scorer="direct") for t in text]
        return torch.cat(rows).numpy()

    close = {"rtol": 0, "atol": 2e-6}
    expected = scored(bank.text, (test.frames, test.mask))
    np.testing.assert_allclose(found["bank.npy"], expected, **close)
    expected = scored(test.text, (bank.frames, bank.mask))
    np.testing.assert_allclose(found["bank_videos.npy"], expected, **close)

    def mean_of(gallery, row):
        frames = gallery.frames[row][gallery.mask[row]].double().numpy()
        return (frames / np.linalg.norm(frames, axis=1, keepdims=True)).mean(axis=0)

    def cosines(first, second):
        return [
            [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for y in second] for x in first
        ]  # fmt: skip

    videos = [[mean_of(one, row) for row in range(len(one.mask))] for one in (bank, test)]
    np.testing.assert_allclose(found["bank_video_video.npy"], cosines(*videos), **close)
    spoken = [one.text.detach().double().numpy() for one in (bank, test)]
    np.testing.assert_allclose(found["bank_text_text.npy"], cosines(*spoken), **close)


@pytest.mark.usefixtures("project")
def test_every_member_ranks_what_was_written():
    """From the evaluation's files to ranks, with all members at once."""
    ranks.main()
    for method in METHODS:
        plain = pd.read_parquet(paths.rank_file("mini", method, "msvd", 0))
        for name in MEMBERS:
            file = paths.rank_file("mini", paths.post_processed(method, name), "msvd", 0)
            found = pd.read_parquet(file)
            keys = ["direction", "query_id", "video_id"]
            assert found[keys].equals(plain[keys])
            assert found["rank"].between(1, 60).all()
            assert not found["rank"].equals(plain["rank"]), name
