"""Embeddings of generated videos with each number of scenes, for ``scene_diversity``.

Worlds that differ in nothing but the scenes a video: as many videos, captions and seconds, the same
encoder. The videos are drawn (``xpool.world``) and embedded at once, without a file between, since
of each video only the frames that a run sees are needed. Works in both settings: what a real
encoder makes of the drawn scenes is a question one may ask.

Reads ``scenes`` and ``world`` of ``ablations.scene_diversity``; writes ``paths.scenes``.

Run: ``python -m xpool.scenes``
"""

import argparse
from collections.abc import Iterator
from typing import Annotated, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator
from tqdm import tqdm

from xpool import paths, world
from xpool.command import InputError, run
from xpool.device import best_device
from xpool.embeddings import EmbeddingsParams, Frames, embed
from xpool.encoder import open_encoder
from xpool.frame_cache import FramesParams
from xpool.params import Section, read, setting
from xpool.recipes import TrainParams
from xpool.sampling import cached_indices
from xpool.seeds import seed_for

LEAST_FRAMES_PER_SCENE = 3
"""Fewer would show no motion; as in the mini benchmarks."""
AtLeastOne = Annotated[int, Field(ge=1)]
Pair = Annotated[list[AtLeastOne], Field(min_length=2, max_length=2)]


class Counts(Section):
    """Of the training and the validation split."""

    train: AtLeastOne
    val: AtLeastOne


class WorldParams(Section):
    """``ablations.scene_diversity.world``: all but the number of scenes."""

    seed: int
    videos: Counts
    captions: Counts
    """Captions of a video; they describe its scenes in turn."""
    duration_s: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=2, max_length=2)]
    """Least and most."""
    rate_fps: AtLeastOne
    size: Pair
    """``[width, height]`` of a frame, in pixels."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.duration_s[0] > self.duration_s[1]:
            raise ValueError("duration_s: give the least first, then the most")
        return self

    def most_scenes(self) -> int:
        """Scenes that fit into the shortest video."""
        return round(self.duration_s[0] * self.rate_fps) // LEAST_FRAMES_PER_SCENE


def texts_of(params: WorldParams, scenes: int) -> tuple[pd.DataFrame, dict[str, list[world.Scene]]]:
    """Draw scenes and captions of both splits.

    The appearances of a split's videos are drawn without repeats as far as there are enough, the
    first scene of every video first: so the worlds of all numbers of scenes share what they can.

    Returns:
        One row a caption: split, video_id, caption_id, caption; and each video's scenes.
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
    """Draw of each video the frames that a run with ``count`` frames sees.

    Args:
        params: of the world.
        shown: each video's scenes; each gets an equal part of its time.
        count: frames a video.
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
            parts.append(world.frames_of(scene, end - start, height, width, rng, kept))
        yield video_id, np.concatenate(parts), indices, length


def main() -> None:
    """Draw and embed the videos with each number of scenes that is listed."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    params = read("ablations.scene_diversity.world", WorldParams)
    numbers = read("ablations.scene_diversity.scenes", list[int])
    for scenes in numbers:
        if not 1 <= scenes <= params.most_scenes():
            raise InputError(
                f"params.yaml: ablations.scene_diversity.scenes: {scenes}; expected 1 to "
                f"{params.most_scenes()}, as the shortest video of its world has "
                f"{round(params.duration_s[0] * params.rate_fps)} frames and a scene needs "
                f"{LEAST_FRAMES_PER_SCENE}"
            )
    frames, count = read("frames", FramesParams), read("train", TrainParams).frames
    batch_size = read("embeddings", EmbeddingsParams).batch_size
    encoder = open_encoder(paths.encoder(setting())).to(best_device()).eval()
    paths.all_scenes(setting()).mkdir(parents=True, exist_ok=True)  # also where none is listed
    for scenes in numbers:
        texts, shown = texts_of(params, scenes)
        embed(
            encoder,
            texts,
            tqdm(draw(params, shown, count, frames), f"{scenes} scenes", total=len(shown)),
            batch_size,
            frames.antialias,
            paths.scenes(setting(), scenes),
        )


if __name__ == "__main__":
    run(main)
