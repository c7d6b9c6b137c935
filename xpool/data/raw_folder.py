"""A benchmark's raw folder: find its files, at any depth and behind links."""

import difflib
import os
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from xpool.data.annotations.text import is_text
from xpool.data.videos import features
from xpool.data.videos.frame_folder import is_frame
from xpool.project.errors import InputError

GUIDE = "docs/data/real_data.md"
"""The page that says which files are needed and where to get them."""
SHOWN = 5
"""How many names an error shows of what is there instead of a missing file."""
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""Suffixes of archives, in lower case."""

# fmt: off
_VIDEO_SUFFIXES = frozenset([
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m2ts", ".m2v", ".m4v",
    ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".qt",
    ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".xvid",
])
# fmt: on


Alternative = str | tuple[str, ...]
"""A file's name, or several of which all are needed. One with a ``*`` is the end of a path, and
stands for all files that match it, such as the parts of a table."""


class FilesMissingError(InputError):
    """Annotation files are missing."""

    def __init__(self, message: str, names: list[str]) -> None:
        """Keep the missing ``names``; alternatives are joined by "or"."""
        super().__init__(message)
        self.names = names


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
    """Video file name without its suffix, in Unicode's composed form, to paths relative to
    ``root``, sorted."""

    @classmethod
    def scan(cls, root: Path, benchmark: str) -> "RawFolder":
        """List a raw folder; links to folders are followed, hidden files are skipped.

        Raises:
            InputError: there is no such folder, one below it cannot be listed, or a name is not in
                UTF-8, as manifests are.
        """
        if not root.is_dir():
            raise InputError(
                f"{root}: no such folder; put the files of {benchmark} there, see {GUIDE}"
            )
        names: dict[str, list[str]] = {}
        videos: dict[str, list[str]] = {}
        try:
            for path in sorted(_files_under(root)):
                if not is_text(path):
                    shown = ascii(path)[1:-1]
                    raise InputError(f"{root}/{shown}: its name is not UTF-8; rename it")
                name = PurePosixPath(path)
                names.setdefault(name.name, []).append(path)
                if is_video(path):
                    videos.setdefault(composed(name.stem), []).append(path)
        except OSError as error:
            raise InputError(f"{error.filename}: cannot be listed ({error.strerror})") from error
        return cls(
            root=root,
            benchmark=benchmark,
            by_name={name: tuple(paths) for name, paths in names.items()},
            videos={stem: tuple(paths) for stem, paths in videos.items()},
        )

    def of_frames(self) -> "RawFolder":
        """Return the same files with the folders of pictures as videos, in place of video files."""
        paths = (path for name, all_ in self.by_name.items() if is_frame(name) for path in all_)
        videos: dict[str, list[str]] = {}
        for folder in sorted({PurePosixPath(path).parent for path in paths}):
            videos.setdefault(composed(folder.name), []).append(folder.as_posix())
        return replace(self, videos={name: tuple(paths) for name, paths in videos.items()})

    def of_features(self) -> "RawFolder":
        """Return the same files with arrays of features as videos; reads shards and JSON files."""
        paths = [path for all_ in self.by_name.values() for path in all_]
        arrays = features.named(self.root, paths)
        return replace(self, videos={composed(name): found for name, found in arrays.items()})

    def within(self, folder: str | None) -> "RawFolder":
        """Return the same files with the videos below one folder alone; None leaves all.

        Raises:
            InputError: all videos lie elsewhere.
        """
        if folder is None:
            return self
        inside = f"{folder.strip('/')}/"
        videos = {
            stem: kept
            for stem, paths in self.videos.items()
            if (kept := tuple(path for path in paths if path.startswith(inside)))
        }
        if self.videos and not videos:
            there = sorted({PurePosixPath(p).parent.as_posix() for p in self.video_paths()})
            raise InputError(
                f"params.yaml: manifest.{self.benchmark}.videos: no video lies below "
                f"{self.root / folder}; there are some in {', '.join(there[:SHOWN])}"
            )
        return replace(self, videos=videos)

    def video_paths(self) -> list[str]:
        """Return the paths of all videos, each once."""
        return list(dict.fromkeys(path for copies in self.videos.values() for path in copies))

    def has(self, name: str) -> bool:
        """Return whether the folder holds a file of that name, at any depth."""
        return name in self.by_name

    def files(self, *choices: tuple[Alternative, ...]) -> list[Path]:
        """Return the files of :meth:`chosen`, one after another."""
        return [path for files in self.chosen(*choices) for path in files]

    def chosen(self, *choices: tuple[Alternative, ...]) -> list[list[Path]]:
        """Return, of each choice, the files of the first alternative that is there.

        Raises:
            InputError: a choice has no file, or a name is there twice; all of these are named.
                :class:`FilesMissingError` if some are missing and none is there twice.
        """
        found, problems, missing = [], [], []
        for alternatives in choices:
            sets = [_names(names) for names in alternatives]
            names = next((names for names in sets if not self._lacking(names)), None)
            if names is None:
                missing.append(" or ".join(self._nearest(sets)))
                continue
            files = []
            for name in names:
                paths = self._paths(name)
                if len(paths) > 1 and "*" not in name:
                    problems.append(
                        f"{name} is there {len(paths)} times ({', '.join(paths)}); keep one, "
                        "because they may differ"
                    )
                files += [self.root / path for path in paths]
            found.append(files)
        if missing:
            asked = [n for choice in choices for names in choice for n in _names(names)]
            lack = f"not found: {', '.join(missing)}; {self._remedy(asked)}"
            if not problems:
                raise FilesMissingError(f"{self.root}: {lack}", missing)
            problems.append(lack)
        if problems:
            raise InputError(f"{self.root}: {'; '.join(problems)}")
        return found

    def _nearest(self, sets: list[tuple[str, ...]]) -> list[str]:
        """Return what the first alternative lacks, and those partly there, or else the second."""
        plain = [names for names in sets if "*" not in "".join(names)]
        partly = [names for names in plain[1:] if 0 < len(self._lacking(names)) < len(names)]
        near = [plain[0], *(partly or plain[1:2])]
        return [" and ".join(self._lacking(names)) for names in near]

    def _lacking(self, names: tuple[str, ...]) -> list[str]:
        return [name for name in names if not self._paths(name)]

    def _paths(self, name: str) -> tuple[str, ...]:
        """Return the paths of the files of that name, or that match the end of a path."""
        if "*" not in name:
            return self._distinct(self.by_name.get(name, ()))
        end = PurePosixPath(name).suffix
        alike = (paths for other, paths in self.by_name.items() if other.endswith(end))
        paths = (path for paths in alike for path in paths if PurePosixPath(path).match(name))
        return tuple(sorted(paths))

    def file(self, *names: str) -> Path:
        """Return the file with the first of these names; see :meth:`files`."""
        return self.files(names)[0]

    def _remedy(self, asked: list[str]) -> str:
        if self.archives:
            return self.unpacking()
        folders = [name for name in asked for path in self.root.rglob(name) if path.is_dir()]
        if folders:
            return f"{folders[0]} is a folder there; expected a file, see {GUIDE}"
        others = [name for name in self.by_name if name not in asked and not is_video(name)]
        others.sort(key=lambda name: -max(_likeness(name, other) for other in asked))
        there = f" (instead there is: {', '.join(others[:SHOWN])})" if others else ""
        return f"put it there, or run `xpool get {self.benchmark}`, see {GUIDE}{there}"

    @property
    def archives(self) -> list[str]:
        """Return the paths of the archives in the folder."""
        named = self.by_name.items()
        return [path for name, all_ in named if name.lower().endswith(ARCHIVES) for path in all_]

    def unpacking(self) -> str:
        """Return the words that say how to unpack the folder's archives."""
        shown = ", ".join(self.archives[:SHOWN])
        return f"unpack {shown} with `xpool get {self.benchmark} --from {self.root}`"

    def video(self, video_id: str, expected: str) -> str:
        """Return a video's path relative to the raw folder, or ``expected`` if it is absent.

        Raises:
            InputError: two files could be this video, e.g. a raw and a compressed copy, whose
                frames differ.
        """
        paths = self._distinct(self.videos.get(composed(video_id), ()))
        if len(paths) > 1:
            raise InputError(
                f"{self.root}: two files could be the video {video_id} ({paths[0]} and "
                f"{paths[1]}), and the frames of copies can differ; keep one, or name the folder "
                f"to take them from as manifest.{self.benchmark}.videos in params.yaml"
            )
        return paths[0] if paths else expected

    def similar(self, video_id: str) -> list[str]:
        """Return names of files that may be meant by an absent video, e.g. ``video9.mp4.part``."""
        low = composed(video_id).lower()
        begun = [name for name in self.by_name if composed(name).lower().startswith(f"{low}.")]
        near = difflib.get_close_matches(video_id, self.videos, n=2, cutoff=0.8)
        return begun[:SHOWN] or [path for stem in near for path in self.videos[stem]]

    def _distinct(self, paths: tuple[str, ...]) -> tuple[str, ...]:
        """Leave out paths that lead to the same file as an earlier one, through a link."""
        if len(paths) < 2:
            return paths
        first: dict[tuple[int, int, str], str] = {}
        for path in paths:
            file, _, member = path.partition(features.WITHIN)
            shard = member.endswith(features.ARRAY) and file.endswith(features.SHARD)
            status = (self.root / (file if shard else path)).stat()
            first.setdefault((status.st_dev, status.st_ino, member if shard else ""), path)
        return tuple(first.values())


def _names(alternative: Alternative) -> tuple[str, ...]:
    return (alternative,) if isinstance(alternative, str) else alternative


def is_video(name: str) -> bool:
    """Return whether a file's name ends as those of videos do."""
    return PurePosixPath(name).suffix.lower() in _VIDEO_SUFFIXES


def composed(name: str) -> str:
    """Return a name in Unicode's composed form; disks written by macOS hold the other one."""
    return unicodedata.normalize("NFC", name)


def _likeness(name: str, other: str) -> float:
    return difflib.SequenceMatcher(None, name.lower(), other.lower()).ratio()


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
                path = folder / entry.name
                if path.is_dir():
                    pending.append((path, f"{prefix}{entry.name}/"))
                elif path.is_file():  # False for a link whose target is gone
                    yield f"{prefix}{entry.name}"
