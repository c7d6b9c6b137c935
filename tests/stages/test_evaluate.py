"""One run by itself: scored, and its metrics printed with the intervals of the tables."""

import json
from pathlib import Path

import numpy as np
import pytest
import worlds
import yaml

from xpool.project import paths
from xpool.project.errors import InputError
from xpool.stages import evaluate, train
from xpool.statistics.bootstrap import REPLICATES, interval
from xpool.statistics.ranks import read_similarity, video_of_text

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def _trained(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("project"))
        worlds.write_project()
        params = yaml.safe_load(Path("params.yaml").read_text())
        params["seeds"] = list(SEEDS)
        Path("params.yaml").write_text(yaml.safe_dump(params))
        train.main(method="xpool", benchmark="msvd")
        yield


def run(seed=0):
    return paths.training("mini", "xpool", "msvd", seed)


def scored(seed):
    return paths.similarity("mini", "xpool", "msvd", seed)


@pytest.mark.usefixtures("_trained")
@pytest.mark.parametrize("named", ["", "checkpoint.safetensors"])
def test_one_run_alone_is_scored_and_printed(named, capsys):
    """By its folder or its file; the figures are those of its similarity."""
    evaluate.main(run=run(1) / named)
    assert scored(1).is_dir()
    assert not scored(0).exists()
    assert set(json.loads(paths.cost("mini", "xpool").read_text())) == {"msvd"}
    printed = capsys.readouterr().out
    assert printed.startswith(f"X-Pool on msvd, seed 1 ({run(1)})\nSYNTHETIC")
    matrix, texts, videos = read_similarity(scored(1))
    right = video_of_text(texts, videos)
    rank = 1 + (matrix > matrix[np.arange(len(right)), right][:, None]).sum(axis=1)
    expected = {"R@1": 100 * np.mean(rank <= 1), "R@10": 100 * np.mean(rank <= 10)}
    expected["MdR"], expected["MnR"] = np.median(rank), rank.mean()
    text = printed.split("Video → text")[0]
    for metric, value in expected.items():
        (line,) = [line for line in text.splitlines() if line.startswith(metric + " ")]
        assert line.split()[1] == f"{value:.2f}"
    hits = 100.0 * (rank <= 1)
    found = interval(
        hits[None], texts["video_id"].to_numpy(str), "R@1", np.random.default_rng(0), REPLICATES
    )
    (line,) = [line for line in text.splitlines() if line.startswith("R@1 ")]
    low, high = (float(part.strip("[],")) for part in line.split()[2:])
    assert low == pytest.approx(found.low, abs=1.5)  # other replicates
    assert high == pytest.approx(found.high, abs=1.5)


@pytest.mark.usefixtures("_trained")
def test_one_run_gives_the_bytes_that_all_runs_give():
    evaluate.main(run=run(0))
    alone = {path.name: path.read_bytes() for path in scored(0).iterdir()}
    evaluate.main(method="xpool")
    assert {path.name: path.read_bytes() for path in scored(0).iterdir()} == alone


@pytest.mark.usefixtures("_trained")
def test_what_is_no_run_is_one_line():
    with pytest.raises(InputError, match="either a run or --method"):
        evaluate.main()
    with pytest.raises(InputError, match="either a run or --method"):
        evaluate.main(run=run(), method="xpool")
    with pytest.raises(InputError, match="model_best.pth: not a run .* `xpool import-checkpoint`"):
        evaluate.main(run=Path("model_best.pth"))
    with pytest.raises(InputError, match=r"mini/train/xpool/msvd/7/checkpoint\.safetensors: "):
        evaluate.main(run=run(7))
