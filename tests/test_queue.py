"""The queue of trials: planned once, run once, none lost (properties, on an SQLite file).

Oracles: trials counted by hand. The same with many processes and servers is in ``test_ablate``.
"""

import contextlib
import itertools
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from optuna.distributions import FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from xpool import queue
from xpool.experiment import Experiment, Outcome, choice, grid, scale
from xpool.storage import OptunaParams, claim_lock, open_storage

FACTORS = {"frames": [1, 2, 4], "learnt": [True, False]}
PARAMS = OptunaParams(
    storage="sqlite:///.optuna/studies.db", workers=0, heartbeat_s=60, retries=2
)  # fmt: skip
COMPLETE, FAIL, RUNNING, WAITING = (
    TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING,
)  # fmt: skip


def made(**changes):
    known = {
        "study": "fake",
        "benchmark": "msvd",
        "part": "xpool",
        "space": {"frames": scale([1, 4], log=True), "learnt": choice(True, False)},
        "cells": grid(FACTORS),
        "objectives": {"R@1": "maximize"},
        "run": lambda point, lab: Outcome(figures={"R@1": 1.0}),
    }
    return Experiment(**known | changes)


def searching(tries=6, **changes):
    space = {"lr": FloatDistribution(1e-4, 1e-2, log=True), "heads": choice(1, 2, 4)}
    return made(cells=({},) * tries, space=space, startup_trials=3, **changes)


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """An empty storage to copy: making its tables takes longer than most of the tests."""
    folder = tmp_path_factory.mktemp("storage")
    with contextlib.chdir(folder):
        open_storage(PARAMS)
    return folder / ".optuna"


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch, empty):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XPOOL_STORAGE", raising=False)
    shutil.copytree(empty, ".optuna")
    Path("params.yaml").write_text("setting: mini\n")


@pytest.fixture
def lock():
    return claim_lock(PARAMS)


def opened(experiment, heartbeat_s=60):
    storage = open_storage(PARAMS.model_copy(update={"heartbeat_s": heartbeat_s}))
    return queue.open_study(experiment, storage)


def planned(experiment, lock, retries=2):
    study = opened(experiment)
    queue.plan(experiment, study, retries, lock)
    return study


def states(study):
    return [trial.state for trial in study.get_trials(deepcopy=False)]


def run_all(experiment, study, lock):
    """Run what waits; return the points in order."""
    points = []
    while trial := queue.claim(experiment, study, lock):
        points.append(queue.suggested(trial, experiment.space))
        queue.complete(study, trial, [float(len(points))], lock)
    return points


def worker_of(pid):
    return f"{queue._machine()}:{pid}:{queue._started(pid):.2f}"


@contextlib.contextmanager
def process():
    """Another process of this machine; killed and waited for at the end, if not before."""
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def taken_by(worker, experiment, study, lock):
    """A trial that some worker runs."""
    trial = queue.claim(experiment, study, lock)
    trial.set_user_attr(queue.WORKER, worker)
    return trial


def stop_heart(trial):
    """Make a trial's last heartbeat an old one, as hours of waiting would."""
    with contextlib.closing(sqlite3.connect(".optuna/studies.db")) as database, database:
        done = database.execute(
            "UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00' WHERE trial_id = ?",
            (trial._trial_id,),
        )
    assert done.rowcount == 1, "it never had a heartbeat"


def test_plan_queues_each_cell_once_with_its_values(lock):
    experiment = made()
    study = planned(experiment, lock)
    fixed = [trial.system_attrs["fixed_params"] for trial in study.trials]
    assert fixed == list(grid(FACTORS))
    assert set(states(study)) == {WAITING}
    assert {trial.user_attrs[queue.RETRIES] for trial in study.trials} == {2}


def test_planning_again_adds_nothing_whatever_became_of_the_trials(lock):
    experiment = made()
    study = planned(experiment, lock)
    queue.complete(study, queue.claim(experiment, study, lock), [1.0], lock)
    queue.prune(study, queue.claim(experiment, study, lock), lock)
    queue.claim(experiment, study, lock)
    before = states(study)
    planned(experiment, lock)
    assert states(study) == before == [COMPLETE, TrialState.PRUNED, RUNNING, *[WAITING] * 3]


