"""Generate mini benchmarks: videos and captions in the official layouts and formats.

The raw folder is read like the real files. The truth is written beside it: which frames show which
scene, and which scene each caption describes. ``docs/data/mini_benchmarks.md`` gives the reasons.
"""

import dataclasses
import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from xpool.data.benchmark import SPLITS, Durations, Layout, Split, load
from xpool.mini import drawing, world
from xpool.mini.limits import LEAST_FRAMES_PER_SCENE, AtLeastOne, FloatRange, IntRange
from xpool.project.command import available_cores, side_by_side
from xpool.project.errors import InputError
from xpool.project.params import Section
from xpool.project.progress import progress
from xpool.project.seeds import seed_for

log = logging.getLogger(__name__)

Even = Annotated[int, Field(ge=16, multiple_of=2)]


class VideoCounts(Section):
    """Number of videos of each split."""

    train: AtLeastOne
    val: Annotated[int, Field(ge=0)]
    test: AtLeastOne


class GenerateParams(Section):
    """``generate.<benchmark>``: number and kind of the videos. Ranges are [least, most]."""

    videos: VideoCounts
    captions: IntRange
    """Captions of each video."""
    scenes: IntRange
    """Scenes of each video, shown one after another."""
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


@dataclass(frozen=True, kw_only=True)
class Caption:
    """A sentence, and the index of the scene that it describes."""

    text: str
    scene: int


@dataclass(frozen=True, kw_only=True)
class Video:
    """A video as planned, before it is drawn."""

    video_id: str
    split: Split
    path: Path
    """Relative to the raw folder."""
    scenes: tuple[world.Scene, ...]
    ends: tuple[int, ...]
    """Index of the frame after the last one of each scene."""
    width: int
    height: int
    rate_fps: int
    captions: tuple[Caption, ...]

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return self.ends[-1] / self.rate_fps

    @property
    def texts(self) -> tuple[str, ...]:
        """The sentences of its captions."""
        return tuple(caption.text for caption in self.captions)


def layout_of(benchmark: str) -> Layout:
    """Return how the mini version of a benchmark is written.

    Raises:
        InputError: the benchmark is unknown or has no mini version.
    """
    layout = load(benchmark).layout
    if layout is None:
        raise InputError(
            f"params.yaml: generate: {benchmark} has no mini version; give it a Layout in "
            f"xpool/data/benchmarks/{benchmark}.py, or remove it from the list"
        )
    return layout


def plan(benchmark: str, params: GenerateParams, seed: int) -> list[Video]:
    """Draw names, scenes, cuts and captions of all videos, in the order of the splits.

    Each purpose has its own seed, so that other captions do not change any frame.

    Raises:
        InputError: validation videos are asked of a benchmark without a validation split.
    """
    layout = layout_of(benchmark)
    if params.videos.val and not layout.has_val:
        raise InputError(
            f"params.yaml: generate.{benchmark}.videos.val: {load(benchmark).title} has no "
            f"validation split; expected 0, got {params.videos.val}"
        )

    def generator(*scope: str) -> np.random.Generator:
        return np.random.default_rng(seed_for("generate", seed, benchmark, *scope))

    counts = params.videos.model_dump()
    bounds_s = params.duration_s[0], params.duration_s[1]
    durations: Durations = {
        split: generator("durations", split).uniform(*bounds_s, size=counts[split]).tolist()
        for split in SPLITS
    }
    named = layout.name(durations, generator("names"))
    extra = set(named["train"][: layout.repeated_ids])  # these get a second caption
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
                captions=tuple(_caption(layout, scenes, i, rng) for i in about),
            )
            videos.append(video)
    _warn_of_repeats(benchmark, videos)
    return videos


def _caption(
    layout: Layout, scenes: Sequence[world.Scene], scene: int, rng: np.random.Generator
) -> Caption:
    words = world.caption(scenes[scene], rng, motion=True)
    return Caption(text=layout.word(words, world.opening(words)), scene=scene)


