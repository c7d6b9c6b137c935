"""LSMDC: film scenes of a few seconds with one sentence each, tested on 1,000 public clips.

The official X-Pool code skips one test clip, so its figures are over 999.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from xpool.data.annotations.text import text_lines
from xpool.data.benchmark import (
    SPLITS,
    Benchmark,
    Counts,
    Durations,
    Layout,
    Listed,
    ManifestOptions,
    Named,
    Split,
    caption_table,
    of_split,
    write_lines,
)
from xpool.data.raw_folder import RawFolder
from xpool.project.errors import InputError

FILES: dict[Split, str] = {
    "train": "LSMDC16_annos_training.csv",
    "val": "LSMDC16_annos_val.csv",
    "test": "LSMDC16_challenge_1000_publictect.csv",
}
"""The misspelling in the last name is official."""
SKIPPED = "1012_Unbreakable_00.05.16.065-00.05.21.941"
"""The clip that the official X-Pool code skips."""

_COLUMNS = 6
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
"""A value as programs quote it: marks around it, and each mark inside doubled."""
log = logging.getLogger(__name__)


class LsmdcOptions(ManifestOptions):
    """Params ``manifest.lsmdc``."""

    test_clips: Literal[999, 1000]
    """999 leaves out the clip that the official X-Pool code skips (layer6ai-labs/xpool@bc88718
    datasets/lsmdc_dataset.py), as its published results do; 1000 is the whole test file."""


FILMS: dict[Split, tuple[str, ...]] = {
    "train": (
        "0901_A_Quiet_Harbour",
        "0902_Paper_Lanterns",
        "0903_The_Third_Ferry",
        "0904_Ohne_Wiederkehr",
        "1901_Glasshouse",
        "1902_Night_Train_to_Oslo",
        "1903_Salt",
        "3901_SEVEN_ORCHARDS",
        "3902_THE_LONG_WAY_DOWN",
        "3903_COPPER_SKY",
    ),
    "val": ("0911_Winter_Field", "3911_THE_CLOCKMAKER"),
    "test": ("0921_Two_Rivers", "1012_Unbreakable", "1921_Half_Moon", "3921_OPEN_WATER"),
}
"""Invented films of the mini version; no film is in two splits."""


class LsmdcLayout(Layout):
    """Ids ``{film}_{start}-{end}``; one test clip is the one that the official code skips."""

    repeated_ids = 2

    def name(self, durations: Durations, rng: np.random.Generator) -> Named:
        """Name the clips by film and time, one after another in each film."""
        names: Named = {split: [] for split in SPLITS}
        for split in SPLITS:
            total = len(durations[split])
            for i, film in enumerate(FILMS[split]):
                first, last = (total * k // len(FILMS[split]) for k in (i, i + 1))
                time_s = 300.0
                for duration_s in durations[split][first:last]:
                    start_s = time_s + rng.uniform(2, 30)
                    time_s = start_s + duration_s
                    names[split].append(f"{film}_{_stamp(start_s)}-{_stamp(time_s)}")
        unbreakable = [name.startswith("1012_") for name in names["test"]]
        index = unbreakable.index(True) if any(unbreakable) else 0
        names["test"][index] = SKIPPED
        return names

    def path(self, video_id: str) -> Path:
        """Return a clip's path relative to the raw folder."""
        return Path(_path(video_id))

    def word(self, caption: str, opening: str) -> str:
        """Word a caption as LSMDC does: with a capital, punctuation, and a nameless person."""
        if caption.startswith("we see "):
            caption = "SOMEONE sees " + caption.removeprefix("we see ")
        if opening:  # "on the sand a ring moving up" -> "On the sand, a ring moving up."
            caption = f"{opening}, {caption.removeprefix(opening).lstrip()}"
        return f"{caption[0].upper()}{caption[1:]}."

    def write(self, videos: Sequence[Listed], folder: Path, rng: np.random.Generator) -> None:
        """Write the three tab-separated files."""
        for split in SPLITS:
            rows = []
            for video in of_split(videos, split):
                start, end = video.video_id.rsplit("_", 1)[1].split("-")
                # in the real files about every fifth row has another aligned start
                own = rng.random() < 0.2
                aligned = f"{start[:-3]}{int(rng.integers(1000)):03}" if own else start
                for text in video.texts:
                    rows.append("\t".join([video.video_id, aligned, end, start, end, text]))
            write_lines(folder / FILES[split], rows)


def _path(video_id: str) -> str:
    """Return a clip's path in the official layout."""
    film = video_id.split(".")[0][:-3]  # the official rule
    return f"videos/{film}/{video_id}.avi"


def _stamp(time_s: float) -> str:
    """Return a time as LSMDC's ids spell it, e.g. 00.05.16.065."""
    milliseconds = round(time_s * 1000)
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}.{minutes:02}.{seconds:02}.{milliseconds:03}"


