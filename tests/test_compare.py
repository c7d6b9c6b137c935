"""The command that compares two runs: golden figures, oracles, every kind of file, refusals."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from xpool.__main__ import app
from xpool.metrics import METRICS, Ranks, ranks, retrieval_metrics
from xpool.project.errors import InputError
from xpool.project.paths import TOP
from xpool.statistics.files.arrays import read_video_of_text
from xpool.statistics.files.double_counting import counted_twice
from xpool.statistics.files.queries import read
from xpool.statistics.ranks import rank_table

SHARED = Path(__file__).resolve().parents[2] / "shared"
VIDEO_OF_TEXT = np.array([0, 0, 0, 1, 2, 2, 3, 3, 3, 3])


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def scores(seed=0, n_text=40, n_video=40, levels=10_000):
    """A matrix with a better than random diagonal."""
    rng = np.random.default_rng(seed)
    video = np.arange(n_text) if n_text == n_video else VIDEO_OF_TEXT
    right = video[:, None] == np.arange(n_video)
    return np.round((rng.random((n_text, n_video)) + 0.4 * right) * levels) / levels


def saved(name, values):
    path = Path(name)
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        np.savetxt(path, values, delimiter=",", fmt="%.17g")
    return path


def compared(*arguments):
    """What `xpool compare` prints."""
    words = ["compare", *map(str, arguments)]
    return CliRunner().invoke(app, words, catch_exceptions=False).stdout


def as_json(*arguments):
    return json.loads(compared(*arguments, "--json"))


# --- published matrices ---


@pytest.fixture
def cap4video():
    if not SHARED.is_dir():
        pytest.skip("needs ../shared/reference")
    video, titles = (
        np.load(SHARED / "reference" / f"cap4video_msrvtt_{name}_matrix.npy")
        for name in ("video", "titles")
    )
    return saved("video.npy", video), saved("fused.npy", 0.73 * video + 0.27 * titles)


def test_compare_cap4video_golden(cap4video):
    """Golden: measured by others on the published matrices, see ../shared/reference/README.md."""
    found = as_json(*cap4video)
    recall = found["t2v"]["R@1"]
    assert (recall["first"], recall["second"]) == (48.0, pytest.approx(49.1))
    assert recall["delta"] == pytest.approx(1.1)
    assert (recall["won"], recall["lost"]) == (38, 27)
    assert recall["test"] == "exact McNemar"
    assert recall["p_value"] == pytest.approx(0.21, abs=0.005)
    assert (recall["ci_low"], recall["ci_high"]) == pytest.approx((-0.51, 2.76), abs=0.01)
    assert recall["n_queries"] == 1000
    assert found["t2v"]["MnR"]["first"] == pytest.approx(13.129)
    assert "counted_twice" not in recall
    assert found["v2t"]["R@1"]["counted_twice"][0] == pytest.approx(45.5, abs=0.05)
    text = compared(*cap4video)
    assert "[-0.51, +2.76]" in text
    assert "A: R@1 45.5" in text
    assert "over 1012 entries for 1000 queries" in text


def test_docs_print_what_the_command_prints(cap4video, top):
    page = (top / "docs/results/statistics.md").read_text()
    example = page[page.index("## A published gain") : page.index("## Reruns of")]
    text = compared(*cap4video)
    shown = [line for line in example.splitlines() if line.startswith(("R@", "M", "Ties", "  A:"))]
    assert len(shown) >= 8
    for line in shown:
        assert line in text.splitlines() or line.startswith("More")


# --- what is printed ---


def test_json_has_every_metric_and_no_more():
    found = as_json(saved("a.npy", scores(0)), saved("b.npy", scores(1)))
    assert list(found) == ["t2v", "v2t"]
    first, second = (retrieval_metrics(scores(seed), np.arange(40)) for seed in (0, 1))
    for direction, metrics in found.items():
        assert list(metrics) == list(METRICS)
        for metric, one in metrics.items():
            assert {"delta", "ci_low", "ci_high", "p_value", "n_queries"} <= set(one)
            assert one["n_queries"] == 40
            expected = second[direction][metric] - first[direction][metric]
            assert one["delta"] == pytest.approx(expected)
            assert one["ci_low"] <= one["delta"] <= one["ci_high"]
            assert 0 < one["p_value"] <= one["p_holm"] <= 1


def test_compare_swapped_changes_the_sign():
    a, b = saved("a.npy", scores(0)), saved("b.npy", scores(1))
    there, back = as_json(a, b), as_json(b, a)
    for direction, metrics in there.items():
        for metric, one in metrics.items():
            other = back[direction][metric]
            assert other["delta"] == pytest.approx(-one["delta"])
            width = one["ci_high"] - one["ci_low"] + 1e-9
            ends = (-other["ci_high"], -other["ci_low"])
            assert ends == pytest.approx((one["ci_low"], one["ci_high"]), abs=0.1 * width)
            assert other["p_value"] == pytest.approx(one["p_value"], abs=0.03)


def test_compare_twice_prints_the_same():
    files = saved("a.npy", scores(0)), saved("b.npy", scores(1))
    assert compared(*files) == compared(*files)


def test_video_to_text_is_the_transpose():
    there = as_json(saved("a.npy", scores(0)), saved("b.npy", scores(1)))
    turned = as_json(saved("c.npy", scores(0).T), saved("d.npy", scores(1).T))
    for metric in METRICS:
        assert turned["t2v"][metric]["delta"] == pytest.approx(there["v2t"][metric]["delta"])


COMMANDS = (["-m", "xpool", "compare"], ["-m", "xpool.compare"])


def run(command, *arguments):
    return subprocess.run(
        [sys.executable, *command, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(TOP)}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_both_commands_print_the_comparison(command):
    files = saved("a.npy", many(0, 5)), saved("b.csv", many(1, 5))
    options = ("--video-of-text", videos_file())
    done = run(command, *files, *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == compared(*files, *options)
    done = run(command, *files, "--json", *options)
    assert json.loads(done.stdout) == as_json(*files, *options)


@pytest.mark.parametrize("command", COMMANDS)
def test_both_commands_end_with_one_line_on_a_missing_file(command):
    done = run(command, "none.npy", "none.npy")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: none.npy: not found\n"


def test_help_answers_at_once():
    """Neither torch nor pandas nor SciPy may be imported for it; the time is the best of three."""
    argv = "import sys; sys.argv[1:] = ['--help']; import runpy, atexit;"
    check = "atexit.register(lambda: print(sorted({'torch','pandas','scipy'} & set(sys.modules))));"
    code = f"{argv}{check}runpy.run_module('xpool.compare', run_name='__main__')"
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
            cwd=TOP,
        )  # fmt: skip
        times.append(time.perf_counter() - start)
    assert done.stdout.startswith("Usage:")
    assert done.stdout.rstrip().endswith("[]")
    assert min(times) < 2  # 0.2 s on an idle machine


# --- ties ---


def test_counted_twice_matches_the_description():
    """Oracle: sort, subtract, take every zero's position, as the family's issue describes it."""
    matrix = scores(levels=12)
    positions = []
    for query, row in enumerate(matrix):
        distance = np.sort(row)[::-1] - row[query]
        positions += np.flatnonzero(distance == 0).tolist()
    positions = np.array(positions)
    assert len(positions) > 40
    found = counted_twice(ranks(matrix, np.arange(40))["t2v"])
    assert found["entries"] == len(positions)
    assert found["R@5"] == pytest.approx(100 * np.mean(positions < 5))
    assert found["MdR"] == np.median(positions) + 1
    assert found["MnR"] == pytest.approx(positions.mean() + 1)


def test_counted_twice_without_ties_is_the_metric():
    both = ranks(scores(levels=1e12), np.arange(40))
    for of_direction in both.values():
        found = counted_twice(of_direction)
        assert found.pop("entries") == 40
        assert found == pytest.approx({name: of_direction.metrics()[name] for name in METRICS})


def test_ties_are_named_for_one_caption_a_video():
    a, b = saved("a.npy", scores(0, levels=10)), saved("b.npy", scores(1, levels=10))
    assert "count tied queries twice" in compared(a, b)
    clean = saved("c.npy", scores(0)), saved("d.npy", scores(1))
    assert "Ties" not in compared(*clean)


# --- other files ---


def many(seed, levels=10_000):
    return scores(seed, 10, 4, levels)


def videos_file(name="video_of_text.txt"):
    Path(name).write_text("\n".join(map(str, VIDEO_OF_TEXT)) + "\n")
    return name


def test_many_captions_are_drawn_by_video():
    a, b = saved("a.npy", many(0, 5)), saved("b.csv", many(1, 5))
    found = as_json(a, b, "--video-of-text", videos_file())
    assert found["t2v"]["R@1"]["n_queries"] == 10
    assert found["t2v"]["R@1"]["n_videos"] == found["v2t"]["R@1"]["n_queries"] == 4
    for metrics in found.values():  # such code has another metric for these
        assert "counted_twice" not in metrics["R@1"]
    np.save("video_of_text.npy", VIDEO_OF_TEXT)
    assert found == as_json(a, b, "--video-of-text", "video_of_text.npy")


def run_folder(name, matrix, order=None):
    order = np.arange(10) if order is None else order
    folder = Path(name)
    folder.mkdir()
    np.save(folder / "similarity.npy", matrix[order])
    texts = pd.DataFrame(
        {
            "caption_id": [f"caption{i}" for i in order],
            "video_id": [f"video{v}" for v in VIDEO_OF_TEXT[order]],
        }
    )
    videos = pd.DataFrame({"video_id": [f"video{v}" for v in range(4)]})
    texts.to_parquet(folder / "texts.parquet")
    videos.to_parquet(folder / "videos.parquet")
    table = rank_table(ranks(matrix[order], VIDEO_OF_TEXT[order]), texts, videos)
    table.to_parquet(f"{name}.parquet")
    table.to_csv(f"{name}.csv", index=False)


def test_every_kind_of_file_gives_the_same():
    """The second run's queries stand in another order: they are matched by name."""
    order = np.random.default_rng(0).permutation(10)
    run_folder("a", many(0, 9))
    run_folder("b", many(1, 9), order)
    expected = as_json("a", "b")
    for pair in (("a.parquet", "b.parquet"), ("a.csv", "b.csv"), ("a", "b.csv")):
        assert as_json(*pair) == expected
    saved("a.npy", many(0, 9))
    saved("b2.npy", many(1, 9))
    matrices = as_json("a.npy", "b2.npy", "--video-of-text", videos_file())
    for direction, metrics in matrices.items():
        for metric, one in metrics.items():
            assert one == expected[direction][metric]


