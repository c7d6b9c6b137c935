"""Matrices of anybody's code: every format gives the same numbers, and what is broken is named."""

import json
import logging
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from xpool.project.errors import InputError
from xpool.statistics.files.arrays import read_scores, read_video_of_text
from xpool.statistics.files.queries import compare, read


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


SCORES = np.round(np.random.default_rng(0).normal(size=(5, 5)) + 2 * np.eye(5), 3)
NAMES = [f"video{i}" for i in range(5)]


def as_lines(values, between=","):
    return "\n".join(between.join(map(str, row)) for row in values) + "\n"


# --- formats ---


def write_pandas(name, **options):
    pd.DataFrame(SCORES, index=NAMES, columns=NAMES).to_csv(name, **options)


WRITERS = {
    "one.npz": lambda: np.savez("one.npz", sims=SCORES),
    "two.npz:sims": lambda: np.savez_compressed("two.npz", sims=SCORES, epoch=np.arange(3)),
    "arr.npy": lambda: np.save("arr.npy", np.asfortranarray(SCORES.astype(">f8"))),
    "tensor.pt": lambda: torch.save(torch.tensor(SCORES, requires_grad=True), "tensor.pt"),
    "one.pth": lambda: torch.save({"sims": torch.tensor(SCORES), "epoch": 3}, "one.pth"),
    "two.pt:sims": lambda: torch.save({"sims": torch.tensor(SCORES), "t": torch.ones(2)}, "two.pt"),
    "a.csv": lambda: Path("a.csv").write_text(as_lines(SCORES)),
    "a.tsv": lambda: Path("a.tsv").write_text(as_lines(SCORES, "\t")),
    "crlf.csv": lambda: Path("crlf.csv").write_bytes(
        b"\xef\xbb\xbf" + as_lines(SCORES, " , ").replace("\n", "\r\n\r\n").encode()
    ),
    "header.csv": lambda: write_pandas("header.csv", index=False),
    "quoted.csv": lambda: write_pandas("quoted.csv", index=False, quoting=1),
    "labels.csv": lambda: write_pandas("labels.csv"),
    "labels.tsv": lambda: write_pandas("labels.tsv", sep="\t", index_label="caption"),
    "plain.csv": lambda: pd.DataFrame(SCORES).to_csv("plain.csv"),
    "hash.csv": lambda: np.savetxt("hash.csv", SCORES, delimiter=",", header=",".join(NAMES)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_matrix(name):
    WRITERS[name]()
    np.testing.assert_array_equal(read_scores(Path(name)).matrix, SCORES)


def test_bfloat16_is_read():
    torch.save(torch.tensor(SCORES, dtype=torch.bfloat16), "a.pt")
    np.testing.assert_allclose(read_scores(Path("a.pt")).matrix, SCORES, rtol=2**-8)


class Code:
    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("name", ["a.pt", "a.npy", "a.npz"])
def test_no_code_of_a_file_runs(name):
    Path(name).write_bytes(pickle.dumps(Code()))
    with pytest.raises(InputError, match=f"{name}: .*not a"):
        read(Path(name), None)
    torch.save(Code(), "b.pt")
    with pytest.raises(InputError, match="b.pt: .*not a tensor .* without running code"):
        read(Path("b.pt"), None)
    assert not Path("ran").exists()


def test_names_of_columns_and_rows_are_compared():
    write_pandas("a.csv")
    turned = pd.DataFrame(SCORES, index=NAMES, columns=NAMES)[[NAMES[1], NAMES[0], *NAMES[2:]]]
    turned.to_csv("b.csv")
    np.save("c.npy", SCORES)
    first, second, none = (read(Path(name), None) for name in ("a.csv", "b.csv", "c.npy"))
    with pytest.raises(
        InputError, match=r"b: names of columns differ from a: number 1 is 'video1'"
    ):
        compare([first], [second], (["a"], ["b"]))
    assert compare([first], [none], (["a"], ["c"]))["t2v"]["R@1"].delta == 0


# --- videos with several captions, padded ---


@pytest.mark.parametrize("padding", [-np.inf, np.nan])
def test_padded_captions_are_ranked_as_one_by_one(padding):
    """Oracle: ranks counted caption by caption, on a list of lists."""
    rng = np.random.default_rng(1)
    counts = [2, 0, 3, 1]  # the second video has no captions: it distracts only
    captions = [rng.normal(size=(n, 4)).tolist() for n in counts]
    padded = np.full((4, 3, 4), padding)
    for video, rows in enumerate(captions):
        for number, row in enumerate(rows):
            padded[video, number] = row
    np.save("a.npy", padded)
    found = read(Path("a.npy"), None)
    expected, videos = [], []
    for video, rows in enumerate(captions):
        for row in rows:
            expected.append(1 + sum(score > row[video] for score in row))
            videos.append(str(video))
    assert found["t2v"].ranks.rank.tolist() == expected
    assert found["t2v"].video.tolist() == videos
    best = [[max(row[video] for row in rows) for rows in captions if rows] for video in (0, 2, 3)]
    expected = [1 + sum(score > row[own] for score in row) for own, row in enumerate(best)]
    assert found["v2t"].ranks.rank.tolist() == expected
    assert found["v2t"].ids.tolist() == ["0", "2", "3"]


def test_padded_captions_have_the_official_metrics():
    """Golden: what the official code gives, in both directions, see ../shared/reference."""
    reference = Path(__file__).resolve().parents[3] / "shared/reference/official_small.npz"
    if not reference.is_file():
        pytest.skip("needs ../shared/reference")
    official = np.load(reference)
    sims, video = official["sims"], official["video_index"]
    padded = np.full((30, np.bincount(video).max(), 30), -np.inf)
    for column in range(30):
        own = sims[video == column]
        padded[column, : len(own)] = own
    np.save("a.npy", padded)
    plain = read(Path(f"{reference}:sims"), read_video_of_text(Path(f"{reference}:video_index")))
    for direction, metrics in json.loads(str(official["metrics"])).items():
        for found in (read(Path("a.npy"), None), plain):
            ours = found[direction].ranks.metrics()
            ours = [ours[name] for name in ("R@1", "R@5", "R@10", "R@50", "MdR", "MnR")]
            theirs = [metrics[name] for name in ("R1", "R5", "R10", "R50", "MedR", "MeanR")]
            assert ours == pytest.approx(theirs)


# --- hints ---


def hints(caplog, name, values, video_of_text=None):
    np.save(name, values)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        read(Path(name), video_of_text)
    return caplog.text


def test_worse_than_chance_hints_at_distances_or_turned_axes(caplog):
    rng = np.random.default_rng(0)
    near = rng.normal(size=(40, 40)) + 1.5 * np.eye(40)
    assert "a.npy: far below chance (R@1 0.00, by chance 2.50" in hints(caplog, "a.npy", -near)
    assert not hints(caplog, "a.npy", near)
    video = np.repeat(np.arange(10), 40)
    many = rng.normal(size=(400, 10))
    many[np.arange(400), video] = np.sort(many, axis=1)[:, -2]  # second at best: R@1 is 0
    assert "are these distances" in hints(caplog, "b.npy", many, video)


def test_chance_itself_gets_no_hint(caplog):
    """About one matrix in 500 may; of these none does."""
    for seed in range(50):
        assert not hints(caplog, "a.npy", np.random.default_rng(seed).normal(size=(30, 30)))
    assert not hints(caplog, "a.npy", np.zeros((30, 30)))


def test_rank_file_without_videos_warns(caplog):
    Path("a.csv").write_text("query_id,rank\nq0,1\nq1,2\n")
    Path("b.tsv").write_text("query_id\tvideo_id\trank\nq0\tv0\t1\nq1\tv0\t2\n")
    with caplog.at_level(logging.WARNING):
        assert read(Path("b.tsv"), None)["t2v"].video.tolist() == ["v0", "v0"]
        assert not caplog.text
        read(Path("a.csv"), np.array([0, 0]))
        assert not caplog.text
        read(Path("a.csv"), None)
    assert "a.csv: no video_id, so captions are taken as independent" in caplog.text


# --- refusals ---


def of_bytes(content):
    return lambda path: path.write_bytes(content)


def array(values):
    return lambda path: np.save(path, values)


PADDED = np.zeros((2, 2, 2))
PADDED[1, 1] = [-np.inf, 0]
HUGE = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999, 99999999), }\n"
HUGE = np.lib.format.magic(1, 0) + len(HUGE).to_bytes(2, "little") + HUGE
CUT = np.lib.format.magic(1, 0) + b"\x10\x00{'descr': '<f8'"


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.npy", of_bytes(b""), "a.npy: empty"),
        ("a.npz", of_bytes(b""), "a.npz: empty"),
        ("a.pt", of_bytes(b""), "a.pt: empty"),
        ("a.csv", of_bytes(b""), "a.csv: empty"),
        ("a.csv", of_bytes(b"\n \n,,\n"), "a.csv: empty"),
        ("a.csv", of_bytes(b"video0,video1\n"), "a.csv: empty"),
        ("a.npy", of_bytes(bytes(range(256))), "a.npy: not an array"),
        ("a.npy", of_bytes(CUT), "a.npy: not an array"),
        ("a.npy", of_bytes(HUGE), "a.npy: not an array"),
        ("a.npz", of_bytes(b"PK\x03\x04broken"), "a.npz: not an array"),
        ("a.pt", of_bytes(bytes(range(256))), "a.pt: broken, or not a tensor"),
        ("a.pt", of_bytes(b"PK\x03\x04broken"), "a.pt: broken, or not a tensor"),
        ("a.pt", lambda path: torch.save([1.0], path), "a.pt: expected a matrix .* float64 .1,."),
        ("a.pt", lambda path: torch.save({"epoch": 1}, path), "a.pt: holds no arrays"),
        ("a.pt", lambda path: torch.save(torch.eye(3).to_sparse(), path), "a.pt: broken, or"),
        ("a.pt", lambda path: torch.save(torch.eye(3) + 1j, path), "a.pt: expected .*real part"),
        ("a.npz", lambda path: np.savez(path), "a.npz: holds no arrays"),
        ("a.npz", lambda path: np.savez(path, a=SCORES, b=SCORES), "a.npz: 2 arrays; it has a, b; "
         "name one, as a.npz:a"),
        ("a.npz:c", lambda path: np.savez("a.npz", a=SCORES), "a.npz: no array c; it has a"),
        ("a.pt:c", lambda path: torch.save(torch.eye(3), "a.pt"), "a.pt: holds one .* drop ':c'"),
        ("a.npz:c", lambda path: None, "a.npz: not found"),
        ("a.csv", of_bytes(bytes(range(128, 256))), "a.csv: not a table in UTF-8"),
        ("a.csv", of_bytes("1,2\n3,4\n".encode("utf-16")), "a.csv: not a table in UTF-8"),
        ("a.csv", of_bytes(b"1,2\n" + b"\xff\n"), "a.csv: not a table in UTF-8"),
        ("a.csv", of_bytes(b"0;1\n1;0\n"), "a.csv line 1: semicolons .* expected commas"),
        ("a.csv", of_bytes(b"0,5;0,1\n"), "a.csv line 1: semicolons .* points in decimal"),
        ("a.csv", of_bytes(b"query_id;rank\nq;1\n"), "a.csv line 1: semicolons"),
        ("a.csv", of_bytes(b"0\t1\n1\t0\n"), r"a.csv line 1: tabs \(.tsv\)"),
        ("a.tsv", of_bytes(b"0,1\n1,0\n"), r"a.tsv line 1: commas \(.csv\)"),
        ("a.csv", of_bytes(b"0 1\n1 0\n"), "a.csv line 1: spaces"),
        ("a.csv", of_bytes(b"0,1\n.1,.2\n.1,.2\n"), "a.csv: the first line holds whole numbers"),
        ("a.csv", of_bytes(b"7010,7011\n.1,.2\n.1,.2\n"), "a.csv: the first line holds whole"),
        ("a.csv", of_bytes(b"0,.1,.2\n1,.1,.2\n2,.1,.2\n"), "a.csv: the first column holds whole"),
        ("a.csv", of_bytes(b"t,a,b\n8,.1,.2\n9,.1,.2\n"), "a.csv: the first column holds whole"),
        ("a.csv", of_bytes(b"a,b\n1,2\nx,2\n"), "a.csv line 3: expected numbers only"),
        ("a.csv", of_bytes(b"1,2\n1,1e400\n"), "a.csv: similarity row 1: NaN or infinity"),
        ("a.csv", of_bytes(b"1,2\n1,1+2j\n"), "a.csv line 2: expected numbers only"),
        ("a.npy", array(np.eye(3) * 1j), "a.npy: expected a matrix of numbers .* real part"),
        ("a.npy", array(np.eye(3) > 0), "a.npy: expected a matrix of numbers .* before any thresh"),
        ("a.npy", array(np.zeros((2, 0))), "a.npy: expected a matrix .*not empty"),
        ("a.npy", array(np.float64(3)), "a.npy: expected a matrix"),
        ("a.npy", array(np.zeros((3, 2, 2))), "a.npy: expected .video, caption, video."),
        ("a.npy", array(PADDED), "a.npy: video 1, caption 1: NaN or infinity beside numbers"),
        ("a.npy", array(np.full((2, 2, 2), np.nan)), "a.npy: every row is -inf or NaN"),
        ("a.npy", array(np.full((2, 2), -np.inf)), "a.npy: similarity row 0: NaN or infinity"),
        ("a.csv", of_bytes(b"query_id,rank\nq,1e300\n"), r"\(query q\): rank 1e300; no gallery"),
        ("a.csv", of_bytes(b"query_id,rank\nq,inf\n"), r"\(query q\): rank inf; expected a number"),
        ("a.csv", of_bytes(b"query_id,rank,n_greater,n_tied\nq,1e300,1e300,1\n"), "rank 1e300"),
        ("a.csv", of_bytes(b"query_id,rank,rank\nq,1,2\n"), "a.csv: column rank is there twice"),
        ("a.csv", of_bytes(b"query_id,rank\n,1\n"), "a.csv row 1 .*query_id ; is empty"),
        ("a.csv", of_bytes(b"query_id,rank,video_id\nq,1, \n"), "row 1 .*video_id"),
    ],
)  # fmt: skip
def test_broken_file_is_one_line(name, write, message):
    write(Path(name))
    with pytest.raises(InputError, match=message) as found:
        read(Path(name), None)
    assert "\n" not in str(found.value).strip()


