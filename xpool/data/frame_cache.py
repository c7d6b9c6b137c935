"""The frame cache of a benchmark, read through memory maps; ``xpool.data.packing`` writes it."""

import io
import mmap
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, ValidationInfo, field_validator

from xpool.data.sampling import Rule, ShortVideos, positions_for
from xpool.data.videos.features import LENGTHS
from xpool.project.errors import InputError
from xpool.project.params import Section, Seed
from xpool.project.records import decoder_of

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
JPEG_INDEX = INDEX.append(pa.field("sizes", pa.list_(pa.int32())))
"""Index of frames that are stored as JPEG: also the bytes of each frame."""
JPEG_QUALITY, NO_SUBSAMPLING = 95, 0
"""Chosen by what they cost in pixels and bytes: docs/running/cost.md."""
RESIDENT = 1 << 28
"""Bytes that are read of mapped files before their pages leave the process's memory."""
AROUND = 1 << 18
"""Bytes that Linux may map around those that are read; how many depends on the file system."""


class Mapped:
    """Files that are read through memory maps, of which a bounded part is in memory.

    The system drops pages of a mapped file when it runs short of memory, but until then they count
    as the process's own: a pass over LSMDC's frames would seem to hold all 350 GB.
    """

    def __init__(self) -> None:
        self._maps: list[mmap.mmap] = []
        self._read = 0

    def add(self, file: mmap.mmap) -> None:
        """Take in a file that is mapped read-only or privately, and never written to."""
        self._maps.append(file)

    def note_read(self, size: int, places: int = 1) -> None:
        """Note that this many bytes are about to be read, and at how many places.

        What was dropped can be read again: it stays in the system's cache of files, from where it
        comes back in microseconds.
        """
        size += places * AROUND
        self._read += size
        if self._read > RESIDENT:
            for file in self._maps:
                file.madvise(mmap.MADV_DONTNEED)
            self._read = size


Frames = tuple[str, NDArray[np.uint8], NDArray[np.integer[Any]], int]
"""A video's id, ``(frame, h, w, 3)`` pixels, the indices of these frames, and the video's length in
frames."""


class FramesParams(Section):
    """Section ``frames``."""

    counts: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
    """Every number of frames for each video that a run may ask for."""
    rules: Annotated[list[Rule], Field(min_length=1)]
    """Every rule that a run may ask for; the cache holds the union over counts x rules."""
    sampling: Rule
    """The rule that runs use: ``uniform`` takes the middle frame of each interval, as the official
    code does; ``rand`` takes a random one."""
    seed: Seed
    """Seed of the rule ``rand``."""
    short_side_px: Annotated[int, Field(ge=8)]
    antialias: bool
    """True resizes as PIL does, false as the official code did."""
    short_videos: ShortVideos
    """How a video with too few frames is filled up: ``mask`` (CLIP4Clip) or ``repeat_last`` (the
    official code); see :func:`xpool.data.sampling.padded`."""
    storage: Literal["raw", "jpeg"]
    """``raw`` keeps each pixel; ``jpeg`` takes about a seventh of the disk, see
    docs/running/cost.md."""
    timeout_s: Annotated[float, Field(gt=0)]
    """Time limit for one video."""
    allowed_cut: Annotated[float, Field(ge=0, le=1)]
    """Share of the length that a video's file states which may be lacking; one frame always may.
    What is accepted is listed in ``remarks.csv``."""
    allowed_unreadable: Annotated[float, Field(ge=0, le=1)]
    """Share of the videos that may be unreadable."""

    @field_validator("sampling")
    @classmethod
    def _is_cached(cls, rule: Rule, info: ValidationInfo) -> Rule:
        rules = info.data.get("rules", [rule])  # absent if the rules themselves are invalid
        if rule not in rules:
            raise ValueError(
                f"{rule} frames asked of a cache for {', '.join(rules)} (frames.rules); "
                f"change one, or add {rule} to the other"
            )
        return rule

    def about_pixels(self) -> dict[str, Any]:
        """Return the values on which the cache's content depends."""
        return self.model_dump(exclude={"sampling", "short_videos", "allowed_unreadable"})


def shard_name(shard: int) -> str:
    """Return the file name of a shard."""
    return f"frames-{shard:03d}.bin"


def to_jpeg(frame: NDArray[np.uint8]) -> bytes:
    """Return ``(h, w, 3)`` pixels as a JPEG file."""
    file = io.BytesIO()
    image = Image.fromarray(frame)
    image.save(file, "JPEG", quality=JPEG_QUALITY, subsampling=NO_SUBSAMPLING)
    return file.getvalue()


def from_jpeg(data: Any) -> NDArray[np.uint8]:
    """Return the ``(h, w, 3)`` pixels of a JPEG file."""
    return np.asarray(Image.open(io.BytesIO(data)))


