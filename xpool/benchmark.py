"""What a benchmark is: its licence, options and published counts, and how its raw folder is read.

Each file in ``xpool/benchmarks/`` subclasses :class:`Benchmark`, ends in ``BENCHMARK = ...`` and
knows one set of official files. :class:`RawFolder` finds those files and the videos, by one walk,
wherever the distributed archives put them.
"""

import csv
import importlib
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NamedTuple

import pandas as pd
from pydantic import Field

from xpool.captions import COLUMNS
from xpool.command import InputError
from xpool.params import Section

SPLITS = ("train", "val", "test")
"""In this order in every manifest."""
GUIDE = "docs/real_data.md"

_VIDEO_SUFFIXES = frozenset(
    [".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm"]
)


class Counts(NamedTuple):
    """Size of one split; None where no sourced figure exists."""

    videos: int | None
    captions: int | None


class ManifestOptions(Section):
    """Params ``manifest.<benchmark>`` that every benchmark has."""

    allowed_missing: float = Field(ge=0, le=1)
    """Share of each split's videos that may be absent. Per split, because a hundred lost test
    videos are one percent of all videos and a tenth of the gallery, and raise every figure."""


@dataclass(frozen=True, kw_only=True)
class RawFolder:
    """The files under a benchmark's raw folder, found by one walk.

    At most one listing per folder: LSMDC has 118,081 files, often on a network disk.
    """

    root: Path
    benchmark: str
    by_name: Mapping[str, tuple[str, ...]]
    """File name to paths relative to ``root``, sorted, with forward slashes."""
    videos: Mapping[str, tuple[str, ...]]
    """Video file name without its suffix to paths relative to ``root``, sorted."""

    @classmethod
    def scan(cls, root: Path, benchmark: str) -> "RawFolder":
        """List a raw folder. Links to folders are followed; hidden files are passed over.

        Raises:
            InputError: there is no such folder.
        """
        if not root.is_dir():
            raise InputError(
                f"{root}: no such folder; put the files of {benchmark} there, see {GUIDE}"
            )
        names: dict[str, list[str]] = {}
        videos: dict[str, list[str]] = {}
        for path in sorted(_files_under(root)):
            name = PurePosixPath(path)
            names.setdefault(name.name, []).append(path)
            if name.suffix.lower() in _VIDEO_SUFFIXES:
                videos.setdefault(name.stem, []).append(path)
        return cls(
            root=root,
            benchmark=benchmark,
            by_name={name: tuple(paths) for name, paths in names.items()},
            videos={stem: tuple(paths) for stem, paths in videos.items()},
        )

    def has(self, name: str) -> bool:
        """Whether a file of that name lies anywhere in the folder."""
        return name in self.by_name

    def file(self, *names: str) -> Path:
        """Return the one file that has the first of these names that occurs.

        Raises:
            InputError: none is there, or a name occurs twice.
        """
        for name in names:
            paths = self.by_name.get(name, ())
            if len(paths) > 1:
                raise InputError(
                    f"{self.root}: {name} is there {len(paths)} times ({', '.join(paths)}); "
                    "keep one, since they may differ"
                )
            if paths:
                return self.root / paths[0]
        archives = [path for name in names for path in self.by_name.get(f"{name}.zip", ())]
        mend = f"unzip {archives[0]} there" if archives else f"put it there, see {GUIDE}"
        raise InputError(f"{self.root / ' or '.join(names)}: not found; {mend}")

    def video(self, video_id: str, expected: str) -> str:
        """Return where a video lies, relative to the raw folder; ``expected`` where it is absent.

        Raises:
            InputError: two files could be this video, e.g. a raw and a compressed copy, which
                give different frames.
        """
        paths = self.videos.get(video_id, ())
        if len(paths) > 1:
            raise InputError(
                f"{self.root}: two files could be the video {video_id} ({paths[0]} and "
                f"{paths[1]}); keep one, since copies can differ in their frames"
            )
        return paths[0] if paths else expected


def _files_under(root: Path) -> Iterable[str]:
    """Yield files relative to ``root``; a folder reached twice through links counts once."""
    pending, seen = [(root, "")], set()
    while pending:
        folder, prefix = pending.pop()
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                # "._video0.mp4" and __MACOSX are what some archives add to the real files.
                if entry.name.startswith(".") or entry.name == "__MACOSX":
                    continue
                if entry.is_dir():
                    pending.append((folder / entry.name, f"{prefix}{entry.name}/"))
                elif entry.is_file():  # False for a link whose target is gone
                    yield f"{prefix}{entry.name}"