def test_rank_file_of_others_needs_only_ids_and_ranks():
    Path("a.csv").write_text("rank,query_id\n1,q0\n7,q1\n1,q2\n2.5,q3\n")
    Path("b.csv").write_text("query_id, rank\nq3,1\nq2,1\nq1,2\nq0,1\n")
    found = as_json("a.csv", "b.csv")
    assert list(found) == ["t2v"]
    assert found["t2v"]["R@1"]["delta"] == 25
    assert found["t2v"]["MnR"]["delta"] == 1.25 - 11.5 / 4
    assert (found["t2v"]["MnR"]["won"], found["t2v"]["MnR"]["lost"]) == (2, 0)


def test_rank_file_takes_videos_from_the_option():
    Path("a.csv").write_text("query_id,rank\n" + "".join(f"q{i},1\n" for i in range(10)))
    found = read(Path("a.csv"), read_video_of_text(Path(videos_file())))["t2v"]
    assert found.video.tolist() == [str(v) for v in VIDEO_OF_TEXT]


@pytest.mark.parametrize("half", [1.5, 2.5, 7.5])
def test_rank_alone_keeps_its_value(half):
    Path("a.csv").write_text(f"query_id,rank\nq0,{half}\nq1,{half - 0.5}\n")
    found = read(Path("a.csv"), None)["t2v"].ranks
    assert found.rank.tolist() == [half, half - 0.5]
    assert found.n_tied.tolist() == [2, 1]
    assert (found.n_greater >= 0).all()


