"""Similarities of other code as rows: figures of any orientation, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from xpool.project.errors import InputError
from xpool.statistics.files.external import LISTED, external, read_listed

REFERENCE = Path(__file__).resolve().parents[4] / "shared" / "reference"


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("external").mkdir()


def listed(*rows):
    lines = [",".join(LISTED), *(",".join(row) for row in rows)]
    Path("external/rows.csv").write_text("\n".join(lines) + "\n")


def figure(table, label, direction, metric):
    keys = (table["label"] == label) & (table["direction"] == direction)
    [row] = table[keys & (table["metric"] == metric)].to_dict("records")
    return row


def test_nothing_is_listed_without_the_file():
    assert read_listed().empty
    assert external("msvd").empty


def test_each_orientation_and_kind_of_file_gives_the_figures_of_a_loop():
    rng = np.random.default_rng(0)
    video_of_text = np.array([0, 0, 1, 2, 2, 2, 3])
    matrix = rng.normal(size=(7, 4)) + 1.5 * (video_of_text[:, None] == np.arange(4))
    padded = np.full((4, 3, 4), -np.inf)
    for video in range(4):
        own = matrix[video_of_text == video]
        padded[video, : len(own)] = own
    np.save("external/texts.npy", matrix)
    np.savez("external/both.npz", turned=matrix.T, other=np.zeros(3))
    torch.save(torch.from_numpy(padded), "external/padded.pt")
    Path("external/own.txt").write_text("".join(f"{video}\n" for video in video_of_text))
    listed(
        ("msvd", "A", "texts.npy", "texts", "own.txt", "here"),
        ("msvd", "B", "both.npz:turned", "videos", "own.txt", "here"),
        ("msvd", "C", "padded.pt", "texts", "", "here"),
        ("lsmdc", "D", "texts.npy", "texts", "own.txt", "here"),
    )
    table = external("msvd")
    assert set(table["label"]) == {"A", "B", "C"}
    hits = 0
    for row, own in zip(matrix, video_of_text, strict=True):
        hits += all(row[own] > score for video, score in enumerate(row) if video != own)
    for label in "ABC":
        found = figure(table, label, "t2v", "R@1")
        assert found["mean"] == pytest.approx(100 * hits / 7)
        assert (found["n_text"], found["n_video"]) == (7, 4)
    same = table.groupby(["direction", "metric"])["mean"].nunique()
    assert set(same) == {1}


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the published matrices are not here")
def test_a_published_matrix_has_its_published_figures_and_an_exact_interval():
    """Cap4Video's, MSR-VTT 1k-A; with one text a video the interval is Clopper and Pearson's."""
    name = "cap4video_msrvtt_video_matrix.npy"
    Path("external", name).symlink_to(REFERENCE / name)
    listed(("msrvtt", "Cap4Video", name, "texts", "", "github.com/whwu95/Cap4Video"))
    table = external("msrvtt")
    values = {m: figure(table, "Cap4Video", "t2v", m)["mean"] for m in ("R@1", "R@5", "R@10")}
    assert values == pytest.approx({"R@1": 48.0, "R@5": 73.0, "R@10": 82.9})
    assert figure(table, "Cap4Video", "t2v", "MnR")["mean"] == pytest.approx(13.129)
    found = figure(table, "Cap4Video", "t2v", "R@1")
    exact = stats.binomtest(480, 1000).proportion_ci(method="exact")
    assert found["ci_low"] == pytest.approx(100 * exact.low, abs=0.5)
    assert found["ci_high"] == pytest.approx(100 * exact.high, abs=0.5)


WRONG = {
    "turned": (("msvd", "A", "a.npy", "sideways", "", "x"), "rows: 'sideways'; write texts or"),
    "no source": (("msvd", "A", "a.npy", "texts", "", ""), "row 1: source is empty"),
    "no file": (("msvd", "A", "b.npy", "texts", "", "x"), r"external/b\.npy: not found"),
    "no videos": (("msvd", "A", "a.npy", "texts", "", "x"), "3 texts and 2 videos; name a file"),
    "too few": (("msvd", "A", "a.npy", "texts", "two.txt", "x"), "2 lines, but .* has 3 texts"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_line_that_names_row_or_file(name):
    row, said = WRONG[name]
    np.save("external/a.npy", np.eye(3)[:, :2])
    Path("external/two.txt").write_text("0\n1\n")
    listed(row)
    with pytest.raises(InputError, match=said):
        external("msvd")


def test_a_label_twice_and_a_missing_column_are_refused():
    row = ("msvd", "A", "a.npy", "texts", "", "x")
    listed(row, row)
    with pytest.raises(InputError, match="A is listed twice"):
        read_listed()
    Path("external/rows.csv").write_text("benchmark,label\nmsvd,A\n")
    with pytest.raises(InputError, match="no column file"):
        read_listed()