def test_plan_gives_what_failed_for_good_a_new_chance_and_keeps_the_rest(lock):
    experiment = made()
    study = planned(experiment, lock)
    queue.fail(study, queue.claim(experiment, study, lock), "bad", lock, again=False)
    run_all(experiment, study, lock)
    assert queue.unfinished(experiment, study) == 0
    planned(experiment, lock)
    assert states(study) == [FAIL, *[COMPLETE] * 5, WAITING]
    again = study.trials[-1]
    assert again.user_attrs[queue.CELL] == study.trials[0].user_attrs[queue.CELL]
    assert again.user_attrs[queue.RETRIES] == 2


def test_a_grid_that_grows_keeps_what_is_done(lock):
    small = made(cells=grid({"frames": [1, 2], "learnt": [True]}))
    study = planned(small, lock)
    run_all(small, study, lock)
    large = made(space={"frames": scale([1, 32], log=True), "learnt": choice(True, False)},
                 cells=grid({"frames": [1, 2, 32], "learnt": [True]}))  # fmt: skip
    assert large.name == small.name
    study = planned(large, lock)
    assert run_all(large, study, lock) == [{"frames": 32, "learnt": True}]
    assert queue.unfinished(large, study) == 0


def test_cells_taken_out_of_a_grid_are_not_run(lock):
    """Property: the planned number holds; their trials stay where they are."""
    planned(made(), lock)
    small = made(cells=grid({"frames": [1, 2], "learnt": [True]}))
    study = planned(small, lock)
    assert len(run_all(small, study, lock)) == 2
    assert queue.unfinished(small, study) == 0
    assert states(study).count(WAITING) == 4


def test_a_worker_with_more_cells_than_were_planned_leaves_the_others_alone(lock):
    """Its params.yaml is ahead of that of the machine that planned."""
    planned(made(cells=grid({"frames": [1], "learnt": [True]})), lock)
    ahead = made()
    study = opened(ahead)
    assert len(run_all(ahead, study, lock)) == 1
    assert queue.unfinished(ahead, study) == 0
    assert len(queue.attempts(ahead, study)) == 1


def test_each_waiting_trial_is_claimed_once(lock):
    """Property: two users of the storage, in turns, get all trials and none twice."""
    experiment = made()
    studies = [planned(experiment, lock), opened(experiment)]
    claimed = []
    for study in itertools.cycle(studies):
        trial = queue.claim(experiment, study, lock)
        if trial is None:
            break
        claimed.append(trial.number)
    assert claimed == list(range(6))
    assert all(queue.claim(experiment, study, lock) is None for study in studies)


def test_a_claimed_trial_has_its_worker_and_a_heartbeat(lock):
    experiment = made()
    study = planned(experiment, lock)
    trial = queue.claim(experiment, study, lock)
    assert study.trials[0].user_attrs[queue.WORKER] == worker_of(os.getpid())
    stop_heart(trial)
    assert trial.number == 0


def test_a_worker_killed_right_after_its_claim_can_be_judged(lock, monkeypatch):
    """Before it could write down who it is, or send a heartbeat of its own."""
    experiment = made()
    study = planned(experiment, lock)

    class KilledError(BaseException):
        pass

    def killed():
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(queue, "_me", killed)
        with pytest.raises(KilledError):
            queue.claim(experiment, study, lock)
    assert states(study)[0] == RUNNING
    stop_heart(study.trials[0])
    queue.reap(experiment, study, lock)
    assert states(study) == [FAIL, *[WAITING] * 6]


def test_suggested_is_the_enqueued_point_with_its_types(lock):
    experiment = made()
    study = planned(experiment, lock)
    points = run_all(experiment, study, lock)
    assert points == list(grid(FACTORS))
    assert {type(point["frames"]) for point in points} == {int}
    assert {type(point["learnt"]) for point in points} == {bool}
    assert [trial.params for trial in study.trials] == points


