"""The cells and trials that the comparison and its studies still lack."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import optuna
from optuna.trial import FrozenTrial, TrialState

from xpool.ablation.experiment import Experiment, experiments_of, load_study
from xpool.ablation.queue import Queue
from xpool.ablation.storage import OptunaParams, claim_lock, is_missing, open_storage
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.params import read, setting
from xpool.training.cell import read_cell
from xpool.training.recipes import import_path, short_name
from xpool.training.runs import unfinished

Cell = tuple[str, str, int]
"""Method by its short name, benchmark, seed."""
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Trials:
    """The trials of a study.

    Attributes:
        study: its name.
        planned: their number, None if that shows only when the cells are trained.
        done: how many are complete or pruned; those that failed for good are planned anew.
        seconds: median time of one, None if none has run.
    """

    study: str
    planned: int | None
    done: int
    seconds: float | None

    @property
    def left(self) -> int:
        """The number of trials that are still to be run, as far as it is known."""
        return (self.planned or 0) - self.done


def check_ready(studies: Sequence[str]) -> None:
    """Check that the stages before the trainings have run.

    Raises:
        InputError: something that a training or a study reads is missing.
    """
    here, kind = setting(), read("train.reads", str)
    judged = any(load_study(name)[0].judges_trained for name in studies)
    needs = {paths.encoder(here) / "encoder.json": "weights"}
    for benchmark in read("benchmarks", list[str]):
        folder = paths.frames if kind == "frames" else paths.embeddings
        needs |= {paths.manifest(here, benchmark): "manifest", folder(here, benchmark): kind}
        if judged:
            needs[paths.shots(here, benchmark)] = "shots"
    if judged:
        needs[paths.all_scenes(here)] = "scenes"
    missing = {path: stage for path, stage in needs.items() if not path.exists()}
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            f"{next(iter(missing))}{more}: not found; first run: dvc repro "
            f"{' '.join(dict.fromkeys(missing.values()))}"
        )


def listed_cells() -> list[Cell]:
    """Return all cells of the comparison, one benchmark after another."""
    methods = ["xpool", *read("baselines", list[str])]
    benchmarks, seeds = read("benchmarks", list[str]), read("seeds", list[int])
    return list(itertools.product(methods, benchmarks, seeds))


def missing_cells() -> list[Cell]:
    """Return the cells without a run of today's params, data and code.

    The precision of a run follows from the device, so this asks where the trainings will run.
    """
    by_data = sorted(listed_cells(), key=lambda cell: cell[1])  # each benchmark is opened once
    cells = [read_cell(import_path(method), benchmark, seed) for method, benchmark, seed in by_data]
    missing = {(short_name(cell.method), cell.benchmark, cell.seed) for cell in unfinished(cells)}
    return [cell for cell in listed_cells() if cell in missing]


def trials_of(study: str, params: OptunaParams, trained: bool) -> Trials:
    """Count the trials of a study, and change nothing in the storage.

    Args:
        study: a file of ``studies/``.
        params: section ``optuna``.
        trained: whether all cells are trained, which a study may judge.
    """
    if load_study(study)[0].judges_trained and not trained:
        return Trials(study, None, 0, None)
    experiments = experiments_of(study)
    attempts = [one for experiment in experiments for one in _attempts(experiment, params)]
    ended = [trial for trial in attempts if trial.state in ENDED]
    seconds = [trial.user_attrs["seconds"] for trial in ended if "seconds" in trial.user_attrs]
    planned = sum(len(experiment.cells) for experiment in experiments)
    return Trials(study, planned, len(ended), median(seconds) if seconds else None)


def _attempts(experiment: Experiment, params: OptunaParams) -> list[FrozenTrial]:
    if is_missing(params):
        return []
    storage = open_storage(params)
    if experiment.name not in optuna.get_all_study_names(storage):
        return []
    return list(Queue(experiment, storage, claim_lock(params)).attempts().values())
