"""The trials of an experiment in Optuna's storage.

All trials are queued before the first one runs, those of a search without values, so the total
never exceeds the plan, however many workers there are. Each trial runs once. If a worker dies, its
trial is recorded as failed and queued again. Which trials to queue again follows from the storage
alone, so nothing is lost if the process that would have queued them dies too. All changes are made
under one lock (:func:`xpool.ablation.storage.claim_lock`), so nothing is queued twice.
"""

import copy
import logging
import math
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState

from xpool.ablation.experiment import Experiment
from xpool.ablation.lab import Point
from xpool.project.seeds import seed_for

log = logging.getLogger(__name__)
CELL, RETRIES, WORKER, ERROR = "cell", "retries left", "worker", "error"
"""User attributes of our trials."""
ERROR_LENGTH = 1000
"""Characters of an error that are kept."""
CLOCK_S = 60.0
"""Tolerance in seconds for a process's start time, which shifts when the clock is adjusted."""
SILENT = "no heartbeat from its worker for several intervals"
"""The error of a trial that :func:`optuna.storages.fail_stale_trials` has failed."""
PROGRESS = (
    TrialState.FAIL, TrialState.WAITING, TrialState.RUNNING, TrialState.PRUNED, TrialState.COMPLETE,
)  # fmt: skip
"""States in the order of how far a trial has got."""


