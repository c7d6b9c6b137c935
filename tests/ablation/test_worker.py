"""What a worker does with one trial, and with all of them (properties; in this process).

Oracles: what Optuna's storage holds afterwards, and files on disk. Many processes: ``test_driver``.
"""

from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from xpool.ablation import worker
from xpool.ablation.experiment import Experiment, grid, scale
from xpool.ablation.lab import Lab, Outcome
from xpool.ablation.queue import ERROR, Queue
from xpool.ablation.storage import OptunaParams, claim_lock, open_storage
from xpool.ablation.worker import run_trial, work
from xpool.project.errors import InputError
from xpool.tools import study_worker

PARAMS = OptunaParams(
    storage="sqlite:///.optuna/studies.db", workers=0, heartbeat_s=60, retries=2
)  # fmt: skip


@pytest.fixture(autouse=True)
def _alone(in_empty_project, monkeypatch):
    monkeypatch.setattr(worker, "IDLE_S", 0.0)


@pytest.fixture
def lock():
    return claim_lock(PARAMS)


def made(run, values=(1,), **changes):
    known = {
        "study": "fake",
        "benchmark": "msvd",
        "part": "xpool",
        "space": {"x": scale([0, 9])},
        "cells": grid({"x": list(values)}),
        "objectives": {"R@1": "maximize"},
    }
    return Experiment(**known | changes, run=run)


def planned(experiment, lock, retries=2):
    queue = Queue(experiment, open_storage(PARAMS), lock)
    queue.plan(retries)
    return queue


def run_one(experiment, lock, retries=2, **options):
    """Run the next trial; return it as the storage has it."""
    queue = planned(experiment, lock, retries)
    trial = queue.claim()
    run_trial(queue, trial, Lab(), **options)
    return queue.study.trials[trial.number]


def good(point, lab):
    return Outcome(figures={"R@1": 10.0 * point["x"], "MnR": 2.0})


def row(step, recall):
    return {"step": step, "epoch": step / 2, "loss": 1.0 / step, "R@1": recall, "MnR": 3.0}


def test_a_trial_is_recorded_with_figures_artifacts_time_and_origin(lock):
    def run(point, lab):
        (lab.folder / "note.txt").write_text("seen")
        return Outcome(figures={"R@1": 30.0, "MnR": 2.0}, artifacts=(lab.folder / "note.txt",))

    trial = run_one(made(run), lock)
    assert trial.state == TrialState.COMPLETE
    assert trial.values == [30.0]
    assert (trial.user_attrs["R@1"], trial.user_attrs["MnR"]) == (30.0, 2.0)
    assert trial.user_attrs["seconds"] >= 0
    assert set(trial.user_attrs["made with"]) == {"commit", "params", "device", "versions"}
    (stored,) = Path(".optuna/artifacts").iterdir()
    assert stored.read_text() == "seen"
    assert not list(Path(".work/trials").rglob("note.txt")), "its folder goes with the trial"


def test_an_error_is_recorded_and_the_trial_run_again_as_often_as_stated(lock):
    tries = []

    def run(point, lab):
        tries.append(point["x"])
        raise ValueError("no good\nat all")

    experiment = made(run, values=(1, 2))
    queue = planned(experiment, lock, retries=2)
    assert work([queue]) == 6
    assert sorted(tries) == [1, 1, 1, 2, 2, 2]
    assert {t.user_attrs[ERROR] for t in queue.study.trials} == {"ValueError: no good at all"}
    assert {trial.state for trial in queue.study.trials} == {TrialState.FAIL}


def test_a_trial_that_fails_once_succeeds_in_its_retry(lock):
    tries = []

    def run(point, lab):
        tries.append(point["x"])
        if len(tries) == 1:
            raise OSError("away")
        return good(point, lab)

    experiment = made(run, values=(1, 2))
    queue = planned(experiment, lock)
    assert work([queue]) == 3
    assert tries == [1, 2, 1]
    assert [t.value for t in queue.attempts().values()] == [10.0, 20.0]


def test_an_input_error_is_not_tried_again(lock):
    def run(point, lab):
        raise InputError("params.yaml: train.frames: no such value")

    experiment = made(run)
    queue = planned(experiment, lock)
    assert work([queue]) == 1
    assert queue.study.trials[0].user_attrs[ERROR] == "params.yaml: train.frames: no such value"


@pytest.mark.parametrize(
    ("figures", "error"),
    [({"R@1": float("nan")}, "ValueError: R@1 is nan"), ({"MnR": 1.0}, "KeyError: 'R@1'")],
)
def test_an_outcome_without_a_finite_objective_is_a_failure(lock, figures, error):
    trial = run_one(made(lambda point, lab: Outcome(figures=figures)), lock)
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs[ERROR] == error


def test_ctrl_c_ends_the_worker_and_leaves_the_trial_to_be_run_again(lock):
    def run(point, lab):
        raise KeyboardInterrupt

    experiment = made(run)
    queue = planned(experiment, lock)
    with pytest.raises(KeyboardInterrupt):
        work([queue])
    assert queue.study.trials[0].user_attrs[ERROR] == "interrupted"
    assert queue.unfinished() == 1


def test_unfinished_work_is_there_for_the_next_try_of_the_same_point_alone(lock):
    """A killed try has another number than the one that goes on with its training."""
    seen = []

    def run(point, lab):
        left = sorted(path.name for path in lab.folder.iterdir())
        seen.append((point["x"], left))
        (lab.folder / f"step-{len(seen)}").touch()
        if len(seen) == 1:
            raise OSError("away")
        return good(point, lab)

    experiment = made(run, values=(1, 2))
    work([planned(experiment, lock)])
    assert seen == [(1, []), (2, []), (1, ["step-1"])]


