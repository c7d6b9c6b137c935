"""MSVD: 1,200 / 100 / 670 short videos; every caption is a query, also in test (21 to 81 a video).

Text-to-video ranks each of the 27,763 test captions against 670 videos. About one in six of these
captions also belongs, letter by letter, to another test video.
"""

import json
import math
import pickle
import re
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xpool.data.annotations.pickled import read_pickle
from xpool.data.annotations.rows import read_rows
from xpool.data.annotations.text import read_json, text_lines, unique
from xpool.data.benchmark import (
    SPLITS,
    Benchmark,
    Counts,
    Durations,
    Layout,
    Listed,
    ManifestOptions,
    Named,
    caption_table,
    of_split,
    write_lines,
)
from xpool.data.raw_folder import RawFolder
from xpool.project.errors import InputError

JSON = "captions_msvd.json"
"""The captions as X-Pool distributes them: text."""
PICKLE = "raw-captions.pkl"
"""The captions as CLIP4Clip distributes them: lists of tokens."""

HUB = (
    ("msvd_train.json", "msvd_val.json", "msvd_test.json"),
    ("default/train/*.parquet", "default/validation/*.parquet", "default/test/*.parquet"),
    ("data/train-*.parquet", "data/validation-*.parquet", "data/test-*.parquet"),
)
"""Rows of the splits as data sets of Hugging Face have them: friedrichor/MSVD, and the Parquet
files that the hub makes of one."""

_RENAMED = re.compile(r"vid\d+")


class MsvdOptions(ManifestOptions):
    """Params ``manifest.msvd``."""


class MsvdLayout(Layout):
    """Ids ``{youtube}_{start}_{end}``; some videos share a source, as in the real files."""

    def name(self, durations: Durations, rng: np.random.Generator) -> Named:
        """Make ids that are as hard to parse as the real ones.

        The 11 characters of a source may start with ``-`` and contain ``_``; every eighth source
        has both.
        """
        letters = np.array(list(string.ascii_letters + string.digits + "-_"))
        names: Named = {split: [] for split in SPLITS}
        source, end_s, n_sources = "", 0, 0
        for split in SPLITS:
            for duration_s in durations[split]:
                if not source or rng.random() < 0.7:
                    source, end_s = "".join(rng.choice(letters, 11)), 0
                    if n_sources % 8 == 0:
                        source = f"-{source[1:5]}_{source[6:]}"
                    n_sources += 1
                start_s = end_s + int(rng.integers(0, 60))
                end_s = start_s + math.ceil(duration_s)
                names[split].append(f"{source}_{start_s}_{end_s}")
        return names

    def path(self, video_id: str) -> Path:
        """Return a video's path relative to the raw folder."""
        return Path(_path(video_id))

    def write(self, videos: Sequence[Listed], folder: Path, rng: np.random.Generator) -> None:
        """Write both caption files and the three lists."""
        ordered = sorted(videos, key=lambda video: video.video_id)
        captions = {video.video_id: list(video.texts) for video in ordered}
        (folder / JSON).write_text(json.dumps(captions), encoding="utf-8")
        words = {video_id: [text.split() for text in texts] for video_id, texts in captions.items()}
        # a pickle, because the official file is one
        (folder / PICKLE).write_bytes(pickle.dumps(words, protocol=2))
        for split in SPLITS:
            write_lines(folder / f"{split}_list.txt", [v.video_id for v in of_split(videos, split)])


def _path(video_id: str) -> str:
    """Return a video's path in the official layout."""
    return f"YouTubeClips/{video_id}.avi"


