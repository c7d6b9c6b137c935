"""A benchmark, weights or checkpoints to get: where the files go, and which are missing."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from xpool.data.benchmark import MEMBERS, Benchmark, ManifestOptions, load
from xpool.data.get.sources import Hub, Item, Web, items
from xpool.data.raw_folder import FilesMissingError, RawFolder, composed
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.params import read, setting
from xpool.project.plugins import members

SHOWN = 3
"""How many names of missing files are shown."""


@dataclass(frozen=True)
class Missing:
    """Names of what is missing."""

    files: tuple[str, ...] = ()
    """Annotation files, alternatives joined by "or"; of what is no benchmark its parts."""
    videos: tuple[str, ...] = ()
    """Ids of videos; empty while annotation files are missing, which list them."""
    listed: int = 0
    """How many videos the annotation files list."""

    def __bool__(self) -> bool:
        return bool(self.files or self.videos)

    def __str__(self) -> str:
        videos = f"{len(self.videos)} of {self.listed} videos ({_few(self.videos)})"
        words = [_few(self.files)] if self.files else []
        return ", ".join(words + ([videos] if self.videos else [])) or "nothing"


@dataclass(frozen=True, kw_only=True)
class Target:
    """One thing that ``xpool get`` gets."""

    name: str
    item: Item
    raw: Path
    """Folder in which its files must be in the end."""
    archives: Path
    """Folder of downloaded archives."""
    benchmark: Benchmark | None
    options: ManifestOptions | None

    def scan(self) -> RawFolder:
        """List the raw folder, which may not be there yet."""
        if not self.raw.exists():
            return RawFolder(root=self.raw, benchmark=self.name, by_name={}, videos={})
        if self.benchmark is None:
            return RawFolder.scan(self.raw, self.name)
        return self.benchmark.scan(self.raw, self.options)

    def missing(self) -> Missing:
        """Return what is missing.

        Raises:
            InputError: a file that is there is malformed, or is there twice.
        """
        if self.benchmark is None:
            there = {part: _is_got(self, part) for part in self.item.parts}
            return Missing(tuple(part for part, got in there.items() if not got))
        folder = self.scan()
        if lacking := self._annotations_missing(folder):
            return Missing(lacking)
        videos = self.benchmark.chosen_rows(folder, self.options).drop_duplicates("video_id")
        lost = videos.loc[~videos["path"].isin(folder.video_paths()), "video_id"]
        return Missing((), tuple(lost), len(videos))

    def _annotations_missing(self, folder: RawFolder) -> tuple[str, ...]:
        assert self.benchmark is not None
        try:
            self.benchmark.annotation_files(folder, self.options)
        except FilesMissingError as error:
            return tuple(error.names)
        return ()

    def gains(self, names: Iterable[str], missing: Missing) -> bool:
        """Return whether files of these names would bring something that is missing."""
        if missing.files:
            folder = self.scan()
            more = {PurePosixPath(name).name: (name,) for name in names}
            with_them = replace(folder, by_name=more | dict(folder.by_name))
            return self._annotations_missing(with_them) != missing.files
        wanted = {composed(name) for name in missing.videos}
        return any(composed(PurePosixPath(name).stem) in wanted for name in names)


def real() -> str:
    """Return the setting whose folders hold real files: never the mini one, which generates its."""
    return "paper" if setting() == "mini" else setting()


def find(name: str, here: str) -> Target:
    """Return the target of that name.

    Args:
        name: a benchmark, or another name in the list of sources.
        here: the setting in whose folders it is.

    Raises:
        InputError: there is none.
    """
    listed, benchmarks = (
        items(),
        {*members(MEMBERS, "BENCHMARK"), *read("manifest", dict[str, Any])},
    )
    if name not in {*listed, *benchmarks}:
        raise InputError(
            f"{name}: nothing of that name; there are {', '.join(names())}, see "
            "docs/data/real_data.md"
        )
    benchmark = load(name) if name in benchmarks else None
    return Target(
        name=name,
        item=listed.get(name, Item()),
        raw=paths.raw(here, name),
        archives=paths.archives(here, name),
        benchmark=benchmark,
        options=read(f"manifest.{name}", benchmark.Options) if benchmark else None,
    )


def names() -> list[str]:
    """Return the names of all targets: those with sources, and the benchmarks in params.yaml."""
    return list(dict.fromkeys([*items(), *read("manifest", dict[str, Any])]))


def _is_got(target: Target, part: str) -> bool:
    """Return whether all files of a part's first source are there."""
    from huggingface_hub import try_to_load_from_cache

    source = target.item.parts[part][0]
    if isinstance(source, Hub):
        found = [try_to_load_from_cache(source.hub, file) for file in source.take or ()]
        return all(isinstance(path, str) for path in found)
    remotes = source.files if isinstance(source, Web) else source.links
    return all((target.raw / remote.file_name).is_file() for remote in remotes)


def _few(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"
