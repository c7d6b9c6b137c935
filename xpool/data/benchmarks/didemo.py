"""DiDeMo: the sentences of a video are one paragraph, and each paragraph is a query.

Each sentence describes some seconds of a video. For retrieval the field joins all of a video's, in
the order of the file.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from xpool.data.annotations.text import read_list
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
    usual_path,
)
from xpool.data.raw_folder import RawFolder
from xpool.project.errors import InputError

SECONDS_A_PIECE = 5
"""Annotators marked pieces of a video of this length."""


class DidemoOptions(ManifestOptions):
    """Params ``manifest.didemo``."""


class DidemoLayout(Layout):
    """Names as Flickr's, with suffixes that the videos on the disk need not have."""

    def name(self, durations: Durations, rng: np.random.Generator) -> Named:
        """Make names of owner, number and secret."""
        count = iter(range(10**6))
        return {
            split: [
                f"{rng.integers(10**7, 10**8)}@N0{rng.integers(9)}_{10**9 + next(count)}_"
                f"{rng.integers(16**10):010x}"
                for _ in durations[split]
            ]
            for split in SPLITS
        }

    def write(self, videos: Sequence[Listed], folder: Path, rng: np.random.Generator) -> None:
        """Write the three files."""
        for split in SPLITS:
            rows = [
                {
                    "annotation_id": 100 * number + k,
                    "video": f"{video.video_id}.mov",
                    "description": text,
                    "times": [[0, int(video.duration_s // SECONDS_A_PIECE)]] * 4,
                }
                for number, video in enumerate(of_split(videos, split))
                for k, text in enumerate(video.texts)
            ]
            (folder / f"{split}_data.json").write_text(json.dumps(rows), encoding="utf-8")


class Didemo(Benchmark):
    """Read train_data.json, val_data.json and test_data.json, one paragraph a video."""

    name = "didemo"
    title = "DiDeMo"
    licence = "See the dataset's page; videos are from Flickr under Creative Commons licences."
    source = "github.com/LisaAnne/LocalizingMoments"
    Options = DidemoOptions
    protocol = "test, the sentences of a video as one paragraph"
    layout = DidemoLayout()

    def published_counts(self, options: DidemoOptions) -> dict[str, Counts]:
        """Return 8,395 / 1,065 / 1,004 videos (albanie/collaborative-experts, note on DiDeMo)."""
        sizes = {"train": 8395, "val": 1065, "test": 1004}
        return {split: Counts(size, size) for split, size in sizes.items()}

    def annotation_files(self, folder: RawFolder, options: DidemoOptions) -> list[Path]:
        """Return the files of the three splits."""
        return folder.files(*((f"{split}_data.json",) for split in SPLITS))

    def rows(self, folder: RawFolder, options: DidemoOptions) -> pd.DataFrame:
        """Read all paragraphs; see :meth:`Benchmark.read`.

        A video's id is its name without the suffix, since many copies have another one.
        """
        rows: list[tuple[str, str, str, str, str]] = []
        for split, file in zip(SPLITS, self.annotation_files(folder, options), strict=True):
            for video_id, sentences in _sentences(file).items():
                path = folder.video(video_id, usual_path(video_id))
                rows.append((split, video_id, f"{video_id}#0", " ".join(sentences), path))
        return caption_table(rows)


def _sentences(file: Path) -> Mapping[str, list[str]]:
    """Return the sentences of each video, in the order of the file."""
    sentences: dict[str, list[str]] = {}
    for number, row in enumerate(read_list(file, "{'video', 'description'}")):
        try:
            video, sentence = row["video"], row["description"]
            sentences.setdefault(PurePosixPath(video).stem, []).append(sentence.strip())
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{file}: row {number}: expected the texts 'video' and 'description', found "
                f"{str(row)[:200]!r}"
            ) from error
    return sentences


BENCHMARK = Didemo()