# --- several runs a side ---


def test_three_runs_against_three():
    """Oracle: shares of argmax, run by run; wins by the mean over the runs of each side."""
    sides = [[saved(f"{side}{i}.npy", scores(3 * side + i)) for i in range(3)] for side in (0, 1)]
    found = as_json(*sides[0], "vs", *sides[1])["t2v"]["R@1"]
    hits = np.array(
        [[np.load(name).argmax(axis=1) == np.arange(40) for name in side] for side in sides]
    )
    assert (found["first"], found["second"]) == pytest.approx(tuple(100 * hits.mean(axis=(1, 2))))
    won = hits.mean(axis=1)[1] - hits.mean(axis=1)[0]
    assert (found["won"], found["lost"]) == ((won > 1e-9).sum(), (won < -1e-9).sum())
    assert found["n_seeds"] == 3
    assert "Welch" in found["test"]
    by_seed = 100 * hits.mean(axis=2)
    assert found["p_value"] >= stats.ttest_ind(*by_seed, equal_var=False).pvalue
    text = compared(*sides[0], "vs", *sides[1])
    assert "A: 00.npy\n   01.npy\n   02.npy\nB: 10.npy\n" in text
    assert "A: mean of 3 runs, B: of 3. Intervals are over videos and seeds." in text
    assert "One run each" not in text


