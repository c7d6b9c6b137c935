"""[step 8] Run a study: plan its trials, have workers run them, write ``trials.csv``.

Reads ``ablations.<study>`` and what its trainings read; writes ``paths.studies``. The trials
live in Optuna's storage (``optuna.storage``), outside DVC's outputs: what is there is not run
again, and what a killed run left continues. A grid with a trial missing is an error, so that no
table is ever made of a part.

Run: ``python -m xpool.ablate --study temperature``; watch it with ``make dashboard``.
"""

import argparse
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
import optuna_dashboard
import pandas as pd
from optuna.trial import TrialState
from tqdm import tqdm

from xpool import paths, queue
from xpool.command import InputError, run
from xpool.experiment import (
    Experiment,
    Study,
    check_unchanged,
    experiments_of,
    load_study,
    unchanged,
)
from xpool.importance import importances
from xpool.params import read, setting
from xpool.storage import OptunaParams, claim_lock, open_storage
from xpool.workspace import WORK, publish, replacing, work_folder

log = logging.getLogger(__name__)
Planned = Sequence[tuple[Experiment, optuna.Study]]
STATE = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
INPUT_ERROR = 2
"""Exit status of ``xpool.command.run`` after an :class:`InputError`."""
RESTARTS = 10
"""Workers that may be lost before the stage gives up."""
LOOK_SHARE = 20
"""So many times longer than a look at hundreds of waiting trials takes, the next one waits."""


def plan_all(name: str, params: OptunaParams) -> Planned:
    """Open every experiment of a study in the storage, with its note, and queue what is missing."""
    storage, lock = open_storage(params), claim_lock(params)
    study, _ = load_study(name)
    planned = []
    for experiment in experiments_of(name):
        opened = queue.open_study(experiment, storage)
        optuna_dashboard.save_note(opened, _note(study, experiment))
        queue.reap(experiment, opened, lock)
        queue.plan(experiment, opened, params.retries, lock)
        planned.append((experiment, opened))
    return planned


def _note(study: Study, experiment: Experiment) -> str:
    mark = "**SYNTHETIC**: generated videos.\n\n" if setting() == "mini" else ""
    return (
        f"## {experiment.study}: {experiment.part} on {experiment.benchmark}\n\n{mark}"
        f"{study.question}\n\n**How to read it.** {study.reading} {experiment.note}\n\n"
        "R@1 is text to video on the *validation* split, in percent. All figures and tables: "
        f"`{paths.report(setting(), 'ablations')}` (notebook `notebooks/ablations.ipynb`)."
    )


def wait(name: str, planned: Planned, params: OptunaParams) -> None:
    """Keep workers running until no planned trial waits or runs.

    Raises:
        InputError: a worker cannot work, workers end again and again, or the params were changed.
    """
    lock = claim_lock(params)
    still = unchanged(name, _names(planned))
    if not params.workers:
        log.info("%s waits for workers: make study-worker STUDY=%s", name, name)
    total = sum(len(experiment.cells) for experiment, _ in planned)
    restarts = 0
    with _workers(name, params.workers) as workers, tqdm(desc=name, total=total) as bar:
        look_s = 0.0
        while left := _left(planned):
            bar.n = total - left
            bar.refresh()
            time.sleep(max(1.0, LOOK_SHARE * look_s))
            began = time.process_time()
            still()
            for place, process in enumerate(workers):
                if process.poll() == INPUT_ERROR:
                    raise InputError(f"{name}: a worker cannot go on (above); nothing is lost")
                if process.poll():  # ended, and not because all was done
                    restarts += 1
                    if restarts > RESTARTS:
                        raise InputError(
                            f"{name}: {restarts} workers ended with an error (above); what they "
                            "finished is kept: mend it and run the same command again"
                        )
                    workers[place] = _worker(name, place)
            for experiment, study in planned:
                queue.reap(experiment, study, lock)
            look_s = time.process_time() - began
        bar.n = total
        bar.refresh()