def _ends(n_frames: int, n_scenes: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Divide the frames among the scenes unequally; each gets enough frames to show a motion."""
    spare = n_frames - LEAST_FRAMES_PER_SCENE * n_scenes
    weights = rng.uniform(0.5, 1.5, n_scenes).cumsum()
    extra = np.rint(spare * weights / weights[-1]).astype(int)
    return tuple((extra + LEAST_FRAMES_PER_SCENE * np.arange(1, n_scenes + 1)).tolist())


def _warn_of_repeats(benchmark: str, videos: list[Video]) -> None:
    known = len(world.APPEARANCES)
    shown = sum(len(video.scenes) for video in videos if video.split == "test")
    if shown > known:
        log.warning(
            "%s: the test split shows %d scenes, but there are %d appearances: some captions fit "
            "two videos, which limits every method's recall",
            benchmark,
            shown,
            known,
        )


def draw(video: Video, seed: int, benchmark: str) -> Iterator[NDArray[np.uint8]]:
    """Yield the video's frames, each ``(height, width, channel)`` uint8 RGB."""
    rng = np.random.default_rng(seed_for("generate", seed, benchmark, "frames", video.video_id))
    starts = (0, *video.ends[:-1])
    for scene, start, end in zip(video.scenes, starts, video.ends, strict=True):
        yield from drawing.frames_of(scene, end - start, video.height, video.width, rng)


def write_video(
    path: Path, frames: Iterable[NDArray[np.uint8]], width: int, height: int, rate_fps: int
) -> None:
    """Encode frames as h264; the same frames give the same bytes.

    x264 runs with one thread, because the bytes depend on the number of threads; without the
    macroblock tree, whose SIMD code (core 165, seen with AVX2) reads stray memory for the last
    macroblock of small pictures and made one file in twenty differ; and without B-frames, because
    .avi stores no presentation times and readers then misplace frames.
    """
    import av  # loads shared libraries that only the writers need

    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"crf": "18", "threads": "1", "mbtree": "0", "bf": "0", "preset": "veryfast"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate_fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))  # flushes the encoder


def write_videos(videos: Sequence[Video], folder: Path, seed: int, benchmark: str) -> None:
    """Draw and encode all videos into the folder, on all cores."""
    parts = min(4 * available_cores(), len(videos))
    chunks = [videos[start::parts] for start in range(parts)]
    write = partial(_write_chunk, folder=folder, seed=seed, benchmark=benchmark)
    with progress(title=f"generate {benchmark}", total=len(videos), unit="video") as bar:
        for written in side_by_side(write, chunks, f"generate {benchmark}: a process"):
            bar.update(written)


def _write_chunk(videos: Sequence[Video], folder: Path, seed: int, benchmark: str) -> int:
    for video in videos:
        frames = draw(video, seed, benchmark)
        write_video(folder / video.path, frames, video.width, video.height, video.rate_fps)
    return len(videos)


def write_truth(videos: Sequence[Video], folder: Path) -> None:
    """Write scenes.parquet and captions.parquet, sorted by video_id.

    scenes: video_id, scene, start_frame, end_frame (exclusive), shape, colour, background, count,
    motion. captions: video_id, caption_index (among the captions of its video, in the order of the
    official file), scene.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    scenes, captions = [], []
    for video in sorted(videos, key=lambda video: video.video_id):
        starts = (0, *video.ends[:-1])
        for i, (scene, start, end) in enumerate(zip(video.scenes, starts, video.ends, strict=True)):
            interval = {
                "video_id": video.video_id,
                "scene": i,
                "start_frame": start,
                "end_frame": end,
            }
            scenes.append(interval | dataclasses.asdict(scene))
        captions += [
            {"video_id": video.video_id, "caption_index": i, "scene": caption.scene}
            for i, caption in enumerate(video.captions)
        ]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(scenes), folder / "scenes.parquet")
    pq.write_table(pa.Table.from_pylist(captions), folder / "captions.parquet")


def write_benchmark(
    benchmark: str, params: GenerateParams, seed: int, raw: Path, truth: Path
) -> None:
    """Write the official files and videos to ``raw``, and their scenes to ``truth``."""
    videos = plan(benchmark, params, seed)
    raw.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed_for("generate", seed, benchmark, "annotations"))
    layout_of(benchmark).write(videos, raw, rng)
    write_truth(videos, truth)
    write_videos(videos, raw, seed, benchmark)
    log.info(
        "%s: %d videos, %d scenes, %d captions",
        benchmark,
        len(videos),
        sum(len(video.scenes) for video in videos),
        sum(len(video.captions) for video in videos),
    )
