"""The packed frames of a benchmark as later steps read them, memory-mapped."""

import zlib
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field

from xpool.command import InputError
from xpool.params import Section
from xpool.sampling import Rule, ShortVideos, positions_for

INDEX = pa.schema(
    [
        ("video_id", pa.string()),
        ("shard", pa.int32()),
        ("offset", pa.int64()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("video_frames", pa.int32()),
        ("indices", pa.list_(pa.int32())),
        ("crc32", pa.int64()),
    ]
)


class FramesParams(Section):
    """Section ``frames``."""

    counts: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
    """Every number of frames a video that a run may ask for."""
    rules: Annotated[list[Rule], Field(min_length=1)]
    """Every rule that a run may ask for; the cache holds the union over counts x rules."""
    sampling: Rule
    """The rule that runs use: ``uniform`` (middle frame of each interval; official) or ``rand`` (a
    random one of it)."""
    seed: int
    """Of ``rand``."""
    short_side_px: Annotated[int, Field(ge=8)]
    antialias: bool
    """Resize as PIL does (true), or as the official code did (false)."""
    short_videos: ShortVideos
    """Videos with too few frames: ``mask`` (CLIP4Clip) or ``repeat_last`` (official code)."""
    timeout_s: Annotated[float, Field(gt=0)]
    """Time limit for one video."""
    allowed_unreadable: Annotated[float, Field(ge=0, le=1)]
    """Share of the videos that may be unreadable."""

    def about_pixels(self) -> dict[str, Any]:
        """Return the values on which the cache's content depends."""
        return self.model_dump(exclude={"sampling", "short_videos", "allowed_unreadable"})


def shard_name(shard: int) -> str:
    """Return the file name of a shard."""
    return f"frames-{shard:03d}.bin"


class FrameCache:
    """What the frames step wrote; opens its files at the first read, so it can go to a worker.

    Attributes:
        video_ids: the videos, in the manifest's order.
    """

    def __init__(self, folder: Path) -> None:
        """Read the index.

        Raises:
            InputError: the cache is absent or incomplete.
        """
        if not (folder / "index.parquet").is_file():
            raise InputError(
                f"{folder}: no frame cache; make it with: "
                f"python -m xpool.frames --benchmark {folder.name}"
            )
        table = pq.read_table(folder / "index.parquet")
        if not table.schema.equals(INDEX):
            raise InputError(
                f"{folder}/index.parquet: expected the columns {', '.join(INDEX.names)}, found "
                f"{', '.join(table.schema.names)}; run the frames step again"
            )
        self._folder = folder
        self.video_ids: list[str] = table["video_id"].to_pylist()
        self._row = {video_id: row for row, video_id in enumerate(self.video_ids)}
        self._shard, self._offset, self._height, self._width, self._video_frames, self._crc32 = (
            table[name].to_numpy()
            for name in ("shard", "offset", "height", "width", "video_frames", "crc32")
        )
        lists = table["indices"].combine_chunks()
        self._indices = lists.values.to_numpy()
        self._starts = lists.offsets.to_numpy()
        self._pixels: dict[int, NDArray[np.uint8]] = {}
        self._check_sizes()

    def _check_sizes(self) -> None:
        frames = np.diff(self._starts)
        ends = self._offset + frames * self._height.astype(np.int64) * self._width * 3
        for shard in np.unique(self._shard).tolist():
            path = self._folder / shard_name(shard)
            expected = int(ends[self._shard == shard].max())
            found = path.stat().st_size if path.is_file() else 0
            if found != expected:
                raise InputError(
                    f"{path}: expected {expected} bytes, found {found}; run the frames step again"
                )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open files out: the receiving process opens its own."""
        return self.__dict__ | {"_pixels": {}}

    def __contains__(self, video_id: object) -> bool:
        """Whether the video's frames are there."""
        return video_id in self._row

    def __len__(self) -> int:
        """Return the number of videos."""
        return len(self.video_ids)

    def stored(self, video_id: str) -> tuple[NDArray[np.uint8], NDArray[np.int32], int]:
        """Return all that is stored of a video, without copying.

        Returns:
            ``(frame, h, w, 3)`` read-only, the indices of these frames in the video, and the
            video's length in frames.

        Raises:
            InputError: the cache does not hold this video.
        """
        if video_id not in self._row:
            raise InputError(
                f"{self._folder}: {video_id} is not in the cache; its quarantine.csv says why if "
                "the video could not be read"
            )
        row = self._row[video_id]
        shard = int(self._shard[row])
        if shard not in self._pixels:
            self._pixels[shard] = np.memmap(self._folder / shard_name(shard), np.uint8, mode="r")
        indices = self._indices[self._starts[row] : self._starts[row + 1]]
        shape = (len(indices), int(self._height[row]), int(self._width[row]), 3)
        start = int(self._offset[row])
        flat = self._pixels[shard][start : start + int(np.prod(shape))]
        return flat.reshape(shape), indices, int(self._video_frames[row])

    def read(
        self, video_id: str, count: int, params: FramesParams
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return a video's sampled frames.

        Args:
            video_id: which video.
            count: how many frames.
            params: how they are sampled, and what becomes of a shorter video.

        Returns:
            ``(count, h, w, 3)``, and the ``(count,)`` mask that is True where a frame counts.

        Raises:
            InputError: the cache lacks the video, or a frame that the sampling rule asks for.
        """
        pixels, indices, video_frames = self.stored(video_id)
        positions, mask = positions_for(
            indices,
            video_frames,
            count,
            params.sampling,
            params.seed,
            video_id,
            params.short_videos,
        )
        return np.asarray(pixels[positions]), mask

    def verify(self) -> None:
        """Compare the checksum of every video.

        Raises:
            InputError: one differs; names the first.
        """
        for video_id, expected in zip(self.video_ids, self._crc32, strict=True):
            if zlib.crc32(self.stored(video_id)[0].data) != expected:
                raise InputError(
                    f"{self._folder}: the frames of {video_id} have changed since they were "
                    "written (their checksum differs); run the frames step again"
                )
