"""One cell of the comparison (method × benchmark × seed): what rules it, and its model."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from xpool.batches import Data
from xpool.model import RetrievalModel, Towers
from xpool.params import read, setting
from xpool.recipes import (
    Recipe,
    TrainParams,
    build_pooling,
    recipe_for,
    short_name,
)
from xpool.seeds import seed_for
from xpool.selection import Selection

Purpose = Literal["init", "order", "dropout"]
"""What a run draws: its initial weights, the order of its data, and the noise of its steps, which
is dropout and, where frames are read, augmentation."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Coordinates of a run and the params that rule it."""

    method: str
    """Import path, e.g. ``baselines.mean_pool``."""
    benchmark: str
    seed: int
    train: TrainParams
    recipe: Recipe
    rule: Selection
    seeds: Mapping[Purpose, int] = field(default_factory=dict)
    """Of what is not drawn from ``seed``, to vary it alone; no run of the comparison has any."""

    def seed_of(self, purpose: Purpose) -> int:
        """Return the seed that rules one of the run's draws."""
        return self.seeds.get(purpose, self.seed)


def read_cell(method: str, benchmark: str, seed: int) -> Cell:
    """Read what ``params.yaml`` says of a cell."""
    return Cell(
        method=method,
        benchmark=benchmark,
        seed=seed,
        train=read("train", TrainParams),
        recipe=recipe_for(method, benchmark),
        rule=read("selection", Selection),
    )


def coordinates(cell: Cell) -> dict[str, Any]:
    """Return what names a run, as its records hold it."""
    return {
        "setting": setting(),
        "method": short_name(cell.method),
        "benchmark": cell.benchmark,
        "seed": cell.seed,
    }


def new_model(cell: Cell, data: Data) -> RetrievalModel:
    """Return the cell's model as it starts, seeded, with the encoder's weights where it wants them.

    Raises:
        InputError: the recipe does not fit the encoder.
    """
    torch.manual_seed(seed_for("init", cell.method, cell.seed_of("init")))
    towers = data.towers()
    pooling = build_pooling(cell.method, cell.benchmark, cell.recipe, towers.dim)
    pooling.start_from(data.text_transformer())
    set_temperature(towers, cell.train)
    return RetrievalModel(towers, pooling, cell.train.micro_batch)


def set_temperature(towers: Towers, train: TrainParams) -> None:
    """Give the contrastive loss the temperature that a run starts with, and fix it if asked to.

    A fixed scale gets no gradient, and what has none the optimiser skips, weight decay included.
    """
    if train.contrastive_temperature != "encoder":
        with torch.no_grad():
            towers.logit_scale.fill_(-math.log(train.contrastive_temperature))
    towers.logit_scale.requires_grad_(train.learn_contrastive_temperature)
