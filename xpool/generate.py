"""Make a mini benchmark: synthetic videos and captions in the official layout and formats.

Step 0 of the mini setting, run as ``python -m xpool.generate --benchmark msrvtt``. Reads params
``generate.seed`` and ``generate.<benchmark>``; writes ``data/mini/raw/<benchmark>/``, which the
loaders read as they read the real files, and ``data/mini/truth/<benchmark>/``: which frames show
which scene, and which scene each caption is about. Under half a minute for each of the three
benchmarks on 2 cores. ``docs/mini_benchmarks.md`` has the reasons.
"""

import argparse
import dataclasses
import itertools
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator

from xpool import paths, world
from xpool.command import InputError, die_with_parent, run
from xpool.layouts import LAYOUTS, REPEATED_IDS, SPLITS, Caption, Durations, Named, Video
from xpool.params import Section, read
from xpool.seeds import seed_for
from xpool.workspace import fingerprint, publish, work_folder

logger = logging.getLogger(__name__)

LEAST_FRAMES_PER_SCENE = 3  # fewer would show no motion


def _ordered(bounds: list[Any]) -> list[Any]:
    if bounds[0] > bounds[1]:
        raise ValueError("give the least first, then the most")
    return bounds


AtLeastOne = Annotated[int, Field(ge=1)]
Even = Annotated[int, Field(ge=16, multiple_of=2)]
IntRange = Annotated[list[AtLeastOne], Field(min_length=2, max_length=2), AfterValidator(_ordered)]
FloatRange = Annotated[
    list[Annotated[float, Field(gt=0)]],
    Field(min_length=2, max_length=2),
    AfterValidator(_ordered),
]


class VideoCounts(Section):
    """Videos of each split."""

    train: AtLeastOne
    val: Annotated[int, Field(ge=0)]
    test: AtLeastOne


class GenerateParams(Section):
    """``generate.<benchmark>``: how many videos, and of what kind. Ranges are [least, most]."""

    videos: VideoCounts
    captions: IntRange
    """Captions of a video. MSR-VTT's test file uses one of them, LSMDC has one."""
    scenes: IntRange
    """Scenes of a video, shown one after another: the variable of the world."""
    duration_s: FloatRange
    rate_fps: AtLeastOne
    sizes: Annotated[
        list[Annotated[list[Even], Field(min_length=2, max_length=2)]], Field(min_length=1)
    ]
    """``[width, height]`` in pixels, even for the codec; each video takes one of them."""

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        frames, needed = self.duration_s[0] * self.rate_fps, LEAST_FRAMES_PER_SCENE * self.scenes[1]
        if round(frames) < needed:
            raise ValueError(
                f"the shortest video has {round(frames)} frames, but {self.scenes[1]} scenes need "
                f"{needed}: raise duration_s or rate_fps, or lower scenes"
            )
        return self


def plan(benchmark: str, params: GenerateParams, seed: int) -> list[Video]:
    """Decide names, scenes, cuts and captions of all videos, in the order of the splits.

    Each draw has its own seed by purpose, so that more captions do not change any frame.

    Raises:
        InputError: the benchmark has no such split.
    """
    if benchmark == "msrvtt" and params.videos.val:
        raise InputError(
            f"params.yaml: generate.msrvtt.videos.val: MSR-VTT has no validation split; "
            f"expected 0, got {params.videos.val}"
        )
    layout = LAYOUTS[benchmark]

    def generator(*scope: str) -> np.random.Generator:
        return np.random.default_rng(seed_for("generate", seed, benchmark, *scope))

    counts = params.videos.model_dump()
    bounds_s = params.duration_s[0], params.duration_s[1]
    durations: Durations = {
        split: generator("durations", split).uniform(*bounds_s, size=counts[split]).tolist()
        for split in SPLITS
    }
    named = layout.name(durations, generator("names"))
    extra = _with_second_sentence(benchmark, named)
    videos = []
    for split in SPLITS:
        rng = generator("scenes", split)
        n_scenes = rng.integers(
            params.scenes[0], params.scenes[1], size=counts[split], endpoint=True
        )
        drawn = iter(world.draw_scenes(int(n_scenes.sum()), rng))
        for video_id, duration_s, n in zip(named[split], durations[split], n_scenes, strict=True):
            scenes = tuple(itertools.islice(drawn, n))
            rng = generator("captions", video_id)
            n_captions = int(rng.integers(params.captions[0], params.captions[1], endpoint=True))
            n_captions += video_id in extra
            about = rng.integers(n, size=n_captions).tolist()
            rng_plan = generator("plan", video_id)
            width, height = params.sizes[rng_plan.integers(len(params.sizes))]
            video = Video(
                video_id=video_id,
                split=split,
                path=layout.path(video_id),
                scenes=scenes,
                ends=_ends(round(duration_s * params.rate_fps), int(n), rng_plan),
                width=width,
                height=height,
                rate_fps=params.rate_fps,
                captions=tuple(
                    Caption(text=layout.word(world.caption(scenes[i], rng, motion=True)), scene=i)
                    for i in about
                ),
            )
            videos.append(video)
    _warn_of_repeats(benchmark, videos)
    return videos


