"""A benchmark: its licence, options, published counts, official files and mini version.

Each file in ``xpool/data/benchmarks/`` subclasses :class:`Benchmark` and ends in
``BENCHMARK = ...``. It reads the official files of one benchmark, and its :class:`Layout` writes a
generated copy of them. Other code asks the benchmark and never compares its name.
"""

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
import pandas as pd
from pydantic import Field

from xpool.data.annotations.text import is_text
from xpool.data.manifest import COLUMNS
from xpool.data.raw_folder import RawFolder
from xpool.project import params, plugins
from xpool.project.errors import InputError
from xpool.project.params import PARAMS_FILE, Section
from xpool.project.seeds import seed_for

MEMBERS, OWN = "xpool.data.benchmarks", "own"
"""The package of the benchmarks, and its file for benchmarks without a file."""
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
"""The splits, in the order of every manifest."""
Named = dict[Split, list[str]]
"""The video ids of each split."""
Durations = dict[Split, list[float]]
"""The length in seconds of each video of each split."""


class Counts(NamedTuple):
    """Size of one split; None if no source gives it."""

    videos: int | None
    captions: int | None


class ManifestOptions(Section):
    """Params ``manifest.<benchmark>`` that every benchmark has."""

    allowed_missing: float = Field(ge=0, le=1)
    """Share of each split's videos that may be absent. Each split counts alone: a hundred lost test
    videos are one percent of all videos but a tenth of the gallery, and improve every metric."""
    videos: str | None = None
    """Folder below the raw folder from which the videos are taken, where copies of them lie beside
    each other; None takes them from anywhere."""
    frames_fps: float | None = Field(default=None, gt=0)
    """Frames a second, if the videos are folders of pictures (``video0/0001.jpg``); None if they
    are video files."""
    features: str | None = None
    """The model that made the features, in words, where embeddings of other code stand for the
    videos; None where there are videos."""
    splits: Annotated[list[Split], Field(min_length=1)] = list(SPLITS)
    """Splits that are taken; ``[test]`` is all that a checkpoint of other code needs."""


class Listed(Protocol):
    """A generated video, as the annotation files list it."""

    @property
    def video_id(self) -> str:
        """Its id."""

    @property
    def split(self) -> Split:
        """Its split."""

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""

    @property
    def texts(self) -> tuple[str, ...]:
        """Its captions."""


class Layout(ABC):
    """How a generated copy of a benchmark is named, worded, stored and listed."""

    has_val: ClassVar[bool] = True
    """Whether the official files have a validation split."""
    repeated_ids: ClassVar[int] = 0
    """How many training videos the official files list twice, each time with another caption."""

    @abstractmethod
    def name(self, durations: Durations, rng: np.random.Generator) -> Named:
        """Return an id for each video."""

    def path(self, video_id: str) -> Path:
        """Return a video's path relative to the raw folder."""
        return Path(usual_path(video_id))

    def word(self, caption: str, opening: str) -> str:
        """Return a caption in the benchmark's style.

        Args:
            caption: lower case, without punctuation.
            opening: its first words if they name the background, else empty.
        """
        return caption

    @abstractmethod
    def write(self, videos: Sequence[Listed], folder: Path, rng: np.random.Generator) -> None:
        """Write the annotation files into the raw folder."""


class Benchmark(ABC):
    """One benchmark, read from its official files.

    Source: the formats that the authors' code and the field's loaders read, see
    docs/data/real_data.md.
    """

    name: str
    """Name in params.yaml and in paths, e.g. ``"msrvtt"``."""
    title: str
    """Name in tables, e.g. ``"MSR-VTT"``."""
    licence: ClassVar[str]
    """The terms of use of the videos and captions."""
    source: ClassVar[str]
    """Where the files come from."""
    Options: ClassVar[type[ManifestOptions]]
    """Params ``manifest.<name>``."""
    checksums: ClassVar[Mapping[str, str]] = {}
    """SHA-256 of the published annotation files, by file name, where known."""
    protocol: ClassVar[str] = ""
    """Training list and test set, spelled as in the column ``protocol`` of ``published.csv``, with
    options in braces."""
    layout: ClassVar[Layout | None] = None
    """How its mini version is written; None if it has none."""
    validation_option: str | None = None
    """Option that takes validation videos out of training, for a benchmark without such a split."""
    suggested: ClassVar[Mapping[str, Any]] = {}
    """Values of its own options that ``xpool add-benchmark`` writes."""

    @abstractmethod
    def published_counts(self, options: Any) -> dict[str, Counts]:
        """Return the published size of each split under these options."""

    def mini_counts(self, generated: Mapping[str, int], options: Any) -> dict[str, Counts]:
        """Return the expected size of each split of a generated copy.

        Args:
            generated: number of videos of each split that the generator was asked for.
            options: params ``manifest.<name>``.
        """
        return {split: Counts(count, None) for split, count in generated.items() if count}

    def skipped(self, options: Any) -> tuple[str, ...]:
        """Return the ids of the videos that these options leave out."""
        return ()

    def scan(self, raw: Path, options: Any) -> RawFolder:
        """List a raw folder, with the videos that these options take from it.

        Raises:
            InputError: as :meth:`RawFolder.scan` and :meth:`RawFolder.within`.
        """
        folder = RawFolder.scan(raw, self.name)
        if options.frames_fps is not None:
            folder = folder.of_frames()
        elif options.features is not None:
            folder = folder.of_features()
        return folder.within(options.videos)

    def distributor(self, file: Path) -> str:
        """Return who distributes annotation files of that name; empty if it is always the same."""
        return ""

    @abstractmethod
    def annotation_files(self, folder: RawFolder, options: Any) -> list[Path]:
        """Return the annotation files that :meth:`read` reads under these options.

        Raises:
            InputError: one is missing, or is there twice.
        """

    @abstractmethod
    def rows(self, folder: RawFolder, options: Any) -> pd.DataFrame:
        """Return the captions of all splits, as :meth:`read` does, from a listed folder."""

    def chosen_rows(self, folder: RawFolder, options: Any) -> pd.DataFrame:
        """Return the captions of the splits that the options name; see :meth:`read`."""
        rows = self.rows(folder, options)
        return rows[rows["split"].isin(options.splits)].reset_index(drop=True)

    def read(self, raw: Path, options: Any) -> pd.DataFrame:
        """Read the captions of the chosen splits; the videos may be absent.

        Args:
            raw: the benchmark's raw folder.
            options: params ``manifest.<name>``.

        Returns:
            One row for each caption, with columns :data:`COLUMNS`; splits in the order of
            :data:`SPLITS`, rows in that of the official files, captions unchanged. ``caption_id``
            is the official id, or else ``<video_id>#<k>``, where k counts the video's captions in
            the official order. ``path`` is where the video is, or, if it is absent, where the
            official layout has it.

        Raises:
            InputError: a file is missing, ambiguous or not in its official format.
        """
        return self.chosen_rows(self.scan(raw, options), options)


