"""MSR-VTT: 7k or 9k training videos with 20 captions each, tested on the 1k-A split.

The 1k-A test (JSFusion's) has 1,000 videos with the one caption that its csv gives. Look that
caption up nowhere else: 35 of the 1,000 differ from all 20 captions of their video.
"""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field

from xpool.benchmark import (
    Benchmark,
    Counts,
    ManifestOptions,
    RawFolder,
    read_csv,
    read_json,
    table,
    unique,
)
from xpool.command import InputError
from xpool.seeds import seed_for

CAPTIONS = ("MSRVTT_data.json", "MSR_VTT.json")
"""CLIP4Clip's file, used where both are there, and Frozen in Time's."""
TEST = "MSRVTT_JSFUSION_test.csv"

_TRAINING_VIDEOS = {"9k": 9000, "7k": 7010}
_CAPTIONS_PER_VIDEO = 20


class MsrVttOptions(ManifestOptions):
    """Params ``manifest.msrvtt``."""

    training_videos: Literal["9k", "7k"]
    """Training list: all but the 1k-A test, or the original training and validation videos."""
    val_videos: int = Field(ge=0)
    """Videos taken out of training for validation; the official lists have no such split, and the
    official code selects on test. Chosen by a hash of the video's name, so that the choice depends
    neither on the order of a file nor on a seed. Each has one caption, the first that is not empty,
    so that validation ranks as the 1k-A test does."""


class MsrVtt(Benchmark):
    """Read MSRVTT_data.json (or MSR_VTT.json), MSRVTT_train.9k.csv or .7k.csv, and the test csv."""

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
    checksums = {
        "MSRVTT_train.9k.csv": "0a7ece2418e1f7ac5680555a04ddfef8950293ac3c4bdd6584fb0fa6cc0ff7d3",
        "MSRVTT_train.7k.csv": "ca0d04c34310168b620c90c67eaec702b37398943965f5e1f9f44af8f193da7d",
        TEST: "e61144b312c8a2fc2126f96504c981f8c23c05b3ba9655a56e2af50ac8a4b16a",
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
        """Return the expected counts: validation comes out of the training list in force.

        A generated 7k list has the published share of the 9k list.
        """
        listed = sum(count for split, count in generated.items() if split != "test")
        if options.training_videos == "7k":
            listed = max(1, round(listed * Fraction(7010, 9000)))
        counts = {
            "train": Counts(listed - options.val_videos, None),
            "val": Counts(options.val_videos, options.val_videos),
            "test": Counts(generated.get("test", 0), generated.get("test", 0)),
        }
        return {split: count for split, count in counts.items() if count.videos}

    def annotation_files(self, folder: RawFolder, options: MsrVttOptions) -> list[Path]:
        """Return the caption file, the training list in force and the test csv."""
        return [
            folder.file(*CAPTIONS),
            folder.file(f"MSRVTT_train.{options.training_videos}.csv"),
            folder.file(TEST),
        ]

    def rows(self, folder: RawFolder, options: MsrVttOptions) -> pd.DataFrame:
        """Read all captions; see :meth:`Benchmark.read`."""
        captions_path, list_path, test_path = self.annotation_files(folder, options)
        listed = unique(
            list_path,
            "video_id",
            [row["video_id"] for row in read_csv(list_path, ("video_id",))],
        )
        if options.val_videos >= len(listed):
            raise InputError(
                f"params.yaml: manifest.msrvtt.val_videos: {options.val_videos} leaves nothing of "
                f"the {len(listed)} training videos of {list_path.name}; make it smaller"
            )
        by_hash = sorted(listed, key=lambda video_id: seed_for("msrvtt", "val", video_id))
        val = frozenset(by_hash[: options.val_videos])
        captions = _captions(captions_path)
        for video_id in listed:
            if video_id not in captions:
                raise InputError(
                    f"{captions_path}: no caption of {video_id}, which {list_path.name} lists"
                )
        return table(
            [
                *_training_rows(folder, captions, [v for v in listed if v not in val]),
                *_validation_rows(folder, captions, [v for v in listed if v in val]),
                *_test_rows(folder, test_path),
            ]
        )


def _training_rows(
    folder: RawFolder, captions: Mapping[str, list[str]], video_ids: list[str]
) -> Iterator[tuple[str, str, str, str, str]]:
    for video_id in video_ids:
        path = _path(folder, video_id)
        for k, caption in enumerate(captions[video_id]):
            yield "train", video_id, f"{video_id}#{k}", caption, path


def _validation_rows(
    folder: RawFolder, captions: Mapping[str, list[str]], video_ids: list[str]
) -> Iterator[tuple[str, str, str, str, str]]:
    for video_id in video_ids:
        texts = captions[video_id]
        k = next((k for k, text in enumerate(texts) if text.strip()), 0)
        yield "val", video_id, f"{video_id}#{k}", texts[k], _path(folder, video_id)


def _test_rows(folder: RawFolder, path: Path) -> Iterator[tuple[str, str, str, str, str]]:
    rows = read_csv(path, ("key", "video_id", "sentence"))
    keys = unique(path, "key", [row["key"] for row in rows])
    video_ids = unique(path, "video_id", [row["video_id"] for row in rows])
    for key, video_id, row in zip(keys, video_ids, rows, strict=True):
        yield "test", video_id, key, row["sentence"], _path(folder, video_id)


def _path(folder: RawFolder, video_id: str) -> str:
    return folder.video(video_id, f"videos/all/{video_id}.mp4")


def _captions(path: Path) -> dict[str, list[str]]:
    """Return each video's captions in file order.

    ``sentences`` of ``{video_id, caption}`` (the 2016 challenge's form), or ``annotations`` of
    ``{image_id, caption}`` (Frozen in Time's).
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
    captions: dict[str, list[str]] = {}
    entries: Any = content[form]
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
    return captions


BENCHMARK = MsrVtt()
