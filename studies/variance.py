"""Where does the variance of a figure come from?

Seed, data order, frame sampling, decoder, batch size and number of threads are each varied alone;
all else keeps its value in params.yaml, under one reference seed. Beside each spread stands the
standard error of the validation queries: a table of one run cannot show anything smaller.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from pydantic import Field

from xpool.ablation.experiment import Block, Experiment, Study, choice, grid, scale
from xpool.ablation.lab import Lab, Outcome, Point, Scalar, Trained, decided_by
from xpool.ablation.redecoded import Decoder, redecoded
from xpool.data.frame_cache import FramesParams
from xpool.data.sampling import Rule
from xpool.encoders.embed import EmbeddingsParams
from xpool.metrics import ranks
from xpool.project import paths
from xpool.project.digests import content
from xpool.project.params import Section, Seed, read, setting
from xpool.statistics.bootstrap import per_query
from xpool.training.recipes import TrainParams, import_path

KEYS = {
    "init": "seeds.init",
    "order": "seeds.order",
    "dropout": "seeds.dropout",
    "frame_sampling": "frames.sampling",
    "batch_size": "train.batch_size",
}
"""Sources that change one value of a cell, and its key; see ``xpool.ablation.lab``."""


class Levels(Section):
    """The values of each source; [] leaves it out."""

    seed: list[Seed]
    """Seeds of the whole run, which rule the next three together."""
    init: list[Seed]
    """Seeds of the initial weights."""
    order: list[Seed]
    """Seeds of the data's order."""
    dropout: list[Seed]
    """Seeds of dropout and, where frames are read, of augmentation."""
    frame_sampling: list[Rule]
    decoder: list[Decoder]
    batch_size: list[Annotated[int, Field(ge=2)]]
    threads: list[Annotated[int, Field(ge=1)]]
    """Threads of torch on a CPU."""


class VarianceBlock(Block):
    """``ablations.variance``; its only seed rules everything that is not varied."""

    methods: Annotated[list[str], Field(min_length=1)]
    levels: Levels


class Variance(Study):
    """A grid of method and level for each source of variance."""

    name = "variance"
    question = "Where does the variance of R@1 come from?"
    reading = (
        "Each part varies one source alone. Compare the spread over its levels with `query_error`, "
        "the standard error of R@1 over the validation queries: a source whose spread is much "
        "smaller matters less than the choice of queries."
    )
    block = VarianceBlock

    def experiments(self, block: VarianceBlock, benchmark: str) -> Iterator[Experiment]:
        """Yield a grid of method and level for each source that has levels."""
        for source, levels in block.levels:
            if levels:
                yield self._experiment(block, benchmark, source, levels)

    def _experiment(
        self, block: VarianceBlock, benchmark: str, source: str, levels: list[Any]
    ) -> Experiment:
        methods = [import_path(method) for method in block.methods]

        def run(point: Point, lab: Lab) -> Outcome:
            level = point["level"]
            embeddings = None
            if source == "decoder":  # beside the trials of the experiment, and gone with them
                embeddings = redecoded(
                    benchmark, cast(Decoder, level), lab.folder.parent / "decoders"
                )
            with _threads(int(level) if source == "threads" else torch.get_num_threads()):
                trained = lab.train(
                    benchmark,
                    import_path(str(point["method"])),
                    int(level) if source == "seed" else int(point["seed"]),
                    block.epochs,
                    {KEYS[source]: level} if source in KEYS else {},
                    embeddings,
                )
                outcome = lab.outcome(trained, keep=False)
            return Outcome(figures=outcome.figures | {"query_error": _query_error(trained)})

        return Experiment(
            study=self.name,
            benchmark=benchmark,
            part=source,
            space={
                "method": choice(*block.methods),
                "level": _space(source, levels),
                "seed": scale(block.seeds),
            },
            cells=grid({"method": block.methods, "level": levels, "seed": block.seeds}),
            objectives={"R@1": "maximize"},
            run=run,
            fixed={"source": source},
            modules=tuple(methods),
            depends=(
                block.methods,
                decided_by(benchmark, methods, block.epochs),
                _of_decoding(benchmark) if source == "decoder" else (),
            ),
        )

    def check(self, block: VarianceBlock, path: Path) -> Iterable[str]:
        """Yield levels that compare nothing, and those that the data at hand cannot give."""
        if len(block.seeds) != 1:
            yield f"seeds: expected one, which rules all that is not varied; got {block.seeds}"
        for source, levels in block.levels:
            if levels and len(set(levels)) < 2:
                yield f"levels.{source}: one level has no spread; give two or more, or []"
        rules = read("frames", FramesParams, path).rules
        for rule in block.levels.frame_sampling:
            if rule not in rules:
                yield (
                    f"levels.frame_sampling: {rule} asked of a cache for {', '.join(rules)} "
                    f"(frames.rules); change one, or add {rule} to the other"
                )
        if "decord" in block.levels.decoder and find_spec("decord") is None:
            yield "levels.decoder: the package decord is not installed; install it, or leave it out"
        if block.levels.decoder and read("train", TrainParams, path).reads == "frames":
            yield (
                "levels.decoder: videos are decoded anew for frozen-encoder runs alone; set it to "
                "[], or train.reads to embeddings"
            )


def _space(source: str, levels: list[Any]) -> BaseDistribution:
    named: dict[str, tuple[Scalar, ...]] = {
        "frame_sampling": get_args(Rule),
        "decoder": get_args(Decoder),
    }
    return choice(*named[source]) if source in named else scale(levels)


def _of_decoding(benchmark: str) -> tuple[Any, ...]:
    """Return what decides the embeddings of another decoder, beside the cached ones."""
    here = setting()
    videos = [paths.manifest(here, benchmark), paths.video_digests(here, benchmark)]
    return (
        read("embeddings", EmbeddingsParams).model_dump(),
        content([paths.encoder(here), *videos]),
    )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _query_error(trained: Trained) -> float:
    video = trained.gallery.video_of_text()
    return query_error(per_query(ranks(trained.scores, video)["t2v"], "R@1"), video)


def query_error(hits: NDArray[np.float64], video: NDArray[np.int64]) -> float:
    """Return the standard error of the mean hit, where videos are drawn with all their captions.

    With one caption a video it is √(p(1 − p)/(n − 1)).

    Args:
        hits: ``(text,)`` chance in percent that the right video comes first.
        video: ``(text,)`` number of its video.

    Example:
        >>> round(query_error(np.array([100.0, 0, 100, 0]), np.arange(4)), 1)
        28.9
    """
    above = np.bincount(video, hits - hits.mean())[np.unique(video)]
    count = len(above)
    if count < 2:
        return 0.0
    return float(np.sqrt(count / (count - 1) * (above**2).sum()) / len(hits))


STUDY = Variance()