class Lsmdc(Benchmark):
    """Read the three tab-separated files, which have six columns and no header.

    An id may occur in several rows of training or validation. All its captions are kept, while the
    official code keeps the last one, because it fills a dictionary.
    """

    name = "lsmdc"
    title = "LSMDC"
    licence = (
        "By permission of the Max Planck Institute for Informatics (user and password); never "
        "redistribute videos, frames or captions."
    )
    source = "sites.google.com/site/describingmovies/download"
    Options = LsmdcOptions
    protocol = "test {test_clips} clips"
    layout = LsmdcLayout()
    suggested = {"test_clips": 999}
    checksums = {
        # From github.com/mzhaoshuai/CenterCLIP; the licensed download was not available.
        FILES["test"]: "9c15f8350956a1974ee42abab9ad2bc26c2146580c29c0bea19410a63e289fad",
    }

    def published_counts(self, options: LsmdcOptions) -> dict[str, Counts]:
        """Return 101,079 / 7,408 captions; their numbers of clips are not published."""
        return {
            "train": Counts(None, 101079),
            "val": Counts(None, 7408),
            "test": Counts(options.test_clips, options.test_clips),
        }

    def mini_counts(self, generated: Mapping[str, int], options: LsmdcOptions) -> dict[str, Counts]:
        """Return the expected counts; a generated test file contains the skipped clip."""
        counts = super().mini_counts(generated, options)
        counts["test"] = Counts(generated["test"] - len(self.skipped(options)), None)
        return counts

    def skipped(self, options: LsmdcOptions) -> tuple[str, ...]:
        """Return the clip that the protocol of 999 clips leaves out."""
        return (SKIPPED,) if options.test_clips == 999 else ()

    def annotation_files(self, folder: RawFolder, options: LsmdcOptions) -> list[Path]:
        """Return the files of the three splits."""
        return folder.files(*((name,) for name in FILES.values()))

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
                video_path = folder.video(video_id, _path(video_id))
                rows.append((split, video_id, f"{video_id}#{k}", caption, video_path))
        return caption_table(rows)


def _captions(path: Path) -> list[tuple[str, str]]:
    """Return (clip id, sentence) of each row.

    The official files have no quoting: ``"`` is an ordinary character. Programs that saved them
    again may have put quote marks around lines or fields, which are removed.
    """
    captions, mended, lines = [], 0, text_lines(path)
    sentences = [line.rpartition("\t")[2].strip() for line in lines if line.strip()]
    all_quoted = len(sentences) > 1 and all(map(_QUOTED.fullmatch, sentences))
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        fields = _fields(line, f"{path} line {number}", all_quoted=all_quoted)
        if len(fields) != _COLUMNS:
            raise InputError(
                f"{path} line {number}: expected {_COLUMNS} columns separated by tabs, found "
                f"{len(fields)}: {line[:120]!r}"
            )
        mended += fields != line.split("\t") or fields[0].startswith('"')
        # In some copies, a program has put one quote mark before whole lines.
        video_id, caption = fields[0].strip().removeprefix('"'), fields[-1].strip()
        if len(video_id.split(".")[0]) <= 3 or "." not in video_id or '"' in video_id:
            raise InputError(
                f"{path} line {number}: {video_id[:120]!r} is not a clip id; expected "
                "<film>_<start>-<end> as in 3086_UGLY_TRUTH_00.23.23.000-00.23.28.886, and no "
                "header line"
            )
        captions.append((video_id, caption))
    if mended:
        log.warning("%s: removed quote marks around %d lines or their fields", path, mended)
    return captions


def _fields(line: str, where: str, *, all_quoted: bool) -> list[str]:
    """Split a line; where a program has quoted it, or its id, or doubled marks in a field, undo it.

    A sentence that is a quotation keeps its marks: ``"Stop."`` beside an id without marks, unless
    the file's sentences are ``all_quoted``.

    Raises:
        InputError: the id is quoted, and another field's marks do not pair.
    """
    if _QUOTED.fullmatch(line.strip()) and "\t" in line:
        line = _unquoted(line.strip())
    fields = line.split("\t")
    id_quoted = bool(_QUOTED.fullmatch(fields[0].strip()))
    undo = id_quoted or all_quoted
    for n, field in enumerate(map(str.strip, fields)):
        if _QUOTED.fullmatch(field) and (undo or '""' in field[1:-1]):
            fields[n] = _unquoted(field)
        elif id_quoted and field.startswith('"'):
            raise InputError(f"{where}: quote marks that do not pair: {field[:120]!r}; mend them")
    return fields


def _unquoted(quoted: str) -> str:
    return quoted[1:-1].replace('""', '"')


BENCHMARK = Lsmdc()
