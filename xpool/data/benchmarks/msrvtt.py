"""MSR-VTT: 7k or 9k training videos with 20 captions each, tested on the 1k-A split.

The 1k-A test (JSFusion's) has 1,000 videos with one caption each, taken from its csv. 35 of the
1,000 differ from all 20 captions of their video, so no other file can stand in for it.
"""

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from xpool.data.annotations.pickled import read_pickle
from xpool.data.annotations.rows import read_rows
from xpool.data.annotations.text import read_csv, read_json, text_lines, unique
from xpool.data.benchmark import (
    Benchmark,
    Counts,
    Durations,
    Layout,
    Listed,
    ManifestOptions,
    Named,
    caption_table,
    carved,
    is_blank,
    of_split,
    write_lines,
)
from xpool.data.raw_folder import RawFolder
from xpool.project.errors import InputError

CAPTIONS = ("MSRVTT_data.json", "MSR_VTT.json")
"""CLIP4Clip's file, which is preferred, and Frozen in Time's."""
CHALLENGE = ("train_val_videodatainfo.json", "test_videodatainfo.json")
"""The files of the 2016 challenge: 7,010 videos, and the other 2,990."""
TEST = "MSRVTT_JSFUSION_test.csv"
FROZEN_TEST = ("val_list_jsfusion.txt", "jsfusion_val_caption_idx.pkl")
"""Frozen in Time's form of 1k-A: the videos, and the number of each one's caption."""

log = logging.getLogger(__name__)
_TRAINING_VIDEOS = {"9k": 9000, "7k": 7010}
_CAPTIONS_PER_VIDEO = 20
SHARE_7K = Fraction(7010, 9000)
"""Share of the 9k training videos that are in the 7k list."""
SHARE_OFFICIAL_TRAIN = Fraction(6513, 7010)
"""Share of the 7k list that is the official training split; the rest is the official "validate"."""


class MsrVttOptions(ManifestOptions):
    """Params ``manifest.msrvtt``."""

    training_videos: Literal["9k", "7k"]
    """Training list: all but the 1k-A test, or the original training and validation videos."""
    val_videos: int = Field(ge=0)
    """Videos taken out of training for validation, because the official lists have no such split
    and the official code selects on test. They are chosen by a hash of the video's name, so that
    neither a file's order nor a seed matters. Each has one caption, the first that is not empty,
    as in the 1k-A test."""


class MsrVttLayout(Layout):
    """Numbered videos; the test videos come from those beyond the 7k list."""

    has_val = False

    def name(self, durations: Durations, rng: np.random.Generator) -> Named:
        """Number all videos; the test ids are shuffled, as in the official csv."""
        n_train, n_test = len(durations["train"]), len(durations["test"])
        n_7k = _seven_k(n_train)
        beyond = n_7k + rng.permutation(n_train + n_test - n_7k)
        train = [*range(n_7k), *sorted(beyond[n_test:].tolist())]
        return {
            "train": [f"video{number}" for number in train],
            "val": [],
            "test": [f"video{number}" for number in beyond[:n_test]],
        }

    def path(self, video_id: str) -> Path:
        """Return a video's path relative to the raw folder."""
        return Path(_path(video_id))

    def write(self, videos: Sequence[Listed], folder: Path, rng: np.random.Generator) -> None:
        """Write the caption file, both training lists and the test csv."""
        n_7k = _seven_k(len(of_split(videos, "train")))
        n_official_train = max(1, round(n_7k * SHARE_OFFICIAL_TRAIN))
        entries = []
        for video in sorted(videos, key=_number):
            start_s, id_ = round(rng.uniform(0, 300), 2), _number(video)
            later = "validate" if id_ < n_7k else "test"
            entries.append(
                {
                    "category": int(rng.integers(20)),
                    "url": f"synthetic:msrvtt/{video.video_id}",
                    "video_id": video.video_id,
                    "start time": start_s,
                    "end time": round(start_s + video.duration_s, 2),
                    "split": "train" if id_ < n_official_train else later,
                    "id": id_,
                }
            )
        mixed = [videos[i] for i in rng.permutation(len(videos))]
        captions = [(text, video.video_id) for video in mixed for text in video.texts]
        sentences = [
            {"caption": text, "video_id": video_id, "sen_id": sen_id}
            for sen_id, (text, video_id) in enumerate(captions)
        ]
        record = {
            "info": {"description": "Synthetic: a mini benchmark in the layout of MSR-VTT."},
            "videos": entries,
            "sentences": sentences,
        }
        (folder / CAPTIONS[0]).write_text(json.dumps(record), encoding="utf-8")
        train = sorted(of_split(videos, "train"), key=_number)
        write_lines(folder / "MSRVTT_train.9k.csv", ["video_id", *(v.video_id for v in train)])
        # sorted as text, as the official list is
        first = sorted(v.video_id for v in train if _number(v) < n_7k)
        write_lines(folder / "MSRVTT_train.7k.csv", ["video_id", *first])
        rows = ["key,vid_key,video_id,sentence"]
        for i, video in enumerate(of_split(videos, "test")):
            # the first caption, which has index 0 in every file
            rows.append(f"ret{i},msr{_number(video)},{video.video_id},{video.texts[0]}")
        write_lines(folder / TEST, rows)


