"""Run trials of a study: as many processes, on as many machines, as share its storage.

The stage ``ablate@<study>`` plans the trials and starts ``optuna.workers`` of these itself; more
may join at any time with ``make study-worker STUDY=temperature``, from any checkout with the same
code, params and data whose ``optuna.storage`` is the same. A worker ends when all is done.

Run: ``python -m xpool.study_worker --study temperature``
"""

import argparse
import fcntl
import hashlib
import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial

from xpool import paths, queue
from xpool.command import InputError, run
from xpool.experiment import (
    Experiment,
    Outcome,
    ParamsChangedError,
    Point,
    experiments_of,
    unchanged,
)
from xpool.params import PARAMS_FILE, read, setting
from xpool.provenance import provenance
from xpool.queue import Lock
from xpool.recipes import TrainParams
from xpool.storage import OptunaParams, artifact_store, claim_lock, open_storage
from xpool.trial import Lab
from xpool.workspace import WORK

log = logging.getLogger(__name__)
IDLE_S = 1.0
"""Between two looks at a study whose last trials run elsewhere."""


def work(
    planned: list[tuple[Experiment, optuna.Study]],
    lock: Lock,
    still: Callable[[], None] = lambda: None,
) -> int:
    """Run trials until none waits or runs any more; return how many this process ran.

    Args:
        planned: the experiments of a study.
        lock: of the storage.
        still: raises :class:`ParamsChangedError` once trials would be made from other params.
    """
    lab, ran = Lab(), 0
    open_ones = list(planned)
    while open_ones:
        for experiment, study in list(open_ones):
            still()
            while trial := queue.claim(experiment, study, lock):
                run_trial(experiment, study, trial, lab, lock, still)
                ran += 1
                still()
            queue.reap(experiment, study, lock)
            if not queue.unfinished(experiment, study):
                open_ones.remove((experiment, study))
        if open_ones:
            time.sleep(IDLE_S)
    return ran


def run_trial(
    experiment: Experiment,
    study: optuna.Study,
    trial: Trial,
    lab: Lab,
    lock: Lock,
    still: Callable[[], None] = lambda: None,
) -> None:
    """Run one trial and tell the storage what came of it, its error too; see :func:`work`."""
    began = time.monotonic()
    lab.report = _report_to(trial, single=len(experiment.objectives) == 1)
    try:
        with queue.beating(study._storage, trial):
            point = queue.suggested(trial, experiment.space)
            trial.set_user_attr("made with", provenance(lab.accelerator.device))
            with _folder(study, trial, point) as lab.folder:
                outcome = experiment.run(point, lab)
                still()
                values = _objectives(experiment, outcome)
                _keep(trial, outcome)
        trial.set_user_attr("seconds", round(time.monotonic() - began, 3))
        queue.complete(study, trial, values, lock)
    except optuna.TrialPruned:
        queue.prune(study, trial, lock)
    except UpdateFinishedTrialError:
        log.warning(
            "trial %d of %s was given up by others meanwhile, and is left to them",
            trial.number, study.study_name,
        )  # fmt: skip
    except ParamsChangedError as error:
        queue.fail(study, trial, str(error), lock)
        raise
    except InputError as error:  # the same params would only fail again
        queue.fail(study, trial, str(error), lock, again=False)
    except Exception as error:
        log.exception("trial %d of %s failed", trial.number, study.study_name)
        queue.fail(study, trial, f"{type(error).__name__}: {error}", lock)
    except KeyboardInterrupt:
        queue.fail(study, trial, "interrupted", lock)
        raise


@contextmanager
def _folder(study: optuna.Study, trial: Trial, point: Point) -> Iterator[Path]:
    """Lock and make a folder for unfinished work; it outlives a kill, for the next try to go on.

    It belongs to the point, as the next try has another number. Who is still at work there, given
    up by others but alive, keeps it; this try then gets one of its own.
    """
    above = WORK / "trials" / study.study_name
    above.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(json.dumps(dict(point), sort_keys=True).encode()).hexdigest()[:16]
    with (above / f"{digest}.lock").open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            digest = f"{digest}-{trial.number}"
        folder = above / digest
        folder.mkdir(exist_ok=True)
        try:
            yield folder
        except (optuna.TrialPruned, InputError):  # none goes on from there
            shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)


def _objectives(experiment: Experiment, outcome: Outcome) -> list[float]:
    values = [float(outcome.figures[name]) for name in experiment.objectives]
    for name, value in zip(experiment.objectives, values, strict=True):
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}")
    return values


def _report_to(trial: Trial, single: bool) -> Any:
    """Return what passes each evaluation on to the storage and ends a trial that is pruned.

    Optuna takes no intermediate values where there are several objectives; an attribute has them.
    """
    rows: list[dict[str, float]] = []

    def report(row: dict[str, Any]) -> None:
        rows.append({"epoch": row["epoch"], "loss": row["loss"], "R@1": row["R@1"]})
        trial.set_user_attr("curve", rows)
        if single:
            trial.report(row["R@1"], row["step"])
            if trial.should_prune():
                raise optuna.TrialPruned

    return report


def _keep(trial: Trial, outcome: Outcome) -> None:
    for name, value in outcome.figures.items():
        trial.set_user_attr(name, value)
    for path in outcome.artifacts:
        optuna.artifacts.upload_artifact(
            artifact_store=artifact_store(), file_path=str(path), study_or_trial=trial
        )


def main() -> None:
    """Join the study that is named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--study", required=True)
    name = parser.parse_args().study
    params = read("optuna", OptunaParams)
    if read("train", TrainParams).reads == "embeddings":
        torch.set_num_threads(1)  # as in xpool.train: small batches, and sums that do not move
    experiments = experiments_of(name)
    still = unchanged(name, [experiment.name for experiment in experiments])
    storage = open_storage(params)
    there = set(optuna.get_all_study_names(storage))
    planned = []
    for experiment in experiments:
        if experiment.name not in there:
            raise InputError(
                f"{PARAMS_FILE}: optuna.storage: no study {experiment.name} there; plan it with "
                f"'dvc repro ablate@{name}' on one machine, and give this one the same code, "
                f"params and data ({paths.embeddings(setting(), experiment.benchmark)})"
            )
        planned.append((experiment, queue.open_study(experiment, storage)))
    ran = work(planned, claim_lock(params), still)
    log.info("%s: ran %d trials, and all are done", name, ran)


if __name__ == "__main__":
    run(main)
