"""VATEX: ten English captions a video, in the split of HGR; every caption is a query.

The official test captions were held back, so the field tests on a half of the official validation
videos: HGR's lists, which most later codes use.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from xpool.data.annotations.text import read_json, read_list, text_lines, unique
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
    write_lines,
)
from xpool.data.raw_folder import RawFolder
from xpool.project.errors import InputError

OFFICIAL = ("vatex_training_v1.0.json", "vatex_validation_v1.0.json")
"""The official captions: a list of ``{"videoID": ..., "enCap": [...], "chCap": [...]}`` each."""
JOINED = "vatex_data.json"
"""The same as others distribute it beside the lists: a mapping of ids to captions."""


class VatexOptions(ManifestOptions):
    """Params ``manifest.vatex``."""


class VatexLayout(Layout):
    """Ids ``{video}_{start}_{end}``, with the times as six digits."""

    def name(self, durations: Durations, rng: np.random.Generator) -> Named:
        """Number the videos; each starts at a second of its own."""
        names: Named = {split: [] for split in SPLITS}
        for split in SPLITS:
            for number, duration_s in enumerate(durations[split]):
                start_s = int(rng.integers(0, 300))
                end_s = start_s + int(np.ceil(duration_s))
                names[split].append(f"{split}{number:06}_{start_s:06}_{end_s:06}")
        return names

    def write(self, videos: Sequence[Listed], folder: Path, rng: np.random.Generator) -> None:
        """Write the two caption files and the three lists."""
        parts = of_split(videos, "train"), [v for v in videos if v.split != "train"]
        for file, some in zip(OFFICIAL, parts, strict=True):
            entries = [
                {"videoID": video.video_id, "enCap": list(video.texts), "chCap": []}
                for video in some
            ]
            (folder / file).write_text(json.dumps(entries), encoding="utf-8")
        for split in SPLITS:
            write_lines(folder / f"{split}_list.txt", [v.video_id for v in of_split(videos, split)])


class Vatex(Benchmark):
    """Read the captions and HGR's three lists; captions in Chinese are left out."""

    name = "vatex"
    title = "VATEX"
    licence = "See the dataset's page; videos are from YouTube and stay under owners' rights."
    source = (
        "Captions: eric-xw.github.io/vatex-website. Lists: HGR's, in codes that follow its split."
    )
    Options = VatexOptions
    protocol = "HGR's 1,500 test videos, every caption a query"
    layout = VatexLayout()

    def published_counts(self, options: VatexOptions) -> dict[str, Counts]:
        """Return 25,991 / 1,500 / 1,500 videos (danieljf24/hybrid_space ``dataset/README.md``)."""
        return {
            "train": Counts(25991, 259910),
            "val": Counts(1500, 15000),
            "test": Counts(1500, 15000),
        }

    def annotation_files(self, folder: RawFolder, options: VatexOptions) -> list[Path]:
        """Return the three lists and the caption files."""
        test = ("test_list.txt", "vatex_test_HGR.txt")
        return folder.files(("train_list.txt",), ("val_list.txt",), test, (OFFICIAL, JOINED))

    def rows(self, folder: RawFolder, options: VatexOptions) -> pd.DataFrame:
        """Read all captions; see :meth:`Benchmark.read`."""
        files = self.annotation_files(folder, options)
        captions: dict[str, list[str]] = {}
        for file in files[3:]:
            captions |= _captions(file)
        rows: list[tuple[str, str, str, str, str]] = []
        for split, file in zip(SPLITS, files[:3], strict=True):
            for video_id in unique(file, "videoID", map(str.strip, text_lines(file))):
                if video_id not in captions:
                    raise InputError(
                        f"{files[3]}: no caption of {video_id}, which {file.name} lists"
                    )
                path = folder.video(video_id, usual_path(video_id))
                rows += [
                    (split, video_id, f"{video_id}#{k}", caption, path)
                    for k, caption in enumerate(captions[video_id])
                ]
        return caption_table(rows)


def _captions(file: Path) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = {}
    if file.name == JOINED and isinstance(content := read_json(file), dict):
        entries = [
            {"videoID": name} | entry if isinstance(entry, dict) else entry
            for name, entry in content.items()
        ]
    else:
        entries = read_list(file, "{'videoID', 'enCap'}")
    for number, entry in enumerate(entries):
        try:
            captions[entry["videoID"]] = list(entry["enCap"])
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{file}: entry {number}: expected the keys 'videoID' and 'enCap', found "
                f"{str(entry)[:200]!r}"
            ) from error
    return captions


BENCHMARK = Vatex()