class Msvd(Benchmark):
    """Read {train,val,test}_list.txt and captions_msvd.json or raw-captions.pkl, or rows."""

    name = "msvd"
    title = "MSVD"
    licence = "Research use; videos are from YouTube and stay under their owners' rights."
    source = (
        "Annotations: github.com/ArrowLuo/CLIP4Clip, release v0.0, msvd_data.zip, or X-Pool's data "
        "folder. Videos: www.cs.utexas.edu/users/ml/clamp/videoDescription, YouTubeClips.tar."
    )
    Options = MsvdOptions
    protocol = "test 670 videos, every caption a query"
    layout = MsvdLayout()
    checksums = {
        JSON: "11bc68e8441438121c1c7321526ef1d1fc6553d3b801baef1cca1d3429e306b1",
        "train_list.txt": "abfb8ab5660b464cf547d63a37a369920ff92c5f547af80f07aedd709df335d3",
        "val_list.txt": "9527cf1ef6c8fe2fb1ecfda0e1856acc563fecef5ff0a409b5d908b65c1e6ed4",
        "test_list.txt": "95eacd1fddb1d88cd7144267913ef02d0ecb8cc94a88bc484035433a2d8f9c7a",
    }

    def published_counts(self, options: MsvdOptions) -> dict[str, Counts]:
        """Return 1,200 / 100 / 670 videos with 48,774 / 4,290 / 27,763 captions."""
        return {
            "train": Counts(1200, 48774),
            "val": Counts(100, 4290),
            "test": Counts(670, 27763),
        }

    def distributor(self, file: Path) -> str:
        """Return who distributes files of that name."""
        named = {JSON: "X-Pool", PICKLE: "CLIP4Clip"}
        return "" if file.suffix == ".txt" else named.get(file.name, "Hugging Face")

    def annotation_files(self, folder: RawFolder, options: MsvdOptions) -> list[Path]:
        """Return the three lists and the caption files that are there."""
        files = [path for group in _files(folder) for path in group]
        both = folder.has(JSON) and folder.has(PICKLE)
        return list(dict.fromkeys(files + ([folder.file(PICKLE)] if both else [])))

    def rows(self, folder: RawFolder, options: MsvdOptions) -> pd.DataFrame:
        """Read all captions; see :meth:`Benchmark.read`.

        Raises:
            InputError: as there; also if both caption files are present and their counts differ,
                or if the videos are called vid1 to vid1970.
        """
        *list_files, caption_files = _files(folder)
        lists = dict(zip(SPLITS, map(_list, list_files), strict=True))
        listed = [video_id for video_ids in lists.values() for video_id in video_ids]
        captions_path = caption_files[0]
        if captions_path.name in (JSON, PICKLE):
            captions, names = _captions(captions_path), dict[str, str]()
        else:
            captions, names = read_rows(caption_files)
        _refuse_renamed(folder, [names.get(video_id, video_id) for video_id in listed])
        for split, files in zip(SPLITS, list_files, strict=True):
            for video_id in lists[split]:
                if not captions.get(video_id):
                    raise InputError(
                        f"{captions_path}: no caption of {video_id}, which {files[0].name} lists"
                    )
        if folder.has(JSON) and folder.has(PICKLE):
            _compare(captions_path, captions, folder.file(PICKLE), listed)
        rows = []
        for split, video_ids in lists.items():
            for video_id in video_ids:
                video_path = folder.video(names.get(video_id, video_id), _path(video_id))
                for k, caption in enumerate(captions[video_id]):
                    rows.append((split, video_id, f"{video_id}#{k}", caption, video_path))
        return caption_table(rows)


def _files(folder: RawFolder) -> list[list[Path]]:
    """Return the files of each split's list, and those of the captions."""
    lists = [
        (f"{split}_list.txt", *(names[number] for names in HUB))
        for number, split in enumerate(SPLITS)
    ]
    return folder.chosen(*lists, (JSON, PICKLE, *HUB))


def _list(files: list[Path]) -> list[str]:
    """Return the videos of a split, from a list or from rows."""
    if files[0].suffix != ".txt":
        return list(read_rows(files).captions)
    return unique(files[0], "video id", (line.strip() for line in text_lines(files[0])))


def _refuse_renamed(folder: RawFolder, listed: list[str]) -> None:
    renamed = [name for name in listed if _RENAMED.fullmatch(name)]
    if not renamed and not any(video_id in folder.videos for video_id in listed):
        renamed = [name for name in folder.videos if _RENAMED.fullmatch(name)]
    if renamed:
        raise InputError(
            f"{folder.root}: videos named like {renamed[0]} come from a copy of MSVD for "
            "captioning, whose splits may differ; get the official lists, and rename the videos to "
            "the ids in youtube_mapping.txt, e.g. -4wsuPCjDBc_5_15.avi"
        )


def _captions(path: Path) -> dict[str, list[str]]:
    if path.name == PICKLE:
        content = read_pickle(path, instead=JSON)
        wrong = _wrong_entry(content, tokens=True)
        expected = "a mapping of video ids to lists of lists of tokens"
    else:
        content = read_json(path)
        wrong = _wrong_entry(content, tokens=False)
        expected = "a mapping of video ids to lists of captions"
    if wrong is not None:
        raise InputError(f"{path}: expected {expected}, found {wrong[:200]}")
    if path.name == PICKLE:
        return {name: [" ".join(tokens) for tokens in texts] for name, texts in content.items()}
    captions: dict[str, list[str]] = content
    return captions


def _wrong_entry(content: Any, *, tokens: bool) -> str | None:
    """Describe the first entry that does not have the official form; None if all have."""
    if not isinstance(content, dict):
        return type(content).__name__
    for name, texts in content.items():
        if not isinstance(name, str) or not isinstance(texts, list):
            return f"{name!r}: {texts!r}"
        for text in texts:
            parts = text if tokens else [text]
            if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
                return f"{name!r}: {text!r}"
    return None


def _compare(
    json_path: Path, captions: Mapping[str, list[str]], pickle_path: Path, listed: list[str]
) -> None:
    others = _captions(pickle_path)
    for video_id in listed:
        here, there = len(captions[video_id]), len(others.get(video_id, ()))
        if here != there:
            raise InputError(
                f"{json_path} has {here} captions of {video_id}, {pickle_path} has {there}; "
                "delete the one that is not from the official archive"
            )


BENCHMARK = Msvd()