def _ends(n_frames: int, n_scenes: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Split the frames between the scenes in unequal parts, each long enough to show a motion."""
    spare = n_frames - LEAST_FRAMES_PER_SCENE * n_scenes
    weights = rng.uniform(0.5, 1.5, n_scenes).cumsum()
    extra = np.rint(spare * weights / weights[-1]).astype(int)
    return tuple((extra + LEAST_FRAMES_PER_SCENE * np.arange(1, n_scenes + 1)).tolist())


def _warn_of_repeats(benchmark: str, videos: list[Video]) -> None:
    known = len(world.APPEARANCES)
    shown = sum(len(video.scenes) for video in videos if video.split == "test")
    if shown > known:
        logger.warning(
            "%s: the test split shows %d scenes, but there are %d appearances: some captions fit "
            "two videos, which caps every method's recall",
            benchmark,
            shown,
            known,
        )


def _with_second_sentence(benchmark: str, named: Named) -> set[str]:
    return set(named["train"][:REPEATED_IDS]) if benchmark == "lsmdc" else set()


def draw(video: Video, seed: int, benchmark: str) -> Iterator[NDArray[np.uint8]]:
    """Yield the video's frames, each ``(height, width, channel)`` uint8 RGB."""
    rng = np.random.default_rng(seed_for("generate", seed, benchmark, "frames", video.video_id))
    starts = (0, *video.ends[:-1])
    for scene, start, end in zip(video.scenes, starts, video.ends, strict=True):
        yield from world.frames_of(scene, end - start, video.height, video.width, rng)


def write_video(
    path: Path, frames: Iterable[NDArray[np.uint8]], width: int, height: int, rate_fps: int
) -> None:
    """Encode frames as h264; the same frames give the same bytes.

    One thread, because x264 gives other bytes with other numbers of threads. No macroblock tree:
    x264's SIMD code for it (core 165, seen with AVX2) lets stray memory decide on the last
    macroblock of small pictures, so that one file in twenty came out different. No B-frames,
    because .avi stores no presentation times and readers then misplace frames.
    """
    import av  # opens shared libraries of its own: only the writers need it

    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"crf": "18", "threads": "1", "mbtree": "0", "bf": "0"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate_fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))  # what the encoder still holds


def write_videos(
    videos: Sequence[Video], folder: Path, seed: int, benchmark: str, workers: int
) -> None:
    """Draw and encode all videos below the folder, in parallel processes."""
    from tqdm import tqdm

    workers = min(workers, len(videos))
    chunks = [videos[start :: workers * 4] for start in range(workers * 4)]
    with (
        ProcessPoolExecutor(workers, get_context("spawn"), die_with_parent) as pool,
        tqdm(total=len(videos), desc=f"generate {benchmark}", unit="video") as bar,
    ):
        jobs = [pool.submit(_write_chunk, chunk, folder, seed, benchmark) for chunk in chunks]
        for job in as_completed(jobs):
            bar.update(job.result())


def _write_chunk(videos: Sequence[Video], folder: Path, seed: int, benchmark: str) -> int:
    for video in videos:
        frames = draw(video, seed, benchmark)
        write_video(folder / video.path, frames, video.width, video.height, video.rate_fps)
    return len(videos)


def write_truth(videos: Sequence[Video], folder: Path) -> None:
    """Write scenes.parquet and captions.parquet, sorted by video_id.

    scenes: video_id, scene, start_frame, end_frame (exclusive), shape, colour, background, count,
    motion. captions: video_id, caption_index (the caption's place among those of its video, in the
    order of the official file), scene.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    scenes, captions = [], []
    for video in sorted(videos, key=lambda video: video.video_id):
        starts = (0, *video.ends[:-1])
        for i, (scene, start, end) in enumerate(zip(video.scenes, starts, video.ends, strict=True)):
            place = {
                "video_id": video.video_id,
                "scene": i,
                "start_frame": start,
                "end_frame": end,
            }
            scenes.append(place | dataclasses.asdict(scene))
        captions += [
            {"video_id": video.video_id, "caption_index": i, "scene": caption.scene}
            for i, caption in enumerate(video.captions)
        ]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(scenes), folder / "scenes.parquet")
    pq.write_table(pa.Table.from_pylist(captions), folder / "captions.parquet")


def write_benchmark(
    benchmark: str, params: GenerateParams, seed: int, raw: Path, truth: Path, workers: int
) -> None:
    """Write the official files and videos below ``raw``, and what is known of them to ``truth``."""
    videos = plan(benchmark, params, seed)
    raw.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed_for("generate", seed, benchmark, "annotations"))
    LAYOUTS[benchmark].write(videos, raw, rng)
    write_truth(videos, truth)
    write_videos(videos, raw, seed, benchmark, workers)
    logger.info(
        "%s: %d videos, %d scenes, %d captions",
        benchmark,
        len(videos),
        sum(len(video.scenes) for video in videos),
        sum(len(video.captions) for video in videos),
    )


def main() -> None:
    """Generate one mini benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--benchmark", required=True, choices=LAYOUTS)
    benchmark = parser.parse_args().benchmark
    seed = read("generate.seed", int)
    params = read(f"generate.{benchmark}", GenerateParams)
    digest = fingerprint([benchmark, seed, params.model_dump()])
    with work_folder("generate", benchmark, digest) as work:
        for left_over in work.iterdir():  # of a killed run; it takes seconds to start anew
            shutil.rmtree(left_over)
        write_benchmark(benchmark, params, seed, work / "raw", work / "truth", os.cpu_count() or 1)
        publish(work / "truth", paths.truth("mini", benchmark))
        publish(work / "raw", paths.raw("mini", benchmark))


if __name__ == "__main__":
    run(main)