@pytest.mark.parametrize("error", [optuna.TrialPruned, InputError])
def test_work_that_nothing_goes_on_from_is_removed(lock, error):
    def run(point, lab):
        (lab.folder / "step-1").touch()
        raise error

    run_one(made(run), lock)
    assert not list(Path(".work/trials").rglob("step-1"))


def test_two_that_are_at_the_same_point_have_folders_of_their_own(lock):
    """One was given up, and is still alive: what it writes must not meet its successor's files."""
    folders = []

    def run(point, lab):
        folders.append(lab.folder)
        if len(folders) == 1:
            other = made(run, values=(1,))
            queue = Queue(other, open_storage(PARAMS), lock)
            queue.fail(queue.study.trials[0], "no sign of life")
            queue.reap()
            run_trial(queue, queue.claim(), Lab())
        assert lab.folder.is_dir()
        return good(point, lab)

    experiment = made(run)
    first = run_one(experiment, lock)
    assert len(set(folders)) == 2
    assert first.state == TrialState.FAIL
    queue = Queue(experiment, open_storage(PARAMS), lock)
    assert [t.state for t in queue.study.trials] == [TrialState.FAIL, TrialState.COMPLETE]


@pytest.mark.parametrize("how", ["reports", "ends", "fails", "is pruned"])
def test_a_worker_given_up_by_others_drops_its_trial_and_goes_on(lock, how):
    """Oracle: the cell is complete once, by the successor; the worker ran every other cell too."""
    tries = []

    def run(point, lab):
        tries.append(point["x"])
        if len(tries) == 1:
            queue = Queue(experiment, open_storage(PARAMS), lock)
            queue.fail(queue.study.trials[0], "no sign of life")
            if how == "reports":
                lab.report(row(1, 5.0))
            if how == "fails":
                raise ValueError("late")
            if how == "is pruned":
                raise optuna.TrialPruned
        return good(point, lab)

    experiment = made(run, values=(1, 2))
    queue = planned(experiment, lock)
    assert work([queue]) == 3
    assert tries == [1, 2, 1]
    assert queue.study.trials[0].user_attrs[ERROR] == "no sign of life"
    states = [trial.state.name for trial in queue.study.trials]
    assert states == ["FAIL", "COMPLETE", "COMPLETE"]


def test_each_evaluation_is_reported(lock):
    def run(point, lab):
        for step in (1, 2, 3):
            lab.report(row(step, 10.0 * step))
        return good(point, lab)

    trial = run_one(made(run), lock)
    assert trial.intermediate_values == {1: 10.0, 2: 20.0, 3: 30.0}
    assert [point["R@1"] for point in trial.user_attrs["curve"]] == [10.0, 20.0, 30.0]
    assert set(trial.user_attrs["curve"][0]) == {"epoch", "loss", "R@1"}


def test_each_evaluation_is_reported_with_two_objectives_too(lock):
    def run(point, lab):
        lab.report(row(1, 10.0))
        return Outcome(figures={"R@1": 1.0, "cost_ms": 2.0})

    trial = run_one(made(run, objectives={"R@1": "maximize", "cost_ms": "minimize"}), lock)
    assert trial.values == [1.0, 2.0]
    assert [point["R@1"] for point in trial.user_attrs["curve"]] == [10.0]


@pytest.mark.parametrize("pruner", ["none", "median", "hyperband"])
def test_a_search_prunes_what_falls_behind_within_the_planned_number(lock, pruner):
    """The first tries are good and all later ones bad: with a pruner some of these end early."""
    ran = []

    def run(point, lab):
        ran.append(point)
        level = 50.0 if len(ran) <= 4 else 1.0
        for step in range(1, 10):
            lab.report(row(step, level + step))
        return Outcome(figures={"R@1": level})

    search = made(
        run, cells=({},) * 10, space={"x": FloatDistribution(0.0, 1.0)}, startup_trials=4,
        pruner=pruner,
    )  # fmt: skip
    queue = planned(search, lock)
    assert work([queue]) == 10
    states = [trial.state.name for trial in queue.study.trials]
    assert states[:4] == ["COMPLETE"] * 4
    assert ("PRUNED" in states) == (pruner != "none")
    assert set(states) <= {"COMPLETE", "PRUNED"}
    if pruner == "median":
        assert states[4:] == ["PRUNED"] * 6
        assert list(queue.study.trials[9].intermediate_values) == [1], (
            "it went on after it was pruned"
        )


def test_a_worker_waits_for_trials_that_run_elsewhere(lock, monkeypatch):
    """Its worker may be lost, and then they are this one's to run."""
    experiment = made(good, values=(1,))
    queue = planned(experiment, lock)
    elsewhere = queue.claim()
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            queue.fail(elsewhere, "its worker was killed")

    monkeypatch.setattr(worker.time, "sleep", sleep)
    assert work([queue]) == 1
    assert len(looks) >= 3
    assert [t.state.name for t in queue.study.trials] == ["FAIL", "COMPLETE"]


def test_all_experiments_of_a_study_are_worked_on_in_turn(lock):
    order = []

    def run(point, lab):
        order.append(point["x"])
        return good(point, lab)

    queues = [planned(made(run, (1, 2), part=part), lock) for part in ("one", "two")]
    assert work(queues) == 4
    assert order == [1, 2, 1, 2]
    assert work(queues) == 0


def test_a_study_that_nobody_planned_is_refused(monkeypatch):
    experiment = made(good)
    monkeypatch.setattr(worker, "experiments_of", lambda name: [experiment])
    with pytest.raises(InputError, match=rf"no study {experiment.name} there.*dvc repro ablate@f"):
        study_worker.main(study=["fake"])