def test_runs_of_a_side_are_matched_by_name():
    order = np.random.default_rng(0).permutation(10)
    for name, seed, of_run in (("a", 0, None), ("b", 1, order), ("c", 2, None), ("d", 3, order)):
        run_folder(name, many(seed, 9), of_run)
        run_folder(f"{name}_in_order", many(seed, 9))
    there = as_json("a", "b.csv", "vs", "c.parquet", "d")
    assert there == as_json("a", "b_in_order", "vs", "c", "d_in_order")
    back = as_json("d", "c", "vs", "b", "a")
    for direction, metrics in there.items():
        for metric, one in metrics.items():
            assert back[direction][metric]["delta"] == pytest.approx(-one["delta"])


def test_two_against_three_and_one_against_one():
    names = [saved(f"{i}.npy", scores(i)) for i in range(5)]
    assert as_json(*names[:2], "vs", *names[2:])["t2v"]["MnR"]["n_seeds"] == 2
    assert as_json(names[0], "vs", names[1]) == as_json(names[0], names[1])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("a.npy b.npy c.npy", "expected two runs, or A1 A2 ... vs B1 B2 ...; got a.npy b.npy"),
        ("a.npy", "expected two runs"),
        ("a.npy vs b.npy vs c.npy", "expected two runs"),
        ("a.npy b.npy vs", "no run on one side of vs"),
        ("a.npy ./a.npy vs b.npy c.npy", "a.npy: named twice on one side"),
        ("a.npy vs b.npy c.npy", "1 runs against 2: one run says nothing of its seeds"),
        ("a.npy b.npy vs c.npy d.npy", "d.npy: a gallery of 39, but a.npy has 40"),
    ],
)
def test_runs_that_make_no_two_sides_are_named(words, message):
    for i, name in enumerate("abc"):
        saved(f"{name}.npy", scores(i))
    saved("d.npy", scores(0, 39, 39))
    with pytest.raises(InputError, match=message):
        compared(*words.split())