def _names(planned: Planned) -> list[str]:
    return [opened.study_name for _, opened in planned]


def _left(planned: Planned) -> int:
    return sum(queue.unfinished(experiment, study) for experiment, study in planned)


@contextmanager
def _workers(name: str, count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start local workers; they end by themselves when all is done, or with this block."""
    workers = [_worker(name, place) for place in range(count)]
    try:
        yield workers
    except BaseException:
        for process in workers:
            process.terminate()
        raise
    finally:
        for process in workers:
            process.wait()


def _worker(name: str, place: int) -> subprocess.Popen[bytes]:
    """Start one worker, on the next GPU where there are several."""
    environment = dict(os.environ)
    gpus = _gpus()
    if len(gpus) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[place % len(gpus)]
    command = [sys.executable, "-m", "xpool.study_worker", "--study", name]
    return subprocess.Popen(command, env=environment)


def _gpus() -> list[str]:
    """Return what to set CUDA_VISIBLE_DEVICES to, a text for each GPU."""
    import torch

    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    return [str(number) for number in range(torch.cuda.device_count())]


def rows_of(experiment: Experiment, study: optuna.Study) -> list[dict[str, Any]]:
    """Return one row a planned trial, in their order.

    Raises:
        InputError: a trial of a grid failed; names it with its error.
    """
    rows = []
    for key, trial in queue.attempts(experiment, study).items():
        if trial.state != TrialState.COMPLETE and not experiment.searches:
            error = trial.user_attrs.get(queue.ERROR, trial.state.name)
            raise InputError(
                f"{study.study_name}: trial {trial.number} ({key}) failed: {error}; mend it and "
                "run the same command again (what is done is kept)"
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
        row = {
            "study": experiment.study,
            "benchmark": experiment.benchmark,
            "part": experiment.part,
            "state": STATE[trial.state],
        }
        row |= dict(experiment.fixed) | point
        rows.append(row | {name: figures[name] for name in columns})
    return rows


_NO_FIGURES = {queue.RETRIES, "seconds"}


def write(name: str, planned: Planned) -> None:
    """Write ``trials.csv`` and what goes beside it; the same trials give the same bytes."""
    study, _ = load_study(name)
    rows = [row for experiment, opened in planned for row in rows_of(experiment, opened)]
    folder = WORK / "ablate" / f"{setting()}-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    with replacing(folder / "trials.csv") as file:
        first = ["study", "benchmark", "part", "state"]  # also of a study without a trial
        pd.DataFrame(rows, columns=None if rows else first).to_csv(
            file, index=False, lineterminator="\n"
        )
    factors = [row for experiment, opened in planned for row in importances(experiment, opened)]
    columns = ["study", "benchmark", "part", "factor", "importance"]
    with replacing(folder / "importance.csv") as file:
        pd.DataFrame(factors, columns=columns).to_csv(file, index=False, lineterminator="\n")
    for file_name, text in study.beside(rows).items():
        with replacing(folder / file_name) as file:
            file.write(text)
    publish(folder, paths.studies(setting(), name))


def main() -> None:
    """Run the study that is named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--study", required=True)
    name = parser.parse_args().study
    params = read("optuna", OptunaParams)
    with work_folder("ablate", f"{setting()}-{name}-driver", "lock"):
        planned = plan_all(name, params)
        left = _left(planned)
        total = sum(len(experiment.cells) for experiment, _ in planned)
        log.info("%s: %d trials planned, %d of them already done", name, total, total - left)
        if left:
            wait(name, planned, params)
            check_unchanged(name, _names(planned))
        write(name, planned)
    for _, opened in planned:
        shutil.rmtree(WORK / "trials" / opened.study_name, ignore_errors=True)
    log.info("wrote %s", paths.studies(setting(), name))


if __name__ == "__main__":
    run(main)
