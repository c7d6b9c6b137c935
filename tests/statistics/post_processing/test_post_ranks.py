"""Ranks after post-processing: their files beside the plain ones, and the plain ones untouched."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import worlds
import yaml
from made_banks import write_banks
from made_ranks import write_videos

from xpool.metrics import ranks
from xpool.postprocessing.banks import Bank
from xpool.postprocessing.dual_softmax import DualSoftmax
from xpool.postprocessing.nnn import NNN
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.stages import ranks as stage
from xpool.statistics.post_processing.ranks import TOGETHER, hits_together, labels

CAPTIONS = 6
PARAMS = {
    "setting": "mini", "benchmarks": ["msvd"], "baselines": ["mean_pool"], "seeds": [0, 1],
    "selection": "val", "mixing": "refuse",
    "post_processing": {"members": {}, "bank": None},
}  # fmt: skip
LISTED = {
    "members": {"dual_softmax": {}, "nnn": {"k": 2, "alpha": 0.5}},
    "bank": {"captions": CAPTIONS, "seed": 0},
}
RIGHT = np.repeat(np.arange(4), 5)
CELLS = list(itertools.product(["xpool", "mean_pool"], ["msvd"], PARAMS["seeds"]))


def use(post_processing):
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS | {"post_processing": post_processing}))


@pytest.fixture
def banks(tmp_path, monkeypatch):
    """Work in a project with the similarity of each cell; return their banks."""
    monkeypatch.chdir(tmp_path)
    use(PARAMS["post_processing"])
    found = {}
    for method, benchmark, seed in CELLS:
        folder = paths.similarity("mini", method, benchmark, seed)
        folder.mkdir(parents=True)
        rng = np.random.default_rng([seed, len(method)])
        np.save(folder / "similarity.npy", rng.random((len(RIGHT), 4), np.float32))
        texts = {"caption_id": [f"c{i}" for i in range(len(RIGHT))]}
        texts["video_id"] = [f"v{i}" for i in RIGHT]
        pd.DataFrame(texts).to_parquet(folder / "texts.parquet")
        videos = pd.DataFrame({"video_id": [f"v{i}" for i in range(4)]})
        videos.to_parquet(folder / "videos.parquet")
        write_videos("mini", benchmark, pd.DataFrame(texts), videos["video_id"])
        found[method, seed] = write_banks(folder, len(RIGHT), 4, CAPTIONS, seed)
    worlds.write_records("mini", CELLS)
    return found


def written():
    return {
        str(path): path.read_bytes() for path in Path("results/mini").rglob("*.*")
        if "similarity" not in path.parts and "train" not in path.parts
    }  # fmt: skip


def matrix_of(method, seed):
    return np.load(paths.similarity("mini", method, "msvd", seed) / "similarity.npy")


@pytest.mark.usefixtures("banks")
def test_listing_adds_files_and_changes_none():
    stage.main()
    before = written()
    use(LISTED)
    stage.main()
    after = written()
    assert {path: after[path] for path in before} == before
    added = {str(Path(path).relative_to(paths.ranks("mini"))) for path in set(after) - set(before)}
    assert added == {
        "post_processing.csv",
        *(f"{m}+{n}/msvd/{s}.parquet" for m, _, s in CELLS for n in LISTED["members"]),
        *(f"{m}+dual_softmax/msvd/{s}.together.parquet" for m, _, s in CELLS),
    }


def test_ranks_are_those_of_each_directions_own_scores(banks):
    """Oracle: the member on the matrix, and on its transpose with the videos as queries."""
    use(LISTED)
    stage.main()
    members = {"dual_softmax": DualSoftmax(), "nnn": NNN(k=2, alpha=0.5)}
    for (method, _, seed), name in itertools.product(CELLS, members):
        matrix, bank = matrix_of(method, seed), banks[method, seed]
        t2v = members[name].apply(matrix, Bank(bank.text_video, bank.video_video))
        v2t = members[name].apply(matrix.T, Bank(bank.video_text.T, bank.text_text)).T
        table = pd.read_parquet(paths.rank_file("mini", f"{method}+{name}", "msvd", seed))
        for direction, scores in (("t2v", t2v), ("v2t", v2t)):
            expected = ranks(scores, RIGHT)[direction].rank
            found = table.loc[table["direction"] == direction, "rank"]
            np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("banks")
def test_hits_together_are_those_of_consecutive_texts():
    use(LISTED)
    stage.main()
    matrix = matrix_of("xpool", 1)
    table = pd.read_parquet(paths.together_file("mini", "xpool", "dual_softmax", "msvd", 1))
    assert list(table) == ["caption_id", "video_id", "1", "4", "16", "20"]
    for count in (1, 4, 16, 20):
        for first in range(0, 20, count):
            block = matrix[first : first + count]
            best = DualSoftmax().apply(block).argmax(axis=1)
            hits = 100.0 * (best == RIGHT[first : first + count])
            np.testing.assert_array_equal(table[str(count)][first : first + count], hits)
    plain = 100.0 * (matrix.argmax(axis=1) == RIGHT)
    np.testing.assert_array_equal(table["1"], plain, "a query that arrives alone gains nothing")


def test_counts_end_with_all_queries():
    rng = np.random.default_rng(0)
    for n_text in (3, 64, 300):
        found = dict(hits_together(DualSoftmax(), rng.random((n_text, 2)), np.arange(n_text) % 2))
        assert list(found) == [*(n for n in TOGETHER if n < n_text), n_text]


def test_labels_say_what_a_member_needs():
    found = labels({"a": DualSoftmax(temperature=50.0), "b": NNN()}, 1000)
    assert found["label"].tolist() == [
        "dual softmax, all queries at once", "NNN, bank of 1,000 training captions"
    ]  # fmt: skip
    assert found["needs_queries"].tolist() == [True, False]
    assert found["arguments"].tolist() == ["temperature 50", "k 128, alpha 0.75"]


@pytest.mark.usefixtures("banks")
@pytest.mark.parametrize(
    ("members", "captions", "said"),
    [
        ({"nnn": {"k": 7}}, CAPTIONS, r"members\.nnn: k is 7, but the bank has 6 queries \(resul"),
        ({"nnn": {"k": 4}}, CAPTIONS, r"members\.nnn: k is 4, but the bank has 3 queries"),
        ({"nnn": {"k": 1}}, CAPTIONS + 1, r"bank\.npy: shape \(6, 4\), expected \(7, 4\); run "),
    ],
)
def test_what_does_not_fit_the_bank_is_refused(members, captions, said):
    use({"members": members, "bank": {"captions": captions, "seed": 0}})
    with pytest.raises(InputError, match=said):
        stage.main()
