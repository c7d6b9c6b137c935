"""LSMDC: film scenes of a few seconds with one sentence each, tested on 1,000 public clips.

The official X-Pool code leaves one test clip out, so its figures are over 999.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pandas as pd

from xpool.benchmark import (
    Benchmark,
    Counts,
    ManifestOptions,
    RawFolder,
    table,
    text_lines,
)
from xpool.command import InputError

FILES = {
    "train": "LSMDC16_annos_training.csv",
    "val": "LSMDC16_annos_val.csv",
    "test": "LSMDC16_challenge_1000_publictect.csv",
}
"""The last is spelled so."""
SKIPPED = "1012_Unbreakable_00.05.16.065-00.05.21.941"

_COLUMNS = 6
_log = logging.getLogger(__name__)


class LsmdcOptions(ManifestOptions):
    """Params ``manifest.lsmdc``."""

    test_clips: Literal[999, 1000]
    """999 leaves out the clip that the official X-Pool code skips (layer6ai-labs/xpool@bc88718
    datasets/lsmdc_dataset.py), as its published figures do; 1000 is the whole test file."""


class Lsmdc(Benchmark):
    """Read the three tab-separated files, which have six columns and no header.

    An id may occur in several rows of training or validation. All its captions are kept; the
    official code keeps the last one only, by the way it fills a dictionary.
    """

    name = "lsmdc"
    title = "LSMDC"
    licence = (
        "By permission of the Max Planck Institute for Informatics (user and password); never "
        "redistribute videos, frames or captions."
    )
    source = "sites.google.com/site/describingmovies/download"
    Options = LsmdcOptions
    checksums = {
        # As found in github.com/mzhaoshuai/CenterCLIP; the licensed download was not seen.
        FILES["test"]: "9c15f8350956a1974ee42abab9ad2bc26c2146580c29c0bea19410a63e289fad",
    }

    def published_counts(self, options: LsmdcOptions) -> dict[str, Counts]:
        """Return 101,079 / 7,408 rows; how many clips these are is not published."""
        return {
            "train": Counts(None, 101079),
            "val": Counts(None, 7408),
            "test": Counts(options.test_clips, options.test_clips),
        }

    def mini_counts(self, generated: Mapping[str, int], options: LsmdcOptions) -> dict[str, Counts]:
        """Return the expected counts; a generated test file has the skipped clip too."""
        counts = super().mini_counts(generated, options)
        counts["test"] = Counts(generated["test"] - len(self.skipped(options)), None)
        return counts

    def skipped(self, options: LsmdcOptions) -> tuple[str, ...]:
        """Return the one clip that the 999 protocol leaves out."""
        return (SKIPPED,) if options.test_clips == 999 else ()

    def annotation_files(self, folder: RawFolder, options: LsmdcOptions) -> list[Path]:
        """Return the files of the three splits."""
        return [folder.file(name) for name in FILES.values()]

    def rows(self, folder: RawFolder, options: LsmdcOptions) -> pd.DataFrame:
        """Read all captions; see :meth:`Benchmark.read`."""
        skipped = self.skipped(options)
        rows = []
        for split, path in zip(FILES, self.annotation_files(folder, options), strict=True):
            counts: dict[str, int] = {}
            for video_id, caption in _captions(path):
                if video_id in skipped:
                    continue
                k = counts.get(video_id, 0)
                counts[video_id] = k + 1
                movie = video_id.split(".")[0][:-3]
                place = folder.video(video_id, f"videos/{movie}/{video_id}.avi")
                rows.append((split, video_id, f"{video_id}#{k}", caption, place))
        return table(rows)


def _captions(path: Path) -> list[tuple[str, str]]:
    """Return (clip id, sentence) of each row, by no rule of quoting: a ``"`` is a letter here."""
    captions, quoted = [], 0
    for number, line in enumerate(text_lines(path), start=1):
        if not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) != _COLUMNS:
            raise InputError(
                f"{path} line {number}: expected {_COLUMNS} columns parted by tabs, found "
                f"{len(fields)}: {line[:120]!r}"
            )
        # Some copies went through a program that put quotes around whole lines.
        quoted += fields[0].startswith('"')
        video_id, caption = fields[0].strip().removeprefix('"'), fields[-1].strip()
        if len(video_id.split(".")[0]) <= 3 or "." not in video_id:
            raise InputError(
                f"{path} line {number}: {video_id[:120]!r} is no clip id; expected "
                "<movie>_<start>-<end> as in 3086_UGLY_TRUTH_00.23.23.000-00.23.28.886, and no "
                "header line"
            )
        captions.append((video_id, caption))
    if quoted:
        _log.warning("%s: removed a stray quote mark before %d clip ids", path, quoted)
    return captions


BENCHMARK = Lsmdc()
