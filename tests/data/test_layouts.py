"""The forms in which others distribute MSR-VTT, MSVD and LSMDC, under the real names of the files.

Oracle: the same benchmark in CLIP4Clip's form, which test_benchmarks.py checks; and the published
counts, with the real annotation files where they are.
"""

import json
import logging
import pickle
import zipfile
from pathlib import Path

import made_layouts as made
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from xpool.data.audit import write_manifest
from xpool.data.benchmark import load
from xpool.data.benchmarks.lsmdc import LsmdcOptions
from xpool.data.benchmarks.msrvtt import MsrVttOptions
from xpool.data.benchmarks.msvd import MsvdOptions
from xpool.data.manifest import read_manifest
from xpool.data.raw_folder import RawFolder
from xpool.project import params
from xpool.project.errors import InputError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "annotations"
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real annotation files are not beside this checkout"
)
MSRVTT = [
    made.frozen, made.all_in_one, made.challenge,
    made.hub_json, made.hub_parquet, made.hub_captions,
]  # fmt: skip
MSVD_OPTIONS = MsvdOptions(allowed_missing=0.0)


def options(training_videos="9k", **changes):
    given = {"allowed_missing": 0.0, "training_videos": training_videos, "val_videos": 0}
    return MsrVttOptions(**given | changes)


def read(folder, **changes):
    return load("msrvtt").read(folder, options(**changes))


def comparable(rows):
    """Rows without the ids of the test queries, which not all forms have."""
    return rows.assign(caption_id=rows["caption_id"].where(rows["split"] != "test", ""))


@pytest.mark.parametrize("layout", MSRVTT, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("training_videos", ["9k", "7k"])
def test_msrvtt_in_any_form_gives_the_rows_of_clip4clips(layout, training_videos, tmp_path):
    if (layout, training_videos) == (made.frozen, "7k"):
        pytest.skip("Frozen in Time has no list of the 7k")
    facts = made.small()
    made.clip4clip(facts, tmp_path / "clip4clip")
    layout(facts, tmp_path / "other")
    for folder in ("clip4clip", "other"):
        made.laid(tmp_path / folder, [f"deep/{video}.mp4" for video in facts.captions])
    expected = read(tmp_path / "clip4clip", training_videos=training_videos)
    found = read(tmp_path / "other", training_videos=training_videos)
    pd.testing.assert_frame_equal(comparable(found), comparable(expected))
    assert found["caption_id"].is_unique


def test_msrvtt_frozens_archive_alone_names_the_list_that_it_lacks(tmp_path):
    made.frozen(made.small(), tmp_path)
    with pytest.raises(InputError, match=r"not found: MSRVTT_train.7k.csv or train_list_7k.txt;"):
        read(tmp_path, training_videos="7k")


def test_msrvtt_csv_goes_before_the_numbered_captions(tmp_path, caplog):
    """Its sentences differ from the captions, so that the index cannot give them."""
    facts = made.small()
    made.frozen(facts, tmp_path)
    read(tmp_path)
    assert "MSRVTT_JSFUSION_test.csv words some of them otherwise" in caplog.text
    caplog.clear()
    rows = "ret0,msr9,video9,another sentence\n"
    (tmp_path / "MSRVTT_JSFUSION_test.csv").write_text(f"key,vid_key,video_id,sentence\n{rows}")
    found = read(tmp_path)
    assert found.loc[found["split"] == "test", "caption"].tolist() == ["another sentence"]
    assert not caplog.text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            {"video9": 3, "video8": 0},
            "video9: expected the number of one of its 3 captions, found 3",
        ),
        ({"video9": -1, "video8": 0}, "video9: .* found -1"),
        ({"video9": True, "video8": 0}, "video9: .* found True"),
        ({"video9": 0}, "video8: .* found None"),
        ([0, 1], "video9: .* found None"),
        ({"video9": np.int64(1), "video8": 0}, "refused: it names numpy"),
    ],
)
def test_msrvtt_index_that_does_not_fit_is_refused_by_video(content, said, tmp_path):
    made.frozen(made.small(), tmp_path)
    path = next(tmp_path.rglob("jsfusion_val_caption_idx.pkl"))
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=f"jsfusion_val_caption_idx.pkl: {said}") as caught:
        read(tmp_path)
    assert "MSRVTT_JSFUSION_test.csv" in str(caught.value)