@pytest.mark.parametrize("value", [0.1, 1e-05, 1 / 3, 0.07])
def test_suggested_returns_numbers_to_the_last_bit(lock, value):
    experiment = made(space={"t": scale([1e-6, value], log=True)}, cells=({"t": value},))
    study = planned(experiment, lock)
    assert run_all(experiment, study, lock) == [{"t": value}]
    assert study.trials[0].params == {"t": value}


def test_a_search_with_one_worker_is_reproducible(lock):
    """Property: the same tries in another storage get the same values, all within the space."""
    runs = []
    for part in ("a", "b"):
        experiment = searching(8)
        here = PARAMS.model_copy(update={"storage": f"sqlite:///{part}.db"})
        study = queue.open_study(experiment, open_storage(here))
        queue.plan(experiment, study, 2, lock)
        runs.append(run_all(experiment, study, lock))
    assert runs[0] == runs[1]
    assert len({point["lr"] for point in runs[0]}) == 8
    assert all(1e-4 <= point["lr"] <= 1e-2 for point in runs[0])


def test_two_searches_draw_differently(lock):
    first, second = searching(), searching(part="mean_pool")
    points = [run_all(e, planned(e, lock), lock) for e in (first, second)]
    assert not {p["lr"] for p in points[0]} & {p["lr"] for p in points[1]}


def test_a_search_learns_from_what_others_have_done(lock):
    """Smoke: with the best values near 0.001, TPE's later tries lie nearer to it than its first."""
    experiment = searching(30)
    study = planned(experiment, lock)
    far = []
    while trial := queue.claim(experiment, study, lock):
        lr = queue.suggested(trial, experiment.space)["lr"]
        far.append(abs(lr - 1e-3))
        queue.complete(study, trial, [-far[-1]], lock)
    assert sorted(far[-10:])[5] < sorted(far[:10])[5]


def test_heartbeats_are_sent_while_a_trial_runs_and_end_with_it(lock):
    experiment = made()
    study = opened(experiment, heartbeat_s=1)
    queue.plan(experiment, study, 0, lock)
    trial = queue.claim(experiment, study, lock)
    with queue.beating(study._storage, trial):
        stop_heart(trial)
        until = time.monotonic() + 30
        while study._storage._get_stale_trial_ids(study._study_id):
            assert time.monotonic() < until, "no heartbeat came"
            time.sleep(0.05)
        assert "beat" in " ".join(thread.name for thread in threading.enumerate())
    assert "beat" not in " ".join(thread.name for thread in threading.enumerate())


def test_a_heart_goes_on_after_the_storage_was_away(lock, monkeypatch):
    experiment = made()
    study = opened(experiment, heartbeat_s=1)
    queue.plan(experiment, study, 0, lock)
    trial = queue.claim(experiment, study, lock)
    calls = []

    def record(trial_id):
        calls.append(trial_id)
        if len(calls) == 1:
            raise OSError("server away")

    monkeypatch.setattr(study._storage, "record_heartbeat", record)
    with queue.beating(study._storage, trial):
        until = time.monotonic() + 30
        while len(calls) < 2:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_failed_trial_is_run_again_as_often_as_stated_with_its_error(lock):
    """Oracle: 1 + 2 attempts of the first cell, then it is left failed."""
    experiment = made(cells=grid({"frames": [1], "learnt": [True]}))
    study = planned(experiment, lock, retries=2)
    for attempt in range(3):
        trial = queue.claim(experiment, study, lock)
        assert queue.suggested(trial, experiment.space) == {"frames": 1, "learnt": True}
        queue.fail(study, trial, f"ValueError: attempt\n{attempt}", lock)
        assert queue.unfinished(experiment, study) == (attempt < 2)
        queue.reap(experiment, study, lock)
    assert queue.claim(experiment, study, lock) is None
    assert states(study) == [FAIL] * 3
    errors = [trial.user_attrs[queue.ERROR] for trial in study.trials]
    assert errors == [f"ValueError: attempt {attempt}" for attempt in range(3)]
    assert [trial.user_attrs[queue.RETRIES] for trial in study.trials] == [2, 1, 0]


