"""The trials of an experiment in Optuna's storage: planned once, each run by one worker.

All trials are put into the queue before the first runs, those of a search with no values yet, so
that the planned number holds in all, however many workers there are. A worker takes one by turning
it from waiting to running, and sends heartbeats from then on; a trial whose heart has stopped is
recorded as failed. What is to be run again is seen from the trials alone, so that nothing is lost
with whoever was about to see to it; all changes are made under one lock (``storage.claim_lock``),
so that nothing is queued twice.
"""

import logging
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from xpool.experiment import Experiment, Point
from xpool.seeds import seed_for

log = logging.getLogger(__name__)
Lock = AbstractContextManager[None]
CELL, RETRIES, WORKER, ERROR = "cell", "retries left", "worker", "error"
"""User attributes of our trials."""
ERROR_LENGTH = 1000
"""Characters of an error that are kept."""
CLOCK_S = 60.0
"""So far the start of a process may seem to move, as the machine's clock is set."""


def open_study(experiment: Experiment, storage: BaseStorage) -> optuna.Study:
    """Return the experiment's Optuna study, made where it is not there yet."""
    study = optuna.create_study(
        study_name=experiment.name,
        storage=storage,
        directions=list(experiment.objectives.values()),
        load_if_exists=True,
        pruner=_pruner(experiment),
    )
    study.set_metric_names(list(experiment.objectives))
    return study


def plan(experiment: Experiment, study: optuna.Study, retries: int, lock: Lock) -> None:
    """Put into the queue what is neither there nor done; what failed gets a new chance.

    Args:
        experiment: what is planned.
        study: its Optuna study.
        retries: how often a trial that fails is run again.
        lock: of the storage.
    """
    with lock:
        known = attempts(experiment, study)
        for key, point in experiment.planned().items():
            if key not in known or known[key].state == TrialState.FAIL:
                study.enqueue_trial(dict(point), user_attrs={CELL: key, RETRIES: retries})


def claim(experiment: Experiment, study: optuna.Study, lock: Lock) -> Trial | None:
    """Take the next waiting trial that is planned, or None where none waits."""
    planned = experiment.planned()
    storage = study._storage
    if not _waiting(planned, study):
        return None
    with lock:
        for trial in _waiting(planned, study):
            # before it runs: a worker killed between the two would leave no trace to judge it by
            _beat(storage, trial._trial_id)
            try:
                taken = storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
            except UpdateFinishedTrialError:
                continue
            if not taken:
                continue
            storage.set_trial_user_attr(trial._trial_id, WORKER, _me())
            study._thread_local.cached_all_trials = None  # as Study.ask does
            # seeded by the trial: workers draw differently, and one worker the same again
            where = (experiment.study, experiment.benchmark, experiment.part, trial.number)
            study.sampler = optuna.samplers.TPESampler(
                seed=seed_for("sampler", *where) % 2**32,
                n_startup_trials=experiment.startup_trials,
                multivariate=True,
                constant_liar=True,
            )
            return Trial(study, trial._trial_id)
    return None


def _waiting(planned: dict[str, Point], study: optuna.Study) -> list[FrozenTrial]:
    """Return what waits; cells that params.yaml no longer asks for are left where they are."""
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    return [trial for trial in waiting if trial.user_attrs.get(CELL) in planned]


def suggested(trial: Trial, space: dict[str, BaseDistribution]) -> Point:
    """Return the trial's point: as it was enqueued, or else as the sampler chooses."""
    return {name: _suggest(trial, name, kind) for name, kind in space.items()}


def _suggest(trial: Trial, name: str, kind: BaseDistribution) -> Any:
    if isinstance(kind, CategoricalDistribution):
        return trial.suggest_categorical(name, kind.choices)
    suggest = trial.suggest_float if isinstance(kind, FloatDistribution) else trial.suggest_int
    return suggest(name, kind.low, kind.high, log=kind.log)  # type: ignore[attr-defined]


@contextmanager
def beating(storage: BaseStorage, trial: Trial) -> Iterator[None]:
    """Send the trial's heartbeats while the block runs, where the storage takes them."""
    interval_s = _interval_s(storage)
    if interval_s is None:
        yield
        return
    stop = threading.Event()

    def beat() -> None:
        while True:
            try:
                _beat(storage, trial._trial_id)
            except Exception as error:  # a server that is away for a while; its return is noticed
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


def _interval_s(storage: BaseStorage) -> int | None:
    """Return the seconds between two heartbeats, None where the storage takes none."""
    interval_s: int | None = getattr(storage, "get_heartbeat_interval", lambda: None)()
    return interval_s


def _beat(storage: BaseStorage, trial_id: int) -> None:
    if _interval_s(storage) is not None:
        storage.record_heartbeat(trial_id)  # type: ignore[attr-defined]


