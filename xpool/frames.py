"""Decode the sampled frames of a benchmark's videos once, into a few large files.

Step 2. Reads the manifest and the videos it names; writes ``data/<setting>/frames/<benchmark>/``:

- ``frames-000.bin``, ``frames-001.bin``, ...: uint8 RGB pixels, video after video, nothing between;
- ``index.parquet``: where each video lies, its size, which frames of how many, a checksum;
- ``quarantine.csv``: videos that could not be read, and why;
- ``summary.json``: counts, and the params on which the pixels depend.

A killed run continues where it was; the bytes are the same as those of an uninterrupted run. On 2
cores about 5,000 frames of 320 x 240 are decoded a second: the mini setting takes half a minute,
MSR-VTT's 10,000 videos about a quarter of an hour.

    python -m xpool.frames --benchmark msrvtt
"""

import argparse
import csv
import json
import logging
import multiprocessing
import os
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xpool import paths
from xpool.command import InputError, run
from xpool.decode import Decoded, DecodeError, decode, prepare_worker
from xpool.frame_cache import INDEX, FrameCache, FramesParams, shard_name
from xpool.params import read, setting
from xpool.sampling import cached_indices
from xpool.workspace import fingerprint, publish, replacing, work_folder, write_json

SHARD_BYTES = 1 << 30
"""A file that has reached this size takes no further video."""
TASKS_PER_WORKER = 500
"""Videos that one process reads before it is replaced: decord leaks memory (dmlc/decord#208), and a
decoder is where one may."""
_log = logging.getLogger(__name__)

Video = tuple[str, str]
"""Its id, and its path relative to the benchmark's raw folder."""


def read_videos(manifest: Path) -> list[Video]:
    """Return the videos of a manifest, each once, in its order.

    Raises:
        InputError: the manifest is absent, empty, or gives a video two paths.
    """
    if not manifest.is_file():
        raise InputError(
            f"{manifest}: not found; make it with: "
            f"python -m xpool.manifest --benchmark {manifest.stem}"
        )
    table = pq.read_table(manifest, columns=["video_id", "path"]).to_pydict()
    videos: dict[str, str] = {}
    for video_id, path in zip(table["video_id"], table["path"], strict=True):
        if videos.setdefault(video_id, path) != path:
            raise InputError(
                f"{manifest}: {video_id} has two paths, {videos[video_id]} and {path}; "
                "expected one file a video"
            )
    if not videos:
        raise InputError(f"{manifest}: it lists no video")
    return list(videos.items())


def in_order(
    job: Callable[..., Decoded], tasks: Iterable[tuple[Any, ...]], timeout_s: float, workers: int
) -> Generator[Decoded | DecodeError, None, None]:
    """Run a job in several processes, and yield its results in the order of the tasks.

    A job that hangs or crashes costs its own result only.

    Args:
        job: returns a video's frames, or raises :class:`DecodeError`; must pickle.
        tasks: its arguments, video by video; must pickle.
        timeout_s: time limit for one video.
        workers: number of processes.
    """
    from pebble import ProcessExpired, ProcessPool

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
            try:
                yield ahead.popleft().result()
            except DecodeError as error:
                yield error
            except TimeoutError:
                yield DecodeError(f"it was not read within {timeout_s:g} s (frames.timeout_s)")
            except ProcessExpired as error:
                yield DecodeError(f"the decoder crashed (exit status {error.exitcode})")
    finally:
        pool.stop()
        pool.join()


