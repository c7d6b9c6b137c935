"""Read the rows of a data set of Hugging Face: a JSON list, or Parquet files.

A row has ``video_id``, ``caption`` (one, or a list) and often ``video``, the path of its file, as
in friedrichor/MSR-VTT and friedrichor/MSVD, and in the Parquet files that the hub makes of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from xpool.data.annotations.text import read_list, refuse_half_pairs
from xpool.project.errors import InputError

COLUMNS = ("video_id", "caption", "video")
"""Columns that are read; the last one may be absent."""


class Rows(NamedTuple):
    """The captions and the file of each video, in the order of its first row."""

    captions: dict[str, list[str]]
    files: dict[str, str]
    """Name of the video's file without its suffix, where the rows have paths."""


def read_rows(paths: Sequence[Path]) -> Rows:
    """Return the captions of each video, in the order of the rows.

    Args:
        paths: one JSON file, or the Parquet files of one table, in their order.

    Raises:
        InputError: a file is malformed; names the row.
    """
    found = Rows({}, {})
    for path in paths:
        parquet = path.suffix == ".parquet"
        rows = _parquet(path) if parquet else read_list(path, "{'video_id', 'caption'}")
        for number, row in enumerate(rows):
            _add(found, row, f"{path}: row {number}")
    return found


def _add(found: Rows, row: Any, where: str) -> None:
    try:
        video_id, caption = row["video_id"], row["caption"]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{where}: expected the keys 'video_id' and 'caption', found {str(row)[:200]!r}"
        ) from error
    captions = [caption] if isinstance(caption, str) else caption
    if not isinstance(video_id, str) or not _are_strings(captions):
        raise InputError(
            f"{where}: expected a text, and a text or a list of texts, found {str(row)[:200]!r}"
        )
    found.captions.setdefault(video_id, []).extend(captions)
    video = row.get("video")
    path = video.get("path") if isinstance(video, Mapping) else video  # as the hub stores videos
    if isinstance(path, str):
        found.files[video_id] = PurePosixPath(path).stem


def _are_strings(captions: Any) -> bool:
    return isinstance(captions, list) and all(isinstance(text, str) for text in captions)


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        there = pq.read_schema(path).names
        table = pq.read_table(path, columns=_known(there))
        rows: list[dict[str, Any]] = table.to_pylist()
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a Parquet file ({reason}); fetch it again") from error
    refuse_half_pairs(path, rows)
    return rows


def _known(names: Iterable[str]) -> list[str]:
    return [name for name in COLUMNS if name in names]
