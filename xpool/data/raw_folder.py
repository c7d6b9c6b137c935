"""A benchmark's raw folder: find its files, and read them with errors that name the line."""

import csv
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from xpool.project.errors import InputError

GUIDE = "docs/real_data.md"
"""The page that says which files are needed and where to get them."""

_VIDEO_SUFFIXES = frozenset(
    [".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm"]
)


@dataclass(frozen=True, kw_only=True)
class RawFolder:
    """The files under a benchmark's raw folder.

    Each folder is listed once, because LSMDC has 118,081 files, often on a network disk.
    """

    root: Path
    benchmark: str
    by_name: Mapping[str, tuple[str, ...]]
    """File name to paths relative to ``root``, sorted, with forward slashes."""
    videos: Mapping[str, tuple[str, ...]]
    """Video file name without its suffix to paths relative to ``root``, sorted."""

    @classmethod
    def scan(cls, root: Path, benchmark: str) -> "RawFolder":
        """List a raw folder; links to folders are followed, hidden files are skipped.

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
        """Return whether the folder holds a file of that name, at any depth."""
        return name in self.by_name

    def file(self, *names: str) -> Path:
        """Return the file with the first of these names that the folder holds.

        Raises:
            InputError: no file has one of these names, or several have the same one.
        """
        for name in names:
            paths = self.by_name.get(name, ())
            if len(paths) > 1:
                raise InputError(
                    f"{self.root}: {name} is there {len(paths)} times ({', '.join(paths)}); "
                    "keep one, because they may differ"
                )
            if paths:
                return self.root / paths[0]
        archives = [path for name in names for path in self.by_name.get(f"{name}.zip", ())]
        fix = f"unzip {archives[0]} there" if archives else f"put it there, see {GUIDE}"
        raise InputError(f"{self.root / ' or '.join(names)}: not found; {fix}")

    def video(self, video_id: str, expected: str) -> str:
        """Return a video's path relative to the raw folder, or ``expected`` if it is absent.

        Raises:
            InputError: two files could be this video, e.g. a raw and a compressed copy, whose
                frames differ.
        """
        paths = self.videos.get(video_id, ())
        if len(paths) > 1:
            raise InputError(
                f"{self.root}: two files could be the video {video_id} ({paths[0]} and "
                f"{paths[1]}); keep one, because the frames of copies can differ"
            )
        return paths[0] if paths else expected


def _files_under(root: Path) -> Iterable[str]:
    """Yield files relative to ``root``; a folder that links reach twice is listed once."""
    pending, seen = [(root, "")], set()
    while pending:
        folder, prefix = pending.pop()
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                # macOS adds "._video0.mp4" and __MACOSX to archives.
                if entry.name.startswith(".") or entry.name == "__MACOSX":
                    continue
                if entry.is_dir():
                    pending.append((folder / entry.name, f"{prefix}{entry.name}/"))
                elif entry.is_file():  # False for a link whose target is gone
                    yield f"{prefix}{entry.name}"


def text_lines(path: Path) -> list[str]:
    r"""Return a text file's lines, with any line ends, and with or without a byte-order mark.

    ``str.splitlines`` would also cut a caption at characters such as U+2028.

    Raises:
        InputError: the file is not UTF-8.
    """
    return _text(path).rstrip("\n").split("\n")


def read_json(path: Path) -> Any:
    """Return a JSON file's content.

    Raises:
        InputError: it is not JSON in UTF-8, e.g. an incomplete download.
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
