"""Read a manifest: one row for each caption, with the same columns for all benchmarks."""

from pathlib import Path

import pandas as pd

from xpool.project.errors import InputError

COLUMNS = ("split", "video_id", "caption_id", "caption", "path")
"""Columns of every manifest; ``path`` is relative to the benchmark's raw folder."""
Video = tuple[str, str]
"""A video's id, and its path relative to the benchmark's raw folder."""


def read_manifest(path: Path) -> pd.DataFrame:
    """Return a manifest: rows by split (train, val, test), then in the official order.

    Raises:
        InputError: the file is absent, or is not a manifest.
    """
    if not path.is_file():
        raise InputError(f"{path}: not found; make it with: xpool manifest --benchmark {path.stem}")
    table = pd.read_parquet(path)
    if tuple(table.columns) != COLUMNS:
        raise InputError(
            f"{path}: expected the columns {', '.join(COLUMNS)}, found {', '.join(table.columns)}"
        )
    return table


def read_videos(path: Path) -> list[Video]:
    """Return the videos of a manifest, each once, in its order.

    Raises:
        InputError: the manifest is absent, lists no video, or gives a video two paths.
    """
    table = read_manifest(path)
    videos: dict[str, str] = {}
    for video_id, video_path in zip(table["video_id"], table["path"], strict=True):
        if videos.setdefault(video_id, video_path) != video_path:
            raise InputError(
                f"{path}: {video_id} has two paths, {videos[video_id]} and {video_path}; "
                "expected one file for each video"
            )
    if not videos:
        raise InputError(f"{path}: it lists no video")
    return list(videos.items())