def _seven_k(n_train: int) -> int:
    """Return the size of a generated 7k list: the published share of the 9k list."""
    return max(1, round(n_train * SHARE_7K))


def _number(video: Listed) -> int:
    return int(video.video_id.removeprefix("video"))


def _path(video_id: str) -> str:
    """Return a video's path in the official layout."""
    return f"videos/all/{video_id}.mp4"


class MsrVtt(Benchmark):
    """Read captions, a training list and the 1k-A test, from the files of any distributor."""

    name = "msrvtt"
    title = "MSR-VTT"
    licence = (
        "The files state none. Research use; videos are from YouTube and stay under their owners' "
        "rights."
    )
    source = (
        "Annotations: github.com/ArrowLuo/CLIP4Clip, release v0.0, msrvtt_data.zip. "
        "Videos: Frozen in Time's MSRVTT.zip."
    )
    Options = MsrVttOptions
    protocol = "train {training_videos}, test 1k-A"
    layout = MsrVttLayout()
    suggested = {"training_videos": "9k", "val_videos": 500}
    validation_option = "val_videos"
    checksums = {
        "MSRVTT_train.9k.csv": "0a7ece2418e1f7ac5680555a04ddfef8950293ac3c4bdd6584fb0fa6cc0ff7d3",
        "MSRVTT_train.7k.csv": "ca0d04c34310168b620c90c67eaec702b37398943965f5e1f9f44af8f193da7d",
        TEST: "e61144b312c8a2fc2126f96504c981f8c23c05b3ba9655a56e2af50ac8a4b16a",
        # The ids of friedrichor/MSR-VTT's files in Git LFS.
        "msrvtt_train_9k.json": "97ff86055d8fcec43ca2ce948f89a02fa529f3b26fc16845f623e1dbaed5db44",
        "msrvtt_train_7k.json": "cef5b250b3cea268068e45b81348ed3857dd54cef2e3f40387554905b375f5e3",
        "msrvtt_test_1k.json": "6e937737375f77bffc939ba336001e0328fafdc1c844868a5e158ce4de4ce81f",
    }

    def published_counts(self, options: MsrVttOptions) -> dict[str, Counts]:
        """Return 9,000 or 7,010 training videos, less those for validation, and 1,000 test ones."""
        train = _TRAINING_VIDEOS[options.training_videos] - options.val_videos
        counts = {"train": Counts(train, train * _CAPTIONS_PER_VIDEO)}
        if options.val_videos:
            counts["val"] = Counts(options.val_videos, options.val_videos)
        return counts | {"test": Counts(1000, 1000)}

    def mini_counts(
        self, generated: Mapping[str, int], options: MsrVttOptions
    ) -> dict[str, Counts]:
        """Return the expected counts; validation videos come out of the chosen training list."""
        listed = sum(count for split, count in generated.items() if split != "test")
        if options.training_videos == "7k":
            listed = _seven_k(listed)
        counts = {
            "train": Counts(listed - options.val_videos, None),
            "val": Counts(options.val_videos, options.val_videos),
            "test": Counts(generated.get("test", 0), generated.get("test", 0)),
        }
        return {split: count for split, count in counts.items() if count.videos}

    def distributor(self, file: Path) -> str:
        """Return who distributes files of that name."""
        if file.name == CAPTIONS[0] or file.suffix == ".csv":
            return "CLIP4Clip"
        if file.name in CHALLENGE:
            return "the 2016 challenge"
        frozen = file.name == CAPTIONS[1] or file.suffix in (".txt", ".pkl")
        return "Frozen in Time" if frozen else "Hugging Face"

    def annotation_files(self, folder: RawFolder, options: MsrVttOptions) -> list[Path]:
        """Return the caption files, the chosen training list, and the files of the test."""
        return list(dict.fromkeys(path for files in _files(folder, options) for path in files))

    def rows(self, folder: RawFolder, options: MsrVttOptions) -> pd.DataFrame:
        """Read all captions; see :meth:`Benchmark.read`."""
        caption_files, list_files, test_files = _files(folder, options)
        captions = _captions(caption_files)
        queries = _queries(test_files, captions)
        listed = _training_list(list_files, options, {query.video_id for query in queries})
        val = carved("msrvtt", listed, options.val_videos)
        for video_id in listed:
            if video_id not in captions:
                raise InputError(
                    f"{caption_files[0]}: no caption of {video_id}, which {list_files[0].name} "
                    "lists"
                )
        return caption_table(
            [
                *_training_rows(folder, captions, [v for v in listed if v not in val]),
                *_validation_rows(folder, captions, [v for v in listed if v in val]),
                *_test_rows(folder, queries),
            ]
        )


