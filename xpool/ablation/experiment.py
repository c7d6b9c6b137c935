"""Studies and their experiments: sets of planned trials with the same factors.

A study is one file of ``studies/`` that ends in ``STUDY = ...``, and one block
``ablations.<study>`` of ``params.yaml``. It yields experiments for each of its benchmarks. An
experiment is one Optuna study. Its trials are planned before the first one runs: the cells of a
grid, or the stated number of tries of a search. Any number of workers then take them from the queue
(``xpool.ablation.queue``).
"""

import hashlib
import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import Field

from xpool.ablation.lab import Lab, Outcome, Point, Scalar
from xpool.project.errors import InputError
from xpool.project.fingerprints import code_digests
from xpool.project.params import PARAMS_FILE, Section, Seed, read, setting
from xpool.project.plugins import load


class Block(Section):
    """The keys that every ``ablations.<study>`` block has."""

    benchmarks: Annotated[list[str], Field(min_length=1)]
    """Benchmarks that the top-level list ``benchmarks`` lacks are left out."""
    seeds: Annotated[list[Seed], Field(min_length=1)]
    epochs: int = Field(ge=1)
    """Epochs of each training, in place of ``train.epochs``: the same budget for all trials."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One Optuna study: planned trials over the same factors."""

    study: str
    benchmark: str
    part: str
    space: dict[str, BaseDistribution]
    """The range of each factor."""
    cells: tuple[Point, ...]
    """One point for each trial; an empty one where the sampler chooses."""
    objectives: dict[str, Literal["maximize", "minimize"]]
    run: Callable[[Point, Lab], Outcome]
    fixed: dict[str, Scalar] = field(default_factory=dict)
    """Columns of ``trials.csv`` with one value for all trials, such as the method."""
    modules: tuple[str, ...] = ()
    """Import paths of further code that decides the result."""
    depends: tuple[Any, ...] = ()
    """Further values that decide the result: params, digests of data."""
    pruner: Literal["none", "median", "hyperband"] = "none"
    startup_trials: int = 0
    """Random tries of a search, before the sampler learns from them."""

    @property
    def searches(self) -> bool:
        """Whether the sampler chooses the points."""
        return not any(self.cells)

    @property
    def name(self) -> str:
        """Name of the Optuna study: its coordinates, and a fingerprint of its results' causes."""
        code = code_digests(f"studies.{self.study}", *self.modules)
        space = {name: repr(kind) for name, kind in self.space.items()} if self.searches else {}
        known = [setting(), self.objectives, self.fixed, self.depends, code, space]
        text = json.dumps(known, sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"{self.study}-{self.benchmark}-{self.part}-{digest}"

    def planned(self) -> dict[str, Point]:
        """Return the planned trials by a text that names each of them for ever."""
        if self.searches:
            return {f"try {number:04d}": {} for number, _ in enumerate(self.cells)}
        return {json.dumps(dict(cell), sort_keys=True): cell for cell in self.cells}


class Study(ABC):
    """A question, its params and its experiments."""

    name: str
    """Name of its file, its block and its stage."""
    question: str
    reading: str
    """Advice on reading its figures, in a sentence or two."""
    block: type[Block]
    """Type of ``ablations.<study>``."""
    judges_trained: bool = False
    """Whether it judges the models of the comparison, and so waits for them."""

    @abstractmethod
    def experiments(self, block: Any, benchmark: str) -> Iterator[Experiment]:
        """Yield the experiments on one benchmark."""

    def methods(self, block: Any, benchmark: str, path: Path) -> Iterable[str]:
        """Return the methods that it trains or judges, which need a recipe for the benchmark.

        Args:
            block: ``ablations.<study>``.
            benchmark: one of its benchmarks.
            path: the params file.
        """
        listed: list[str] = getattr(block, "methods", ["xpool"])
        return listed

    def least_validation(self, block: Any) -> int:
        """Return how many videos of the benchmark's validation split a trial needs."""
        return 1

    def check(self, block: Any, path: Path) -> Iterable[str]:
        """Yield what is wrong with a block beyond its types, as ``key: what is wrong``.

        Args:
            block: ``ablations.<study>``.
            path: the params file, to compare with other sections.
        """
        return ()

    def beside(self, rows: Sequence[dict[str, Any]]) -> dict[str, str]:
        """Return further files by name, made from the rows of ``trials.csv``."""
        return {}


def load_study(name: str, path: Path = PARAMS_FILE) -> tuple[Study, Any]:
    """Return a study and its block of the params file.

    Raises:
        InputError: there is no such study, or its block is not valid.
    """
    study: Study = load(f"studies.{name}", "STUDY")
    return study, read(f"ablations.{name}", study.block, path)


def benchmarks_of(block: Block, path: Path = PARAMS_FILE) -> list[str]:
    """Return the benchmarks of a block that ``benchmarks`` lists too, which are prepared."""
    prepared = read("benchmarks", list[str], path)
    return [name for name in block.benchmarks if name in prepared]


def experiments_of(name: str) -> list[Experiment]:
    """Return all experiments of a study, in the order of its benchmarks."""
    study, block = load_study(name)
    return [e for benchmark in benchmarks_of(block) for e in study.experiments(block, benchmark)]


def check_unchanged(name: str, planned: Sequence[str]) -> None:
    """Check that a study's experiments are still the planned ones, by their data.

    No edit of code or params reaches a running study (:mod:`xpool.project.snapshot`).

    Raises:
        InputError: they are not.
    """
    if [experiment.name for experiment in experiments_of(name)] != list(planned):
        raise InputError(
            f"{name}: its data were changed while it ran, and now ask for other trials than the "
            "planned ones; finished trials are kept; run the same command again"
        )


def grid(factors: Mapping[str, Sequence[Scalar]]) -> tuple[Point, ...]:
    """Return every combination of the factors' values, each once.

    Example:
        >>> grid({"frames": [1, 2], "seed": [0]})
        ({'frames': 1, 'seed': 0}, {'frames': 2, 'seed': 0})
    """
    rows = itertools.product(*(dict.fromkeys(values) for values in factors.values()))
    return tuple(dict(zip(factors, row, strict=True)) for row in rows)


def scale(values: Sequence[int] | Sequence[float], log: bool = False) -> BaseDistribution:
    """Return the range of a numeric factor; of whole numbers if all values are whole."""
    low, high = min(values), max(values)
    if all(isinstance(value, int) for value in values):
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(float(low), float(high), log=log)


def choice(*values: Scalar) -> BaseDistribution:
    """Return a factor without an order. Name every possible value, not only those in use.

    Optuna lets a range grow between trials of one study, but not a list of choices.
    """
    return CategoricalDistribution(values)
