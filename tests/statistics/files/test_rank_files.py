"""TREC runs and their qrels against matrices that nothing was cut from, and their refusals."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from xpool.__main__ import app
from xpool.project.errors import InputError
from xpool.statistics.files.queries import read_trec
from xpool.statistics.files.rank_files import read_qrels, trec_run


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


VIDEO_OF_TEXT = np.arange(60) // 2


def scores(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(60, 30)) + 1.2 * (VIDEO_OF_TEXT[:, None] == np.arange(30))


def write(name, matrix, depth, shuffle=True):
    """Write the best `depth` videos of each text; lines in any order, as trec_eval allows."""
    found = [
        f"text{text} Q0 video{video} {rank} {row[video]!r} tag"
        for text, row in enumerate(matrix.tolist())
        for rank, video in enumerate(np.argsort(row)[::-1][:depth], start=1)
    ]
    if shuffle:
        np.random.default_rng(0).shuffle(found)
    Path(name).write_text("\n".join(found) + "\n")
    return name


def write_qrels(video_of_text=VIDEO_OF_TEXT):
    found = [f"text{text}\t0\tvideo{video}\t1" for text, video in enumerate(video_of_text)]
    Path("qrels.txt").write_text("\n".join(["text0 0 video9 0", *found]) + "\n")


def compared(*words):
    words = ["compare", *map(str, words)]
    return CliRunner().invoke(app, words, catch_exceptions=False).stdout


def test_runs_cut_at_ten_equal_the_whole_matrix_up_to_ten():
    """Oracle: positions in each sorted row, and what the matrices give."""
    write_qrels()
    for name, seed in (("a", 0), ("b", 1)):
        write(f"{name}.trec", scores(seed), 10)
        np.save(f"{name}.npy", scores(seed))
    np.save("v.npy", VIDEO_OF_TEXT)
    options = ("--qrels", "qrels.txt", "--depth", 10)
    found = json.loads(compared("a.trec", "b.trec", *options, "--json"))
    whole = json.loads(compared("a.npy", "b.npy", "--video-of-text", "v.npy", "--json"))
    assert list(found) == ["t2v"]
    assert list(found["t2v"]) == ["R@1", "R@5", "R@10"]
    for seed, side in ((0, "first"), (1, "second")):
        order = np.argsort(scores(seed))[:, ::-1]
        position = np.argmax(order == VIDEO_OF_TEXT[:, None], axis=1)
        for cutoff in (1, 5, 10):
            expected = 100 * np.mean(position < cutoff)
            assert found["t2v"][f"R@{cutoff}"][side] == pytest.approx(expected)
    for metric, one in found["t2v"].items():
        for figure in ("delta", "won", "lost", "ci_low", "ci_high", "p_value", "n_videos"):
            assert one[figure] == pytest.approx(whole["t2v"][metric][figure])
    text = compared("a.trec", "b.trec", *options)
    assert "Ranks beyond 10 are unknown: metrics that need them are left out." in text
    assert "MnR  " not in text


def test_less_than_the_listed_depth_may_be_stated():
    write_qrels()
    write("a.trec", scores(0), 20)
    found = compared("a.trec", "a.trec", "--qrels", "qrels.txt", "--depth", 7)
    assert "R@5 " in found
    assert "R@10 " not in found


def test_several_runs_a_side():
    write_qrels()
    names = [write(f"{seed}.trec", scores(seed), 10) for seed in range(4)]
    options = ("--qrels", "qrels.txt", "--depth", 10, "--json")
    found = json.loads(compared(*names[:2], "vs", *names[2:], *options))["t2v"]["R@1"]
    hits = [np.mean(scores(seed).argmax(axis=1) == VIDEO_OF_TEXT) for seed in range(4)]
    assert found["delta"] == pytest.approx(100 * (hits[2] + hits[3] - hits[0] - hits[1]) / 2)


def test_ties_and_unlisted_videos(caplog):
    """Text q0 ties in the middle of its list, q1 is not listed, q2 ties with the last."""
    Path("run").write_text(
        "q0 Q0 a 1 3.0 t\nq0 Q0 b 2 2.5 t\nq0 Q0 c 3 2.5 t\nq0 Q0 d 4 1 t\n"
        "q1 Q0 a 1 4 t\nq1 Q0 b 2 3 t\nq1 Q0 c 3 2 t\nq1 Q0 d 4 1 t\n"
        "q2 Q0 a 1 4 t\nq2 Q0 b 2 3 t\nq2 Q0 c 3 1e-3 t\nq2 Q0 d 4 0.001 t\n"
    )
    Path("qrels").write_text("q2 0 d 2\nq0 0 c 1\nq1 0 e 1\n")
    with caplog.at_level(logging.WARNING):
        found = read_trec(Path("run"), read_qrels(Path("qrels")), 4)["t2v"]
    assert found.ids.tolist() == ["q2", "q0", "q1"]
    assert found.video.tolist() == ["d", "c", "e"]
    assert found.ranks.rank.tolist() == [3.5, 2.5, 5]
    assert [found.ranks.recall(k) for k in (1, 2, 3)] == pytest.approx([0, 50 / 3, 50])
    assert "run: in 1 queries the right answer ties with the last listed" in caplog.text


@pytest.mark.parametrize(
    ("run", "depth", "message"),
    [
        ("", 1, "run: empty; expected lines 'query Q0 video rank score tag'"),
        ("q Q0 a 1 1.0", 1, "run line 1: 5 fields; expected 'query Q0 video"),
        ("q,Q0,a,1,1.0,t", 1, "run line 1: 1 fields"),
        ("q Q0 a 1 1 t\n\nq Q0 b 2 x t", 1, r"run line 3 \(query q\): score x; expected a finite"),
        ("q Q0 a 1 nan t", 1, "score nan; expected a finite"),
        ("q Q0 a 1 1e999 t", 1, "score 1e999; expected a finite"),
        ("q Q0 a 1 1 t\nq Q0 a 2 0 t", 1, r"run line 2 \(query q\): video a is listed twice"),
        ("p Q0 a 1 1 t", 1, r"run line 1 \(query p\): not in the qrels"),
        ("q Q0 b 1 1 t", 2, "run: query q: 1 videos are listed and not the right one.*--depth 2"),
        ("q Q0 a 1 .1 t\nq Q0 b 2 .2 t", 1, "run: scores grow from the first rank to the last"),
    ],
)
def test_broken_run_is_one_line(run, depth, message):
    Path("run").write_text(run)
    with pytest.raises(InputError, match=message):
        trec_run(Path("run"), {"q": "a"}, depth)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "qrels: empty"),
        (b"q 0 a", "qrels line 1: 3 fields; expected 'query 0 video relevance'"),
        (b"q 0 a yes", r"qrels line 1 \(query q\): relevance yes"),
        (b"q 0 a 1\nq 0 b 1", "qrels line 2: query q has two right answers, a and b"),
        (b"p 0 a 1\nq 0 a 0\n", "qrels line 2: query q has no right answer"),
        (b"\xff\xfe", "qrels: not text in UTF-8"),
    ],
)
def test_broken_qrels_are_one_line(content, message):
    Path("qrels").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_qrels(Path("qrels"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--qrels", "qrels.txt"), "TREC runs need both --qrels FILE and --depth N"),
        (("--depth", 3), "TREC runs need both"),
        (("--qrels", "none", "--depth", 3), "none: not found"),
        (("--qrels", "qrels.txt", "--depth", 3), "none.trec: not found"),
        (("--qrels", "qrels.txt", "--depth", 3, "--video-of-text", "v"), "drop --video-of-text"),
    ],
)
def test_options_that_do_not_fit(options, message):
    write_qrels()
    with pytest.raises(InputError, match=message):
        compared("none.trec", "none.trec", *options)
