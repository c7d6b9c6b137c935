"""Attributes of queries: what each counts (by hand and by a loop), and files that do not fit."""

import numpy as np
import pandas as pd
import pytest
from made_ranks import write_videos

from xpool.project import paths
from xpool.project.errors import InputError
from xpool.statistics.slices.attributes import (
    SlicesParams,
    duplicates,
    query_attributes,
    relation_words,
    words,
)

ALL = SlicesParams(
    attributes=["caption_words", "relation_words", "duplicates", "video_s", "shots"], files={}
)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Twenty captions of ten videos, each video has two."""
    monkeypatch.chdir(tmp_path)
    texts = pd.DataFrame({"caption_id": [f"c{i}" for i in range(20)]})
    texts["video_id"] = [f"v{i // 2}" for i in range(20)]
    write_videos("mini", "msvd", texts, [f"v{i}" for i in range(10)])
    return texts["caption_id"].to_numpy(str)


def test_every_attribute_is_that_of_the_query_in_any_order(project):
    order = np.random.default_rng(0).permutation(20)
    found = query_attributes("mini", "msvd", project[order], ALL)
    assert list(found) == ALL.attributes
    for row, i in zip(found.to_dict("records"), order, strict=True):
        shared = i % 7 == 0
        assert row["caption_words"] == (3 if shared else 2 + i % 5)
        assert row["duplicates"] == (2 if shared else 0), "texts 0, 7 and 14, of three videos"
        assert row["video_s"] == i // 2 + 1
        assert row["shots"] == (i // 2) % 4
        assert row["relation_words"] == 0


def test_a_video_whose_rate_is_unknown_has_no_length(project):
    file = paths.video_digests("mini", "msvd")
    rates = pd.read_csv(file)
    rates.loc[rates["path"] == "v3.mp4", "rate_fps"] = np.nan
    rates.to_csv(file, index=False)
    found = query_attributes("mini", "msvd", project, ALL)["video_s"]
    assert np.flatnonzero(found.isna()).tolist() == [6, 7]


def test_only_listed_attributes_are_computed(project):
    paths.shots("mini", "msvd").unlink()
    params = SlicesParams(attributes=["caption_words"], files={})
    assert list(query_attributes("mini", "msvd", project, params)) == ["caption_words"]
    assert query_attributes("mini", "msvd", project, SlicesParams(attributes=[], files={})).empty


def test_a_query_that_is_not_in_the_manifest_is_named(project):
    with pytest.raises(InputError, match=r"msvd\.parquet: no test caption c99; run 'dvc repro'"):
        query_attributes("mini", "msvd", np.append(project, "c99"), ALL)


@pytest.mark.parametrize(
    ("caption", "count"),
    [
        ("a ring", 0),
        ("two red stars drifting to the left on the lawn", 2),
        ("The king is singing something, behind a building.", 2),
        ("a man plays guitar", 0),
        ("someone is walking down the street with a dog while it is barking", 5),
    ],
)
def test_relation_words_by_hand(caption, count):
    assert relation_words(caption) == count


def test_words_of_one_caption_are_those_of_the_other_but_for_case_and_punctuation():
    assert words("A man 's dog -- runs_fast!") == words("a man's dog runs fast")
    assert words("...") == ()


def test_duplicates_match_a_loop():
    rng = np.random.default_rng(1)
    captions = pd.Series(rng.choice(["A dog.", "a dog", "a cat", "a cat!", "a cow", "an owl"], 60))
    videos = pd.Series(rng.choice([f"v{i}" for i in range(8)], 60))
    expected = [
        len({v for c, v in zip(captions, videos, strict=True) if words(c) == words(mine)} - {video})
        for mine, video in zip(captions, videos, strict=True)
    ]
    assert duplicates(captions, videos).tolist() == expected
    assert max(expected) > 1


# --- files of the user's own ---


def write(name, text):
    paths.attributes(name).parent.mkdir(exist_ok=True)
    paths.attributes(name).write_text(text, encoding="utf-8")


def own(query, *files):
    params = SlicesParams(attributes=["shots"], files={"msvd": list(files), "lsmdc": ["no.csv"]})
    return query_attributes("mini", "msvd", query, params)


def test_files_by_caption_and_by_video_give_numbers_and_categories(project):
    write("faces.csv", "caption_id, faces\nc1, 2\nc0, 0.5\nc3,\n")
    write("topic.csv", "topic,video_id\nmusic,v0\n,v1\nsports,v9\n")
    found = own(project, "faces.csv", "topic.csv")
    assert list(found) == ["shots", "faces", "topic"]
    assert found["faces"].tolist()[:2] == [0.5, 2.0]
    assert found["faces"].isna().sum() == 18
    assert found["topic"].tolist()[:2] == ["music", "music"]
    assert found["topic"].tolist()[18:] == ["sports", "sports"]
    assert found["topic"].isna().sum() == 16


def test_rows_of_other_splits_are_passed_over(project):
    file = paths.manifest("mini", "msvd")
    table = pd.read_parquet(file)
    table.loc[table["video_id"] == "v9", "split"] = "train"
    table.to_parquet(file, index=False)
    write("topic.csv", "video_id,topic\nv0,music\nv9,sports\n")
    assert own(project[:18], "topic.csv")["topic"].dropna().unique().tolist() == ["music"]


MANY = "\n".join(f"c{i},w{i}" for i in range(13))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,topic\nv0,music\n", "no column caption_id or video_id; it has id, topic"),
        ("video_id,caption_id,x\nv0,c0,1\n", "has the columns caption_id and video_id; delete one"),
        ("video_id\nv0\n", "no attribute; expected a column beside video_id"),
        ("video_id,x\nv0,1\nv77,2\n", "row 3: video_id v77 is not in the manifest"),
        ("video_id,x\nv0,1\nv0,2\n", "row 3: video_id v0 is there twice"),
        ("video_id,x\nv0,1\n,2\n", "row 3: video_id nan is empty"),
        ("video_id,x,x\nv0,1,2\n", "column x is there twice"),
        ("video_id,,y\nv0,1,2\n", "column 2 has no name"),
        ("video_id,shots\nv0,1\n", "column shots: an attribute of this name is there already"),
        ("video_id,x\nv0,\n", "column x: no test query has a value"),
        ("video_id,x\nv0,1,2\n", "not a csv that pandas can read"),
        ("", "not a csv that pandas can read"),
        (f"caption_id,x\n{MANY}\n", "column x: 13 categories; expected 12 or fewer, or numbers"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_file_and_row(project, text, message):
    write("mine.csv", text)
    with pytest.raises(InputError) as caught:
        own(project, "mine.csv")
    assert str(caught.value).startswith("attributes/mine.csv")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(project):
    with pytest.raises(InputError, match=r"attributes/no\.csv: not found; .* slices\.files"):
        own(project, "no.csv")


def test_two_files_with_the_same_column_are_refused(project):
    write("one.csv", "video_id,topic\nv0,music\n")
    write("two.csv", "video_id,topic\nv0,music\n")
    with pytest.raises(InputError, match=r"two\.csv: column topic: an attribute of this name"):
        own(project, "one.csv", "two.csv")