@pytest.mark.parametrize("scale", [1e300, 1e-300])
def test_huge_and_tiny_scores_are_ranked(scale):
    np.save("a.npy", SCORES * scale)
    np.save("b.npy", SCORES)
    huge, plain = (read(Path(name), None) for name in ("a.npy", "b.npy"))
    for direction in plain:
        assert huge[direction].ranks.rank.tolist() == plain[direction].ranks.rank.tolist()


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("v.txt", of_bytes(b""), "v.txt: empty"),
        ("v.txt", of_bytes(b"0\n" + b"9" * 30 + b"\n"), "v.txt line 2: no matrix has so many"),
        ("v.txt", of_bytes(b"0\n1e3\n"), "v.txt line 2: expected the column"),
        ("v.txt", of_bytes(b"0\nnan\n"), "v.txt line 2: expected the column"),
        ("v.txt", of_bytes(b"\xff\xfe0"), "v.txt: not text in UTF-8"),
        ("v.npy", of_bytes(b""), "v.npy: empty"),
        ("v.npy", array(np.array([0, 2**64 - 1], np.uint64)), "v.npy row 1: 18446744073709551615"),
        ("v.npy", array(np.array([0, -1])), "v.npy row 1: -1 is the column of no video"),
        ("v.npy", array(np.array([0.0, np.nan])), "v.npy: expected one whole number a text"),
        ("v.npy", array(np.zeros((2, 2), int)), "v.npy: expected one whole number a text"),
    ],
)
def test_broken_video_of_text_is_one_line(name, write, message):
    write(Path(name))
    with pytest.raises(InputError, match=message):
        read_video_of_text(Path(name))


def test_turned_matrix_is_guessed_from_the_number_of_videos():
    np.save("a.npy", np.zeros((3, 8)))
    with pytest.raises(InputError, match=re.escape("3 texts, but 8 lines in the file of --video")):
        read(Path("a.npy"), np.arange(8) % 3)
    with pytest.raises(InputError, match="Save its transpose"):
        read(Path("a.npy"), np.arange(8) % 3)


def test_one_video_is_refused():
    np.save("a.npy", np.zeros((1, 1)))
    np.save("b.npy", np.zeros((4, 3)))
    for name, videos in (("a.npy", None), ("b.npy", np.ones(4, int))):
        one = read(Path(name), videos)
        with pytest.raises(InputError, match=f"{name}: all queries .t2v. belong to one video"):
            compare([one], [one], ([name], [name]))
