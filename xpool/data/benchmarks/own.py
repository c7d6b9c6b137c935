"""A benchmark of one's own: videos, and one csv of ``video_id,caption,split``.

It needs no code. Where ``params.yaml`` gives ``manifest.<name>.captions``, ``<name>`` is such a
benchmark; ``xpool add-benchmark`` writes these lines.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from pydantic import Field

from xpool.data.annotations.text import read_csv
from xpool.data.benchmark import (
    SPLITS,
    Benchmark,
    Counts,
    ManifestOptions,
    caption_table,
    carved,
    usual_path,
)
from xpool.data.raw_folder import RawFolder, is_video
from xpool.project.errors import InputError

COLUMNS = ("video_id", "caption", "split")


class OwnOptions(ManifestOptions):
    """Params ``manifest.<name>``."""

    captions: str
    """Name of the csv below the raw folder."""
    title: str
    """Name in tables."""
    val_videos: int | None = Field(default=None, ge=0)
    """Videos taken out of training for validation, chosen by a hash of their names, for a csv that
    has none of the split ``val``; None for one that has."""


class Own(Benchmark):
    """Read the csv; every caption is a query."""

    licence = "Your own files."
    source = "Your own files."
    Options = OwnOptions

    def __init__(self, name: str, title: str, validation_option: str | None = None) -> None:
        """Make the benchmark of that name; see :class:`Benchmark` for the arguments."""
        self.name, self.title, self.validation_option = name, title, validation_option

    @classmethod
    def called(cls, name: str, section: Mapping[str, Any]) -> "Own":
        """Return the benchmark of that name; ``section`` is ``manifest.<name>``."""
        carves = section.get("val_videos") is not None
        return cls(name, str(section.get("title", name)), "val_videos" if carves else None)

    def published_counts(self, options: OwnOptions) -> dict[str, Counts]:
        """Return nothing, since no figure is published."""
        return {}

    def annotation_files(self, folder: RawFolder, options: OwnOptions) -> list[Path]:
        """Return the csv."""
        return folder.files((options.captions,))

    def rows(self, folder: RawFolder, options: OwnOptions) -> pd.DataFrame:
        """Read all captions; see :meth:`Benchmark.read`.

        Raises:
            InputError: as there; also if neither the csv nor an option says which videos validate,
                or both do.
        """
        (file,) = self.annotation_files(folder, options)
        parts = captions_by_split(file)
        key = f"manifest.{self.name}.val_videos"
        if options.val_videos is None and not parts["val"]:
            raise InputError(
                f"{file}: no row of the split val; add some, or take videos out of training with "
                f"{key} in params.yaml (0 for none)"
            )
        if options.val_videos is not None:
            if parts["val"]:
                raise InputError(f"params.yaml: {key}: remove it; {file} has rows of the split val")
            training = parts["train"]
            val = carved(self.name, list(training), options.val_videos)
            parts["train"] = {v: texts for v, texts in training.items() if v not in val}
            parts["val"] = {v: texts for v, texts in training.items() if v in val}
        rows = []
        for split, captions in parts.items():
            for video_id, texts in captions.items():
                stem = PurePosixPath(video_id).stem if is_video(video_id) else video_id
                path = folder.video(stem, usual_path(stem))
                rows += [
                    (split, video_id, f"{video_id}#{k}", text, path) for k, text in enumerate(texts)
                ]
        return caption_table(rows)


def captions_by_split(file: Path) -> dict[str, dict[str, list[str]]]:
    """Return the captions of each video of each split, in the order of the rows.

    Raises:
        InputError: the file is no such csv, a split has another name, or training or test is empty.
    """
    parts: dict[str, dict[str, list[str]]] = {split: {} for split in SPLITS}
    for number, row in enumerate(read_csv(file, COLUMNS), start=1):
        split, video_id = row["split"].strip(), row["video_id"].strip()
        if split not in parts or not video_id:
            raise InputError(
                f"{file}: row {number}: expected a video_id, and a split of {', '.join(SPLITS)}; "
                f"found {row['video_id']!r} and {row['split']!r}"
            )
        parts[split].setdefault(video_id, []).append(row["caption"])
    if empty := [split for split in ("train", "test") if not parts[split]]:
        raise InputError(f"{file}: no row of the split {empty[0]}")
    return parts


BENCHMARK = Own("own", "Own videos")
