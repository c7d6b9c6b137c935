"""The queue of trials: planned once, run once, none lost (properties, on an SQLite file).

Oracles: trials counted by hand. The same with many processes and servers is in ``test_driver``.
"""

import contextlib
import itertools
import os
import platform
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from optuna.distributions import FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from xpool.ablation.experiment import Experiment, choice, grid, scale
from xpool.ablation.lab import Outcome
from xpool.ablation.queue import (
    CELL,
    ERROR,
    RETRIES,
    SILENT,
    WORKER,
    Queue,
    _machine,
    _started_s,
    error_of,
)
from xpool.ablation.storage import OptunaParams, claim_lock, open_storage

FACTORS = {"frames": [1, 2, 4], "learnt": [True, False]}
PARAMS = OptunaParams(
    storage="sqlite:///.optuna/studies.db", workers=0, heartbeat_s=60, retries=2
)  # fmt: skip
pytestmark = pytest.mark.usefixtures("in_empty_project")
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


def opened(experiment, heartbeat_s=60):
    storage = open_storage(PARAMS.model_copy(update={"heartbeat_s": heartbeat_s}))
    return Queue(experiment, storage, claim_lock(PARAMS))


def planned(experiment, retries=2):
    queue = opened(experiment)
    queue.plan(retries)
    return queue


def states(queue):
    return [trial.state for trial in queue.study.get_trials(deepcopy=False)]


def run_all(queue):
    """Run what waits; return the points in order."""
    points = []
    while trial := queue.claim():
        points.append(queue.suggested(trial))
        queue.complete(trial, [float(len(points))])
    return points


def worker_of(pid):
    return f"{_machine()}:{pid}:{_started_s(pid):.2f}"


@contextlib.contextmanager
def process():
    """Another process of this machine; killed and waited for at the end, if not before."""
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def taken_by(worker, queue):
    """A trial that some worker runs."""
    trial = queue.claim()
    trial.set_user_attr(WORKER, worker)
    return trial


def stop_heart(trial):
    """Make a trial's last heartbeat an old one, as hours of waiting would."""
    with contextlib.closing(sqlite3.connect(".optuna/studies.db")) as database, database:
        done = database.execute(
            "UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00' WHERE trial_id = ?",
            (trial._trial_id,),  # the database knows it by this number alone
        )
    assert done.rowcount == 1, "it never had a heartbeat"


def test_plan_queues_each_cell_once_with_its_values():
    experiment = made()
    queue = planned(experiment)
    fixed = [trial.system_attrs["fixed_params"] for trial in queue.study.trials]
    assert fixed == list(grid(FACTORS))
    assert set(states(queue)) == {WAITING}
    assert {trial.user_attrs[RETRIES] for trial in queue.study.trials} == {2}


def test_planning_again_adds_nothing_whatever_became_of_the_trials():
    experiment = made()
    queue = planned(experiment)
    queue.complete(queue.claim(), [1.0])
    queue.prune(queue.claim())
    queue.claim()
    before = states(queue)
    planned(experiment)
    assert states(queue) == before == [COMPLETE, TrialState.PRUNED, RUNNING, *[WAITING] * 3]


def test_plan_gives_what_failed_for_good_a_new_chance_and_keeps_the_rest():
    experiment = made()
    queue = planned(experiment)
    queue.fail(queue.claim(), "bad", again=False)
    run_all(queue)
    assert queue.unfinished() == 0
    planned(experiment)
    assert states(queue) == [FAIL, *[COMPLETE] * 5, WAITING]
    again = queue.study.trials[-1]
    assert again.user_attrs[CELL] == queue.study.trials[0].user_attrs[CELL]
    assert again.user_attrs[RETRIES] == 2


def test_a_grid_that_grows_keeps_what_is_done():
    small = made(cells=grid({"frames": [1, 2], "learnt": [True]}))
    queue = planned(small)
    run_all(queue)
    large = made(space={"frames": scale([1, 32], log=True), "learnt": choice(True, False)},
                 cells=grid({"frames": [1, 2, 32], "learnt": [True]}))  # fmt: skip
    assert large.name == small.name
    queue = planned(large)
    assert run_all(queue) == [{"frames": 32, "learnt": True}]
    assert queue.unfinished() == 0


def test_cells_taken_out_of_a_grid_are_not_run():
    """Property: the planned number holds; their trials stay where they are."""
    planned(made())
    small = made(cells=grid({"frames": [1, 2], "learnt": [True]}))
    queue = planned(small)
    assert len(run_all(queue)) == 2
    assert queue.unfinished() == 0
    assert states(queue).count(WAITING) == 4


