"""Does X-Pool's gain grow with what a video shows beside what the text describes?

This is the paper's claim, tested in three ways. *Scenes*: models are trained and judged on
generated videos with exactly k scenes. *Distractors*: the models of the main comparison are judged
on galleries into whose videos frames of other videos are spliced (the paper's robustness
experiment). *Shots*: the same models are judged by quantile of the shot changes in each query's
video.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from xpool.ablation.experiment import Block, Experiment, Study, benchmarks_of, choice, grid, scale
from xpool.ablation.lab import Lab, Outcome, Point, Trained, decided_by, figures_of
from xpool.ablation.splice import spliced
from xpool.data.frame_cache import FramesParams
from xpool.data.manifest import read_manifest
from xpool.data.shots import quantile_bins, read_shots
from xpool.mini.scenes import WorldParams
from xpool.project import paths
from xpool.project.digests import content
from xpool.project.params import PARAMS_FILE, read, setting
from xpool.project.seeds import seed_for
from xpool.similarity import similarity
from xpool.training.cell import read_cell
from xpool.training.recipes import import_path, wants_words

Whole = Annotated[int, Field(ge=0)]


class SceneDiversityBlock(Block):
    """``ablations.scene_diversity``."""

    methods: Annotated[list[str], Field(min_length=1)]
    """Methods that ``baselines`` does not list are judged on generated videos only."""
    scenes: list[Annotated[int, Field(ge=1)]]
    """Numbers of scenes of a generated video; [] leaves that part out."""
    lr_encoder: float = Field(ge=0)
    """Learning rate of the frozen towers' two projections on generated videos, in place of the
    recipes', which may be meant for fine-tuning the whole encoder."""
    world: WorldParams
    """The generated videos."""
    distractors: list[Whole]
    """Other videos spliced into each gallery video; [] leaves that part out."""
    draws: int = Field(ge=1)
    """Random choices of distractors."""
    bins: int = Field(ge=1)
    """Quantiles of shot changes; 1 leaves that part out."""


class SceneDiversity(Study):
    """Scenes, distractors, shot changes."""

    name = "scene_diversity"
    question = "Does X-Pool's gain over mean pooling grow with the diversity of the videos?"
    reading = (
        "Compare methods at the same number of scenes, number of distractors, or quantile of shot "
        "changes. If the claim holds, mean pooling falls faster than X-Pool from left to right."
    )
    block = SceneDiversityBlock
    judges_trained = True

    def experiments(self, block: SceneDiversityBlock, benchmark: str) -> Iterator[Experiment]:
        """Yield the parts that the block asks for."""
        if block.scenes and benchmark == benchmarks_of(block)[0]:
            yield _scenes(block, benchmark)
        seeds = read("seeds", list[int])
        models = {
            (method, seed): paths.training(setting(), method, benchmark, seed)
            / "checkpoint.safetensors"
            for method in _methods(block)
            for seed in seeds
        }
        if block.distractors and models:
            yield _distractors(block, benchmark, models)
        if block.bins > 1 and models:
            yield _shots(block, benchmark, models)

    def methods(self, block: SceneDiversityBlock, benchmark: str, path: Path) -> Iterable[str]:
        """Return those that the comparison trains, and all for the generated videos."""
        drawn = block.scenes and benchmark == benchmarks_of(block, path)[0]
        return block.methods if drawn else _methods(block, path)

    def least_validation(self, block: SceneDiversityBlock) -> int:
        """Return one video and its distractors, or 0 where all parts use generated videos."""
        return 1 + max(block.distractors) if block.distractors else int(block.bins > 1)

    def check(self, block: SceneDiversityBlock, path: Path) -> Iterable[str]:
        """Yield numbers of scenes and of distractors that do not fit into a video."""
        for scenes in block.scenes:
            if scenes > block.world.most_scenes():
                yield (
                    f"scenes: {scenes} do not fit into the shortest video, which holds "
                    f"{block.world.most_scenes()}; raise world.duration_s or world.rate_fps"
                )
        frames = read("train.frames", int, path)
        for distractors in block.distractors:
            if distractors >= frames:
                yield (
                    f"distractors: {distractors} leave a video none of its {frames} frames; "
                    f"expected less than train.frames"
                )


def _methods(block: SceneDiversityBlock, path: Path = PARAMS_FILE) -> list[str]:
    """Return the methods that the main comparison trains; only these can be judged."""
    trained = ("xpool", *read("baselines", list[str], path))
    return [method for method in block.methods if method in trained]


