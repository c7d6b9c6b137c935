"""How good is each method when all are tuned equally hard?

A TPE search for each method, with the same number of tries, epochs and seeds: a baseline at its
default settings beside a tuned X-Pool would be no comparison.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from optuna.distributions import BaseDistribution
from pydantic import Field, model_validator

from xpool.ablation.experiment import Block, Experiment, Study, benchmarks_of, choice, scale
from xpool.ablation.lab import Lab, Outcome, Point, Scalar, changed_cell, decided_by
from xpool.project.errors import InputError
from xpool.project.params import Section
from xpool.training.recipes import import_path, recipe_for


class Space(Section):
    """Search space of one param: a range, or a list of choices."""

    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    choices: list[Scalar] | None = None

    @model_validator(mode="after")
    def _one_or_the_other(self) -> "Space":
        ranged = self.low is not None and self.high is not None
        if ranged == (self.choices is not None) or (ranged and self.low >= self.high):  # type: ignore[operator]
            raise ValueError("give low and high with low < high, or choices")
        return self

    def ends(self) -> list[Scalar]:
        """Return the choices, or the least and the greatest value."""
        return self.choices or [value for value in (self.low, self.high) if value is not None]

    def distribution(self) -> BaseDistribution:
        """Return it as an Optuna distribution."""
        if self.choices is not None:
            return choice(*self.choices)
        return scale(cast(list[float], self.ends()), log=self.log)


class SearchBlock(Block):
    """``ablations.search``."""

    trials: int = Field(ge=1)
    """Tries of each method."""
    startup_trials: int = Field(ge=1)
    """Random tries at the start, from which TPE learns; the pruner waits for as many."""
    pruner: Literal["none", "median", "hyperband"]
    spaces: Annotated[dict[str, dict[str, Space]], Field(min_length=1)]
    """Space of each param: by method, then by its key in the recipe, e.g. pooling.dropout."""


class Search(Study):
    """One search for each method."""

    name = "search"
    question = "How good is each method when all are tuned equally hard?"
    reading = (
        "Every method has the same number of tries, epochs and seeds. The best of many tries is "
        "optimistic, since it is chosen by the validation R@1 that is shown. A pruned try fell "
        "behind the median of the others at an evaluation of its first seed."
    )
    block = SearchBlock

    def experiments(self, block: SearchBlock, benchmark: str) -> Iterator[Experiment]:
        """Yield a search for each method."""
        for method, params in block.spaces.items():
            yield self._experiment(block, benchmark, method, params)

    def _experiment(
        self, block: SearchBlock, benchmark: str, method: str, params: dict[str, Space]
    ) -> Experiment:
        path = import_path(method)
        names = {key.rpartition(".")[2]: f"recipe.{key}" for key in params}

        def run(point: Point, lab: Lab) -> Outcome:
            changes = {names[name]: value for name, value in point.items()}
            prune = lab.report
            figures: list[dict[str, float]] = []
            for seed in block.seeds:
                trained = lab.train(benchmark, path, seed, block.epochs, changes)
                figures.append(trained.figures())
                lab.report = lambda row: None  # the later seeds repeat what was not pruned
            lab.report = prune
            mean = {key: sum(f[key] for f in figures) / len(figures) for key in figures[0]}
            return Outcome(figures=mean)

        return Experiment(
            study=self.name,
            benchmark=benchmark,
            part=method,
            space={key.rpartition(".")[2]: space.distribution() for key, space in params.items()},
            cells=({},) * block.trials,
            objectives={"R@1": "maximize"},
            run=run,
            fixed={"method": method},
            modules=(path,),
            depends=(block.seeds, *decided_by(benchmark, [path], block.epochs)),
            pruner=block.pruner,
            startup_trials=block.startup_trials,
        )

    def methods(self, block: SearchBlock, benchmark: str, path: Path) -> Iterable[str]:
        """Return the methods that have a space."""
        return block.spaces

    def check(self, block: SearchBlock, path: Path) -> Iterable[str]:
        """Yield params that a method's recipe lacks, and values that it does not take."""
        for method, params in block.spaces.items():
            for benchmark in benchmarks_of(block, path):
                recipe = recipe_for(import_path(method), benchmark, path)
                known = {"lr_encoder", "lr_pooling", *(f"pooling.{key}" for key in recipe.pooling)}
                for key, space in params.items():
                    if key not in known:
                        there = ", ".join(sorted(known))
                        yield f"spaces.{method}.{key}: not in its recipe; there: {there}"
                        continue
                    for value in space.ends():
                        try:
                            changed_cell(
                                benchmark, import_path(method), 0, 1, {f"recipe.{key}": value}, path
                            )
                        except InputError as error:
                            yield f"spaces.{method}.{key}: {value!r} cannot be ({error})"

    def beside(self, rows: Sequence[dict[str, Any]]) -> dict[str, str]:
        """Return the winners as ``recipes.yaml``, in the form that ``params.yaml`` takes."""
        recipes: dict[str, dict[str, Any]] = {}
        for row in rows:
            best = [
                r
                for r in rows
                if (r["method"], r["benchmark"]) == (row["method"], row["benchmark"])
            ]
            done = [r for r in best if r["state"] == "complete"]
            if not done or row is not max(done, key=lambda r: r["R@1"]):
                continue
            recipe = recipe_for(import_path(row["method"]), row["benchmark"]).model_dump()
            for name in recipe:
                if name in row:
                    recipe[name] = row[name]
            for name in recipe["pooling"]:
                if name in row:
                    recipe["pooling"][name] = row[name]
            recipes.setdefault(row["method"], {})[row["benchmark"]] = recipe
        head = "# Winners of the search, by validation R@1; copy what you want into params.yaml.\n"
        return {"recipes.yaml": head + yaml.safe_dump({"recipes": recipes}, sort_keys=False)}


STUDY = Search()