class Query(NamedTuple):
    """A test query: its id, its video, and the sentence."""

    key: str
    video_id: str
    sentence: str


def _hub(part: str) -> tuple[str, ...]:
    """Return names of the rows of a part in data sets of Hugging Face (friedrichor/MSR-VTT)."""
    return f"msrvtt_{part}.json", f"{part}/*.parquet", f"{part}/*/*.parquet"


def _files(folder: RawFolder, options: MsrVttOptions) -> list[list[Path]]:
    """Return the files of the captions, those of the training list, and those of the test."""
    kind = options.training_videos
    challenge = CHALLENGE if kind == "9k" else CHALLENGE[:1]
    frozen = ("train_list_jsfusion.txt",) if kind == "9k" else ()
    rows = _hub(f"train_{kind}")
    lists = (f"MSRVTT_train.{kind}.csv", *frozen, f"train_list_{kind}.txt", *rows, challenge)
    return folder.chosen(
        (*CAPTIONS, challenge, *rows), lists, (TEST, *_hub("test_1k"), FROZEN_TEST)
    )


def _training_list(files: list[Path], options: MsrVttOptions, test: Collection[str]) -> list[str]:
    """Return the training videos, in the order of CLIP4Clip's lists.

    Source: the 9k list is all videos but the 1k-A test, by number; the 7k list is the challenge's
    training and validation videos, as text in which an end comes after all digits (found in
    CLIP4Clip's files).
    """
    first = files[0]
    if first.suffix == ".csv":
        return unique(first, "video_id", [r["video_id"] for r in read_csv(first, ("video_id",))])
    if first.suffix == ".txt":
        return unique(first, "video_id", map(str.strip, text_lines(first)))
    if first.name not in CHALLENGE:
        return list(read_rows(files).captions)
    videos = _captions(files)
    if options.training_videos == "7k":
        return sorted(videos, key=lambda video_id: f"{video_id}~")
    return sorted((v for v in videos if v not in test), key=lambda v: (len(v), v))


def _queries(files: list[Path], captions: Mapping[str, list[str]]) -> list[Query]:
    """Return the queries of the 1k-A test."""
    first = files[0]
    if first.name == TEST:
        rows = read_csv(first, ("key", "video_id", "sentence"))
        unique(first, "key", [row["key"] for row in rows])
        unique(first, "video_id", [row["video_id"] for row in rows])
        return [Query(row["key"], row["video_id"], row["sentence"]) for row in rows]
    if first.name == FROZEN_TEST[0]:
        return list(_numbered_queries(first, files[1], captions))
    found = read_rows(files).captions
    for video_id, texts in found.items():
        if len(texts) != 1:
            raise InputError(
                f"{first}: {len(texts)} captions of {video_id}; expected one, as in {TEST}"
            )
    return [Query(f"{video_id}#0", video_id, texts[0]) for video_id, texts in found.items()]


