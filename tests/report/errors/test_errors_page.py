"""The errors page on made-up similarities: worst queries, hubs and misses against slow loops."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import worlds
import yaml
from browser import assert_page_of_report, chromium
from made_results import PARAMS, copy_notebook, write_results

from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.paths import TOP
from xpool.report.errors import cards, contents, hubs
from xpool.report.protocol import read_protocols, with_xpool
from xpool.stages import report

VIDEOS, CAPTIONS = 24, 2
METHODS, SEEDS = ("mean_pool", "xpool"), (0, 1)
MARKED = "a <b>dog</b> & $x$"


def captions():
    """The caption of text i; every fourth is that of another video too."""
    found = [f"thing {i} of {i % 3}" for i in range(VIDEOS * CAPTIONS)]
    found[::4] = ["The same thing." if i % 8 else "the same thing" for i in range(0, 48, 4)]
    return [*found[:-1], MARKED]


def matrix(method, seed):
    rng = np.random.default_rng([METHODS.index(method), seed])
    scores = rng.normal(size=(VIDEOS * CAPTIONS, VIDEOS))
    scores[np.arange(len(scores)), np.arange(len(scores)) // CAPTIONS] += 1
    return scores.astype(np.float32)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    worlds.write_pixels("mini", "msvd", (1, 1, VIDEOS), CAPTIONS)
    frames = yaml.safe_load((TOP / "params.yaml").read_text())["frames"]
    changes = {"benchmarks": ["msvd"], "baselines": ["mean_pool"], "seeds": list(SEEDS)}
    train = PARAMS["train"] | {"frames": worlds.FRAMES}
    frames |= {"counts": [worlds.FRAMES], "rules": ["uniform"]}
    write_results(PARAMS | changes | {"train": train, "frames": frames}, curves=False)
    manifest = pd.read_parquet(paths.manifest("mini", "msvd"))
    manifest.loc[manifest["split"] == "test", "caption"] = captions()
    manifest.to_parquet(paths.manifest("mini", "msvd"))
    texts = manifest[manifest["split"] == "test"][["caption_id", "video_id"]]
    for method, seed in itertools.product(METHODS, SEEDS):
        folder = paths.similarity("mini", method, "msvd", seed)
        folder.mkdir(parents=True)
        np.save(folder / "similarity.npy", matrix(method, seed))
        texts.reset_index(drop=True).to_parquet(folder / "texts.parquet")
        texts[["video_id"]].drop_duplicates().reset_index(drop=True).to_parquet(
            folder / "videos.parquet"
        )
    return tmp_path


def opened():
    (protocol,) = with_xpool(read_protocols())
    return contents.read_errors(protocol)


def slow_rank(method, seed, text):
    row = matrix(method, seed)[text].tolist()
    return 1 + sum(score > row[text // CAPTIONS] for score in row)


@pytest.mark.usefixtures("project")
def test_the_worst_queries_match_a_slow_loop():
    found = opened().worst()
    mean = {
        text: np.mean([slow_rank("xpool", seed, text) for seed in SEEDS])
        for text in range(VIDEOS * CAPTIONS)
    }
    order = sorted(mean, key=lambda text: (-mean[text], text))[:20]
    assert len(found) == 20
    for miss, text in zip(found, order, strict=True):
        assert miss.caption == captions()[text]
        assert miss.video_id == f"test{text // CAPTIONS}"
        assert miss.found_id == f"test{int(np.argmax(matrix('xpool', 0)[text]))}"
        for method in METHODS:
            slow = np.mean([slow_rank(method, seed, text) for seed in SEEDS])
            assert miss.ranks[method] == pytest.approx(slow)
    assert list(found[0].ranks) == ["xpool", "mean_pool"]


@pytest.mark.usefixtures("project")
def test_texts_that_every_seed_finds_are_no_misses():
    assert len(opened().worst(1000)) < VIDEOS * CAPTIONS


@pytest.mark.usefixtures("project")
def test_hubs_match_a_slow_loop():
    errors = opened()
    counts = np.zeros((len(METHODS), len(SEEDS), VIDEOS))
    for (m, method), seed, text in itertools.product(
        enumerate(METHODS), SEEDS, range(VIDEOS * CAPTIONS)
    ):
        row = matrix(method, seed)[text].tolist()
        for video in sorted(range(VIDEOS), key=lambda v: -row[v])[: hubs.K]:
            counts[m, seed, video] += 1
    mean = counts.mean(axis=1)
    table = errors.occurrences().pivot(index="video_id", columns="method", values="occurrences")
    for m, method in enumerate(METHODS):
        for video in range(VIDEOS):
            assert table.loc[f"test{video}", method] == mean[m, video]
    first = errors.hubs()[0]
    assert first.video_id == f"test{mean[1].argmax()}"
    assert (first.occurrences, first.texts) == (mean[1].max(), CAPTIONS)
    rows = errors.hub_rows().set_index("method")
    never = 100 * (counts[1] == 0).mean()
    assert rows.loc["X-Pool", "never found, %"] == never
    assert rows.loc["X-Pool", "largest N_10"] == counts[1].max(axis=1).mean()


@pytest.mark.usefixtures("project")
def test_misses_that_are_right_for_their_caption_match_a_slow_loop():
    rows = opened().miss_rows().set_index("method")
    said = [caption.lower().rstrip(".") for caption in captions()]
    for name, method in (("X-Pool", "xpool"), ("Mean pooling", "mean_pool")):
        missed, same = [], []
        for seed in SEEDS:
            first = matrix(method, seed).argmax(axis=1)
            wrong = [text for text in range(len(said)) if first[text] != text // CAPTIONS]
            alike = [t for t in wrong if said[t] in said[2 * first[t] : 2 * first[t] + 2]]
            missed.append(100 * len(wrong) / len(said))
            same.append(100 * len(alike) / len(wrong))
        assert max(same) > 0
        assert rows.loc[name, "misses, % of texts"] == pytest.approx(np.mean(missed))
        assert rows.loc[name, "same caption, % of misses"] == pytest.approx(np.mean(same))


@pytest.mark.usefixtures("project")
def test_cards_show_text_as_text_and_name_both_videos():
    errors = opened()
    (miss,) = [one for one in errors.worst(48) if one.caption == MARKED] or errors.worst(1)
    films = contents.Films(errors.protocol)
    text = cards.miss_cards([miss], films)._repr_html_()
    assert "<b>" not in text
    assert f"Right: {miss.video_id}" in text
    assert text.count("<img") == 1 + (miss.found_id != miss.video_id)
    assert 1 < len(films.frames(miss.video_id, 3)) <= 3


@pytest.mark.usefixtures("project")
def test_a_run_on_other_texts_is_named():
    folder = paths.similarity("mini", "mean_pool", "msvd", 1)
    texts = pd.read_parquet(folder / "texts.parquet")
    texts.iloc[::-1].reset_index(drop=True).to_parquet(folder / "texts.parquet")
    with pytest.raises(InputError, match=r"mean_pool/msvd/1: its texts .*dvc repro"):
        opened()


@pytest.mark.slow
@pytest.mark.usefixtures("quick_kernels")
def test_the_page_is_whole_and_the_same_twice(project):
    copy_notebook("errors")

    def run():
        report.main("errors")
        files = [*paths.errors("mini").iterdir(), paths.report("mini", "errors")]
        return {path.name: path.read_bytes() for path in files}

    first = run()
    assert set(first) == {
        "errors.html", "occurrences.png", "occurrences.svg",
        *(f"{n}.{end}" for n in ("leads-msvd", "hubs", "misses") for end in ("csv", "md", "tex")),
    }  # fmt: skip
    page = first["errors.html"].decode()
    assert page.count("<article>") == contents.WORST + contents.HUBS
    assert page.count("SYNTHETIC") >= 5
    with chromium(project / "profile") as driver:
        assert_page_of_report(driver, paths.report("mini", "errors"))
    assert run() == first


def test_what_the_page_imports_loads_no_torch():
    """It would take seconds of the pipeline."""
    cells = json.loads(Path(TOP, "notebooks/errors.ipynb").read_text())["cells"]
    (source,) = ["".join(cell["source"]) for cell in cells if cell["id"] == "read"]
    imports = source[: source.index("protocols =")]
    code = f"{imports}\nimport sys\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=TOP, check=True)