class Packer:
    """The unfinished cache in a work folder: pixels, and a journal of the videos that are done.

    Pixels are written before their line in the journal. What the journal does not vouch for, be it
    a torn line or pixels without a line, is cut off when the folder is opened again.

    Attributes:
        rows: one for each video done: its line of the index, or the reason why it has none.
        cache: the folder that :meth:`finish` completes.
    """

    def __init__(self, work: Path) -> None:
        """Open the work folder, new or from a killed run."""
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
        vouched = {shard_name(row["shard"]) for row in packed}
        for path in self.cache.iterdir():
            if path.name not in vouched:
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

    def add(self, video: Video, decoded: Decoded) -> None:
        """Append a video's frames."""
        pixels, indices, video_frames = decoded
        if self._end >= SHARD_BYTES:
            self._shard, self._end = self._shard + 1, 0
        with self._path.open("ab") as file:
            file.write(pixels.data)
        row = {
            "video_id": video[0],
            "shard": self._shard,
            "offset": self._end,
            "height": pixels.shape[1],
            "width": pixels.shape[2],
            "video_frames": video_frames,
            "indices": indices.tolist(),
            "crc32": zlib.crc32(pixels.data),
        }
        self._end += pixels.nbytes
        self._record(row)

    def reject(self, video: Video, reason: str) -> None:
        """Note why a video has no frames."""
        self._record({"video_id": video[0], "path": video[1], "reason": reason})

    def _record(self, row: dict[str, Any]) -> None:
        with self._journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.rows.append(row)

    def finish(self, about: dict[str, Any]) -> None:
        """Write what goes with the pixels; ``about`` goes into ``summary.json``."""
        packed = [row for row in self.rows if "reason" not in row]
        rejected = [row for row in self.rows if "reason" in row]
        with replacing(self.cache / "quarantine.csv") as file:
            writer = csv.DictWriter(file, ["video_id", "path", "reason"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rejected)
        with replacing(self.cache / "index.parquet", "wb") as file:
            pq.write_table(pa.Table.from_pylist(packed, schema=INDEX), file)
        counts = {
            "videos": len(packed),
            "videos_unreadable": len(rejected),
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
    job: Callable[..., Decoded] = decode,
) -> Path:
    """Decode what a work folder still lacks, and complete it.

    Args:
        work: folder of the unfinished work, new or from a killed run.
        videos: the videos, in the order in which they are packed.
        raw: folder of their paths.
        params: section ``frames``.
        workers: number of processes.
        job: reads one video; takes what :func:`xpool.decode.decode` takes.

    Returns:
        The finished cache, inside the work folder.

    Raises:
        InputError: more videos are unreadable than allowed, or all are.
    """
    from tqdm import tqdm

    packer = Packer(work)
    done = len(packer.rows)
    if done:
        _log.info("resuming: %d of %d videos are done", done, len(videos))
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
        )
        for video_id, path in videos[done:]
    )
    with closing(in_order(job, tasks, params.timeout_s, workers)) as results:
        progress = tqdm(results, "videos", initial=done, total=len(videos))
        for video, result in zip(videos[done:], progress, strict=True):
            if isinstance(result, DecodeError):
                packer.reject(video, str(result))
            else:
                packer.add(video, result)
    packer.finish({"params": params.about_pixels()})
    _check_share(packer, params.allowed_unreadable)
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
            f"{reasons}: {found}; mend the files, or raise frames.allowed_unreadable in "
            f"params.yaml from {allowed:g} to {share:.4g} or more (what was read is kept)"
        )
    _log.warning("%s; left out, see quarantine.csv", found)


def _size(row: dict[str, Any]) -> int:
    return int(len(row["indices"]) * row["height"] * row["width"] * 3)


def main() -> None:
    """Pack the frames of one benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--benchmark", required=True)
    benchmark = parser.parse_args().benchmark
    params = read("frames", FramesParams)
    name = setting()
    raw = paths.raw(name, benchmark)
    videos = read_videos(paths.manifest(name, benchmark))
    digest = fingerprint([params.about_pixels(), videos], [raw / path for _, path in videos])
    with work_folder("frames", f"{name}-{benchmark}", digest) as work:
        workers = min(available_cores(), len(videos))
        cache = pack(work, videos, raw, params, workers)
        destination = paths.frames(name, benchmark)
        publish(cache, destination)
        shutil.rmtree(work)
    _log.info("%s: %d videos", destination, len(FrameCache(destination)))


def available_cores() -> int:
    """Cores that this process may use, which a batch system may have limited."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    run(main)