def test_what_would_only_fail_again_is_not_run_again(lock):
    experiment = made(cells=grid({"frames": [1], "learnt": [True]}))
    study = planned(experiment, lock)
    queue.fail(study, queue.claim(experiment, study, lock), "no such param", lock, again=False)
    queue.reap(experiment, study, lock)
    assert states(study) == [FAIL]
    assert queue.unfinished(experiment, study) == 0


def test_a_failed_try_of_a_search_is_run_again_with_its_own_values(lock):
    experiment = searching(2)
    study = planned(experiment, lock)
    trial = queue.claim(experiment, study, lock)
    point = queue.suggested(trial, experiment.space)
    queue.fail(study, trial, "killed", lock)
    queue.reap(experiment, study, lock)
    assert run_all(experiment, study, lock)[1] == point


def test_what_failed_is_not_lost_with_whoever_was_about_to_queue_it(lock):
    """The state alone says what is to be run again: anybody's next look queues it, once."""
    experiment = made()
    study = planned(experiment, lock)
    queue.fail(study, queue.claim(experiment, study, lock), "bad", lock)
    assert queue.unfinished(experiment, study) == 6
    others = [opened(experiment) for _ in range(3)]
    for other in others:
        queue.reap(experiment, other, lock)
    assert states(study) == [FAIL, *[WAITING] * 6]


def test_reap_fails_the_trial_of_a_worker_that_is_gone_and_queues_it_anew(lock):
    experiment = made()
    study = planned(experiment, lock)
    with process() as other:
        trial = taken_by(worker_of(other.pid), experiment, study, lock)
        queue.reap(experiment, study, lock)
        assert states(study)[0] == RUNNING, "its worker was still there"
        other.kill()
        other.wait()
    queue.reap(experiment, study, lock)
    assert states(study) == [FAIL, *[WAITING] * 6]
    assert study.trials[trial.number].user_attrs[queue.ERROR] == "its worker was killed"
    assert run_all(experiment, study, lock)[-1] == {"frames": 1, "learnt": True}


def test_reap_counts_a_worker_that_nobody_has_waited_for_as_gone(lock):
    """A zombie in the sense of Unix, as a container without an init keeps them."""
    experiment = made()
    study = planned(experiment, lock)
    with process() as other:
        taken_by(worker_of(other.pid), experiment, study, lock)
        other.kill()
        until = time.monotonic() + 30
        while states(study)[0] == RUNNING:
            assert time.monotonic() < until
            queue.reap(experiment, study, lock)
    assert states(study)[0] == FAIL


def test_reap_is_not_deceived_by_another_process_with_the_same_number(lock):
    experiment = made()
    study = planned(experiment, lock)
    started = queue._started(os.getpid()) - 3600
    taken_by(f"{queue._machine()}:{os.getpid()}:{started:.2f}", experiment, study, lock)
    queue.reap(experiment, study, lock)
    assert states(study)[0] == FAIL


def test_reap_is_not_deceived_by_a_clock_that_is_set(lock):
    """The start of a process is reckoned from the machine's clock."""
    experiment = made()
    study = planned(experiment, lock)
    started = queue._started(os.getpid()) + 5
    taken_by(f"{queue._machine()}:{os.getpid()}:{started:.2f}", experiment, study, lock)
    queue.reap(experiment, study, lock)
    assert states(study)[0] == RUNNING


@pytest.mark.parametrize(
    "machine", ["elsewhere pid:[4026531836]", f"{platform.node()} pid:[1]", "elsewhere "]
)
def test_reap_leaves_other_machines_and_containers_to_their_heartbeats(lock, machine):
    experiment = made()
    study = planned(experiment, lock)
    trial = taken_by(f"{machine}:999999999:1.00", experiment, study, lock)
    queue.reap(experiment, study, lock)
    assert states(study)[0] == RUNNING
    stop_heart(trial)
    for user in (study, opened(experiment)):
        queue.reap(experiment, user, lock)
    assert states(study) == [FAIL, *[WAITING] * 6]
    assert "no sign of life" in study.trials[0].user_attrs[queue.ERROR]


