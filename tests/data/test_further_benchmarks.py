"""VATEX, DiDeMo and ActivityNet in small handmade files, and benchmarks of one's own from a csv."""

import json
from pathlib import Path

import made_layouts as made
import pytest
import yaml

from xpool.data.benchmark import load, module_of
from xpool.data.benchmarks.activitynet import ActivityNetOptions
from xpool.data.benchmarks.didemo import DidemoOptions
from xpool.data.benchmarks.own import OwnOptions
from xpool.data.benchmarks.vatex import VatexOptions
from xpool.project import params
from xpool.project.errors import InputError

A, B, C, D = (f"{letter * 11}_00000{n}_00001{n}" for n, letter in enumerate("abcd"))


def vatex(folder):
    entries = {
        v: {"enCap": [f"{v[:3]} {k}" for k in range(2)], "chCap": ["一"]} for v in (A, B, C, D)
    }
    for split, videos in (("train", [B, A]), ("val", [C]), ("test", [D])):
        made.lines(folder / f"{split}_list.txt", videos)
    return entries


def read_vatex(folder):
    return load("vatex").read(folder, VatexOptions(allowed_missing=0.0))


EXPECTED = [
    (split, video, f"{video}#{k}", f"{video[:3]} {k}", f"videos/{video}.mp4")
    for split, video in (("train", B), ("train", A), ("val", C), ("test", D))
    for k in range(2)
]


def test_vatex_official_files_and_the_joined_one_give_the_same_rows(tmp_path):
    for folder in ("official", "joined"):
        entries = vatex(tmp_path / folder)
    listed = [{"videoID": video} | entry for video, entry in entries.items()]
    made.dump(tmp_path / "official/vatex_training_v1.0.json", listed[:2])
    made.dump(tmp_path / "official/vatex_validation_v1.0.json", listed[2:])
    made.dump(tmp_path / "joined/vatex_data.json", entries)
    (tmp_path / "joined/test_list.txt").rename(tmp_path / "joined/vatex_test_HGR.txt")
    for folder in ("official", "joined"):
        rows = read_vatex(tmp_path / folder)
        assert [tuple(row) for row in rows.to_numpy()] == EXPECTED


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({A: {"chCap": []}}, "entry 0: expected the keys 'videoID' and 'enCap'"),
        ([7], "entry 0: expected the keys"),
        ({A: 7}, "entry 0: expected the keys"),
        (7, r"expected a list of \{'videoID', 'enCap'\}, found 7"),
        ({A: {"enCap": ["x"]}}, f"no caption of {B}, which train_list.txt lists"),
    ],
)
def test_vatex_malformed_captions_are_refused(content, said, tmp_path):
    vatex(tmp_path)
    made.dump(tmp_path / "vatex_data.json", content)
    with pytest.raises(InputError, match=f"vatex_data.json: {said}"):
        read_vatex(tmp_path)


def didemo(folder):
    first, second = "1@N05_2_ab.mov", "3@N05_4_cd.avi"
    rows = [
        {"video": first, "description": "a dog runs. ", "times": [[0, 0]] * 4},
        {"video": second, "description": "rain", "times": [[1, 2]] * 4},
        {"video": first, "description": "it stops", "times": [[3, 3]] * 4},
    ]
    made.dump(folder / "train_data.json", rows)
    for split in ("val", "test"):
        made.dump(folder / f"{split}_data.json", [rows[1] | {"video": f"{split}.mp4"}])
    return DidemoOptions(allowed_missing=0.0)


def test_didemo_sentences_of_a_video_are_one_paragraph_in_file_order(tmp_path):
    options = didemo(tmp_path)
    made.laid(tmp_path, ["missing_videos/1@N05_2_ab.mp4"])  # of another suffix than the files say
    rows = load("didemo").read(tmp_path, options)
    assert [tuple(row) for row in rows.to_numpy()][:2] == [
        ("train", "1@N05_2_ab", "1@N05_2_ab#0", "a dog runs. it stops",
         "missing_videos/1@N05_2_ab.mp4"),
        ("train", "3@N05_4_cd", "3@N05_4_cd#0", "rain", "videos/3@N05_4_cd.mp4"),
    ]  # fmt: skip
    assert rows["split"].tolist() == ["train", "train", "val", "test"]


@pytest.mark.parametrize("row", [7, {"video": "a.mp4"}, {"video": "a.mp4", "description": 1}])
def test_didemo_malformed_row_is_refused_by_number(row, tmp_path):
    options = didemo(tmp_path)
    made.dump(tmp_path / "val_data.json", [{"video": "v.mp4", "description": "x"}, row])
    with pytest.raises(InputError, match=r"val_data.json: row 1: expected the texts 'video'"):
        load("didemo").read(tmp_path, options)


def activitynet(folder, count=6):
    entry = {"duration": 9.5, "timestamps": [[0, 4], [4, 9]]}
    train = {f"v_{n:011}": entry | {"sentences": [f"One {n}.", "  Two. "]} for n in range(count)}
    made.dump(folder / "train.json", train)
    made.dump(folder / "val_1.json", {"v_test0000000": entry | {"sentences": ["Three."]}})
    return train