class Benchmark(ABC):
    """One benchmark in its official files.

    Source: each member names the files it was written for; formats are those that the authors'
    code and the field's loaders read, see docs/real_data.md.
    """

    name: ClassVar[str]
    """As in params.yaml and in paths, e.g. ``"msrvtt"``."""
    title: ClassVar[str]
    """As printed in tables, e.g. ``"MSR-VTT"``."""
    licence: ClassVar[str]
    """Under which terms the videos and captions may be used."""
    source: ClassVar[str]
    """Where the files come from."""
    Options: ClassVar[type[ManifestOptions]]
    """Params ``manifest.<name>``."""
    checksums: ClassVar[Mapping[str, str]] = {}
    """SHA-256 of the annotation files as published, by file name, where known."""

    @abstractmethod
    def published_counts(self, options: Any) -> dict[str, Counts]:
        """Return the published size of each split under these options."""

    def mini_counts(self, generated: Mapping[str, int], options: Any) -> dict[str, Counts]:
        """Return the expected size of each split of a generated copy.

        Args:
            generated: videos per split that the generator was asked for.
            options: params ``manifest.<name>``.
        """
        return {split: Counts(count, None) for split, count in generated.items() if count}

    def skipped(self, options: Any) -> tuple[str, ...]:
        """Return the ids of videos that the chosen protocol leaves out."""
        return ()

    @abstractmethod
    def annotation_files(self, folder: RawFolder, options: Any) -> list[Path]:
        """Return the annotation files that :meth:`read` reads under these options.

        Raises:
            InputError: one is missing, or there twice.
        """

    @abstractmethod
    def rows(self, folder: RawFolder, options: Any) -> pd.DataFrame:
        """Read all captions; as :meth:`read`, from a folder that was already listed."""

    def read(self, raw: Path, options: Any) -> pd.DataFrame:
        """Read all captions; no video has to be there.

        Args:
            raw: the benchmark's raw folder.
            options: params ``manifest.<name>``.

        Returns:
            One row a caption with columns :data:`COLUMNS`, splits in the order of :data:`SPLITS`,
            rows in the order of the official files, captions to the letter. ``caption_id`` is
            ``<video_id>#<k>``, k counting that video's captions in the official order, unless the
            official files name the caption. ``path`` is where the video lies, or, if it is
            absent, where the official layout has it.

        Raises:
            InputError: a file is missing, ambiguous or not in its official format.
        """
        return self.rows(RawFolder.scan(raw, self.name), options)


def load(name: str) -> Benchmark:
    """Return the benchmark of that name: ``BENCHMARK`` of ``xpool/benchmarks/<name>.py``.

    Unlike :func:`xpool.interfaces.load`, does not import torch.

    Raises:
        InputError: there is no such file.
    """
    folder = Path(__file__).parent / "benchmarks"
    known = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    if name not in known:
        raise InputError(
            f"benchmark {name!r}: no such file in xpool/benchmarks; known: {', '.join(known)}"
        )
    benchmark: Benchmark = importlib.import_module(f"xpool.benchmarks.{name}").BENCHMARK
    return benchmark


def table(rows: Iterable[tuple[str, str, str, str, str]]) -> pd.DataFrame:
    """Return tuples in the order of :data:`COLUMNS` as a frame of strings."""
    return pd.DataFrame(list(rows), columns=list(COLUMNS), dtype="str")


def text_lines(path: Path) -> list[str]:
    r"""Return a text file's lines, whatever its line ends and with or without a byte-order mark.

    Not ``str.splitlines``, which would also cut a caption at characters such as U+2028.

    Raises:
        InputError: the file is not UTF-8.
    """
    return _text(path).rstrip("\n").split("\n")


def read_json(path: Path) -> Any:
    """Return a JSON file's content.

    Raises:
        InputError: it is not JSON in UTF-8, e.g. a download that broke off.
    """
    try:
        return json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not valid JSON ({error}); fetch it again") from error


def read_csv(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Return the rows of a comma-separated file with a header; other columns are dropped.

    Raises:
        InputError: a column or a value is missing.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            reader = csv.DictReader(file)
            header = reader.fieldnames or ()
            for column in columns:
                if column not in header:
                    raise InputError(
                        f"{path}: column {column!r} is missing; the header is {','.join(header)!r}"
                    )
            rows = []
            for row in reader:
                if any(row[column] is None for column in columns):
                    raise InputError(
                        f"{path} line {reader.line_num}: fewer values than the header has columns"
                    )
                rows.append({column: row[column] for column in columns})
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 text ({error}); fetch it again") from error
        except csv.Error as error:
            raise InputError(f"{path}: not a comma-separated file ({error})") from error
    return rows


def unique(path: Path, what: str, values: Iterable[str]) -> list[str]:
    """Return the values of a list file.

    Raises:
        InputError: one is empty or occurs twice.
    """
    seen: dict[str, None] = {}
    for position, value in enumerate(values, start=1):
        if not value or re.search(r"\s", value):
            raise InputError(f"{path}: entry {position} is {value!r}; expected one {what}")
        if value in seen:
            raise InputError(f"{path}: the {what} {value} occurs twice")
        seen[value] = None
    if not seen:
        raise InputError(f"{path}: empty; expected one {what} a line")
    return list(seen)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error}); fetch it again") from error
