"""The stage manifest on small handmade folders (properties), and on real clips where present."""

import json
import logging
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from xpool.data import audit
from xpool.data.benchmark import Counts, caption_table, load
from xpool.data.manifest import COLUMNS, read_manifest
from xpool.mini.generate import GenerateParams, layout_of, plan
from xpool.project import params
from xpool.project.errors import InputError
from xpool.project.plugins import members
from xpool.stages import manifest

SHARED = Path(__file__).resolve().parents[3] / "shared"
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real clips are not beside this checkout"
)

LISTS = {"train": ["aa_0_1", "bb_0_1", "cc_0_1", "dd_0_1"], "val": ["ee_0_1"], "test": ["ff_0_1"]}
CAPTIONS = {name: [f"{name} one", f"{name} two"] for ids in LISTS.values() for name in ids}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder with a whole mini MSVD."""
    monkeypatch.chdir(tmp_path)
    write_params(allowed_missing=0.0)
    raw = tmp_path / "data" / "mini" / "raw" / "msvd"
    (raw / "YouTubeClips").mkdir(parents=True)
    for split, ids in LISTS.items():
        (raw / f"{split}_list.txt").write_text("\n".join(ids) + "\n")
    (raw / "captions_msvd.json").write_text(json.dumps(CAPTIONS))
    for name in CAPTIONS:
        (raw / "YouTubeClips" / f"{name}.avi").write_bytes(b"")
    return tmp_path


def write_params(setting: str = "mini", *, allowed_missing: float, train: int = 4) -> None:
    content = {
        "setting": setting,
        "manifest": {
            "msvd": {"allowed_missing": allowed_missing},
            "msrvtt": {
                "allowed_missing": allowed_missing,
                "training_videos": "9k",
                "val_videos": 100,
            },
        },
        "generate": {"msvd": {"videos": {"train": train, "val": 1, "test": 1}}},
    }
    Path("params.yaml").write_text(yaml.safe_dump(content))
    params._load.cache_clear()


def report(setting: str = "mini", benchmark: str = "msvd") -> dict:
    return json.loads(Path(f"data/{setting}/manifest/{benchmark}.report.json").read_text())


def edit_captions(project: Path, **changes: list[str]) -> None:
    path = project / "data/mini/raw/msvd/captions_msvd.json"
    path.write_text(json.dumps(CAPTIONS | changes))


def test_main_whole_benchmark_writes_manifest_and_report(project: Path) -> None:
    manifest.main("msvd")
    rows = read_manifest(Path("data/mini/manifest/msvd.parquet"))
    assert tuple(rows.columns) == COLUMNS
    assert rows["caption_id"].tolist() == [f"{name}#{k}" for name in CAPTIONS for k in range(2)]
    assert rows["split"].tolist() == ["train"] * 8 + ["val"] * 2 + ["test"] * 2
    assert all((project / "data/mini/raw/msvd" / path).is_file() for path in rows["path"])
    found = report()
    assert found["synthetic"] is True
    assert found["errors"] == found["warnings"] == []
    assert found["splits"]["train"]["videos"] == {"expected": 4, "listed": 4, "kept": 4}
    assert found["protocol"] == {"allowed_missing": 0.0, "splits": ["train", "val", "test"]}
    assert [Path(a["file"]).name for a in found["annotations"]] == [
        "train_list.txt",
        "val_list.txt",
        "test_list.txt",
        "captions_msvd.json",
    ]


def test_main_twice_gives_the_same_bytes(project: Path) -> None:
    written = []
    for _ in range(2):
        manifest.main("msvd")
        files = sorted(Path("data/mini/manifest").iterdir())
        written.append({path.name: path.read_bytes() for path in files})
    assert len(written[0]) == 3
    assert written[0] == written[1]


def test_main_names_each_video_with_what_is_in_it(project: Path) -> None:
    """Oracle: `sha256sum`. The frames are decoded anew when this changes."""
    clips = project / "data/mini/raw/msvd/YouTubeClips"
    (clips / "unused.avi").write_bytes(b"in no list")
    (clips / "bb_0_1.avi").write_bytes(b"a video")
    manifest.main("msvd")
    found = pd.read_csv("data/mini/manifest/msvd.videos.csv")
    assert found["path"].tolist() == [f"YouTubeClips/{name}.avi" for name in CAPTIONS]
    assert found["bytes"].tolist() == [0, 7, 0, 0, 0, 0]
    for path, digest in zip(found["path"], found["sha256"], strict=True):
        command = ["sha256sum", str(project / "data/mini/raw/msvd" / path)]
        assert subprocess.check_output(command, text=True).startswith(digest)
    table = Path("data/mini/manifest/msvd.parquet").read_bytes()
    (clips / "bb_0_1.avi").write_bytes(b"another")
    manifest.main("msvd")
    again = pd.read_csv("data/mini/manifest/msvd.videos.csv")
    assert again[again["sha256"] != found["sha256"]]["path"].tolist() == ["YouTubeClips/bb_0_1.avi"]
    assert Path("data/mini/manifest/msvd.parquet").read_bytes() == table


def test_main_missing_videos_stop_the_run_after_the_report(project: Path) -> None:
    manifest.main("msvd")
    (project / "data/mini/raw/msvd/YouTubeClips/bb_0_1.avi").unlink()
    with pytest.raises(InputError) as caught:
        manifest.main("msvd")
    message = str(caught.value)
    assert "\n" not in message
    assert "1 of 4 videos (25.0%) are missing: bb_0_1" in message
    assert "msvd.report.json" in message
    assert "manifest.msvd.allowed_missing" in message
    assert report()["splits"]["train"]["videos_missing"] == ["bb_0_1"]
    assert not Path("data/mini/manifest/msvd.parquet").exists()  # the older one does not stay


def test_main_allowed_missing_drops_rows_and_lists_them(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (project / "data/mini/raw/msvd/YouTubeClips/bb_0_1.avi").unlink()
    (project / "data/mini/raw/msvd/YouTubeClips/spare.avi").write_bytes(b"")
    write_params(allowed_missing=0.25)
    with caplog.at_level(logging.WARNING):
        manifest.main("msvd")
    rows = read_manifest(Path("data/mini/manifest/msvd.parquet"))
    assert "bb_0_1" not in set(rows["video_id"])
    found = report()
    assert found["splits"]["train"]["videos_missing"] == ["bb_0_1"]
    assert found["splits"]["train"]["videos"] == {"expected": 4, "listed": 4, "kept": 3}
    assert found["unused_video_files"] == 1
    assert "bb_0_1" in caplog.text


def test_main_share_counts_per_split(project: Path) -> None:
    """One lost test video is 1 of 6 videos, but the whole test split."""
    (project / "data/mini/raw/msvd/YouTubeClips/ff_0_1.avi").unlink()
    write_params(allowed_missing=0.5)
    with pytest.raises(InputError, match="test: 1 of 1 videos"):
        manifest.main("msvd")


def test_main_empty_split_is_reported_not_crashed(project: Path) -> None:
    (project / "data/mini/raw/msvd/YouTubeClips/ff_0_1.avi").unlink()
    write_params(allowed_missing=1.0)
    manifest.main("msvd")
    assert report()["empty_splits"] == ["test"]
    assert "test: no video is left" in report()["warnings"]


def test_main_no_video_at_all_stops_whatever_is_allowed(project: Path) -> None:
    manifest.main("msvd")
    for path in (project / "data/mini/raw/msvd/YouTubeClips").iterdir():
        path.unlink()
    write_params(allowed_missing=1.0)
    with pytest.raises(InputError, match="no video with a caption is left in any split"):
        manifest.main("msvd")
    assert not Path("data/mini/manifest/msvd.parquet").exists()
    assert report()["empty_splits"] == ["train", "val", "test"]


def test_main_missing_videos_name_what_may_be_meant(project: Path) -> None:
    clips = project / "data/mini/raw/msvd/YouTubeClips"
    (clips / "bb_0_1.avi").rename(clips / "bb_0_1.avi.part")
    (clips / "cc_0_1.avi").rename(clips / "cc_01.avi")
    with pytest.raises(InputError) as caught:
        manifest.main("msvd")
    said = "There are other files: bb_0_1.avi.part for bb_0_1; YouTubeClips/cc_01.avi for cc_0_1; "
    assert f"{said}in no list: YouTubeClips/cc_01.avi." in str(caught.value)


def test_main_missing_videos_name_the_archive_that_lies_there(project: Path) -> None:
    """Seen as "1970 of 1970 videos are missing" beside YouTubeClips.tar, and no more."""
    raw = project / "data/mini/raw/msvd"
    shutil.rmtree(raw / "YouTubeClips")
    (raw / "YouTubeClips.tar").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        manifest.main("msvd")
    how = "unpack YouTubeClips.tar with `xpool get msvd --from data/mini/raw/msvd`"
    assert "4 of 4 videos (100.0%) are missing" in str(caught.value)
    assert how in str(caught.value)


@pytest.mark.parametrize("blank", ["", " ", "\u200b", "\ufeff", "\u00a0", "\u2060\t\n", "\x00"])
def test_a_caption_that_shows_nothing_is_empty(blank: str, project: Path) -> None:
    edit_captions(project, aa_0_1=[blank, "\u200bseen"])
    manifest.main("msvd")
    assert report()["splits"]["train"]["captions_empty"] == ["aa_0_1#0"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("validation", "a", "a#0", "x", "a.avi"), "a: split 'validation'; expected train, val"),
        (("val", "a", "a#0", None, "a.avi"), "val a: caption: expected text, found None"),
        (("val", "a", "a#0", 3.5, "a.avi"), "val a: caption: expected text, found 3.5"),
        (("val", "a", "a#0", "\ud83d", "a.avi"), r"val a: caption: expected text, found '\ud83d'"),
    ],
)
def test_a_table_refuses_what_no_later_stage_can_use(row: tuple, said: str) -> None:
    with pytest.raises(InputError) as caught:
        caption_table([("train", "b", "b#0", "y", "b.avi"), row])
    assert said in str(caught.value)


def test_main_empty_captions_are_dropped_and_listed(project: Path) -> None:
    edit_captions(project, aa_0_1=["", "aa_0_1 two"], bb_0_1=[" "])
    manifest.main("msvd")
    rows = read_manifest(Path("data/mini/manifest/msvd.parquet"))
    assert rows["caption_id"].tolist()[:2] == ["aa_0_1#1", "cc_0_1#0"]
    found = report()["splits"]["train"]
    assert found["captions_empty"] == ["aa_0_1#0", "bb_0_1#0"]
    assert found["videos_left_out_for_empty_captions"] == ["bb_0_1"]


def test_main_duplicates_are_counted_within_and_between_videos(project: Path) -> None:
    edit_captions(project, aa_0_1=["x", "x", "y"], bb_0_1=["x", "z"], cc_0_1=["z"], ee_0_1=["x"])
    manifest.main("msvd")
    found = report()["splits"]["train"]["duplicate_captions"]
    assert found["within_video"] == {"captions": 1, "examples": ["aa_0_1#1"]}
    assert found["between_videos"]["captions"] == 5
    assert found["between_videos"]["distinct"] == 2
    assert found["between_videos"]["examples"][0] == {
        "caption": "x",
        "videos": 2,
        "first": ["aa_0_1", "bb_0_1"],
    }


def test_main_video_in_two_splits_stops_by_name(project: Path) -> None:
    (project / "data/mini/raw/msvd/val_list.txt").write_text("aa_0_1\n")
    write_params(allowed_missing=1.0)
    with pytest.raises(InputError, match="1 videos are in two splits: aa_0_1"):
        manifest.main("msvd")
    assert report()["videos_in_two_splits"] == {"aa_0_1": ["train", "val"]}


@pytest.mark.parametrize("allowed", [0.0, 0.1])
def test_main_unexpected_count_stops_or_warns(allowed: float, project: Path) -> None:
    write_params(allowed_missing=allowed, train=5)
    message = "train: expected 5 videos, the files list 4"
    if allowed:
        manifest.main("msvd")
        assert message in report()["warnings"]
    else:
        with pytest.raises(InputError, match=message):
            manifest.main("msvd")
        assert message in report()["errors"]


def test_main_paper_setting_expects_the_published_counts(project: Path) -> None:
    (project / "data" / "mini").rename(project / "data" / "paper")
    write_params("paper", allowed_missing=0.0)
    with pytest.raises(InputError, match="train: expected 1200 videos, the files list 4"):
        manifest.main("msvd")
    assert report("paper")["synthetic"] is False
    assert [a["as_published"] for a in report("paper")["annotations"]] == [False] * 4


def test_msrvtt_mini_counts_take_validation_out_of_training() -> None:
    from xpool.data.benchmarks.msrvtt import BENCHMARK, MsrVttOptions

    options = MsrVttOptions(allowed_missing=0, training_videos="9k", val_videos=40)
    for generated in (
        {"train": 300, "test": 100},
        {"train": 260, "val": 40, "test": 100},
    ):
        counts = BENCHMARK.mini_counts(generated, options)
        assert {split: count.videos for split, count in counts.items()} == {
            "train": 260,
            "val": 40,
            "test": 100,
        }


@pytest.mark.parametrize(
    "benchmark",
    [name for name in members("xpool.data.benchmarks", "BENCHMARK") if load(name).layout],
)
@pytest.mark.parametrize("other_protocol", [False, True])
def test_generated_benchmark_passes_without_a_warning(
    benchmark: str, other_protocol: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The generator's files and this reader agree under each protocol option."""
    monkeypatch.chdir(tmp_path)
    val = 2 if layout_of(benchmark).has_val else 0
    kinds = {
        "videos": {"train": 13, "val": val, "test": 5},
        "captions": [1, 1] if benchmark == "lsmdc" else [2, 3],
        "scenes": [1, 1],
        "duration_s": [0.5, 0.6],
        "rate_fps": 10,
        "sizes": [[32, 32]],
    }
    options = {
        "msrvtt": {"training_videos": "7k" if other_protocol else "9k", "val_videos": 3},
        "msvd": {},
        "lsmdc": {"test_clips": 999 if other_protocol else 1000},
        "activitynet": {"val_videos": 3},
    }
    content = {
        "setting": "mini",
        "generate": {"seed": 1, benchmark: kinds},
        "manifest": {benchmark: {"allowed_missing": 0.0, **options.get(benchmark, {})}},
    }
    Path("params.yaml").write_text(yaml.safe_dump(content))
    params._load.cache_clear()
    raw = Path("data/mini/raw", benchmark)
    raw.mkdir(parents=True)
    videos = plan(benchmark, GenerateParams(**kinds), 1)
    layout_of(benchmark).write(videos, raw, np.random.default_rng(1))
    for video in videos:  # the stage opens no video
        (raw / video.path).parent.mkdir(parents=True, exist_ok=True)
        (raw / video.path).write_bytes(b"")
    manifest.main(benchmark)
    found = report(benchmark=benchmark)
    assert found["errors"] == found["warnings"] == []
    assert found["empty_splits"] == []
    rows = read_manifest(Path(f"data/mini/manifest/{benchmark}.parquet"))
    assert set(rows["split"]) == {"train", "val", "test"}


