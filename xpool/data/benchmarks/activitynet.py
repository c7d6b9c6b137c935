"""ActivityNet Captions: the sentences of a video are one paragraph, tested on val_1.

The official test captions are not public, so the field trains on train and tests on the first
annotation of the validation videos. Validation videos are taken out of training.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from xpool.data.annotations.text import read_json
from xpool.data.benchmark import (
    Benchmark,
    Counts,
    Durations,
    Layout,
    Listed,
    ManifestOptions,
    Named,
    Split,
    caption_table,
    carved,
    of_split,
    usual_path,
)
from xpool.data.raw_folder import RawFolder
from xpool.project.errors import InputError

FILES: dict[Split, str] = {"train": "train.json", "test": "val_1.json"}
TRAINING_VIDEOS, TEST_VIDEOS = 10009, 4917


class ActivityNetOptions(ManifestOptions):
    """Params ``manifest.activitynet``."""

    val_videos: int = Field(ge=0)
    """Videos taken out of training for validation, chosen by a hash of their names."""


class ActivityNetLayout(Layout):
    """Ids ``v_`` and the eleven characters of YouTube's."""

    has_val = False

    def name(self, durations: Durations, rng: np.random.Generator) -> Named:
        """Make an id for each video."""
        letters = list("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_")
        return {
            split: ["v_" + "".join(rng.choice(letters, 11)) for _ in some]
            for split, some in durations.items()
        }

    def write(self, videos: Sequence[Listed], folder: Path, rng: np.random.Generator) -> None:
        """Write both files."""
        for split, file in FILES.items():
            entries = {
                video.video_id: {
                    "duration": video.duration_s,
                    "timestamps": [[0, video.duration_s] for _ in video.texts],
                    "sentences": [f" {text}" for text in video.texts],  # as the real ones
                }
                for video in of_split(videos, split)
            }
            (folder / file).write_text(json.dumps(entries), encoding="utf-8")


class ActivityNet(Benchmark):
    """Read train.json and val_1.json, one paragraph a video."""

    name = "activitynet"
    title = "ActivityNet"
    licence = "See the dataset's page; videos are from YouTube and stay under owners' rights."
    source = "cs.stanford.edu/people/ranjaykrishna/densevid; videos: activity-net.org"
    Options = ActivityNetOptions
    protocol = "val_1, the sentences of a video as one paragraph"
    layout = ActivityNetLayout()
    validation_option = "val_videos"
    suggested = {"val_videos": 500}

    def published_counts(self, options: ActivityNetOptions) -> dict[str, Counts]:
        """Return 10,009 training videos and 4,917 of val_1 (collaborative-experts' lists)."""
        return _counts(TRAINING_VIDEOS, options.val_videos, TEST_VIDEOS)

    def mini_counts(
        self, generated: Mapping[str, int], options: ActivityNetOptions
    ) -> dict[str, Counts]:
        """Return the expected counts; validation videos come from training."""
        training = sum(count for split, count in generated.items() if split != "test")
        return _counts(training, options.val_videos, generated.get("test", 0))

    def annotation_files(self, folder: RawFolder, options: ActivityNetOptions) -> list[Path]:
        """Return both files."""
        return folder.files(*((name,) for name in FILES.values()))

    def rows(self, folder: RawFolder, options: ActivityNetOptions) -> pd.DataFrame:
        """Read all paragraphs; see :meth:`Benchmark.read`."""
        train, test = map(_paragraphs, self.annotation_files(folder, options))
        val = carved(self.name, list(train), options.val_videos)
        parts = {
            "train": {video_id: text for video_id, text in train.items() if video_id not in val},
            "val": {video_id: text for video_id, text in train.items() if video_id in val},
            "test": test,
        }
        return caption_table(
            (split, video_id, f"{video_id}#0", text, _video(folder, video_id))
            for split, texts in parts.items()
            for video_id, text in texts.items()
        )


def _counts(training: int, val: int, test: int) -> dict[str, Counts]:
    """Return the size of each split that is not empty; ``val`` videos come out of training."""
    sizes = {"train": training - val, "val": val, "test": test}
    return {split: Counts(size, size) for split, size in sizes.items() if size}


def _video(folder: RawFolder, video_id: str) -> str:
    """Return a video's path; in some copies the names lack the ``v_`` of the ids."""
    bare = video_id.removeprefix("v_")
    known = video_id in folder.videos or bare not in folder.videos
    return folder.video(video_id if known else bare, usual_path(video_id))


def _paragraphs(file: Path) -> dict[str, str]:
    content = read_json(file)
    if not isinstance(content, dict):
        raise InputError(f"{file}: expected a mapping of video ids, found {str(content)[:200]}")
    try:
        return {
            video_id: " ".join(sentence.strip() for sentence in entry["sentences"])
            for video_id, entry in content.items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file}: expected a list of texts 'sentences' for each video ({error})"
        ) from error


BENCHMARK = ActivityNet()
