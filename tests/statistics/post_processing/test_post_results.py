"""Intervals after post-processing: the function for plain cells on its ranks, seed by seed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from made_ranks import write_ranks
from made_results import PARAMS

from xpool.metrics import GRADED, METRICS, ranks
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.stages import statistics
from xpool.statistics import results
from xpool.statistics.post_processing import results as post_results
from xpool.statistics.ranks import rank_table

MEMBERS = {"dual_softmax": {}, "nnn": {}}
SMALL = PARAMS | {
    "benchmarks": ["msrvtt"],
    "post_processing": {"members": MEMBERS, "bank": {"captions": 1000, "seed": 0}},
}
METHODS = ["xpool", *PARAMS["baselines"]]


def write_post_ranks(texts, videos, rng):
    """Write made-up ranks after both members, with their labels."""
    right = videos.get_indexer(texts["video_id"])
    for method in METHODS:
        for seed in SMALL["seeds"]:
            for name in MEMBERS:
                file = paths.rank_file("mini", f"{method}+{name}", "msrvtt", seed)
                file.parent.mkdir(parents=True, exist_ok=True)
                both = ranks(rng.random((len(texts), len(videos))), right)
                rank_table(both, texts, pd.DataFrame({"video_id": videos})).to_parquet(file)
            hits = {str(n): 100.0 * rng.integers(0, 2, len(texts)) for n in (1, 4, len(texts))}
            table = texts.assign(**hits)
            table.to_parquet(paths.together_file("mini", method, "dual_softmax", "msrvtt", seed))
    pd.DataFrame(
        {
            "post_processing": list(MEMBERS),
            "label": ["dual softmax, all queries at once", "NNN, bank of 1,000 training captions"],
            "needs_queries": [True, False],
            "arguments": ["temperature 100", "k 128, alpha 0.75"],
        }
    ).to_csv(paths.post_processing_labels("mini"), index=False)


@pytest.fixture
def texts(tmp_path, monkeypatch):
    """Work in a project with made-up ranks; return the texts of its test split."""
    monkeypatch.chdir(tmp_path)
    for module in (results, post_results):
        monkeypatch.setattr(module, "REPLICATES", 200)
    monkeypatch.setattr(results, "REPLICATES_PER_TEST", 1)
    Path("params.yaml").write_text(yaml.safe_dump(SMALL))
    write_ranks(SMALL, {"msrvtt": (24, 12)})
    videos = pd.Index([f"v{i}" for i in range(12)])
    owner = np.sort(np.arange(24) % 12)
    texts = pd.DataFrame({"caption_id": [f"c{i}" for i in range(24)], "video_id": videos[owner]})
    write_post_ranks(texts, videos, np.random.default_rng(5))
    return texts


def table(name):
    return pd.read_csv(paths.statistics("mini") / f"{name}.csv")


@pytest.mark.usefixtures("texts")
def test_each_method_has_a_row_a_member_direction_and_metric():
    statistics.main()
    found = table("post_processing")
    assert len(found) == len(METHODS) * 2 * 2 * len((*METRICS, *GRADED))
    assert set(found["method"]) == set(METHODS)
    assert set(found["n_seeds"]) == {3}
    labelled = dict(zip(found["post_processing"], found["label"], strict=True))
    assert labelled["nnn"] == "NNN, bank of 1,000 training captions"
    assert (found["ci_low"] <= found["mean"]).all()
    for row in found[found["metric"] == "R@1"].itertuples():
        name = f"{row.method}+{row.post_processing}"
        of_seed = []
        for seed in SMALL["seeds"]:
            rank = pd.read_parquet(paths.rank_file("mini", name, "msrvtt", seed))
            of_seed.append(100 * (rank["rank"][rank["direction"] == row.direction] == 1).mean())
        assert row.mean == pytest.approx(np.mean(of_seed), abs=1e-9)


@pytest.mark.usefixtures("texts")
def test_the_mean_over_texts_and_seeds_of_each_count():
    statistics.main()
    found = table("together")
    assert list(found) == list(post_results.TOGETHER_COLUMNS)
    assert len(found) == len(METHODS) * 3
    assert set(found["post_processing"]) == {"dual_softmax"}, "the other one needs no queries"
    assert found["n_queries"].tolist() == [1, 4, 24] * len(METHODS)
    assert set(found["n_texts"]) == {24}
    for row in found.itertuples():
        files = [
            paths.together_file("mini", row.method, row.post_processing, "msrvtt", seed)
            for seed in SMALL["seeds"]
        ]
        hits = [pd.read_parquet(file)[str(row.n_queries)].mean() for file in files]
        assert row.mean == pytest.approx(np.mean(hits))
        assert row.ci_low <= row.mean <= row.ci_high


@pytest.mark.usefixtures("texts")
def test_no_plain_table_changes():
    statistics.main()
    before = {name: table(name) for name in ("cells", "comparisons", "wins", "selection")}
    changed = SMALL | {"post_processing": {"members": {}, "bank": None}}
    Path("params.yaml").write_text(yaml.safe_dump(changed))
    statistics.main()
    for name, expected in before.items():
        pd.testing.assert_frame_equal(table(name), expected)


def test_nothing_is_written_where_nothing_is_listed(texts):
    assert len(texts) == 24
    changed = SMALL | {"post_processing": {"members": {}, "bank": None}}
    Path("params.yaml").write_text(yaml.safe_dump(changed))
    statistics.main()
    names = {path.stem for path in paths.statistics("mini").iterdir()}
    plain = {"cells", "comparisons", "wins", "selection", "slices", "interactions", "external"}
    assert names == plain


def test_runs_of_other_texts_are_refused(texts):
    file = paths.together_file("mini", "xpool", "dual_softmax", "msrvtt", 2)
    pd.read_parquet(file).assign(caption_id=texts["caption_id"][::-1].to_numpy()).to_parquet(file)
    with pytest.raises(InputError, match=r"2\.together\.parquet: other texts than in .*0\.tog"):
        statistics.main()
