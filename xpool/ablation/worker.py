"""A worker: takes trials of a study from the queue, runs them and records what came of them."""

import fcntl
import gc
import hashlib
import json
import logging
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial

from xpool.ablation.experiment import Experiment, experiments_of
from xpool.ablation.lab import Lab, Outcome, Point
from xpool.ablation.patience import StorageError
from xpool.ablation.queue import Queue
from xpool.ablation.storage import OptunaParams, artifact_store, claim_lock, open_storage
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.params import PARAMS_FILE, read, setting
from xpool.project.provenance import provenance
from xpool.project.workspace import WORK, refused
from xpool.training.recipes import TrainParams

log = logging.getLogger(__name__)
IDLE_S = 1.0
"""Pause before the queue is read again, while the last trials run elsewhere."""


def work(queues: Sequence[Queue]) -> int:
    """Run trials until none waits or runs any more; return how many this process ran.

    Args:
        queues: the queues of a study's experiments.
    """
    lab, ran = Lab(), 0
    unfinished = list(queues)
    while unfinished:
        for queue in list(unfinished):
            while trial := queue.claim():
                if ran < 2:  # the first trial imports a lot too
                    gc.freeze()  # what was imported is most of what accelerate's collections visit
                run_trial(queue, trial, lab)
                ran += 1
            queue.reap()
            if not queue.unfinished():
                unfinished.remove(queue)
        if unfinished:
            time.sleep(IDLE_S)
    return ran


def run_trial(queue: Queue, trial: Trial, lab: Lab) -> None:
    """Run one trial, and record its outcome or its error."""
    began = time.monotonic()
    experiment, study_name = queue.experiment, queue.study.study_name
    lab.report = _report_to(trial, single=len(experiment.objectives) == 1)
    try:
        with queue.beating(trial):
            point = queue.suggested(trial)
            trial.set_user_attr("made with", provenance(lab.accelerator.device))
            with _folder(study_name, trial, point) as lab.folder:
                outcome = experiment.run(point, lab)
                values = _objectives(experiment, outcome)
                _keep(trial, outcome)
        trial.set_user_attr("seconds", round(time.monotonic() - began, 3))
        queue.complete(trial, values)
    except optuna.TrialPruned:
        queue.prune(trial)
    except UpdateFinishedTrialError:
        log.warning(
            "trial %d of %s was given up and queued again; its result is dropped",
            trial.number, study_name,
        )  # fmt: skip
    except StorageError:  # where nothing can be recorded
        raise
    except InputError as error:  # the same params would only fail again
        queue.fail(trial, str(error), again=False)
    except Exception as error:
        if line := refused(error):  # as the next trial would be
            queue.fail(trial, line, again=False)
            raise InputError(line) from error
        log.exception("trial %d of %s failed", trial.number, study_name)
        queue.fail(trial, f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        queue.fail(trial, "interrupted")
        raise


@contextmanager
def _folder(study_name: str, trial: Trial, point: Point) -> Iterator[Path]:
    """Lock and make a folder for unfinished work. It survives a kill, so the next try can resume.

    It is named by the point, since the next try has another number. A worker that was given up but
    is still alive keeps its folder; this try then gets one of its own.
    """
    above = WORK / "trials" / study_name
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
        except StorageError:  # the next try resumes it
            raise
        except (optuna.TrialPruned, InputError):  # no try resumes it
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
    """Return a function that stores each evaluation, and ends a trial that is pruned.

    Optuna takes no intermediate values of several objectives; they are kept in an attribute.
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


def join(names: Sequence[str], params: OptunaParams) -> None:
    """Run trials of some studies until all are done.

    Args:
        names: files of ``studies/``.
        params: section ``optuna``.

    Raises:
        InputError: a study is not planned in the storage.
    """
    if read("train", TrainParams).reads == "embeddings":
        torch.set_num_threads(1)  # as in xpool.training.runs, which says why
    storage, lock = open_storage(params), claim_lock(params)
    there = set(optuna.get_all_study_names(storage))
    queues = []
    for experiment in (one for name in names for one in experiments_of(name)):
        if experiment.name not in there:
            raise InputError(
                f"{PARAMS_FILE}: optuna.storage: no study {experiment.name} there; plan it with "
                f"'dvc repro ablate@{experiment.study}' on one machine, and give this one the same "
                f"code, params and data ({paths.embeddings(setting(), experiment.benchmark)})"
            )
        queues.append(Queue(experiment, storage, lock))
    log.info("%s: ran %d trials, and all are done", ", ".join(names), work(queues))