def test_a_worker_declared_dead_that_still_finishes_corrupts_nothing(lock):
    """Property: its result is dropped, and the cell is queued once and run once."""
    experiment = made()
    study = planned(experiment, lock)
    zombie = queue.claim(experiment, study, lock)
    queue.suggested(zombie, experiment.space)
    stop_heart(zombie)
    queue.reap(experiment, opened(experiment), lock)
    with pytest.raises(UpdateFinishedTrialError):  # how it learns of it
        zombie.set_user_attr("curve", [])
    queue.complete(study, zombie, [99.0], lock)
    queue.prune(study, zombie, lock)
    queue.fail(study, zombie, "late", lock)
    queue.reap(experiment, study, lock)
    assert states(study) == [FAIL, *[WAITING] * 6]
    assert "no sign of life" in study.trials[0].user_attrs[queue.ERROR]
    assert study.trials[0].values is None
    assert len(run_all(experiment, study, lock)) == 6
    assert 99.0 not in [trial.value for trial in study.trials]


def test_a_trial_told_twice_keeps_the_first_word(lock):
    experiment = made()
    study = planned(experiment, lock)
    trial = queue.claim(experiment, study, lock)
    queue.complete(study, trial, [1.0], lock)
    queue.complete(study, trial, [2.0], lock)
    queue.fail(study, trial, "late", lock)
    assert study.trials[0].value == 1.0
    assert queue.ERROR not in study.trials[0].user_attrs


def attempt(study, key, state):
    """Add a trial without retries that ended in a state."""
    value = [1.0] if state == COMPLETE else None
    study.enqueue_trial({}, user_attrs={queue.CELL: key, queue.RETRIES: 0})
    trial = study.trials[-1]
    if state != WAITING:
        study._storage.set_trial_state_values(trial._trial_id, RUNNING)
    if state not in (WAITING, RUNNING):
        study._storage.set_trial_state_values(trial._trial_id, state, value)
    return trial.number


@pytest.mark.parametrize(
    ("history", "counts", "open_"),
    [
        ([FAIL], 0, 0),
        ([FAIL, WAITING], 1, 1),
        ([FAIL, RUNNING], 1, 1),
        ([FAIL, COMPLETE], 1, 0),
        ([COMPLETE, FAIL], 0, 0),
        ([COMPLETE, COMPLETE], 0, 0),  # the first: tables that were made of it stay as they are
        ([FAIL, FAIL], 1, 0),  # the last: it has the retries that are left
        ([FAIL, TrialState.PRUNED, FAIL], 1, 0),
        ([TrialState.PRUNED, COMPLETE], 1, 0),
        ([RUNNING, WAITING], 0, 1),
    ],
)
def test_the_attempt_that_got_furthest_counts(history, counts, open_):
    experiment = made(cells=grid({"frames": [1], "learnt": [True]}))
    (key,) = experiment.planned()
    study = opened(experiment)
    numbers = [attempt(study, key, state) for state in history]
    assert queue.attempts(experiment, study)[key].number == numbers[counts]
    assert queue.unfinished(experiment, study) == open_


def test_attempts_come_in_the_order_of_the_plan(lock):
    experiment = made()
    study = opened(experiment)
    for key in reversed(experiment.planned()):
        attempt(study, key, COMPLETE)
    assert list(queue.attempts(experiment, study)) == list(experiment.planned())


def test_two_objectives_are_recorded_with_their_names(lock):
    experiment = made(objectives={"R@1": "maximize", "cost_ms": "minimize"})
    study = planned(experiment, lock)
    queue.complete(study, queue.claim(experiment, study, lock), [30.0, 2.0], lock)
    assert study.trials[0].values == [30.0, 2.0]
    assert study.metric_names == ["R@1", "cost_ms"]
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]


@pytest.mark.parametrize(
    ("pruner", "kind"), [("none", "Nop"), ("median", "Median"), ("hyperband", "Hyperband")]
)
def test_the_pruner_is_the_one_that_is_named(pruner, kind):
    assert type(opened(searching(pruner=pruner)).pruner).__name__ == f"{kind}Pruner"
