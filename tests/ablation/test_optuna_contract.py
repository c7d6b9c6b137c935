"""What the queue relies on in Optuna beyond its documented use (properties).

A new version of Optuna that fails here would run a trial twice, lose one, or search other points.
"""

import ast
import contextlib
import copy
import multiprocessing
import os
import shutil
import signal
import sqlite3
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from xpool.ablation.experiment import Experiment, choice
from xpool.ablation.lab import Outcome
from xpool.ablation.queue import ERROR, WORKER, Queue
from xpool.ablation.storage import OptunaParams, claim_lock, open_storage
from xpool.project.paths import TOP

PARAMS = OptunaParams(
    storage="sqlite:///.optuna/studies.db", workers=0, heartbeat_s=60, retries=1
)  # fmt: skip
pytestmark = pytest.mark.usefixtures("in_empty_project")
DATABASE = Path(".optuna/studies.db")
PROGRAMS = [*(TOP / "xpool/ablation").glob("*.py"), TOP / "xpool/tools/dashboard.py"]


def search(tries=8):
    return Experiment(
        study="fake",
        benchmark="msvd",
        part="xpool",
        space={"lr": FloatDistribution(1e-4, 1e-2, log=True), "heads": choice(1, 2, 4)},
        cells=({},) * tries,
        objectives={"R@1": "maximize"},
        run=lambda point, lab: Outcome(figures={}),
        startup_trials=2,
    )


def opened(storage=PARAMS.storage):
    here = PARAMS.model_copy(update={"storage": storage})
    return Queue(search(), open_storage(here), claim_lock(here))


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_no_private_attribute_is_used(path):
    """Private names change without notice; only ``self`` has some that are ours."""
    private = [
        f"line {node.lineno}: {node.attr}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_")
        if not (isinstance(node.value, ast.Name) and node.value.id == "self")
        if not node.attr.startswith("__")
    ]
    assert private == []


def test_a_copied_study_has_the_same_storage_and_a_sampler_of_its_own():
    """Every claimed trial gets such a copy; a shared sampler would draw in the workers' order."""
    study = opened().study
    sampler = study.sampler
    copied = copy.copy(study)
    copied.sampler = optuna.samplers.RandomSampler(seed=0)
    assert study.sampler is sampler
    copied.enqueue_trial({"lr": 1e-3, "heads": 1})
    assert [trial.state for trial in study.trials] == [TrialState.WAITING]


def test_a_point_depends_on_the_storage_alone_and_not_on_what_a_worker_saw_before():
    """Oracle: a worker that has just opened a copy of the database.

    A stale cache of trials would make a search depend on which worker runs which try.
    """
    queue = opened()
    queue.plan(0)
    points = []
    for number in range(8):
        shutil.copy(DATABASE, f"{number}.db")
        fresh = opened(f"sqlite:///{number}.db")
        expected = fresh.suggested(fresh.claim())
        trial = queue.claim()
        points.append(queue.suggested(trial))
        assert points[-1] == expected
        queue.complete(trial, [-abs(points[-1]["lr"] - 1e-3)])
    assert len({point["lr"] for point in points}) == 8


def test_a_claim_is_refused_for_a_trial_that_runs_or_has_ended():
    queue = opened()
    queue.plan(0)
    trial = queue.claim()
    study_id = queue.storage.get_study_id_from_name(queue.study.study_name)
    trial_id = queue.storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
    assert not queue.storage.set_trial_state_values(trial_id, TrialState.RUNNING)
    queue.complete(trial, [1.0])
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        queue.storage.set_trial_state_values(trial_id, TrialState.RUNNING)


def test_stale_trials_are_those_that_run_and_have_sent_no_heartbeat_lately():
    """A heartbeat that is sent while a trial waits, as a claim does, counts once it runs."""
    queue = opened()
    queue.plan(0)
    silent, live = queue.claim(), queue.claim()
    study_id = queue.storage.get_study_id_from_name(queue.study.study_name)
    alive, waiting, claimed = (
        queue.storage.get_trial_id_from_study_id_trial_number(study_id, number)
        for number in (live.number, 2, 3)
    )
    for trial_id in (waiting, claimed):
        queue.storage.record_heartbeat(trial_id)
    with contextlib.closing(sqlite3.connect(DATABASE)) as database, database:
        database.execute("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")
    queue.storage.set_trial_state_values(claimed, TrialState.RUNNING)
    queue.storage.record_heartbeat(alive)
    optuna.storages.fail_stale_trials(queue.study)
    states = {trial.number: trial.state for trial in queue.study.trials}
    assert states[silent.number] == TrialState.FAIL
    assert states[live.number] == TrialState.RUNNING
    assert states[2] == TrialState.WAITING
    assert states[3] == TrialState.FAIL


def claim_and_be_killed(method):
    """Claim a trial, in a process of its own, and be killed once a write of the claim is done."""
    queue = opened()
    real = getattr(RDBStorage, method)

    def killed(*arguments, **options):
        real(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(RDBStorage, method, killed)
    queue.claim()


@pytest.mark.parametrize(
    ("method", "errors"),
    [
        ("record_heartbeat", {}),
        ("set_trial_user_attr", {}),
        ("set_trial_state_values", {0: "its worker was killed"}),
    ],
)
def test_a_worker_killed_at_any_moment_of_its_claim_leaves_no_trial_running(method, errors):
    """SIGKILL after each of the three writes of a claim; its successor does not have to wait."""
    queue = opened()
    queue.plan(1)
    worker = multiprocessing.get_context("fork").Process(target=claim_and_be_killed, args=(method,))
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    assert (WORKER in queue.study.trials[0].user_attrs) == (method != "record_heartbeat")
    queue.reap()
    assert queue.unfinished() == 8
    found = {trial.number: trial.user_attrs.get(ERROR) for trial in queue.study.trials}
    assert {number: error for number, error in found.items() if error} == errors
    ran = 0
    while trial := queue.claim():
        queue.complete(trial, [1.0])
        ran += 1
    assert (ran, queue.unfinished()) == (8, 0)