class FrameCache:
    """The cached frames of a benchmark.

    Files are opened at the first read, so that an instance can be sent to a worker process.

    Attributes:
        video_ids: in the manifest's order.
    """

    def __init__(self, folder: Path) -> None:
        """Read the index.

        Raises:
            InputError: the cache is absent or incomplete.
        """
        if (folder / LENGTHS).is_file():
            raise InputError(
                f"{folder}: no frames, because features of other code stand for the videos "
                f"(manifest.{folder.name}.features); what shows or reads pictures needs the videos"
            )
        if not (folder / "index.parquet").is_file():
            raise InputError(
                f"{folder}: no frame cache; make it with: xpool frames --benchmark {folder.name}"
            )
        table = pq.read_table(folder / "index.parquet")
        if not any(table.schema.equals(schema) for schema in (INDEX, JPEG_INDEX)):
            raise InputError(
                f"{folder}/index.parquet: expected the columns {', '.join(INDEX.names)}, found "
                f"{', '.join(table.schema.names)}; run the stage frames again"
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
        frames = np.diff(self._starts)
        self._bytes = frames * self._height.astype(np.int64) * self._width * 3
        self._frame_ends: NDArray[np.int64] | None = None
        """``(frame of all videos + 1,)`` running sum of the frames' bytes, if they are JPEG."""
        if "sizes" in table.schema.names:
            sizes = table["sizes"].combine_chunks().values.to_numpy()
            self._frame_ends = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
            self._bytes = np.diff(self._frame_ends[self._starts])
        self._shards: dict[int, mmap.mmap] = {}
        self._mapped = Mapped()
        self._check_sizes()

    @property
    def decoder(self) -> str:
        """Name and version of what decoded the frames."""
        return decoder_of(self._folder)

    def _check_sizes(self) -> None:
        ends = self._offset + self._bytes
        for shard in np.unique(self._shard).tolist():
            path = self._folder / shard_name(shard)
            expected = int(ends[self._shard == shard].max())
            found = path.stat().st_size if path.is_file() else 0
            if found != expected:
                raise InputError(
                    f"{path}: expected {expected} bytes, found {found}; run the stage frames again"
                )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the open files; the receiving process opens its own."""
        return self.__dict__ | {"_shards": {}, "_mapped": Mapped()}

    def __contains__(self, video_id: object) -> bool:
        """Return whether the cache holds a video."""
        return video_id in self._row

    def __len__(self) -> int:
        """Return the number of videos."""
        return len(self.video_ids)

    def stored(self, video_id: str) -> tuple[NDArray[np.uint8], NDArray[np.int32], int]:
        """Return all stored frames of a video; those stored as pixels are not copied.

        Returns:
            ``(frame, h, w, 3)`` read-only, the indices of these frames in the video, and the
            video's length in frames.

        Raises:
            InputError: the cache does not hold this video.
        """
        row = self._row_of(video_id)
        indices = self._stored_indices(row)
        return self._pixels(row, range(len(indices))), indices, int(self._video_frames[row])

    def _row_of(self, video_id: str) -> int:
        if video_id not in self._row:
            raise InputError(
                f"{self._folder}: {video_id} is not in the cache; if the video could not be read, "
                "quarantine.csv says why"
            )
        return self._row[video_id]

    def _data(self, row: int) -> NDArray[np.uint8]:
        """Return the bytes of a video in its shard."""
        shard, start = int(self._shard[row]), int(self._offset[row])
        if shard not in self._shards:
            with (self._folder / shard_name(shard)).open("rb") as file:
                self._shards[shard] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._mapped.add(self._shards[shard])
        self._mapped.note_read(int(self._bytes[row]))
        return np.frombuffer(self._shards[shard], np.uint8, int(self._bytes[row]), start)

    def _pixels(self, row: int, positions: Sequence[int]) -> NDArray[np.uint8]:
        """Return a video's stored frames at these positions; decodes no other JPEG."""
        data, first = self._data(row), int(self._starts[row])
        if self._frame_ends is None:
            whole = data.reshape(-1, int(self._height[row]), int(self._width[row]), 3)
            return whole if isinstance(positions, range) else whole[positions]
        ends = self._frame_ends[first : int(self._starts[row + 1]) + 1] - self._frame_ends[first]
        decoded = {p: from_jpeg(data[ends[p] : ends[p + 1]]) for p in set(positions)}
        return np.stack([decoded[position] for position in positions])

    def read(
        self, video_id: str, count: int, params: FramesParams
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return a video's sampled frames.

        Args:
            video_id: which video.
            count: how many frames.
            params: how they are sampled, and how a shorter video is filled up.

        Returns:
            ``(count, h, w, 3)`` frames, and a ``(count,)`` mask, True where a frame counts.

        Raises:
            InputError: the cache lacks the video, or a frame that the sampling rule asks for.
        """
        positions, mask = self._positions(video_id, count, params)
        return np.asarray(self._pixels(self._row_of(video_id), positions.tolist())), mask

    def sampled(
        self, video_id: str, count: int, params: FramesParams
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Return where in the video the frames of :meth:`read` are, and their mask.

        Returns:
            ``(count,)`` indices in the video, and the mask of :meth:`read`.

        Raises:
            InputError: as :meth:`read`.
        """
        positions, mask = self._positions(video_id, count, params)
        return self._stored_indices(self._row_of(video_id))[positions], mask

    def _positions(
        self, video_id: str, count: int, params: FramesParams
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the positions of sampled frames among the stored ones, and their mask."""
        row = self._row_of(video_id)
        return positions_for(
            self._stored_indices(row),
            int(self._video_frames[row]),
            count,
            params.sampling,
            params.seed,
            video_id,
            params.short_videos,
        )

    def _stored_indices(self, row: int) -> NDArray[np.int32]:
        return np.asarray(self._indices[self._starts[row] : self._starts[row + 1]])

    def verify(self) -> None:
        """Check the checksum of every video.

        Raises:
            InputError: one differs; the message names the first such video.
        """
        for row, (video_id, expected) in enumerate(zip(self.video_ids, self._crc32, strict=True)):
            if zlib.crc32(self._data(row).data) != expected:
                raise InputError(
                    f"{self._folder}: the frames of {video_id} have changed since they were "
                    "written (their checksum differs); run the stage frames again"
                )
