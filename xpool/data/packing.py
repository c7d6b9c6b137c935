"""Decode the sampled frames of a benchmark's videos once, into a few large files.

A frame cache is a folder that :class:`xpool.data.frame_cache.FrameCache` reads:

- ``frames-000.bin``, ``frames-001.bin``, ...: uint8 RGB pixels, or a JPEG file for each frame
  (``frames.storage``); one video after another, no gaps;
- ``index.parquet``: each video's shard, offset and frame size, the indices of its frames, the
  video's length, a checksum;
- ``quarantine.csv``: videos that could not be read, and why;
- ``remarks.csv``: videos of which a stream was chosen, or that were accepted though cut short;
- ``summary.json``: counts, and the params on which the pixels depend.

A killed run continues where it stopped and gives the same bytes as an uninterrupted one.
"""

import csv
import json
import logging
import multiprocessing
import os
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from xpool.data.frame_cache import INDEX, JPEG_INDEX, FramesParams, shard_name, to_jpeg
from xpool.data.manifest import Video
from xpool.data.sampling import cached_indices
from xpool.data.videos import frame_folder
from xpool.data.videos.decode import MEMORY_BYTES, Decoded, decoder, prepare_worker
from xpool.data.videos.video_file import DecodeError
from xpool.project import snapshot
from xpool.project.errors import InputError
from xpool.project.progress import progress
from xpool.project.workspace import replacing, write_json

SHARD_BYTES = 1 << 30
"""Once a shard has reached this size, the next video starts a new one."""
TASKS_PER_WORKER = 500
"""A process is replaced after this many videos, because decoders may leak memory (decord does,
dmlc/decord#208)."""
log = logging.getLogger(__name__)
T = TypeVar("T")


class Compressed(NamedTuple):
    """A decoded video whose frames are JPEG files."""

    frames: list[bytes]
    height: int
    width: int
    indices: NDArray[np.integer[Any]]
    video_frames: int
    remarks: tuple[str, ...]


def compressed(job: Callable[..., Decoded], *task: Any) -> Compressed:
    """Call a job that decodes a video, and compress its frames, in the same process."""
    pixels, indices, video_frames, remarks = job(*task)
    _, height, width, _ = pixels.shape
    files = [to_jpeg(frame) for frame in pixels]
    return Compressed(files, height, width, indices, video_frames, remarks)


def in_order(
    job: Callable[..., T], tasks: Iterable[tuple[Any, ...]], timeout_s: float, workers: int
) -> Generator[T | DecodeError, None, None]:
    """Run a job in several processes, and yield its results in the order of the tasks.

    If a job fails in any way, hangs, crashes or runs out of memory, only its own result is lost.

    Args:
        job: reads a video, or raises :class:`DecodeError`; must pickle.
        tasks: the arguments of each call; must pickle.
        timeout_s: time limit for one video.
        workers: number of processes.
    """
    from pebble import ProcessPool

    pool = ProcessPool(
        max_workers=workers,
        max_tasks=TASKS_PER_WORKER,
        initializer=prepare_worker,
        context=multiprocessing.get_context("spawn"),
    )
    ahead: deque[Any] = deque()
    remaining = iter(tasks)
    try:
        while True:
            while len(ahead) < 4 * workers and (task := next(remaining, None)) is not None:
                ahead.append(pool.schedule(job, task, timeout=timeout_s))
            if not ahead:
                return
            done = ahead.popleft()
            error = done.exception()
            yield done.result() if error is None else _as_decode_error(error, timeout_s)
    finally:
        pool.stop()
        pool.join()