# --- refusals ---


def broken(values, row, column, value):
    values = values.copy()
    values[row, column] = value
    return values


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", np.zeros((3, 4)), "a.npy: 3 texts and 4 videos.*--video-of-text"),
        ("a.npy", np.zeros(3), r"a.npy: expected a matrix of numbers .*\(3,\)"),
        ("a.npy", np.zeros((0, 0)), "a.npy: expected a matrix"),
        ("a.npy", np.array([["x"]]), "a.npy: expected a matrix of numbers"),
        ("a.npy", broken(np.eye(4), 2, 3, np.nan), "a.npy: similarity row 2: NaN"),
        ("a.npy", np.array([[{}]], dtype=object), "a.npy: not an array of numbers"),
        ("a.csv", "1,2\n3\n", "a.csv line 2: 1 numbers, but 2 before"),
        ("a.csv", "1,2\n3,x\n", "a.csv line 2: expected numbers only.*'x'"),
        ("a.csv", "1,video\n1,2\n", "a.csv line 1: expected numbers only, or a first line"),
        ("a.csv", "1,nan\n3,4\n", "a.csv: similarity row 0: NaN"),
        ("a.csv", "", "a.csv: empty"),
        ("a.csv", "query_id,rank\n", "a.csv: no queries"),
        ("a.csv", "query_id,place\nq,1\n", "a.csv: no column rank; it has query_id, place"),
        ("a.csv", "rank\n1\n", "a.csv: no column query_id"),
        ("a.csv", "query_id,rank\nq0,1\nq1,0\n", r"row 2 \(query q1\): rank 0; ranks start at 1"),
        ("a.csv", "query_id,rank\nq0,1\nq1,\n", r"row 2 \(query q1\): rank ; expected a number"),
        ("a.csv", "query_id,rank\nq0,nan\n", r"row 1 \(query q0\): rank nan; expected a number"),
        ("a.csv", "query_id,rank\nq0,1.2\n", "rank 1.2; expected whole or half"),
        ("a.csv", "query_id,rank\nq0,1\nq0,2\n", "a.csv row 2: query q0 appears twice"),
        ("a.csv", "query_id,rank,direction\nq0,1,x\n", "a.csv row 1: direction 'x'"),
        ("a.csv", "query_id,rank,n_greater,n_tied\nq,2,0,1\n", "rank 2; expected n_greater"),
        ("a.csv", "query_id,rank\nq0,1,3,4\nq0,1,2,2,3\n", "a.csv: not a table"),
        ("a.txt", "1", "a.txt: expected a run's folder"),
        ("a.parquet", "no parquet", "a.parquet: not a table"),
    ],
)  # fmt: skip
def test_broken_file_is_named(name, content, message):
    if isinstance(content, str):
        Path(name).write_text(content)
    else:
        np.save(name, content, allow_pickle=True)
    with pytest.raises(InputError, match=message):
        read(Path(name), None)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("0\n1.5\n", "video_of_text.txt line 2: expected the column of a video, from 0; got '1.5'"),
        ("0\n-1\n", "video_of_text.txt line 2"),
        ("0\n1\n", "a.npy: 3 texts, but 2 lines"),
        ("0\n1\n9\n", "a.npy: video_of_text row 2: video 9 is no column"),
    ],
)
def test_broken_video_of_text_is_named(lines, message):
    Path("video_of_text.txt").write_text(lines)
    saved("a.npy", np.eye(3, 4))
    with pytest.raises(InputError, match=message):
        read(Path("a.npy"), read_video_of_text(Path("video_of_text.txt")))


def test_videos_given_twice_are_refused():
    run_folder("a", many(0))
    for name in ("a", "a.parquet", "a.csv"):
        with pytest.raises(InputError, match=f"{name}: names the video of each text itself"):
            read(Path(name), VIDEO_OF_TEXT)