def test_activitynet_paragraphs_with_validation_out_of_training(tmp_path):
    train = activitynet(tmp_path)
    made.laid(tmp_path, ["v_test0000000.mkv", "bare/00000000003.mp4"])
    found = {}
    for count in (0, 2, 3):
        options = ActivityNetOptions(allowed_missing=0.0, val_videos=count)
        found[count] = load("activitynet").read(tmp_path, options)
        val = found[count].loc[found[count]["split"] == "val", "video_id"]
        assert len(val) == count
        assert set(found[count].loc[found[count]["split"] == "train", "video_id"]) == set(train) - {
            *val
        }
    rows = found[0].set_index("video_id")
    assert rows.loc["v_00000000003", "caption"] == "One 3. Two."
    assert rows.loc["v_00000000003", "path"] == "bare/00000000003.mp4"
    assert rows.loc["v_test0000000", "path"] == "v_test0000000.mkv"
    assert rows.loc["v_00000000001", "path"] == "videos/v_00000000001.mp4"
    two, three = (found[n].loc[found[n]["split"] == "val", "video_id"] for n in (2, 3))
    assert set(two) < set(three)


def test_didemo_file_that_is_no_list_is_refused(tmp_path):
    options = didemo(tmp_path)
    made.dump(tmp_path / "val_data.json", 7)
    with pytest.raises(InputError, match=r"val_data.json: expected a list of .*, found 7"):
        load("didemo").read(tmp_path, options)


@pytest.mark.parametrize("content", [[], {"v_a": {}}, {"v_a": {"sentences": 7}}, {"v_a": 1}])
def test_activitynet_malformed_file_is_refused(content, tmp_path):
    activitynet(tmp_path)
    (tmp_path / "val_1.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"val_1.json: expected"):
        load("activitynet").read(tmp_path, ActivityNetOptions(allowed_missing=0, val_videos=0))


def test_validation_that_leaves_nothing_to_train_on_is_refused(tmp_path):
    activitynet(tmp_path, 3)
    with pytest.raises(InputError, match="manifest.activitynet.val_videos: 3 leaves none of the 3"):
        load("activitynet").read(tmp_path, ActivityNetOptions(allowed_missing=0, val_videos=3))


CSV = """video_id,caption,split,licence
b,"a dog, red",train,mine
a.mp4,a cat,train,mine
b,a dog sits,train,mine
c,a bird,test,mine
"""


def own(folder, text=CSV, **changes):
    """Read a csv as the benchmark `dogs` that params.yaml describes."""
    folder.mkdir(exist_ok=True)
    (folder / "dogs.csv").write_text(text)
    section = {"captions": "dogs.csv", "title": "Dogs", "allowed_missing": 0.0} | changes
    Path("params.yaml").write_text(yaml.safe_dump({"manifest": {"dogs": section}}))
    params._load.cache_clear()
    return load("dogs").read(folder, OwnOptions(**section))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_csv_is_a_benchmark_without_code(here):
    made.laid(here / "raw", ["any/b.MKV", "any/a.mp4"])
    rows = own(here / "raw", val_videos=0)
    assert [tuple(row) for row in rows.to_numpy()] == [
        ("train", "b", "b#0", "a dog, red", "any/b.MKV"),
        ("train", "b", "b#1", "a dog sits", "any/b.MKV"),
        ("train", "a.mp4", "a.mp4#0", "a cat", "any/a.mp4"),
        ("test", "c", "c#0", "a bird", "videos/c.mp4"),
    ]
    dogs = load("dogs")
    assert (dogs.name, dogs.title, dogs.validation_option) == ("dogs", "Dogs", "val_videos")
    assert module_of("dogs") == "xpool.data.benchmarks.own"
    assert module_of("msvd") == "xpool.data.benchmarks.msvd"


def test_a_csv_with_validation_has_no_option_for_it(here):
    rows = own(here / "raw", CSV + "d,a cow,val,mine\n")
    assert rows["split"].tolist() == ["train"] * 3 + ["val", "test"]
    assert load("dogs").validation_option is None
    with pytest.raises(InputError, match="manifest.dogs.val_videos: remove it"):
        own(here / "raw", CSV + "d,a cow,val,mine\n", val_videos=1)


def test_a_csv_without_validation_takes_it_from_training(here):
    rows = own(here / "raw", val_videos=1)
    val, train = (rows.loc[rows["split"] == s, "video_id"].unique() for s in ("val", "train"))
    assert len(val) == len(train) == 1
    assert {*val, *train} == {"a.mp4", "b"}
    with pytest.raises(InputError, match=r"no row of the split val; .*manifest.dogs.val_videos"):
        own(here / "raw")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("video_id,caption\na,b\n", "column 'split' is missing"),
        ("video_id,caption,split\na,x,train\nb,y,dev\n", "row 2: .* found 'b' and 'dev'"),
        ("video_id,caption,split\n,x,train\n", "row 1: expected a video_id"),
        ("video_id,caption,split\na,x,test\n", "no row of the split train"),
        ("video_id,caption,split\na,x,train\n", "no row of the split test"),
    ],
)
def test_a_csv_that_is_malformed_is_refused(text, said, here):
    with pytest.raises(InputError, match=f"dogs.csv: {said}"):
        own(here / "raw", text, val_videos=0)


def test_a_name_without_file_and_captions_is_unknown(here):
    own(here / "raw", val_videos=0)
    with pytest.raises(InputError, match="no file xpool/data/benchmarks/cats.py"):
        load("cats")