def complete(study: optuna.Study, trial: Trial, values: list[float], lock: Lock) -> None:
    """Record what a trial found, unless it was given up meanwhile and runs elsewhere."""
    with lock:
        study.tell(trial, values, skip_if_finished=True)


def prune(study: optuna.Study, trial: Trial, lock: Lock) -> None:
    """Record that a trial was ended early, unless it was given up meanwhile."""
    with lock:
        study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)


def fail(study: optuna.Study, trial: Trial, error: str, lock: Lock, again: bool = True) -> None:
    """Record a failed trial with its error; :func:`reap` queues it anew if it has retries left.

    Args:
        study: an Optuna study.
        trial: of it.
        error: what went wrong.
        lock: of the storage.
        again: False where the same would only happen again: no retry.
    """
    with lock:
        _fail(study._storage, trial._trial_id, error, again)


def _fail(storage: BaseStorage, trial_id: int, error: str, again: bool = True) -> None:
    with suppress(UpdateFinishedTrialError):  # it ended, or was given up, before
        storage.set_trial_user_attr(trial_id, ERROR, " ".join(error.split())[:ERROR_LENGTH])
        if not again:
            storage.set_trial_user_attr(trial_id, RETRIES, 0)
        storage.set_trial_state_values(trial_id, TrialState.FAIL)


def reap(experiment: Experiment, study: optuna.Study, lock: Lock) -> None:
    """Fail the running trials whose worker is no more, and queue anew what failed.

    Workers of this machine are looked up; those of others are judged by their heartbeat.
    """
    if not (_dead(study) or _to_run_again(experiment, study)):  # seldom: others need the lock more
        return
    with lock:
        for trial_id, error in _dead(study).items():
            _fail(study._storage, trial_id, error)
        for trial in _to_run_again(experiment, study):
            point = trial.params or trial.system_attrs.get("fixed_params", {})
            left = trial.user_attrs[RETRIES] - 1
            study.enqueue_trial(
                dict(point), user_attrs={CELL: trial.user_attrs[CELL], RETRIES: left}
            )


def _dead(study: optuna.Study) -> dict[int, str]:
    """Return the running trials, by their identity in the storage, that nobody is at any more."""
    storage, dead = study._storage, {}
    if (interval_s := _interval_s(storage)) is not None:
        stale = storage._get_stale_trial_ids(study._study_id)  # type: ignore[attr-defined]
        what = f"no sign of life of its worker for several times {interval_s} s"
        dead = dict.fromkeys(stale, what)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _is_gone(trial.user_attrs.get(WORKER, "")):
            dead[trial._trial_id] = "its worker was killed"
    return dead


def _to_run_again(experiment: Experiment, study: optuna.Study) -> list[FrozenTrial]:
    return [trial for trial in attempts(experiment, study).values() if _has_another_go(trial)]


def _has_another_go(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and trial.user_attrs.get(RETRIES, 0) > 0


def attempts(experiment: Experiment, study: optuna.Study) -> dict[str, FrozenTrial]:
    """Return the attempt that counts for each planned trial that was ever queued.

    It is the one that got furthest: of those that failed the last, else the first.
    """
    order = [
        TrialState.FAIL, TrialState.WAITING, TrialState.RUNNING, TrialState.PRUNED,
        TrialState.COMPLETE,
    ]  # fmt: skip
    found: dict[str, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        key = trial.user_attrs.get(CELL, "")
        further = order.index(trial.state) - (order.index(found[key].state) if key in found else -1)
        if further > 0 or (further == 0 and trial.state == TrialState.FAIL):
            found[key] = trial
    return {key: found[key] for key in experiment.planned() if key in found}


def unfinished(experiment: Experiment, study: optuna.Study) -> int:
    """Return how many planned trials wait, run, or failed and are to be queued anew."""
    return sum(
        trial.state in (TrialState.WAITING, TrialState.RUNNING) or _has_another_go(trial)
        for trial in attempts(experiment, study).values()
    )


def _me() -> str:
    return f"{_machine()}:{os.getpid()}:{_started(os.getpid()):.2f}"


def _machine() -> str:
    """Name this machine, or this container of it: where a process number means one process."""
    space = Path("/proc/self/ns/pid")
    return f"{platform.node()} {space.readlink() if space.exists() else ''}"


def _is_gone(worker: str) -> bool:
    """Whether a worker was on this machine and is no more."""
    machine, pid, started = worker.rsplit(":", 2) if worker else ("", "0", "0")
    if machine != _machine():
        return False
    now = _started(int(pid))
    return now is None or abs(now - float(started)) > CLOCK_S


def _started(pid: int) -> float | None:
    """Return when a process started, so that another one with its number is not taken for it."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:  # ended, and its parent has not looked yet
            return None
        return float(process.create_time())
    except psutil.NoSuchProcess:
        return None


def _pruner(experiment: Experiment) -> optuna.pruners.BasePruner:
    if experiment.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=max(1, experiment.startup_trials))
    if experiment.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner()
    return optuna.pruners.NopPruner()
