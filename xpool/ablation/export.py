"""A study's trials as files: ``trials.csv``, and how much each factor decides."""

import shutil
from collections.abc import Sequence
from typing import Any

import optuna
import pandas as pd
from optuna.trial import TrialState

from xpool.ablation.experiment import Experiment, load_study
from xpool.ablation.queue import RETRIES, Queue, error_of
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.params import setting
from xpool.project.workspace import WORK, publish, replacing

STATE = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


def rows_of(queue: Queue) -> list[dict[str, Any]]:
    """Return one row for each planned trial, in the order of the plan.

    Raises:
        InputError: a trial of a grid failed; the message has its error.
    """
    experiment, rows = queue.experiment, []
    for key, trial in queue.attempts().items():
        if trial.state != TrialState.COMPLETE and not experiment.searches:
            raise InputError(
                f"{queue.study.study_name}: trial {trial.number} ({key}) failed: "
                f"{error_of(trial)}; fix the cause and run the same command again (finished trials "
                "are kept)"
            )
        figures = {
            name: value
            for name, value in trial.user_attrs.items()
            if isinstance(value, int | float) and name not in _NO_FIGURES
        }
        # the storage has no order of its own
        columns = [name for name in experiment.objectives if name in figures]
        columns += sorted(set(figures) - set(columns))
        point = {name: trial.params[name] for name in experiment.space if name in trial.params}
        row = _part_of(experiment) | {"state": STATE[trial.state]} | dict(experiment.fixed) | point
        rows.append(row | {name: figures[name] for name in columns})
    return rows


_NO_FIGURES = {RETRIES, "seconds"}


def write(name: str, queues: Sequence[Queue]) -> None:
    """Write ``trials.csv`` and the files beside it; the same trials give the same bytes."""
    study, _ = load_study(name)
    rows = [row for queue in queues for row in rows_of(queue)]
    folder = WORK / "ablate" / f"{setting()}-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    with replacing(folder / "trials.csv") as file:
        first = ["study", "benchmark", "part", "state"]  # also of a study without a trial
        pd.DataFrame(rows, columns=None if rows else first).to_csv(
            file, index=False, lineterminator="\n"
        )
    factors = [row for queue in queues for row in importances(queue)]
    columns = ["study", "benchmark", "part", "factor", "importance"]
    with replacing(folder / "importance.csv") as file:
        pd.DataFrame(factors, columns=columns).to_csv(file, index=False, lineterminator="\n")
    for file_name, text in study.beside(rows).items():
        with replacing(folder / file_name) as file:
            file.write(text)
    publish(folder, paths.studies(setting(), name))


def importances(queue: Queue) -> list[dict[str, Any]]:
    """Return one row for each factor; their importances sum to 1.

    A factor with a single value is left out. With fewer than four complete trials, or if all have
    the same R@1, there are no rows.

    Source: Hutter et al., "An efficient approach for assessing hyperparameter importance", ICML
    2014, as Optuna has it; the trees are seeded.
    """
    # A copy with the ranges and the order of the present plan: Optuna leaves out a factor whose
    # range changed between trials, as in a grid that grew, and the order of trials moves the trees.
    experiment = queue.experiment
    planned = optuna.create_study(directions=queue.study.directions)
    for trial in queue.attempts().values():
        if trial.state == TrialState.COMPLETE:
            planned.add_trial(
                optuna.create_trial(
                    params=trial.params, distributions=experiment.space, values=trial.values
                )
            )
    done = planned.get_trials(deepcopy=False)
    if len(done) < 4 or len({trial.values[0] for trial in done}) < 2:
        return []
    varied = [name for name in experiment.space if len({trial.params[name] for trial in done}) > 1]
    found = optuna.importance.get_param_importances(
        planned,
        params=varied,
        evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
        target=lambda trial: trial.values[0],
    )
    where = _part_of(experiment)
    return [where | {"factor": name, "importance": value} for name, value in found.items()]


def _part_of(experiment: Experiment) -> dict[str, Any]:
    """Return the first columns of both files, which say what experiment a row belongs to."""
    return {
        "study": experiment.study,
        "benchmark": experiment.benchmark,
        "part": experiment.part,
    }