class Queue:
    """The trials of one experiment.

    Attributes:
        experiment: what is planned.
        study: its Optuna study.
        storage: where the study is.
    """

    def __init__(
        self, experiment: Experiment, storage: BaseStorage, lock: AbstractContextManager[None]
    ) -> None:
        """Open the experiment's Optuna study; create it if it does not exist.

        Args:
            experiment: what is planned.
            storage: see :func:`xpool.ablation.storage.open_storage`.
            lock: the storage's lock, from :func:`xpool.ablation.storage.claim_lock`.
        """
        self.experiment = experiment
        self.storage = storage
        self.study = optuna.create_study(
            study_name=experiment.name,
            storage=storage,
            directions=list(experiment.objectives.values()),
            load_if_exists=True,
            pruner=_pruner(experiment),
        )
        self.study.set_metric_names(list(experiment.objectives))
        self._lock = lock
        self._planned = experiment.planned()
        self._study_id = storage.get_study_id_from_name(self.study.study_name)
        # a gRPC proxy takes no heartbeats
        self._interval_s: int | None = getattr(storage, "get_heartbeat_interval", lambda: None)()
        self._heartbeats_checked_s = -math.inf

    # --- plan, claim, run ---

    def plan(self, retries: int) -> None:
        """Queue each planned trial that is new, or that failed for good.

        Args:
            retries: how often a trial that fails is run again.
        """
        with self._lock:
            known = self.attempts()
            for key, point in self._planned.items():
                if key not in known or known[key].state == TrialState.FAIL:
                    self._enqueue(key, point, retries)

    def claim(self) -> Trial | None:
        """Take the next waiting trial that is planned; None if there is none.

        ``Study.ask`` would take the first waiting trial, even one that params.yaml no longer asks
        for.
        """
        if not self._waiting():
            return None
        with self._lock:
            for trial in self._waiting():
                trial_id = self._id_of(trial.number)
                try:
                    # before the claim: a worker killed just after it can then be found out
                    self._beat(trial_id)
                    self.storage.set_trial_user_attr(trial_id, WORKER, _me())
                    claimed = self.storage.set_trial_state_values(trial_id, TrialState.RUNNING)
                except UpdateFinishedTrialError:
                    continue
                if claimed:
                    return Trial(self._study_with_sampler(trial.number), trial_id)
        return None

    def _waiting(self) -> list[FrozenTrial]:
        """Return the waiting trials that are planned; others are left as they are."""
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return [trial for trial in waiting if trial.user_attrs.get(CELL) in self._planned]

    def _study_with_sampler(self, number: int) -> optuna.Study:
        """Return the study with a sampler that is seeded by the trial.

        Workers thus draw different points, and a search with one worker can be repeated.
        """
        experiment = self.experiment
        where = (experiment.study, experiment.benchmark, experiment.part, number)
        study = copy.copy(self.study)  # the same storage, but an empty cache of trials
        study.sampler = optuna.samplers.TPESampler(
            seed=seed_for("sampler", *where) % 2**32,
            n_startup_trials=experiment.startup_trials,
            multivariate=True,
            constant_liar=True,
        )
        return study

    def suggested(self, trial: Trial) -> Point:
        """Return a trial's point: the queued values, or else those that the sampler chooses."""
        space = self.experiment.space
        return {name: _suggest(trial, name, distribution) for name, distribution in space.items()}

    @contextmanager
    def beating(self, trial: Trial) -> Iterator[None]:
        """Send a trial's heartbeats while the block runs, if the storage takes them."""
        if self._interval_s is None:
            yield
            return
        trial_id, interval_s = self._id_of(trial.number), self._interval_s
        stop = threading.Event()

        def beat() -> None:
            while True:
                try:
                    self._beat(trial_id)
                except Exception as error:  # the server may be back for the next one
                    log.warning("trial %d: no heartbeat sent: %s", trial.number, error)
                if stop.wait(interval_s):
                    return

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    # --- how a trial ends ---

    def complete(self, trial: Trial, values: list[float]) -> None:
        """Record a trial's objectives, unless the trial was given up and queued again."""
        with self._lock:
            self.study.tell(trial, values, skip_if_finished=True)

    def prune(self, trial: Trial) -> None:
        """Record that a trial was ended early, unless it was given up and queued again."""
        with self._lock:
            self.study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)

    def fail(self, trial: Trial | FrozenTrial, error: str, again: bool = True) -> None:
        """Record a failed trial; :meth:`reap` queues it again if it has retries left.

        Args:
            trial: a running trial.
            error: what went wrong.
            again: False if a retry would only fail in the same way.
        """
        with self._lock:
            self._fail(trial, error, again)

    def reap(self) -> None:
        """Fail running trials whose worker has died, and queue failed ones that have retries left.

        A worker on this machine is looked up by its process. Heartbeats reveal the others, and a
        worker that hangs; they are checked once an interval.
        """
        check = self._is_time_to_check()
        if not (check or self._orphaned() or self._to_retry()):
            return  # workers need the lock more
        with self._lock:
            if check:
                fail_stale_trials(self.study)
            for trial in self._orphaned():
                self._fail(trial, "its worker was killed")
            for trial in self._to_retry():
                point = trial.params or trial.system_attrs.get("fixed_params", {})
                self._enqueue(trial.user_attrs[CELL], point, trial.user_attrs[RETRIES] - 1)

    # --- what the storage holds ---

    def attempts(self) -> dict[str, FrozenTrial]:
        """Return the attempt that counts for each planned trial that was ever queued.

        The attempt that got furthest counts. Among failed ones it is the last, otherwise the first.
        """
        found: dict[str, FrozenTrial] = {}
        for trial in self.study.get_trials(deepcopy=False):
            key = trial.user_attrs.get(CELL, "")
            best = PROGRESS.index(found[key].state) if key in found else -1
            reached = PROGRESS.index(trial.state)
            if reached > best or (reached == best and trial.state == TrialState.FAIL):
                found[key] = trial
        return {key: found[key] for key in self._planned if key in found}

    def unfinished(self) -> int:
        """Return how many planned trials wait, run, or failed and will be queued again."""
        return sum(
            trial.state in (TrialState.WAITING, TrialState.RUNNING) or _can_retry(trial)
            for trial in self.attempts().values()
        )

    def _to_retry(self) -> list[FrozenTrial]:
        return [trial for trial in self.attempts().values() if _can_retry(trial)]

    def _orphaned(self) -> list[FrozenTrial]:
        """Return the running trials whose worker was on this machine and has died."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial for trial in running if _is_gone(trial.user_attrs.get(WORKER, ""))]

    def _is_time_to_check(self) -> bool:
        """Whether heartbeats were not checked in the last interval; from now on they were."""
        now_s = time.monotonic()
        if self._interval_s is None or now_s - self._heartbeats_checked_s < self._interval_s:
            return False
        self._heartbeats_checked_s = now_s
        return True

    # --- changes of the storage ---

    def _enqueue(self, key: str, point: Point, retries: int) -> None:
        self.study.enqueue_trial(dict(point), user_attrs={CELL: key, RETRIES: retries})

    def _fail(self, trial: Trial | FrozenTrial, error: str, again: bool = True) -> None:
        trial_id = self._id_of(trial.number)
        with suppress(UpdateFinishedTrialError):  # it ended, or was given up, before
            kept = " ".join(error.split())[:ERROR_LENGTH]
            self.storage.set_trial_user_attr(trial_id, ERROR, kept)
            if not again:
                self.storage.set_trial_user_attr(trial_id, RETRIES, 0)
            self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)

    def _beat(self, trial_id: int) -> None:
        if self._interval_s is not None:
            self.storage.record_heartbeat(trial_id)  # type: ignore[attr-defined]

    def _id_of(self, number: int) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def error_of(trial: FrozenTrial) -> str:
    """Return why a trial failed."""
    error: str = trial.user_attrs.get(ERROR, SILENT)
    return error


def _can_retry(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and trial.user_attrs.get(RETRIES, 0) > 0


def _suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    is_float = isinstance(distribution, FloatDistribution)
    suggest = trial.suggest_float if is_float else trial.suggest_int
    return suggest(name, distribution.low, distribution.high, log=distribution.log)  # type: ignore[attr-defined]


def _pruner(experiment: Experiment) -> optuna.pruners.BasePruner:
    if experiment.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=max(1, experiment.startup_trials))
    if experiment.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner()
    return optuna.pruners.NopPruner()


# --- workers as processes ---


def _me() -> str:
    return f"{_machine()}:{os.getpid()}:{_started_s(os.getpid()):.2f}"


def _machine() -> str:
    """Name this machine and container, within which a process number is unique."""
    space = Path("/proc/self/ns/pid")
    return f"{platform.node()} {space.readlink() if space.exists() else ''}"


def _is_gone(worker: str) -> bool:
    """Whether a worker was on this machine and has ended."""
    machine, pid, started_s = worker.rsplit(":", 2) if worker else ("", "0", "0")
    if machine != _machine():
        return False
    now_s = _started_s(int(pid))
    return now_s is None or abs(now_s - float(started_s)) > CLOCK_S


def _started_s(pid: int) -> float | None:
    """Return when a process started, which tells it from a later one with the same number.

    None if there is no such process, or if it has ended and its parent has not waited for it.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return float(process.create_time())
    except psutil.NoSuchProcess:
        return None