def _as_decode_error(error: BaseException, timeout_s: float) -> DecodeError:
    """Return why a job has no result, in one line; a fault of one video must not stop the rest.

    Raises:
        KeyboardInterrupt: the user stopped the job.
    """
    from pebble import ProcessExpired

    match error:
        case DecodeError():
            return error
        case KeyboardInterrupt():
            raise error
        case TimeoutError():
            return DecodeError(f"it was not read within {timeout_s:g} s (frames.timeout_s)")
        case ProcessExpired():
            return DecodeError(f"the decoder crashed (exit status {error.exitcode})")
        case MemoryError():
            return DecodeError(f"it takes more than {MEMORY_BYTES >> 30} GiB of memory")
    line = next(iter(str(error).splitlines()), "")
    return DecodeError(f"the decoder failed ({type(error).__name__}: {line})")


class Packer:
    """The unfinished cache in a work folder: pixels, and a journal of the videos that are done.

    Pixels are written before their line in the journal. When the folder is opened again, a torn
    line, and pixels without a line, are cut off.

    Attributes:
        rows: one for each finished video: its row of the index, or the reason why it has none.
        cache: the folder that :meth:`finish` completes.
    """

    def __init__(self, work: Path) -> None:
        """Open a work folder: a new one, or that of a killed run."""
        self.cache = work / "cache"
        self.cache.mkdir(exist_ok=True)
        self._journal = work / "journal.jsonl"
        self.rows: list[dict[str, Any]] = []
        self._shard, self._end = 0, 0
        if self._journal.is_file():
            self._resume()

    def _resume(self) -> None:
        good = 0
        for line in self._journal.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            row = json.loads(line)
            if "reason" not in row and not self._is_stored(row):
                break
            self.rows.append(row)
            good += len(line)
        os.truncate(self._journal, good)
        packed = [row for row in self.rows if "reason" not in row]
        if packed:
            self._shard = packed[-1]["shard"]
            self._end = packed[-1]["offset"] + _size(packed[-1])
        shards = {shard_name(row["shard"]) for row in packed}
        for path in self.cache.iterdir():
            if path.name not in shards:
                path.unlink()
        if packed:
            os.truncate(self._path, self._end)

    def _is_stored(self, row: dict[str, Any]) -> bool:
        path = self.cache / shard_name(row["shard"])
        if not path.is_file():
            return False
        with path.open("rb") as file:
            file.seek(row["offset"])
            return bool(zlib.crc32(file.read(_size(row))) == row["crc32"])

    @property
    def _path(self) -> Path:
        return self.cache / shard_name(self._shard)

    def add(self, video: Video, decoded: Decoded | Compressed) -> None:
        """Append a video's frames."""
        sizes = {}
        if isinstance(decoded, Compressed):
            files, height, width, indices, video_frames, remarks = decoded
            data = memoryview(b"".join(files))
            sizes = {"sizes": [len(file) for file in files]}
        else:
            pixels, indices, video_frames, remarks = decoded
            data, (height, width) = pixels.data, pixels.shape[1:3]
        if self._end >= SHARD_BYTES:
            self._shard, self._end = self._shard + 1, 0
        with self._path.open("ab") as file:
            file.write(data)
        row = {
            "video_id": video[0],
            "path": video[1],
            "remark": "; ".join(remarks),
            "shard": self._shard,
            "offset": self._end,
            "height": height,
            "width": width,
            "video_frames": video_frames,
            "indices": indices.tolist(),
            "crc32": zlib.crc32(data),
        } | sizes
        self._end += data.nbytes
        self._record(row)

    def reject(self, video: Video, reason: str) -> None:
        """Record why a video has no frames."""
        self._record({"video_id": video[0], "path": video[1], "reason": reason})

    def _record(self, row: dict[str, Any]) -> None:
        with self._journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.rows.append(row)

    def finish(self, about: dict[str, Any]) -> None:
        """Write the index and the lists; ``about`` is added to ``summary.json``."""
        packed = [row for row in self.rows if "reason" not in row]
        rejected = [row for row in self.rows if "reason" in row]
        remarked = [row for row in packed if row["remark"]]
        lists = ("quarantine", rejected, "reason"), ("remarks", remarked, "remark")
        for name, rows, why in lists:
            with replacing(self.cache / f"{name}.csv") as file:
                columns = ["video_id", "path", why]
                writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
        with replacing(self.cache / "index.parquet", "wb") as file:
            schema = JPEG_INDEX if any("sizes" in row for row in packed) else INDEX
            pq.write_table(pa.Table.from_pylist(packed, schema=schema), file)
        counts = {
            "videos": len(packed),
            "videos_unreadable": len(rejected),
            "videos_remarked": len(remarked),
            "frames": sum(len(row["indices"]) for row in packed),
            "bytes": sum(map(_size, packed)),
        }
        write_json(self.cache / "summary.json", counts | about)