def test_examine_split_that_nobody_expects_and_nobody_lists_is_absent() -> None:
    rows = caption_table(
        [("train", "a", "a#0", "text", "a.mp4"), ("test", "b", "b#0", "text", "b.mp4")]
    )
    expected = {"train": Counts(1, None), "test": Counts(1, 1)}
    kept, found = audit.examine(rows, frozenset(["a", "b"]), expected, 0.0)
    pd.testing.assert_frame_equal(kept, rows)
    assert list(found["splits"]) == ["train", "test"]
    assert found["empty_splits"] == []


def test_read_manifest_absent_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="xpool manifest --benchmark msvd"):
        read_manifest(tmp_path / "msvd.parquet")


@needs_shared
@pytest.mark.parametrize(
    ("benchmark", "kept", "empty"),
    [
        ("msvd", {"train": 7, "val": 0, "test": 5}, ["val"]),
        ("msrvtt", {"train": 0, "val": 0, "test": 3}, ["train", "val"]),
    ],
)
def test_real_clips_pass_with_missing_videos_allowed(
    benchmark: str,
    kept: dict[str, int],
    empty: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    raw = tmp_path / "data" / "paper" / "raw" / benchmark
    raw.mkdir(parents=True)
    for path in (SHARED / "annotations" / benchmark).iterdir():
        if path.suffix != ".zip":
            (raw / path.name).symlink_to(path)
    if benchmark == "msrvtt":
        import zipfile

        archive = SHARED / "annotations" / "msrvtt" / "MSRVTT_data.json.zip"
        with zipfile.ZipFile(archive) as opened:
            opened.extract("MSRVTT_data.json", raw)
    (raw / "videos").symlink_to(SHARED / "clips" / benchmark)
    write_params("paper", allowed_missing=1.0)
    manifest.main(benchmark)
    found = report("paper", benchmark)
    assert {s: part["videos"]["kept"] for s, part in found["splits"].items()} == kept
    assert found["empty_splits"] == empty
    assert found["errors"] == []
    assert not any("expected" in warning for warning in found["warnings"])
    known = [a["as_published"] for a in found["annotations"] if a["as_published"] is not None]
    assert known
    assert all(known)
    rows = read_manifest(Path(f"data/paper/manifest/{benchmark}.parquet"))
    assert all((raw / path).is_file() for path in rows["path"])
    if benchmark == "msvd":
        shared = found["splits"]["test"]["duplicate_captions"]["between_videos"]["captions"]
        assert shared / 27763 == pytest.approx(0.157, abs=0.001)  # paper.md 3d.3
