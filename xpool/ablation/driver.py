"""Run a study: plan its trials, keep workers running until all are done, export them.

A grid with a trial missing is an error, so that no table is ever made of a part.
"""

import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from typing import Any

import optuna_dashboard
import torch

from xpool.ablation import export
from xpool.ablation.experiment import (
    Experiment,
    Study,
    check_unchanged,
    experiments_of,
    load_study,
)
from xpool.ablation.queue import Queue
from xpool.ablation.storage import OptunaParams, claim_lock, is_file, open_storage
from xpool.ablation.worker import join
from xpool.encoders.base import best_device
from xpool.project import paths
from xpool.project.command import INPUT_ERROR, STARTED, run
from xpool.project.errors import InputError
from xpool.project.params import setting
from xpool.project.progress import progress
from xpool.project.snapshot import held
from xpool.project.workspace import WORK, work_folder

log = logging.getLogger(__name__)
RESTARTS = 10
"""Workers that may be lost before the stage gives up."""
REST = 20
"""Between two looks at the storage the driver rests this many times as long as a look takes."""


def plan_all(name: str, params: OptunaParams) -> list[Queue]:
    """Open the queue of each experiment of a study, write its note, and queue missing trials."""
    storage, lock = open_storage(params), claim_lock(params)
    study, _ = load_study(name)
    queues = []
    for experiment in experiments_of(name):
        queue = Queue(experiment, storage, lock)
        optuna_dashboard.save_note(queue.study, _note(study, experiment))
        queue.reap()
        queue.plan(params.retries)
        queues.append(queue)
    return queues


def _note(study: Study, experiment: Experiment) -> str:
    mark = "**SYNTHETIC**: generated videos.\n\n" if setting() == "mini" else ""
    return (
        f"## {experiment.study}: {experiment.part} on {experiment.benchmark}\n\n{mark}"
        f"{study.question}\n\n**How to read it.** {study.reading}\n\n"
        "R@1 is text to video on the *validation* split, in percent. All figures and tables: "
        f"`{paths.report(setting(), 'ablations')}` (notebook `notebooks/ablations.ipynb`)."
    )


def wait(name: str, queues: Sequence[Queue], params: OptunaParams) -> None:
    """Keep workers running until no planned trial waits or runs.

    Raises:
        InputError: a worker cannot work, or workers end again and again.
    """
    if not params.workers:
        log.info("%s waits for workers: make study-worker STUDY=%s", name, name)
    total, left = _total(queues), _left(queues)
    restarts, look_s = 0, 0.0
    with (
        _workers(name, params) as workers,
        progress(title=name, total=total, initial=total - left) as bar,
    ):
        while left:
            time.sleep(max(1.0, REST * look_s))
            began = time.process_time()
            for slot, process in enumerate(workers):
                if process.exitcode == INPUT_ERROR:
                    raise InputError(f"{name}: a worker cannot go on (above); nothing is lost")
                if process.exitcode:  # it ended with an error
                    restarts += 1
                    if restarts > RESTARTS:
                        raise InputError(
                            f"{name}: {restarts} workers ended with an error (above); finished "
                            "trials are kept: fix the cause and run the same command again"
                        )
                    workers[slot] = _worker(name, params, slot)
            for queue in queues:
                queue.reap()
            look_s = time.process_time() - began
            left = _left(queues)
            bar.update(total - left - bar.n)


def _names(queues: Sequence[Queue]) -> list[str]:
    return [queue.study.study_name for queue in queues]


def _total(queues: Sequence[Queue]) -> int:
    return sum(len(queue.experiment.cells) for queue in queues)


def _left(queues: Sequence[Queue]) -> int:
    return sum(queue.unfinished() for queue in queues)


@contextmanager
def _workers(name: str, params: OptunaParams) -> Iterator[list[BaseProcess]]:
    """Start local workers. They end when all trials are done, or with this block."""
    workers = [_worker(name, params, slot) for slot in range(params.workers)]
    try:
        yield workers
    except BaseException:
        for process in workers:
            process.terminate()
        raise
    finally:
        for process in workers:
            process.join()


def _worker(name: str, params: OptunaParams, slot: int) -> BaseProcess:
    """Start one worker, on the next GPU where there are several.

    It is forked, since importing everything again takes as long as ten small trials; but a fork can
    share neither a GPU nor a connection to a server.
    """
    gpus = _gpus()
    gpu = gpus[slot % len(gpus)] if len(gpus) > 1 else None
    forked = is_file(params) and best_device().type == "cpu"
    context: Any = get_context("fork" if forked else "spawn")
    process: BaseProcess = context.Process(target=_work, args=(name, params, gpu))
    process.start()
    return process


def _work(name: str, params: OptunaParams, gpu: str | None) -> None:
    """Run trials, as the command ``study-worker`` does."""
    os.environ[STARTED] = name
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    try:
        run(lambda: held(join)([name], params))
    except KeyboardInterrupt:  # multiprocessing would print a traceback for each worker
        sys.exit(128 + signal.SIGINT)


def _gpus() -> list[str]:
    """Return the value of CUDA_VISIBLE_DEVICES for each GPU."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    return [str(number) for number in range(torch.cuda.device_count())]


def run_study(name: str, params: OptunaParams) -> None:
    """Run a study to its end and write ``paths.studies``.

    Args:
        name: a file of ``studies/``.
        params: section ``optuna``.

    Raises:
        InputError: a trial of a grid failed, workers cannot work, or the data were changed.
    """
    with work_folder("ablate", f"{setting()}-{name}-driver", "lock"):
        queues = plan_all(name, params)
        left, total = _left(queues), _total(queues)
        log.info("%s: %d trials planned, %d of them already done", name, total, total - left)
        if left:
            wait(name, queues, params)
            check_unchanged(name, _names(queues))
        export.write(name, queues)
    for study_name in _names(queues):
        shutil.rmtree(WORK / "trials" / study_name, ignore_errors=True)
    log.info("wrote %s", paths.studies(setting(), name))