def _scenes(block: SceneDiversityBlock, benchmark: str) -> Experiment:
    """Train on generated videos with k scenes; the recipes are those of ``benchmark``."""
    methods = [import_path(method) for method in block.methods]

    def run(point: Point, lab: Lab) -> Outcome:
        folder = paths.scenes(setting(), int(point["scenes"]))
        seed = int(point["seed"])
        trained = lab.train(
            benchmark, import_path(str(point["method"])), seed, block.epochs,
            {"train.reads": "embeddings", "recipe.lr_encoder": block.lr_encoder}, folder,
        )  # fmt: skip
        return lab.outcome(trained, keep=seed == block.seeds[0])

    return Experiment(
        study="scene_diversity",
        benchmark=benchmark,
        part="scenes",
        space={
            "method": choice(*block.methods),
            "scenes": scale(block.scenes),
            "seed": scale(block.seeds),
        },
        cells=grid({"scenes": block.scenes, "method": block.methods, "seed": block.seeds}),
        objectives={"R@1": "maximize"},
        run=run,
        modules=(*methods, "xpool.mini.scenes"),
        depends=(
            block.methods,
            block.world.model_dump(),
            block.lr_encoder,
            decided_by(benchmark, methods, block.epochs)[:-1],
            content([paths.encoder(setting())]),
        ),
    )


def _distractors(
    block: SceneDiversityBlock, benchmark: str, models: dict[tuple[str, int], Path]
) -> Experiment:
    def run(point: Point, lab: Lab) -> Outcome:
        trained = _of_comparison(lab, benchmark, str(point["method"]), int(point["seed"]))
        # the same distractors for every method and seed: differences between methods are paired
        rng = np.random.default_rng(seed_for("distractors", benchmark, int(point["draw"])))
        gallery = trained.gallery
        frames, mask = spliced(gallery.frames, gallery.mask, int(point["distractors"]), rng)
        with torch.inference_mode():
            scores = similarity(trained.pooling, gallery.text, frames, mask, gallery.words)
        return Outcome(figures=figures_of(scores, gallery.video_of_text()))

    draws = range(block.draws)
    return _judged(
        block, benchmark, models, "distractors", run,
        {"distractors": block.distractors, "draw": list(draws)}, ("xpool.ablation.splice",),
    )  # fmt: skip


def _shots(
    block: SceneDiversityBlock, benchmark: str, models: dict[tuple[str, int], Path]
) -> Experiment:
    texts = read_manifest(paths.manifest(setting(), benchmark))
    changes = read_shots(paths.shots(setting(), benchmark))
    changes = changes[changes.index.isin(texts["video_id"][texts["split"] == "val"])]
    bin_of, bounds = quantile_bins(changes.to_numpy(), block.bins)
    bin_of_video = dict(zip(changes.index, bin_of, strict=True))

    def run(point: Point, lab: Lab) -> Outcome:
        trained = _of_comparison(lab, benchmark, str(point["method"]), int(point["seed"]))
        here = int(point["shots"])
        of_text = [bin_of_video[video] for video in trained.gallery.texts["video_id"]]
        rows = np.flatnonzero(np.asarray(of_text) == here)
        figures = figures_of(trained.scores[rows], trained.gallery.video_of_text()[rows])
        low, high = bounds[here]
        return Outcome(figures=figures | {"shots_low": low, "shots_high": high})

    factors = {"shots": list(range(len(bounds)))}
    return _judged(block, benchmark, models, "shots", run, factors, ("xpool.data.shots",))


def _judged(
    block: SceneDiversityBlock,
    benchmark: str,
    models: dict[tuple[str, int], Path],
    part: str,
    run: Any,
    factors: dict[str, list[int]],
    modules: tuple[str, ...],
) -> Experiment:
    """Judge the models of the main comparison under further factors."""
    seeds = sorted({seed for _, seed in models})
    methods = [import_path(method) for method in _methods(block)]
    return Experiment(
        study="scene_diversity",
        benchmark=benchmark,
        part=part,
        space={"method": choice(*block.methods)}
        | {name: scale(values) for name, values in factors.items()}
        | {"seed": scale(seeds)},
        cells=grid({**factors, "method": _methods(block), "seed": seeds}),
        objectives={"R@1": "maximize"},
        run=run,
        modules=(*methods, *modules),
        depends=(
            block.methods,
            decided_by(benchmark, methods, block.epochs),
            content(models.values()),
            content([paths.shots(setting(), benchmark)]) if part == "shots" else "",
        ),
    )


def _of_comparison(lab: Lab, benchmark: str, method: str, seed: int) -> Trained:
    """Return a model of the main comparison with the validation split as it sees it."""

    def open_it() -> Trained:
        cell = read_cell(import_path(method), benchmark, seed)
        data = lab.data(
            benchmark, cell.train, read("frames", FramesParams), wants_words(cell.method)
        )
        trained = paths.training(setting(), method, benchmark, seed)
        return lab.scored(cell, data, trained / "checkpoint.safetensors")

    return lab.once((benchmark, method, seed), open_it)


STUDY = SceneDiversity()