def caption_table(rows: Iterable[tuple[str, str, str, str, str]]) -> pd.DataFrame:
    """Return rows, in the order of :data:`COLUMNS`, as a table of strings.

    Raises:
        InputError: a value is no text, e.g. a number, or half of a surrogate pair; or a split is
            not one of :data:`SPLITS`.
    """
    listed = list(rows)
    for row in listed:
        for column, value in zip(COLUMNS, row, strict=True):
            if not is_text(value):
                raise InputError(f"{row[0]} {row[1]}: {column}: expected text, found {value!a}")
        if row[0] not in SPLITS:
            raise InputError(f"{row[1]}: split {row[0]!r}; expected {', '.join(SPLITS)}")
    return pd.DataFrame(listed, columns=list(COLUMNS), dtype="str")


def is_blank(caption: str) -> bool:
    """Return whether a caption shows nothing: spaces, control and zero-width characters alone."""
    return all(unicodedata.category(character)[0] in "CZ" for character in caption)


def carved(benchmark: str, training: Sequence[str], count: int) -> frozenset[str]:
    """Return training videos to validate on, for a benchmark without a validation split.

    They are chosen by a hash of their names, so that neither a file's order nor a seed matters, and
    more videos contain those of fewer.

    Args:
        benchmark: its name in ``params.yaml``.
        training: all training videos.
        count: how many are taken; ``manifest.<benchmark>.val_videos``.

    Raises:
        InputError: none would be left to train on.
    """
    if count >= len(training):
        raise InputError(
            f"params.yaml: manifest.{benchmark}.val_videos: {count} leaves none of the "
            f"{len(training)} training videos; lower it"
        )
    by_hash = sorted(training, key=lambda video_id: seed_for(benchmark, "val", video_id))
    return frozenset(by_hash[:count])


def module_of(name: str, path: Path = PARAMS_FILE) -> str:
    """Return the import path of the file that reads a benchmark: that of its name, or ``own``.

    Args:
        name: its name in ``params.yaml``.
        path: the params file.
    """
    return f"{MEMBERS}.{OWN if _own(name, path) else name}"


def load(name: str, path: Path = PARAMS_FILE) -> Benchmark:
    """Return the benchmark of that name.

    Args:
        name: a file of ``xpool/data/benchmarks``, or a name under ``manifest`` that has
            ``captions``, for files of one's own.
        path: the params file.

    Raises:
        InputError: there is none.
    """
    section = _own(name, path)
    member = plugins.load(module_of(name, path), "BENCHMARK")
    benchmark: Benchmark = member.called(name, section) if section else member
    return benchmark


def _own(name: str, path: Path) -> Mapping[str, Any]:
    """Return ``manifest.<name>`` of a benchmark of one's own; empty if it is none.

    Stages that work on one benchmark depend on this section, and `check` looks at all of them.
    """
    if name in set(plugins.members(MEMBERS, "BENCHMARK")) - {OWN} or not path.is_file():
        return {}
    section = (params.load(path).get("manifest") or {}).get(name)
    return section if isinstance(section, dict) and "captions" in section else {}


def usual_path(video_id: str) -> str:
    """Return where a video lies in the raw folder of a benchmark that prescribes no layout."""
    return f"videos/{video_id}.mp4"


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write a text file with the same bytes on every system."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def of_split(videos: Sequence[Listed], split: Split) -> list[Listed]:
    """Return the videos of a split, in the given order."""
    return [video for video in videos if video.split == split]