def test_missing_files_are_named():
    with pytest.raises(InputError, match="none.npy: not found"):
        compared("none.npy", "none.npy")
    with pytest.raises(InputError, match="none.txt: not found"):
        compared("a.npy", "b.npy", "--video-of-text", "none.txt")


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.eye(3), np.eye(4), "b.npy: a gallery of 4, but a.npy has 3"),
        ("query_id,rank\nq0,1\nq1,1\n", "query_id,rank\nq0,1\nq2,1\n",
         "b.csv: other queries than a.csv .*query q1 is not in b.csv and query q2 is not in a.csv"),
        ("query_id,rank\nq0,1\n", "query_id,rank\nq0,1\nq2,1\n", "query q2 is not in a.csv"),
        ("query_id,rank,video_id\nq0,1,v0\n", "query_id,rank,video_id\nq0,1,v1\n",
         "b.csv: query q0 belongs to video v1, but in a.csv to v0"),
        ("query_id,rank,direction\nq0,1,t2v\n", "query_id,rank,direction\nq0,1,v2t\n",
         "b.csv: has v2t, and a.csv has t2v"),
        (np.eye(2), "query_id,rank\n0,1\n", "a.npy: does not name its queries, and b.csv does"),
        ("query_id,rank\n0,1\n", np.eye(2), "b.npy: does not name its queries, and a.csv does"),
    ],
)  # fmt: skip
def test_runs_that_do_not_fit_each_other_are_named(a, b, message):
    names = []
    for name, content in (("a", a), ("b", b)):
        names.append(f"{name}.csv" if isinstance(content, str) else f"{name}.npy")
        if isinstance(content, str):
            Path(names[-1]).write_text(content)
        else:
            np.save(names[-1], content)
    with pytest.raises(InputError, match=message):
        compared(*names)


def test_rank_table_of_an_older_run_asks_for_a_new_one():
    pd.DataFrame({"direction": ["t2v"], "query_id": ["q"], "rank": [1.0]}).to_parquet("a.parquet")
    with pytest.raises(InputError, match=r"a.parquet: no column video_id.*dvc repro"):
        read(Path("a.parquet"), None)


def test_perfect_runs_are_equal():
    saved("a.npy", np.eye(9))
    text = compared("a.npy", "a.npy")
    assert "A and B rank the right answer of every query alike." in text
    assert "would be found" not in text
    score = 400 / (9 + 4)  # 9 equal queries do not prove that all are
    assert f"R@1   100.00  100.00  +0.00  [-{score:.2f}, +{score:.2f}]  1.000" in text


@pytest.mark.parametrize("n", [3, 5, 6, 60])
def test_one_discordant_query_claims_nothing_that_mcnemar_cannot_reject(n):
    """Exact McNemar needs six discordant queries: 2 / 2**6 < 0.05 < 2 / 2**5."""
    scores = np.eye(n)
    saved("a.npy", scores)
    scores[0, :2] = scores[0, 1::-1]
    saved("b.npy", scores)
    one = as_json("a.npy", "b.npy")["t2v"]["R@1"]
    if n < 6:
        assert one["detectable"] is None
        assert "five videos or fewer" in compared("a.npy", "b.npy")
    else:
        assert one["detectable"] >= 600 / n
        assert "would be found in 80 % of such comparisons (p < 0.05" in compared("a.npy", "b.npy")


def test_take_moves_everything():
    Path("a.csv").write_text("query_id,rank\nq0,1\nq1,4\nq2,2.5\n")
    found = read(Path("a.csv"), None)["t2v"]
    moved = found.take(np.array([2, 0, 1]))
    assert moved.ids.tolist() == ["q2", "q0", "q1"]
    assert isinstance(moved.ranks, Ranks)
    assert moved.ranks.rank.tolist() == [2.5, 1, 4]
