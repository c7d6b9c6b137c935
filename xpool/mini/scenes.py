"""Generated videos with each number of scenes, for the study ``scene_diversity``.

The worlds differ only in the number of scenes of each video; the numbers of videos and captions,
the lengths and the encoder are the same. No video file is written, because only the frames that a
run sees are drawn. Works in both settings, so that a real encoder can be tried on drawn scenes.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from xpool.data.frame_cache import Frames, FramesParams
from xpool.data.sampling import cached_indices
from xpool.mini import drawing, world
from xpool.mini.limits import LEAST_FRAMES_PER_SCENE, AtLeastOne, FloatRange
from xpool.project.errors import InputError
from xpool.project.params import Section, Seed
from xpool.project.seeds import seed_for

Pair = Annotated[list[AtLeastOne], Field(min_length=2, max_length=2)]


class Counts(Section):
    """Numbers for the training and the validation split."""

    train: AtLeastOne
    val: AtLeastOne


class WorldParams(Section):
    """``ablations.scene_diversity.world``: everything but the number of scenes."""

    seed: Seed
    videos: Counts
    captions: Counts
    """Captions of each video; they describe its scenes in turn."""
    duration_s: FloatRange
    rate_fps: AtLeastOne
    size: Pair
    """``[width, height]`` of a frame, in pixels."""

    def most_scenes(self) -> int:
        """Return how many scenes fit into the shortest video."""
        return round(self.duration_s[0] * self.rate_fps) // LEAST_FRAMES_PER_SCENE


def texts_of(params: WorldParams, scenes: int) -> tuple[pd.DataFrame, dict[str, list[world.Scene]]]:
    """Draw scenes and captions of both splits.

    Within a split, no appearance repeats while there are enough. The first scenes of all videos are
    drawn first, then the second ones, so that worlds with other numbers of scenes share as many as
    possible.

    Returns:
        A table with one row for each caption (split, video_id, caption_id, caption), and the scenes
        of each video.
    """
    rows, shown = [], {}
    for split, count in params.videos.model_dump().items():
        rng = np.random.default_rng(seed_for("scenes", params.seed, split))
        drawn = world.draw_scenes(count * scenes, rng)
        for number in range(count):
            video_id = f"{split}{number}"
            shown[video_id] = drawn[number::count]
            rng = np.random.default_rng(seed_for("scenes", params.seed, "captions", video_id))
            for k in range(getattr(params.captions, split)):
                text = world.caption(shown[video_id][k % scenes], rng, motion=True)
                rows.append((split, video_id, f"{video_id}#{k}", text))
    return pd.DataFrame(rows, columns=["split", "video_id", "caption_id", "caption"]), shown


def draw(
    params: WorldParams,
    shown: dict[str, list[world.Scene]],
    count: int,
    frames: FramesParams,
) -> Iterator[Frames]:
    """Draw the frames of each video that a run with ``count`` frames sees.

    Args:
        params: params of the world.
        shown: the scenes of each video, which share its time equally.
        count: number of frames of each video.
        frames: how they are sampled.
    """
    width, height = params.size
    least_s, most_s = params.duration_s
    for video_id, scenes in shown.items():
        rng = np.random.default_rng(seed_for("scenes", params.seed, "frames", video_id))
        length = round(rng.uniform(least_s, most_s) * params.rate_fps)
        indices = cached_indices(length, [count], [frames.sampling], frames.seed, video_id)
        edges = np.linspace(0, length, len(scenes) + 1).round().astype(np.int64)
        parts = []
        for scene, start, end in zip(scenes, edges, edges[1:], strict=False):
            kept = indices[(indices >= start) & (indices < end)] - start
            parts.append(drawing.frames_of(scene, end - start, height, width, rng, kept))
        yield video_id, np.concatenate(parts), indices, length


def check_scenes(numbers: Iterable[int], params: WorldParams) -> None:
    """Check that each number of scenes fits into the shortest video.

    Raises:
        InputError: a number does not fit.
    """
    most = params.most_scenes()
    for scenes in numbers:
        if not 1 <= scenes <= most:
            raise InputError(
                f"params.yaml: ablations.scene_diversity.scenes: {scenes}; expected 1 to {most}, "
                "because the shortest video of its world has "
                f"{round(params.duration_s[0] * params.rate_fps)} frames and a scene needs "
                f"{LEAST_FRAMES_PER_SCENE}"
            )
