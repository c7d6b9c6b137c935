"""Frozen features in place of videos: embeddings of frames that other code has computed.

One array ``(frame, dim)`` a video: an ``.npy`` file, as clip-video-encode writes them, or one in a
webdataset shard (``.tar``), as video2dataset and clip-video-encode pack them. In a shard, or in a
folder, ``<key>.json`` beside ``<key>.npy`` may say which video it is.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xpool.data.manifest import Video
from xpool.data.videos.video_file import Header
from xpool.project.errors import InputError

ARRAY, SHARD, WITHIN = ".npy", ".tar", "#"
"""A path such as ``shards/00000.tar#video9.npy`` is an array in a shard."""
ID_KEYS = ("video_id", "videoid", "videoID", "video", "path", "url")
"""Keys of a sample's JSON that may hold the id of its video, or the path of its file."""
LENGTHS = "features.csv"
"""File in the folder of cached frames, where features stand for them: the rows and the SHA-256 of
each array, so that what is made of frames is made anew when an array changes."""


def are_features(videos: Sequence[Video]) -> bool:
    """Return whether the videos of a manifest are arrays of features."""
    return all(path.endswith(ARRAY) for _, path in videos)


def named(root: Path, paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the arrays below a folder by all names that their videos may have.

    Args:
        root: the raw folder.
        paths: its files, relative to it.

    Raises:
        InputError: a shard or a JSON file is damaged.
    """
    found: dict[str, list[str]] = {}
    there = sorted(paths)
    beside = set(there)
    for path in there:
        if path.endswith(ARRAY):
            about = f"{path.removesuffix(ARRAY)}.json"
            content = (root / about).read_bytes() if about in beside else b"{}"
            _add(found, path, content, root / about)
        elif path.endswith(SHARD):
            members = _members(root / path)
            for name in members:
                if name.endswith(ARRAY):
                    about = f"{name.removesuffix(ARRAY)}.json"
                    content = _content(root / path, about) if about in members else b"{}"
                    _add(found, f"{path}{WITHIN}{name}", content, root / path)
    return {name: tuple(arrays) for name, arrays in found.items()}


def _add(found: dict[str, list[str]], path: str, about: bytes, where: Path) -> None:
    try:
        sample = json.loads(about)
    except ValueError as error:
        raise InputError(
            f"{where}: {path}: its JSON is damaged ({error}); fetch it again"
        ) from error
    said = [sample[key] for key in ID_KEYS if isinstance(sample, dict) and key in sample]
    names = {PurePosixPath(path.rpartition(WITHIN)[2]).stem}
    names |= {name for value in said if isinstance(value, str) for name in _names(value)}
    for name in names:
        found.setdefault(name, []).append(path)


def _names(value: str) -> Iterator[str]:
    """Yield a value as it is, and, of a path, the file's name with and without its suffix."""
    path = PurePosixPath(value)
    yield from {value, path.name, path.stem} - {""}


def _members(shard: Path) -> Mapping[str, tuple[int, int]]:
    """Return where in a shard each file's bytes begin, and how many there are."""
    state = shard.stat()
    return _indexed(shard, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)
def _indexed(shard: Path, _size: int, _changed_ns: int) -> Mapping[str, tuple[int, int]]:
    """Read a shard's headers, which is done once for all of its members."""
    try:
        with tarfile.open(shard, "r:") as archive:
            return {m.name: (m.offset_data, m.size) for m in archive if m.isfile()}
    except (tarfile.TarError, EOFError) as error:
        raise InputError(f"{shard}: no whole tar archive ({error}); fetch it again") from error


def _content(file: Path, member: str) -> bytes:
    """Return the bytes of a file, or of a member of a shard."""
    if not member:
        return file.read_bytes()
    start, size = _members(file)[member]
    with file.open("rb") as opened:
        opened.seek(start)
        return opened.read(size)


def _bytes(raw: Path, path: str) -> bytes:
    file, _, member = path.partition(f"{SHARD}{WITHIN}")
    return _content(raw / (f"{file}{SHARD}" if member else path), member)


def read(raw: Path, path: str, dim: int) -> NDArray[np.float32]:
    """Return the ``(frame, dim)`` features of a video.

    Args:
        raw: the raw folder.
        path: of the array, from the manifest.
        dim: width of the encoder's embeddings.

    Raises:
        InputError: it is no array of that width, or holds NaN.
    """
    array = _loaded(raw / path, _bytes(raw, path))
    if array.shape[1] != dim:
        raise InputError(
            f"{raw / path}: {array.shape[1]} dimensions, but the encoder has {dim}; name the "
            "encoder that made the features in section encoder of params.yaml"
        )
    if not np.isfinite(array).all():
        raise InputError(f"{raw / path}: holds NaN or infinity; compute it again")
    return array.astype(np.float32)


def _loaded(path: Path, data: bytes) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: no array ({reason}); fetch it again") from error
    if array.ndim != 2 or not len(array) or array.dtype.kind != "f":
        raise InputError(
            f"{path}: expected numbers (frame, dim), found {array.dtype} {array.shape}"
        )
    return array


def lengths(raw: Path, videos: Sequence[Video]) -> pd.DataFrame:
    """Return the number of rows of each array, and its digest.

    Returns:
        Columns video_id, video_frames and sha256.
    """
    rows = []
    for video_id, path in videos:
        data = _bytes(raw, path)
        rows.append((video_id, len(_loaded(raw / path, data)), hashlib.sha256(data).hexdigest()))
    return pd.DataFrame(rows, columns=["video_id", "video_frames", "sha256"])


def describe(raw: Path, paths: Sequence[str]) -> pd.DataFrame:
    """Return bytes and SHA-256 of each array; size and rate of the video are not known."""
    contents = ((path, _bytes(raw, path)) for path in paths)
    rows = [(path, len(data), hashlib.sha256(data).hexdigest()) for path, data in contents]
    columns = ["path", "bytes", "sha256", *Header._fields]
    table = pd.DataFrame([(*row, None, None, None) for row in rows], columns=columns)
    return table.astype({"width": "Int64", "height": "Int64", "rate_fps": "float64"})
