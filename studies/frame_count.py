"""How many frames does each method need, sampled how, and at what cost?

Compares quality (R@1) with cost (the time to encode a gallery video's frames and to score it), and
X-Pool's attention temperature with the number of frames, since a softmax over more frames is
flatter. All counts are read from one cache, so nothing is decoded or embedded again.
"""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from xpool.ablation.cost import gallery_cost_ms
from xpool.ablation.experiment import Block, Experiment, Study, benchmarks_of, choice, grid, scale
from xpool.ablation.lab import Lab, Outcome, Point, decided_by
from xpool.data.frame_cache import FramesParams
from xpool.data.sampling import Rule
from xpool.project.params import Section, read
from xpool.training.recipes import frames_refused, import_path, recipe_for

Counts = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]


class Surface(Section):
    """X-Pool over attention temperature and frames."""

    attention_temperature: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    frames: Counts


class FrameCountBlock(Block):
    """``ablations.frame_count``."""

    methods: Annotated[list[str], Field(min_length=1)]
    frames: Counts
    sampling: Annotated[list[Rule], Field(min_length=1)]
    surface: Surface


class FrameCount(Study):
    """Frames × sampling rule × method, and temperature × frames."""

    name = "frame_count"
    question = "How many frames does each method need, sampled how, and at what cost?"
    reading = (
        "`cost_ms` is the time for one gallery video: to encode its frames, and to score it "
        "against all texts of the split; on a CPU the computing time of the process, on a GPU the "
        "time on the clock. It is measured, so it differs between machines, and a little between "
        "runs; R@1 does not. The paper uses 12 frames."
    )
    block = FrameCountBlock

    def experiments(self, block: FrameCountBlock, benchmark: str) -> Iterator[Experiment]:
        """Yield the comparison of the methods, and X-Pool's surface."""
        paths = {method: import_path(method) for method in block.methods}

        def compare(point: Point, lab: Lab) -> Outcome:
            changes = {"train.frames": point["frames"], "frames.sampling": point["sampling"]}
            seed = int(point["seed"])
            method = paths[str(point["method"])]
            trained = lab.train(benchmark, method, seed, block.epochs, changes)
            outcome = lab.outcome(trained, keep=seed == block.seeds[0])
            cost = {"cost_ms": gallery_cost_ms(trained, lab)}
            return Outcome(figures=outcome.figures | cost, artifacts=outcome.artifacts)

        yield Experiment(
            study=self.name,
            benchmark=benchmark,
            part="methods",
            space={
                "method": choice(*block.methods),
                "frames": scale(block.frames, log=True),
                "sampling": choice("uniform", "rand"),
                "seed": scale(block.seeds),
            },
            cells=grid(
                {
                    "method": block.methods,
                    "frames": block.frames,
                    "sampling": block.sampling,
                    "seed": block.seeds,
                }
            ),
            objectives={"R@1": "maximize", "cost_ms": "minimize"},
            run=compare,
            modules=tuple(paths.values()),
            depends=(block.methods, *decided_by(benchmark, list(paths.values()), block.epochs)),
        )

        def surface(point: Point, lab: Lab) -> Outcome:
            changes = {
                "train.frames": point["frames"],
                "recipe.pooling.temperature": point["attention_temperature"],
            }
            seed = int(point["seed"])
            trained = lab.train(benchmark, "xpool.xpool", seed, block.epochs, changes)
            return lab.outcome(trained, keep=False)

        yield Experiment(
            study=self.name,
            benchmark=benchmark,
            part="surface",
            space={
                "attention_temperature": scale(block.surface.attention_temperature, log=True),
                "frames": scale(block.surface.frames, log=True),
                "seed": scale(block.seeds),
            },
            cells=grid(
                {
                    "attention_temperature": block.surface.attention_temperature,
                    "frames": block.surface.frames,
                    "seed": block.seeds,
                }
            ),
            objectives={"R@1": "maximize"},
            run=surface,
            fixed={"method": "xpool"},
            modules=("xpool.xpool",),
            depends=decided_by(benchmark, ["xpool.xpool"], block.epochs),
        )

    def check(self, block: FrameCountBlock, path: Path) -> Iterable[str]:
        """Yield the counts and rules that the frame cache does not hold."""
        frames = read("frames", FramesParams, path)
        for key, counts in (("frames", block.frames), ("surface.frames", block.surface.frames)):
            for count in counts:
                if count not in frames.counts:
                    yield (
                        f"{key}: {count} frames asked of a cache for {frames.counts} "
                        f"(frames.counts); change one, or add {count} to the other"
                    )
        for method, benchmark in itertools.product(block.methods, benchmarks_of(block, path)):
            recipe = recipe_for(import_path(method), benchmark, path)
            refused = frames_refused(import_path(method), benchmark, recipe, block.frames)
            if refused:
                yield f"frames: {refused}"
        for rule in block.sampling:
            if rule not in frames.rules:
                yield (
                    f"sampling: {rule} asked of a cache for {', '.join(frames.rules)} "
                    f"(frames.rules); change one, or add {rule} to the other"
                )


STUDY = FrameCount()