def test_a_worker_with_more_cells_than_were_planned_leaves_the_others_alone():
    """Its params.yaml is ahead of that of the machine that planned."""
    planned(made(cells=grid({"frames": [1], "learnt": [True]})))
    ahead = made()
    queue = opened(ahead)
    assert len(run_all(queue)) == 1
    assert queue.unfinished() == 0
    assert len(queue.attempts()) == 1


def test_each_waiting_trial_is_claimed_once():
    """Property: two users of the storage, in turns, get all trials and none twice."""
    experiment = made()
    queues = [planned(experiment), opened(experiment)]
    claimed = []
    for queue in itertools.cycle(queues):
        trial = queue.claim()
        if trial is None:
            break
        claimed.append(trial.number)
    assert claimed == list(range(6))
    assert all(queue.claim() is None for queue in queues)


def test_a_claimed_trial_has_its_worker_and_a_heartbeat():
    experiment = made()
    queue = planned(experiment)
    trial = queue.claim()
    assert queue.study.trials[0].user_attrs[WORKER] == worker_of(os.getpid())
    stop_heart(trial)
    assert trial.number == 0


@pytest.mark.parametrize("moment", ["record_heartbeat", "set_trial_user_attr"])
def test_a_worker_killed_before_its_claim_leaves_the_trial_waiting(monkeypatch, moment):
    """SIGKILL right after the storage did what a claim does first."""
    queue = planned(made())
    killed_after(moment, queue, monkeypatch)
    assert set(states(queue)) == {WAITING}
    assert opened(made()).claim().number == 0


def test_a_worker_killed_right_after_its_claim_can_be_judged(monkeypatch):
    """Its heartbeat and its name are in the storage before the trial runs."""
    queue = planned(made())
    killed_after("set_trial_state_values", queue, monkeypatch)
    assert states(queue)[0] == RUNNING
    assert queue.study.trials[0].user_attrs[WORKER] == worker_of(os.getpid())
    stop_heart(queue.study.trials[0])
    queue.reap()
    assert states(queue) == [FAIL, *[WAITING] * 6]


def killed_after(method, queue, monkeypatch):
    """Claim a trial, and end at once when a method of the storage has done its work."""

    class KilledError(BaseException):
        pass

    real = getattr(queue.storage, method)

    def killed(*arguments):
        real(*arguments)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(queue.storage, method, killed)
        with pytest.raises(KilledError):
            queue.claim()


def test_suggested_is_the_enqueued_point_with_its_types():
    experiment = made()
    queue = planned(experiment)
    points = run_all(queue)
    assert points == list(grid(FACTORS))
    assert {type(point["frames"]) for point in points} == {int}
    assert {type(point["learnt"]) for point in points} == {bool}
    assert [trial.params for trial in queue.study.trials] == points


@pytest.mark.parametrize("value", [0.1, 1e-05, 1 / 3, 0.07])
def test_suggested_returns_numbers_to_the_last_bit(value):
    experiment = made(space={"t": scale([1e-6, value], log=True)}, cells=({"t": value},))
    queue = planned(experiment)
    assert run_all(queue) == [{"t": value}]
    assert queue.study.trials[0].params == {"t": value}


def test_a_search_with_one_worker_is_reproducible():
    """Property: the same tries in another storage get the same values, all within the space."""
    runs = []
    for part in ("a", "b"):
        experiment = searching(8)
        here = PARAMS.model_copy(update={"storage": f"sqlite:///{part}.db"})
        queue = Queue(experiment, open_storage(here), claim_lock(PARAMS))
        queue.plan(2)
        runs.append(run_all(queue))
    assert runs[0] == runs[1]
    assert len({point["lr"] for point in runs[0]}) == 8
    assert all(1e-4 <= point["lr"] <= 1e-2 for point in runs[0])


def test_two_searches_draw_differently():
    first, second = searching(), searching(part="mean_pool")
    points = [run_all(planned(e)) for e in (first, second)]
    assert not {p["lr"] for p in points[0]} & {p["lr"] for p in points[1]}


def test_a_search_learns_from_what_others_have_done():
    """Smoke: with the best values near 0.001, TPE's later tries lie nearer to it than its first."""
    experiment = searching(30)
    queue = planned(experiment)
    far = []
    while trial := queue.claim():
        lr = queue.suggested(trial)["lr"]
        far.append(abs(lr - 1e-3))
        queue.complete(trial, [-far[-1]])
    assert sorted(far[-10:])[5] < sorted(far[:10])[5]