def _numbered_queries(
    list_path: Path, numbers_path: Path, captions: Mapping[str, list[str]]
) -> Iterator[Query]:
    """Yield the queries of Frozen in Time's form, whose sentences are captions.

    Source: m-bain/frozen-in-time ``data_loader/MSRVTT_dataset.py``.
    """
    numbers = read_pickle(numbers_path, instead=TEST)
    log.warning(
        "%s: the test sentences are captions of its videos; %s words some of them otherwise",
        list_path,
        TEST,
    )
    for video_id in unique(list_path, "video_id", map(str.strip, text_lines(list_path))):
        texts = captions.get(video_id, [])
        number = numbers.get(video_id) if isinstance(numbers, dict) else None
        if type(number) is not int or not 0 <= number < len(texts):
            raise InputError(
                f"{numbers_path}: {video_id}: expected the number of one of its {len(texts)} "
                f"captions, found {number!r}; or put {TEST} there"
            )
        yield Query(f"{video_id}#{number}", video_id, texts[number])


def _training_rows(
    folder: RawFolder, captions: Mapping[str, list[str]], video_ids: list[str]
) -> Iterator[tuple[str, str, str, str, str]]:
    for video_id in video_ids:
        path = folder.video(video_id, _path(video_id))
        for k, caption in enumerate(captions[video_id]):
            yield "train", video_id, f"{video_id}#{k}", caption, path


def _validation_rows(
    folder: RawFolder, captions: Mapping[str, list[str]], video_ids: list[str]
) -> Iterator[tuple[str, str, str, str, str]]:
    for video_id in video_ids:
        texts = captions[video_id]
        k = next((k for k, text in enumerate(texts) if not is_blank(text)), 0)
        path = folder.video(video_id, _path(video_id))
        yield "val", video_id, f"{video_id}#{k}", texts[k], path


def _test_rows(
    folder: RawFolder, queries: Iterable[Query]
) -> Iterator[tuple[str, str, str, str, str]]:
    for key, video_id, sentence in queries:
        yield "test", video_id, key, sentence, folder.video(video_id, _path(video_id))


def _captions(files: list[Path]) -> dict[str, list[str]]:
    """Return each video's captions in the order of the files."""
    if files[0].name not in (*CAPTIONS, *CHALLENGE):
        return read_rows(files).captions
    captions: dict[str, list[str]] = {}
    for path in files:
        _add_captions(captions, path)
    return captions


def _add_captions(captions: dict[str, list[str]], path: Path) -> None:
    """Add the captions of a file in the form of the 2016 challenge or of Frozen in Time.

    It has ``sentences`` of ``{video_id, caption}``, or ``annotations`` of ``{image_id, caption}``.
    """
    content = read_json(path)
    forms = {"sentences": "video_id", "annotations": "image_id"}
    form = next((f for f in forms if isinstance(content, dict) and f in content), None)
    if form is None:
        found = ", ".join(map(str, content)) if isinstance(content, dict) else "no mapping"
        raise InputError(
            f"{path}: expected 'sentences' (MSRVTT_data.json) or 'annotations' (MSR_VTT.json) at "
            f"the top level, found {found[:200]}"
        )
    entries: Any = content[form]
    if not isinstance(entries, list):
        raise InputError(
            f"{path}: {form}: expected a list of {{{forms[form]!r}, 'caption'}}, found "
            f"{str(entries)[:200]}"
        )
    for position, entry in enumerate(entries):
        try:
            video_id, caption = entry[forms[form]], entry["caption"]
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{path}: {form}[{position}]: expected the keys {forms[form]!r} and 'caption', "
                f"found {str(entry)[:200]!r}"
            ) from error
        if not isinstance(video_id, str) or not isinstance(caption, str):
            raise InputError(
                f"{path}: {form}[{position}]: expected strings, found {str(entry)[:200]!r}"
            )
        captions.setdefault(video_id, []).append(caption)


BENCHMARK = MsrVtt()
