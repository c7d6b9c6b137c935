"""Run the missing cells and trials until none is left, and show how far they are."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from optuna.trial import TrialState

from xpool.ablation.driver import REST, plan_all
from xpool.ablation.queue import Queue, error_of
from xpool.ablation.storage import OptunaParams
from xpool.project.errors import InputError
from xpool.project.params import HELD_IN, load, setting
from xpool.project.progress import progress
from xpool.project.workspace import work_folder, write_json
from xpool.tools.fleet.cluster import Cluster, Job
from xpool.tools.fleet.plan import Cell, Trials, missing_cells

log = logging.getLogger(__name__)
LOOK_S = 1.0
"""Seconds to wait for the end of a job before the bar is brought up to date."""


def run(
    cluster: Cluster, cells: Sequence[Cell], studies: Sequence[Trials], params: OptunaParams
) -> None:
    """Train cells and run the trials of studies.

    Args:
        cluster: the machines that do the work.
        cells: the cells to train.
        studies: the studies with trials to run. A study whose number of trials is not known yet
            judges the trained cells, and waits for them.
        params: section ``optuna`` of the params.

    Raises:
        InputError: something failed, or is still missing at the end; finished work is kept.
    """
    with work_folder("fleet", f"{setting()}-all", "logs") as folder:
        # an edit of params.yaml counts for the next fleet, not for the tasks that still wait
        held = (folder / "params.json").resolve()
        write_json(held, {"params": load()})
        os.environ[HELD_IN] = str(held)
        tasks = _Tasks(cluster, folder, params)
        for method, benchmark, seed in cells:
            words = ("train", "--method", method, "--benchmark", benchmark, "--seed", str(seed))
            tasks.train(Job(f"train-{method}-{benchmark}-{seed}", words))
        later = [study.study for study in studies if study.planned is None]
        tasks.join([study.study for study in studies if study.study not in later])
        tasks.watch(lambda: bool(tasks.cells))
        if later and not tasks.failed:
            tasks.join(later)
        tasks.watch(lambda: tasks.left > 0 and cluster.unfinished > 0)
        cluster.cancel()  # workers for which no trial is left
        tasks.check_trials()
    if not tasks.failed and cells and (left := cluster.ask(missing_cells)):
        tasks.failed.append(
            f"{len(left)} cells are still missing, since code or data were changed meanwhile"
        )
    if tasks.failed:
        raise InputError(
            f"{len(tasks.failed)} failed, first {tasks.failed[0]}; finished work is kept, and the "
            f"logs are in {folder}: fix the cause and run the same command again"
        )


class _Tasks:
    """The tasks that the cluster was given, and a progress bar over all of them.

    Attributes:
        cells: jobs that train a cell and have not ended.
        left: the number of these cells and of unfinished trials, when it was looked up last.
        failed: one line for each job and trial that failed: its name, and the error.
    """

    def __init__(self, cluster: Cluster, folder: Path, params: OptunaParams) -> None:
        self._cluster, self._folder, self._params = cluster, folder, params
        self._queues: list[Queue] = []
        self._bar = progress(title="fleet", total=0)
        self._looked_s = self._rest_s = 0.0
        self._workers = self.left = 0
        self.cells: set[Job] = set()
        self.failed: list[str] = []

    def train(self, job: Job) -> None:
        """Queue the training of a cell."""
        self.cells.add(job)
        self.left += 1
        self._bar.total += 1
        self._cluster.submit(job, self._log(job))

    def join(self, studies: Sequence[str]) -> None:
        """Plan the trials of studies, and queue workers that run them.

        A worker takes trials of all these studies, so that none idles while another study has some.
        """
        queues = [queue for name in studies for queue in plan_all(name, self._params)]
        trials = sum(queue.unfinished() for queue in queues)
        self._queues += queues
        self.left += trials
        self._bar.total += trials
        words = ("study-worker", *(word for name in studies for word in ("--study", name)))
        for _ in range(min(trials, self._cluster.slots)):
            job = Job(f"trials-{self._workers}", words)
            self._workers += 1
            self._cluster.submit(job, self._log(job))

    def watch(self, goes_on: Callable[[], bool]) -> None:
        """Wait while ``goes_on()`` is true; note the jobs that end, and move the bar."""
        while goes_on():
            for job, error in self._cluster.finished(LOOK_S):
                self.cells.discard(job)
                if error:
                    log.error("%s: %s", job.name, error)
                    self.failed.append(f"{job.name}: {error}")
            if time.monotonic() - self._looked_s > self._rest_s:
                self._show()

    def _show(self) -> None:
        """Bring the bar up to date. The storage is read seldom: workers need it more."""
        began = time.monotonic()
        for queue in self._queues:
            queue.reap()
        self.left = len(self.cells) + sum(queue.unfinished() for queue in self._queues)
        running = self._cluster.running()
        waiting = self._cluster.unfinished - running
        self._bar.set_postfix({"tasks running": running, "waiting": waiting}, refresh=False)
        self._bar.update(self._bar.total - self.left - self._bar.n)
        self._looked_s = time.monotonic()
        self._rest_s = REST * (self._looked_s - began)

    def check_trials(self) -> None:
        """Add each trial that failed for good to :attr:`failed`, and close the bar."""
        self._show()
        self._bar.close()
        for queue in self._queues:
            for name, trial in queue.attempts().items():
                if trial.state == TrialState.FAIL:
                    self.failed.append(f"{queue.study.study_name} {name}: {error_of(trial)}")

    def _log(self, job: Job) -> Path:
        return (self._folder / f"{job.name}.log").resolve()
