"""One cell of the comparison (method × benchmark × seed): its params and its initial model."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.params import read, setting
from xpool.project.seeds import seed_for
from xpool.training.data import Data
from xpool.training.evaluations import Selection
from xpool.training.model import RetrievalModel
from xpool.training.recipes import Recipe, TrainParams, build_pooling, recipe_for, short_name
from xpool.training.towers import Towers

CHECKPOINT = "checkpoint.safetensors"
"""File with the selected weights in the folder of a run."""
Purpose = Literal["init", "order", "dropout"]
"""The random draws of a run: its initial weights, the order of its data, and the noise of its steps
(dropout and, if it reads frames, augmentation)."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The coordinates of a run and its params."""

    method: str
    """Import path, e.g. ``baselines.mean_pool``."""
    benchmark: str
    seed: int
    train: TrainParams
    recipe: Recipe
    rule: Selection
    seeds: Mapping[Purpose, int] = field(default_factory=dict)
    """Seeds that replace ``seed`` for some purposes; empty in all runs of the comparison."""

    def seed_of(self, purpose: Purpose) -> int:
        """Return the seed of one of the run's draws."""
        return self.seeds.get(purpose, self.seed)


def read_cell(method: str, benchmark: str, seed: int) -> Cell:
    """Read a cell's params from ``params.yaml``."""
    return Cell(
        method=method,
        benchmark=benchmark,
        seed=seed,
        train=read("train", TrainParams),
        recipe=recipe_for(method, benchmark),
        rule=read("selection", Selection),
    )


def run_at(path: Path) -> tuple[str, str, int]:
    """Return method, benchmark and seed of the run that belongs into a folder.

    Args:
        path: the folder, or the checkpoint in it.

    Raises:
        InputError: the folder is none of the setting in force.
    """
    folder = path.parent if path.name == CHECKPOINT else path
    parts = folder.resolve().parts[-3:]
    if len(parts) == 3 and parts[2].isdecimal():
        found = parts[0], parts[1], int(parts[2])
        if paths.training(setting(), *found).resolve() == folder.resolve():
            return found
    example = paths.training(setting(), "xpool", read("benchmarks", list[str])[0], 0)
    raise InputError(
        f"{path}: not a run of the setting {setting()}; expected, e.g., {example}, which "
        "`xpool import-checkpoint` can make of a checkpoint of other code"
    )


def code_of(module: str, method: str) -> tuple[str, ...]:
    """Return the modules that decide what one of them makes of a method."""
    return module, method, f"xpool.encoders.{read('encoder.library', str)}"


def coordinates(cell: Cell) -> dict[str, Any]:
    """Return a run's coordinates as its records hold them."""
    return {
        "setting": setting(),
        "method": short_name(cell.method),
        "benchmark": cell.benchmark,
        "seed": cell.seed,
    }


def new_model(cell: Cell, data: Data) -> RetrievalModel:
    """Return the cell's initial model, drawn from its seed.

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
    """Set the initial temperature of the contrastive loss, and whether training changes it.

    A fixed scale has no gradient, and the optimiser skips it, weight decay included.
    """
    if train.contrastive_temperature != "encoder":
        with torch.no_grad():
            towers.logit_scale.fill_(-math.log(train.contrastive_temperature))
    towers.logit_scale.requires_grad_(train.learn_contrastive_temperature)