def test_msrvtt_half_of_the_challenge_names_the_other_half(tmp_path):
    made.challenge(made.small(), tmp_path)
    (tmp_path / "test_videodatainfo.json").unlink()
    with pytest.raises(InputError, match=r"MSRVTT_data.json or test_videodatainfo.json"):
        read(tmp_path)
    assert set(read(tmp_path, training_videos="7k")["split"]) == {"train", "test"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"video_id": "video0"}, r"expected a list of \{'video_id', 'caption'\}"),
        ([{"video_id": "video0"}], "row 0: expected the keys"),
        ([7], "row 0: expected the keys"),
        ([{"video_id": 0, "caption": ["a"]}], "row 0: expected a text, and a text or a list"),
        ([{"video_id": "video0", "caption": [1]}], "row 0: expected a text, and a text or a list"),
        ([{"video_id": "video0", "caption": None}], "row 0: expected a text"),
    ],
)
def test_rows_that_are_malformed_are_refused_by_number(content, said, tmp_path):
    made.hub_json(made.small(), tmp_path)
    (tmp_path / "msrvtt_train_9k.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"msrvtt_train_9k.json: {said}"):
        read(tmp_path)


def test_rows_of_a_test_with_many_captions_are_refused(tmp_path):
    made.hub_json(made.small(), tmp_path)
    rows = [made.hub_row("video9", ["one", "two"])]
    (tmp_path / "msrvtt_test_1k.json").write_text(json.dumps(rows))
    with pytest.raises(InputError, match="msrvtt_test_1k.json: 2 captions of video9; expected one"):
        read(tmp_path)


@pytest.mark.parametrize("content", [b"PAR1", b"not a table", b"PAR1" + b"\0" * 40 + b"PAR1"])
def test_a_parquet_file_that_is_cut_or_none_is_refused(content, tmp_path):
    made.hub_parquet(made.small(), tmp_path)
    (tmp_path / "test_1k/test/0000.parquet").write_bytes(content)
    with pytest.raises(InputError, match="0000.parquet: not a Parquet file") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_parquet_file_without_captions_is_refused(tmp_path):
    made.hub_parquet(made.small(), tmp_path)
    table = pa.Table.from_pylist([{"video_id": "video9", "text": "a cat"}])
    pq.write_table(table, tmp_path / "test_1k/test/0000.parquet")
    with pytest.raises(InputError, match="row 0: expected the keys 'video_id' and 'caption'"):
        read(tmp_path)


MSVD_IDS = {
    "train": ["zulPFoY64wE_26_33", "-4wsuPCjDBc_5_15"],
    "val": ["bQJQGoJF7_k_162_169"],
    "test": ["eyhzdC936uk_15_27"],
}
MSVD_CAPTIONS = {
    name: [f"a cat {k} of {name[:3]}" for k in range(3)]
    for ids in MSVD_IDS.values()
    for name in ids
}


def msvd_official(folder, lists=None, captions=None):
    for split, ids in (lists or MSVD_IDS).items():
        made.lines(folder / f"{split}_list.txt", ids)
    made.dump(folder / "captions_msvd.json", captions or MSVD_CAPTIONS)


@pytest.mark.parametrize("layout", [made.msvd_hub_json, made.msvd_hub_parquet])
@pytest.mark.parametrize("beside", ["", "lists", "captions"])
def test_msvd_in_any_form_gives_the_official_rows(layout, beside, tmp_path):
    msvd_official(tmp_path / "official")
    layout(MSVD_IDS, MSVD_CAPTIONS, tmp_path / "other")
    for path in (tmp_path / "official").iterdir():
        if beside and beside[:-1] in path.name:
            (tmp_path / "other" / path.name).write_bytes(path.read_bytes())
    found = load("msvd").read(tmp_path / "other", MSVD_OPTIONS)
    expected = load("msvd").read(tmp_path / "official", MSVD_OPTIONS)
    pd.testing.assert_frame_equal(found, expected)


def test_msvd_rows_say_under_which_names_the_videos_lie(tmp_path):
    made.msvd_hub_json(MSVD_IDS, MSVD_CAPTIONS, tmp_path)
    path = tmp_path / "msvd_test.json"
    path.write_text(path.read_text().replace("eyhzdC936uk_15_27.avi", "videos/clip 7.avi"))
    made.laid(tmp_path, ["videos/clip 7.avi"])
    rows = load("msvd").read(tmp_path, MSVD_OPTIONS)
    assert rows.loc[rows["split"] == "test", "video_id"].unique().tolist() == ["eyhzdC936uk_15_27"]
    assert rows["path"].iloc[-1] == "videos/clip 7.avi"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the params of the mini setting, where no count is published."""
    monkeypatch.chdir(tmp_path)

    def write(**changes):
        given = {"allowed_missing": 0.0, "training_videos": "9k", "val_videos": 0}
        content = {
            "setting": "mini",
            "manifest": {"msrvtt": given | changes},
            "generate": {"msrvtt": {"videos": {"train": 6, "val": 0, "test": 2}}},
        }
        Path("params.yaml").write_text(yaml.safe_dump(content))
        params._load.cache_clear()

    write()
    return write


RAW = Path("data/mini/raw/msrvtt")


def test_one_line_says_which_files_are_read_in_whose_form_and_where_the_videos_are(project, caplog):
    facts = made.small()
    made.frozen(facts, RAW)
    made.laid(RAW, [f"MSRVTT/videos/all/{video}.mp4" for video in facts.nine])
    made.laid(RAW, [f"TestVideo/{video}.avi" for video, _ in facts.test])
    with caplog.at_level(logging.INFO):
        write_manifest(load("msrvtt"))
    lists = "MSRVTT/high-quality/structured-symlinks"
    assert (
        "MSR-VTT: MSRVTT/annotation/MSR_VTT.json (Frozen in Time), "
        f"{lists}/train_list_jsfusion.txt (Frozen in Time), "
        f"{lists}/val_list_jsfusion.txt (Frozen in Time), "
        f"{lists}/jsfusion_val_caption_idx.pkl (Frozen in Time); "
        "6 videos in MSRVTT/videos/all, 2 videos in TestVideo"
    ) in caplog.text
    report = json.loads(Path("data/mini/manifest/msrvtt.report.json").read_text())
    assert {entry["distributor"] for entry in report["annotations"]} == {"Frozen in Time"}


def test_copies_of_videos_are_chosen_by_their_folder(project):
    facts = made.small()
    made.clip4clip(facts, RAW)
    for folder in ("videos/all", "videos/3fps", "videos/3fps-test"):
        made.laid(RAW, [f"{folder}/{video}.mp4" for video in facts.captions])
    with pytest.raises(InputError, match=r"two files could be .*manifest.msrvtt.videos in params"):
        write_manifest(load("msrvtt"))
    for folder in ("videos/3fps", "videos/all/"):
        project(videos=folder)
        write_manifest(load("msrvtt"))
        rows = read_manifest(Path("data/mini/manifest/msrvtt.parquet"))
        assert {str(Path(path).parent) for path in rows["path"]} == {folder.rstrip("/")}
        report = json.loads(Path("data/mini/manifest/msrvtt.report.json").read_text())
        assert report["protocol"]["videos"] == folder


def test_a_folder_of_copies_that_holds_no_video_is_refused_with_those_that_do(project):
    facts = made.small()
    made.clip4clip(facts, RAW)
    made.laid(RAW, [f"videos/all/{video}.mp4" for video in facts.captions])
    project(videos="videos/3fps")
    said = r"manifest.msrvtt.videos: no video lies below .*videos/3fps; .* in videos/all"
    with pytest.raises(InputError, match=said):
        write_manifest(load("msrvtt"))


LSMDC = ["3086_UGLY_TRUTH_00.23.23.000-00.23.28.886", "1001_Flight_00.00.01.000-00.00.02.500"]


@pytest.mark.parametrize(
    "place",
    [
        lambda clip: f"videos/{clip.split('.')[0][:-3]}/{clip}.avi",  # as distributed
        lambda clip: f"{clip}.avi",
        lambda clip: f"LSMDC-3fps/{clip}.mp4",  # as the official script for copies leaves them
    ],
    ids=["nested", "flat", "copies"],
)
def test_lsmdc_clips_are_found_nested_and_flat(place, tmp_path):
    files = ["LSMDC16_annos_training.csv", "LSMDC16_challenge_1000_publictect.csv"]
    for file, clip in zip(files, LSMDC, strict=True):
        made.lines(tmp_path / file, ["\t".join([clip, "0", "1", "0", "1", "SOMEONE runs."])])
    made.lines(tmp_path / "LSMDC16_annos_val.csv", ["1002_X_00.1-00.2\t0\t1\t0\t1\tHe sits."])
    made.laid(tmp_path, map(place, LSMDC))
    rows = load("lsmdc").read(tmp_path, LsmdcOptions(allowed_missing=0.0, test_clips=1000))
    assert rows.loc[rows["video_id"].isin(LSMDC), "path"].tolist() == [*map(place, LSMDC)]


def test_files_of_a_pattern_are_all_taken_in_order(tmp_path):
    made.laid(tmp_path, ["x/train/b.parquet", "x/train/a.parquet", "y/train/c.json", "a.parquet"])
    folder = RawFolder.scan(tmp_path, "msrvtt")
    found = folder.chosen(("nothing", "train/*.parquet"), ("y/*/c.json",))
    assert [[path.relative_to(tmp_path).as_posix() for path in files] for files in found] == [
        ["x/train/a.parquet", "x/train/b.parquet"],
        ["y/train/c.json"],
    ]


@pytest.fixture(scope="module")
def real_msrvtt():
    """The real captions and lists; the query of a video is its first caption."""
    with zipfile.ZipFile(SHARED / "msrvtt" / "MSRVTT_data.json.zip") as archive:
        content = json.loads(archive.read("MSRVTT_data.json"))
    captions: dict[str, list[str]] = {}
    for sentence in content["sentences"]:
        captions.setdefault(sentence["video_id"], []).append(sentence["caption"])
    columns = {
        size: pd.read_csv(SHARED / "msrvtt" / f"MSRVTT_train.{size}.csv")["video_id"].tolist()
        for size in ("9k", "7k")
    }
    test = pd.read_csv(SHARED / "msrvtt" / "MSRVTT_JSFUSION_test.csv")["video_id"]
    return made.MsrVtt(captions, columns["9k"], columns["7k"], [(video, 0) for video in test])


@needs_shared
@pytest.mark.parametrize("layout", [made.frozen, made.challenge, made.hub_json, made.hub_parquet])
@pytest.mark.parametrize("training_videos", ["9k", "7k"])
def test_real_msrvtt_in_any_form_has_the_published_counts_and_order(
    layout, training_videos, real_msrvtt, tmp_path
):
    """Also the lists that are derived from the challenge's files: CLIP4Clip's, in their order."""
    if (layout, training_videos) == (made.frozen, "7k"):
        pytest.skip("Frozen in Time has no list of the 7k")
    layout(real_msrvtt, tmp_path)
    rows = read(tmp_path, training_videos=training_videos)
    train = rows[rows["split"] == "train"]
    listed = real_msrvtt.nine if training_videos == "9k" else real_msrvtt.seven
    assert train["video_id"].drop_duplicates().tolist() == listed
    published = load("msrvtt").published_counts(options(training_videos))
    counts = rows.groupby("split").agg({"video_id": "nunique", "caption": "size"})
    assert {split: tuple(counts.loc[split]) for split in counts.index} == {
        split: count for split, count in published.items() if count.videos
    }


@needs_shared
@pytest.mark.parametrize("layout", [made.msvd_hub_json, made.msvd_hub_parquet])
def test_real_msvd_in_any_form_gives_the_official_rows(layout, tmp_path):
    folder = SHARED / "msvd"
    lists = {s: (folder / f"{s}_list.txt").read_text().split() for s in ("train", "val", "test")}
    layout(lists, json.loads((folder / "captions_msvd.json").read_text()), tmp_path)
    found = load("msvd").read(tmp_path, MSVD_OPTIONS)
    pd.testing.assert_frame_equal(found, load("msvd").read(folder, MSVD_OPTIONS))