def test_heartbeats_are_sent_while_a_trial_runs_and_end_with_it():
    experiment = made()
    queue = opened(experiment, heartbeat_s=1)
    queue.plan(0)
    trial = queue.claim()
    with queue.beating(trial):
        stop_heart(trial)
        until = time.monotonic() + 30
        while is_stale(queue):
            assert time.monotonic() < until, "no heartbeat came"
            time.sleep(0.05)
        assert "beat" in " ".join(thread.name for thread in threading.enumerate())
    assert "beat" not in " ".join(thread.name for thread in threading.enumerate())


def is_stale(queue):
    """Whether the last heartbeat is the old one of :func:`stop_heart`."""
    with contextlib.closing(sqlite3.connect(".optuna/studies.db")) as database:
        (found,) = database.execute("SELECT max(heartbeat) FROM trial_heartbeats").fetchone()
    return str(found).startswith("2020")


def test_a_heart_goes_on_after_the_storage_was_away(monkeypatch):
    experiment = made()
    queue = opened(experiment, heartbeat_s=1)
    queue.plan(0)
    trial = queue.claim()
    calls = []

    def record(trial_id):
        calls.append(trial_id)
        if len(calls) == 1:
            raise OSError("server away")

    monkeypatch.setattr(queue.storage, "record_heartbeat", record)
    with queue.beating(trial):
        until = time.monotonic() + 30
        while len(calls) < 2:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_failed_trial_is_run_again_as_often_as_stated_with_its_error():
    """Oracle: 1 + 2 attempts of the first cell, then it is left failed."""
    experiment = made(cells=grid({"frames": [1], "learnt": [True]}))
    queue = planned(experiment, retries=2)
    for attempt in range(3):
        trial = queue.claim()
        assert queue.suggested(trial) == {"frames": 1, "learnt": True}
        queue.fail(trial, f"ValueError: attempt\n{attempt}")
        assert queue.unfinished() == (attempt < 2)
        queue.reap()
    assert queue.claim() is None
    assert states(queue) == [FAIL] * 3
    errors = [trial.user_attrs[ERROR] for trial in queue.study.trials]
    assert errors == [f"ValueError: attempt {attempt}" for attempt in range(3)]
    assert [trial.user_attrs[RETRIES] for trial in queue.study.trials] == [2, 1, 0]


def test_what_would_only_fail_again_is_not_run_again():
    experiment = made(cells=grid({"frames": [1], "learnt": [True]}))
    queue = planned(experiment)
    queue.fail(queue.claim(), "no such param", again=False)
    queue.reap()
    assert states(queue) == [FAIL]
    assert queue.unfinished() == 0


def test_a_failed_try_of_a_search_is_run_again_with_its_own_values():
    experiment = searching(2)
    queue = planned(experiment)
    trial = queue.claim()
    point = queue.suggested(trial)
    queue.fail(trial, "killed")
    queue.reap()
    assert run_all(queue)[1] == point


def test_what_failed_is_not_lost_with_whoever_was_about_to_queue_it():
    """The state alone says what is to be run again: anybody's next look queues it, once."""
    experiment = made()
    queue = planned(experiment)
    queue.fail(queue.claim(), "bad")
    assert queue.unfinished() == 6
    others = [opened(experiment) for _ in range(3)]
    for other in others:
        other.reap()
    assert states(queue) == [FAIL, *[WAITING] * 6]


def test_reap_fails_the_trial_of_a_worker_that_is_gone_and_queues_it_anew():
    experiment = made()
    queue = planned(experiment)
    with process() as other:
        trial = taken_by(worker_of(other.pid), queue)
        queue.reap()
        assert states(queue)[0] == RUNNING, "its worker was still there"
        other.kill()
        other.wait()
    queue.reap()
    assert states(queue) == [FAIL, *[WAITING] * 6]
    assert queue.study.trials[trial.number].user_attrs[ERROR] == "its worker was killed"
    assert run_all(queue)[-1] == {"frames": 1, "learnt": True}


def test_reap_counts_a_worker_that_nobody_has_waited_for_as_gone():
    """A zombie in the sense of Unix, as a container without an init keeps them."""
    experiment = made()
    queue = planned(experiment)
    with process() as other:
        taken_by(worker_of(other.pid), queue)
        other.kill()
        until = time.monotonic() + 30
        while states(queue)[0] == RUNNING:
            assert time.monotonic() < until
            queue.reap()
    assert states(queue)[0] == FAIL