def pack(
    work: Path,
    videos: Sequence[Video],
    raw: Path,
    params: FramesParams,
    workers: int,
    job: Callable[..., Decoded] = frame_folder.read,
) -> Path:
    """Decode the videos that a work folder still lacks, and complete the cache.

    Args:
        work: a new folder, or that of a killed run.
        videos: the videos, in the order in which they are packed.
        raw: the folder that their paths are relative to.
        params: section ``frames``.
        workers: number of processes.
        job: reads one video; takes what :func:`xpool.data.videos.frame_folder.read` takes.

    Returns:
        The finished cache, inside the work folder.

    Raises:
        InputError: more videos are unreadable than allowed, or none is readable.
    """
    packer = Packer(work)
    done = len(packer.rows)
    if done:
        log.info("resuming: %d of %d videos are done", done, len(videos))
    tasks = (
        (
            raw / path,
            partial(
                cached_indices,
                counts=params.counts,
                rules=params.rules,
                seed=params.seed,
                video_id=video_id,
            ),
            params.short_side_px,
            params.antialias,
            params.allowed_cut,
        )
        for video_id, path in videos[done:]
    )
    packable = partial(compressed, job) if params.storage == "jpeg" else job
    with closing(in_order(packable, tasks, params.timeout_s, workers)) as results:
        bar = progress(results, "videos", initial=done, total=len(videos))
        for video, result in zip(videos[done:], bar, strict=True):
            snapshot.untouched()  # by the process that decoded it
            if isinstance(result, DecodeError):
                packer.reject(video, str(result))
            else:
                packer.add(video, result)
    extracted = all((raw / path).is_dir() for _, path in videos)
    reader = frame_folder.reader() if extracted else decoder()
    packer.finish({"params": params.about_pixels(), "decoder": reader})
    _check_share(packer, params.allowed_unreadable)
    remarked = [row for row in packer.rows if row.get("remark")]
    if remarked:
        first = f"{remarked[0]['video_id']}: {remarked[0]['remark']}"
        log.warning("%d videos are read with a remark (remarks.csv); %s", len(remarked), first)
    return packer.cache


def _check_share(packer: Packer, allowed: float) -> None:
    rejected = [row for row in packer.rows if "reason" in row]
    share = len(rejected) / len(packer.rows)
    if not rejected:
        return
    named = ", ".join(row["video_id"] for row in rejected[:5])
    named += f" and {len(rejected) - 5} more" if len(rejected) > 5 else ""
    reasons = packer.cache / "quarantine.csv"
    found = f"{len(rejected)} of {len(packer.rows)} videos are unreadable: {named}"
    if share == 1:
        raise InputError(f"{reasons}: {found}; expected video files that FFmpeg can decode")
    if share > allowed:
        raise InputError(
            f"{reasons}: {found}; fix the files, or raise frames.allowed_unreadable in "
            f"params.yaml from {allowed:g} to {share:.4g} or more (the decoded videos are kept)"
        )
    log.warning("%s; they are left out, see quarantine.csv", found)


def _size(row: dict[str, Any]) -> int:
    if "sizes" in row:
        return int(sum(row["sizes"]))
    return int(len(row["indices"]) * row["height"] * row["width"] * 3)
