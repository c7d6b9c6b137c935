"""How does retrieval depend on the two temperatures of a text-conditioned pooling?

*Attention temperature*: the softmax over frames. X-Pool's divisor beside 1/sqrt(d) (1 = the paper),
and that of attention pooling (0.01 in the official code). Towards 0 the best frame is taken,
towards infinity the mean of all. *Contrastive temperature*: that of the loss (CLIP's logit scale is
its inverse), learnt or fixed. A full grid, so that each alone is a row or a column of it.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from xpool.ablation.experiment import Block, Experiment, Study, choice, grid, scale
from xpool.ablation.lab import Lab, Outcome, Point, Scalar, decided_by
from xpool.project.params import Section
from xpool.training.recipes import import_path

Temperatures = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
KEYS = {
    "attention_temperature": "recipe.pooling.temperature",
    "contrastive_temperature": "train.contrastive_temperature",
    "learnt": "train.learn_contrastive_temperature",
}
"""Key of each factor in params.yaml."""
LIMITS: dict[str, dict[str, Scalar]] = {"mean_pool": {}, "top_k": {"recipe.pooling.k": 1}}
"""The limits of an infinite attention temperature and of 0: methods without a temperature."""


class AttentionTemperatures(Section):
    """The values of each method; their scales differ."""

    xpool: Temperatures
    attention: Temperatures


class TemperatureBlock(Block):
    """``ablations.temperature``."""

    attention_temperature: AttentionTemperatures
    contrastive_temperature: Temperatures
    """The first one, learnt, is used where the attention temperature is shown alone."""
    learnt: Annotated[list[bool], Field(min_length=1)]


class Temperature(Study):
    """Full grid of attention temperature, contrastive temperature and whether that is learnt."""

    name = "temperature"
    question = (
        "How does R@1 depend on the temperatures of the softmax over frames and of the "
        "contrastive loss?"
    )
    reading = (
        "As the attention temperature falls to 0, only the frame that fits the text best counts; "
        "as it grows, all frames count alike. The parts `top_k` and `mean_pool` are these two "
        "limits, trained. The paper uses 1."
    )
    block = TemperatureBlock

    def methods(self, block: TemperatureBlock, benchmark: str, path: Path) -> Iterable[str]:
        """Return the methods with an attention temperature, and the two limits."""
        return [*AttentionTemperatures.model_fields, *LIMITS]

    def experiments(self, block: TemperatureBlock, benchmark: str) -> Iterator[Experiment]:
        """Yield a grid for each method with an attention temperature, and for the two limits."""
        shared: dict[str, list[Any]] = {
            "contrastive_temperature": block.contrastive_temperature,
            "learnt": block.learnt,
            "seed": block.seeds,
        }
        for method, temperatures in block.attention_temperature:
            factors = {"attention_temperature": temperatures} | shared
            yield self._experiment(block, benchmark, method, factors)
        for method in LIMITS:
            yield self._experiment(block, benchmark, method, shared)

    def _experiment(
        self, block: TemperatureBlock, benchmark: str, method: str, factors: dict[str, list[Any]]
    ) -> Experiment:
        path = import_path(method)
        scales = {
            name: scale(values, log=True)
            for name, values in factors.items()
            if name.endswith("_temperature")
        }

        def run(point: Point, lab: Lab) -> Outcome:
            changes = {key: point[name] for name, key in KEYS.items() if name in point}
            changes |= LIMITS.get(method, {})
            seed = int(point["seed"])
            trained = lab.train(benchmark, path, seed, block.epochs, changes)
            return lab.outcome(trained, keep=seed == block.seeds[0])

        return Experiment(
            study=self.name,
            benchmark=benchmark,
            part=method,
            space=scales | {"learnt": choice(True, False), "seed": scale(block.seeds)},
            cells=grid(factors),
            objectives={"R@1": "maximize"},
            run=run,
            fixed={"method": method},
            modules=(path,),
            depends=decided_by(benchmark, [path], block.epochs),
        )


STUDY = Temperature()