def test_reap_is_not_deceived_by_another_process_with_the_same_number():
    experiment = made()
    queue = planned(experiment)
    started = _started_s(os.getpid()) - 3600
    taken_by(f"{_machine()}:{os.getpid()}:{started:.2f}", queue)
    queue.reap()
    assert states(queue)[0] == FAIL


def test_reap_is_not_deceived_by_a_clock_that_is_set():
    """The start of a process is reckoned from the machine's clock."""
    experiment = made()
    queue = planned(experiment)
    started = _started_s(os.getpid()) + 5
    taken_by(f"{_machine()}:{os.getpid()}:{started:.2f}", queue)
    queue.reap()
    assert states(queue)[0] == RUNNING


@pytest.mark.parametrize(
    "machine", ["elsewhere pid:[4026531836]", f"{platform.node()} pid:[1]", "elsewhere "]
)
def test_reap_leaves_other_machines_and_containers_to_their_heartbeats(machine):
    experiment = made()
    queue = planned(experiment)
    trial = taken_by(f"{machine}:999999999:1.00", queue)
    queue.reap()
    assert states(queue)[0] == RUNNING
    stop_heart(trial)
    for user in (queue, opened(experiment)):
        user.reap()
    assert states(queue) == [FAIL, *[WAITING] * 6]
    assert error_of(queue.study.trials[0]) == SILENT


def test_a_worker_declared_dead_that_still_finishes_corrupts_nothing():
    """Property: its result is dropped, and the cell is queued once and run once."""
    experiment = made()
    queue = planned(experiment)
    late = queue.claim()
    queue.suggested(late)
    stop_heart(late)
    opened(experiment).reap()
    with pytest.raises(UpdateFinishedTrialError):  # how it learns of it
        late.set_user_attr("curve", [])
    queue.complete(late, [99.0])
    queue.prune(late)
    queue.fail(late, "too late")
    queue.reap()
    assert states(queue) == [FAIL, *[WAITING] * 6]
    assert error_of(queue.study.trials[0]) == SILENT
    assert queue.study.trials[0].values is None
    assert len(run_all(queue)) == 6
    assert 99.0 not in [trial.value for trial in queue.study.trials]


def test_a_trial_told_twice_keeps_the_first_word():
    experiment = made()
    queue = planned(experiment)
    trial = queue.claim()
    queue.complete(trial, [1.0])
    queue.complete(trial, [2.0])
    queue.fail(trial, "late")
    assert queue.study.trials[0].value == 1.0
    assert ERROR not in queue.study.trials[0].user_attrs


def attempt(queue, key, state):
    """Add a trial without retries that ended in a state."""
    value = [1.0] if state == COMPLETE else None
    queue.study.enqueue_trial({}, user_attrs={CELL: key, RETRIES: 0})
    trial = queue.study.trials[-1]
    if state != WAITING:
        queue.storage.set_trial_state_values(trial._trial_id, RUNNING)
    if state not in (WAITING, RUNNING):
        queue.storage.set_trial_state_values(trial._trial_id, state, value)
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
    queue = opened(experiment)
    numbers = [attempt(queue, key, state) for state in history]
    assert queue.attempts()[key].number == numbers[counts]
    assert queue.unfinished() == open_


def test_attempts_come_in_the_order_of_the_plan():
    experiment = made()
    queue = opened(experiment)
    for key in reversed(experiment.planned()):
        attempt(queue, key, COMPLETE)
    assert list(queue.attempts()) == list(experiment.planned())


def test_two_objectives_are_recorded_with_their_names():
    experiment = made(objectives={"R@1": "maximize", "cost_ms": "minimize"})
    queue = planned(experiment)
    queue.complete(queue.claim(), [30.0, 2.0])
    assert queue.study.trials[0].values == [30.0, 2.0]
    assert queue.study.metric_names == ["R@1", "cost_ms"]
    assert [d.name for d in queue.study.directions] == ["MAXIMIZE", "MINIMIZE"]


@pytest.mark.parametrize(
    ("pruner", "kind"), [("none", "Nop"), ("median", "Median"), ("hyperband", "Hyperband")]
)
def test_the_pruner_is_the_one_that_is_named(pruner, kind):
    assert type(opened(searching(pruner=pruner)).study.pruner).__name__ == f"{kind}Pruner"
