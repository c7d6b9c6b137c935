"""List a benchmark's raw files, and read each video once, until it changes.

DVC does not look behind links to folders, and reads each file that it looks at, which for LSMDC is
a terabyte. It therefore compares a list of the raw files (:func:`listing`), and
:func:`describe` reads a video once, and again only when its size or time of change differs.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd

from xpool.data.packing import in_order
from xpool.data.raw_folder import RawFolder
from xpool.data.videos import frame_folder
from xpool.data.videos.video_file import PUBLISHED_FPS, PUBLISHED_SHORT_SIDE_PX, Header, header
from xpool.project.command import available_cores
from xpool.project.digests import sha256
from xpool.project.errors import InputError
from xpool.project.progress import progress
from xpool.project.workspace import replacing

HEADER_TIMEOUT_S = 60.0
"""Time limit for reading the header of one video."""
RATE_TOLERANCE = 0.05
"""Frames a second by which a copy may miss the rate, since headers state an average."""


def listing(raw: Path, benchmark: str, *, by_content: bool = False) -> pd.DataFrame:
    """Return a row for each file below a raw folder; links are followed.

    Args:
        raw: the folder.
        benchmark: its benchmark, for messages.
        by_content: tell a changed file by its SHA-256, the same on every machine, and not by its
            time of change, which costs no reading.

    Returns:
        Columns ``path``, ``bytes``, and ``changed_ns`` or ``sha256``; sorted by path.

    Raises:
        InputError: there is no such folder, or it changed meanwhile.
    """
    folder = RawFolder.scan(raw, benchmark)
    paths = sorted(path for copies in folder.by_name.values() for path in copies)
    try:
        states = [(raw / path).stat() for path in paths]
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: removed while {raw} was listed; try again") from error
    table = pd.DataFrame({"path": paths, "bytes": [state.st_size for state in states]})
    if by_content:
        return table.assign(sha256=[sha256(raw / path) for path in paths])
    return table.assign(changed_ns=[state.st_mtime_ns for state in states])


def write_listing(raw: Path, benchmark: str, destination: Path, *, by_content: bool) -> None:
    """Write :func:`listing` as CSV."""
    table = listing(raw, benchmark, by_content=by_content)
    with replacing(destination) as file:
        table.to_csv(file, index=False)


def describe(
    raw: Path, videos: Sequence[str], known: Path, frames_fps: float | None = None
) -> pd.DataFrame:
    """Read each video file whose size or time of change is not known yet.

    The stage ``frames`` depends on this table instead of the videos.

    Args:
        raw: folder that the paths are relative to.
        videos: paths of the videos.
        known: file with what earlier calls read, one JSON object a line. It is extended after each
            video, so that a killed call costs one video.
        frames_fps: frames a second of videos that are folders of pictures.

    Returns:
        Columns ``path``, ``bytes``, ``sha256``, ``width``, ``height`` and ``rate_fps``, in the
        given order. The last three are empty if the header cannot be read; ``frames`` says why.
    """
    states = {video: _state_of(raw / video) for video in videos}
    rows = _known(known)
    rows = {video: rows[video] for video in videos if _state(rows.get(video)) == states[video]}
    new = [video for video in videos if video not in rows]
    if new:
        known.parent.mkdir(parents=True, exist_ok=True)
        _write(known, rows.values())
        with known.open("a", encoding="utf-8") as file:
            for row in _read(raw, new, states):
                file.write(json.dumps(row) + "\n")
                file.flush()
                rows[row["path"]] = row
    columns = ["path", "bytes", "sha256", *Header._fields]
    table = pd.DataFrame([rows[video] for video in videos], columns=columns)
    if frames_fps is not None:
        table = table.assign(rate_fps=frames_fps)
    return table.astype({"width": "Int64", "height": "Int64", "rate_fps": "float64"})


def _state_of(video: Path) -> tuple[int, int]:
    """Return the bytes and the time of change of a video file, or of a folder of frames."""
    if video.is_dir():
        return frame_folder.state(video)
    status = video.stat()
    return status.st_size, status.st_mtime_ns


def _header_of(video: Path) -> Header:
    return frame_folder.header(video) if video.is_dir() else header(video)


def _digest_of(video: Path) -> str:
    return frame_folder.digest(video) if video.is_dir() else sha256(video)


def _read(raw: Path, videos: Sequence[str], states: dict[str, tuple[int, int]]) -> Any:
    """Yield what is found out about each video."""
    readable = [(raw / video,) for video in videos if states[video][0]]
    workers = min(available_cores(), max(len(readable), 1))
    with (
        ThreadPoolExecutor() as threads,  # hashing releases the interpreter's lock
        closing(in_order(_header_of, readable, HEADER_TIMEOUT_S, workers)) as headers,
    ):
        digests = threads.map(_digest_of, [raw / video for video in videos])
        pairs = zip(videos, digests, strict=True)
        for video, digest in progress(pairs, "videos", total=len(videos)):
            size, changed_ns = states[video]
            found = next(headers) if size else None
            row = {"path": video, "bytes": size, "changed_ns": changed_ns, "sha256": digest}
            yield row | (found._asdict() if isinstance(found, Header) else {})


def _known(path: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of the file of an earlier call; a torn last line is left out."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return {row["path"]: row for row in map(json.loads, lines)}


def _state(row: dict[str, Any] | None) -> tuple[int, int] | None:
    return (row["bytes"], row["changed_ns"]) if row else None


def _write(path: Path, rows: Any) -> None:
    with replacing(path) as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def summary(videos: pd.DataFrame) -> dict[str, Any]:
    """Return sizes and frame rates in a few words, for the manifest's report.

    Args:
        videos: from :func:`describe`.
    """
    short = videos[["width", "height"]].min(axis=1)
    rates = videos["rate_fps"]
    copies = (short == PUBLISHED_SHORT_SIDE_PX) & ((rates - PUBLISHED_FPS).abs() < RATE_TOLERANCE)
    return {
        "count": len(videos),
        "short_side_px": _range(short),
        "rate_fps": _range(rates),
        "header_unreadable": int(short.isna().sum()),
        "like_published_copies": int(copies.sum()),
    }


def _range(values: pd.Series) -> dict[str, float] | None:
    """Return the least, the middle and the greatest value; None if there is none."""
    known = values.dropna().astype(float)
    if known.empty:
        return None
    named = {"least": known.min(), "median": known.median(), "greatest": known.max()}
    return {name: round(value, 3) for name, value in named.items()}
