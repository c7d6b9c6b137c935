"""Studies as users run them: many processes, killed and continued; nothing twice, nothing lost.

Oracle: the log that the trials of ``fake_study`` write themselves, and what Optuna's storage holds.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import chdir
from pathlib import Path
from types import SimpleNamespace

import optuna
import pandas as pd
import pytest
import torch
import yaml
from optuna.trial import TrialState
from projects import Project

from xpool.ablation import driver, export
from xpool.ablation.experiment import Experiment, choice, grid, scale
from xpool.ablation.lab import Outcome
from xpool.ablation.queue import ERROR, RETRIES, Queue
from xpool.ablation.storage import OptunaParams, claim_lock, open_storage
from xpool.project.errors import InputError

pytest_plugins = ["postgres"]
VALUES = 8
WAIT_S = 240  # four processes start slowly on a busy machine


class FakeProject(Project):
    """A copy of the project with the fake study: a file and a block, and nothing else."""

    def __init__(self, folder, **optuna_params):
        super().__init__(folder)
        shutil.copy(Path(__file__).parents[1] / "fake_study.py", folder / "studies" / "fake.py")
        known = {"storage": "sqlite:///.optuna/studies.db", "workers": 2, "retries": 1}
        known["heartbeat_s"] = 60
        block = {"benchmarks": ["msvd"], "seeds": [0], "epochs": 1, "offset": 0.5}
        path = folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        params["optuna"] = known | optuna_params
        params["ablations"]["fake"] = block | {"values": list(range(VALUES))}
        path.write_text(yaml.safe_dump(params, sort_keys=False))
        self.processes = []

    def start(self, command):
        """Start ``xpool <command> --study fake``; its output goes to a file."""
        log = self.folder / f"{command}-{len(self.processes)}.out"
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "xpool", command, "--study", "fake"], cwd=self.folder,
                env=self.environment | {"OMP_NUM_THREADS": "1"}, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        process.log = log
        self.processes.append(process)
        return process

    def ablate(self, status=0):
        """Run the stage's command to its end; return what it printed."""
        process = self.start("ablate")
        assert process.wait(timeout=WAIT_S) == status, process.log.read_text()[-6000:]
        return process.log.read_text()

    def said(self):
        """Words of each line of the trials' log: start or end, value, process."""
        log = self.folder / "log.txt"
        return [line.split() for line in log.read_text().splitlines()] if log.exists() else []

    def ended(self):
        """How often each value came to its end."""
        return Counter(int(value) for word, value, _ in self.said() if word == "end")

    def started(self):
        """How often each value was begun."""
        return Counter(int(value) for word, value, _ in self.said() if word == "start")

    def table(self):
        """The stage's table, as bytes and as a frame."""
        path = self.folder / "results/mini/studies/fake/trials.csv"
        return path.read_bytes(), pd.read_csv(path)

    def trials(self):
        """All trials of all experiments in the storage."""
        params = yaml.safe_load((self.folder / "params.yaml").read_text())["optuna"]
        with chdir(self.folder):
            storage = open_storage(OptunaParams(**params))
            names = optuna.get_all_study_names(storage)
            studies = [optuna.load_study(study_name=name, storage=storage) for name in names]
            return [trial for study in studies for trial in study.get_trials()]

    def until(self, seen):
        """Wait for something; all that was started must go on meanwhile."""
        deadline = time.monotonic() + WAIT_S
        while not (found := seen()):
            for process in self.processes:
                assert not process.poll(), process.log.read_text()[-6000:]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return found

    def kill_all(self):
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def make(tmp_path):
    """Return what makes a project, and end all of its processes."""
    made = []

    def project(**optuna_params):
        made.append(FakeProject(tmp_path / "project", **optuna_params))
        return made[-1]

    yield project
    for project in made:
        project.kill_all()


def expected_cells(values=VALUES):
    return {first + value for first in (0, 1000) for value in range(values)}


def assert_each_cell_once(project, cells, failed):
    """Each planned trial is complete once, ended once, and just so many attempts failed."""
    trials = project.trials()
    complete = Counter(t.params["value"] for t in trials if t.state == TrialState.COMPLETE)
    assert complete == dict.fromkeys(cells, 1)
    assert project.ended() == dict.fromkeys(cells, 1)
    others = [trial for trial in trials if trial.state != TrialState.COMPLETE]
    assert [trial.state for trial in others] == [TrialState.FAIL] * failed
    return others


@pytest.mark.slow
def test_four_workers_on_one_server_and_one_of_them_killed(make, postgres_url):
    """No trial is completed twice and none is lost; the planned number holds in all."""
    project = make(storage=postgres_url, workers=1)
    (project.folder / "hold").touch()
    driver = project.start("ablate")
    project.until(lambda: "16 trials planned" in driver.log.read_text())
    workers = [project.start("study-worker") for _ in range(3)]

    def all_in_mid_trial():
        return len({process for _, _, process in project.said()}) == 4

    project.until(all_in_mid_trial)
    killed = workers.pop(1)
    (lost,) = [int(value) for _, value, process in project.said() if int(process) == killed.pid]
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    project.processes.remove(killed)
    (project.folder / "hold").unlink()
    for process in (driver, *workers):
        assert process.wait(timeout=WAIT_S) == 0, process.log.read_text()[-6000:]
    (failed,) = assert_each_cell_once(project, expected_cells(), failed=1)
    assert failed.params["value"] == lost
    assert failed.user_attrs[ERROR] == "its worker was killed"
    assert project.started() == dict.fromkeys(expected_cells(), 1) | {lost: 2}
    logs = [process.log.read_text() for process in (driver, *workers)]
    assert ["and all are done" in log for log in logs] == [True] * 3
    _, table = project.table()
    assert sorted(table["value"]) == sorted(expected_cells())
    assert set(table["state"]) == {"complete"}


@pytest.mark.slow
def test_a_study_is_killed_continued_failed_fixed_grown_and_repeated(make):
    """One life of a study on an SQLite file, in the order in which a user meets these."""
    project = make()
    for file in ("hold-0", "hold-1002", "hold-1003", "fail-1"):
        (project.folder / file).touch()
    driver = project.start("ablate")
    # one worker is held at the first trial until the other one has done all else of the first part,
    # and so has queued the failed one anew: else both may be in the second part by then
    project.until(lambda: project.started()[1002])
    (project.folder / "hold-0").unlink()
    project.until(lambda: project.started()[1003])
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    project.processes.clear()
    deadline = time.monotonic() + WAIT_S
    while project._orphans():
        assert time.monotonic() < deadline, "workers went on without their stage"
        time.sleep(0.05)
    done = set(project.ended())
    assert not (project.folder / "results/mini/studies/fake").exists()

    (project.folder / "hold-1002").unlink()
    (project.folder / "hold-1003").unlink()
    output = project.ablate(status=2)
    (error,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert '"value": 1}' in error
    assert "failed: ValueError: bad value 1; fix the cause and run the same command again" in error
    assert project.ended() == dict.fromkeys(expected_cells() - {1}, 1), "the others are kept"
    assert all(project.started()[value] == 1 for value in done), "a finished trial was repeated"
    assert project.started()[1] == 4, "in each run once, and retried once"
    attempts = [t for t in project.trials() if t.params["value"] == 1]
    assert [t.user_attrs[RETRIES] for t in attempts] == [1, 0, 1, 0]
    assert "16 trials planned" in output
    assert not (project.folder / "results/mini/studies/fake").exists()

    (project.folder / "fail-1").unlink()
    project.change(ablations__fake__values=list(range(VALUES + 1)), optuna__workers=1)
    assert f"{2 * VALUES + 2} trials planned, {2 * VALUES - 1} of them" in project.ablate()
    cells = expected_cells(VALUES + 1)
    failed = assert_each_cell_once(project, cells, failed=2 + 4)
    errors = Counter(trial.user_attrs[ERROR] for trial in failed)
    assert errors == {"its worker was killed": 2, "ValueError: bad value 1": 4}
    assert not list((project.folder / ".work/trials").glob("fake*")), "work folders are removed"

    before, table = project.table()
    names = ["study", "benchmark", "part", "state", "method", "value", "learnt", "R@1", "a", "z"]
    assert list(table.columns) == names
    assert list(table["value"]) == sorted(cells), "as planned"
    assert list(table["R@1"]) == [value + 0.5 for value in table["value"]]
    said = project.said()
    assert f"{2 * VALUES + 2} of them already done" in project.ablate()
    assert project.said() == said, "a finished study ran a trial again"
    assert project.table()[0] == before


@pytest.fixture
def here(in_empty_project):
    """The params of an empty project's storage, in this process."""
    return OptunaParams(
        storage="sqlite:///.optuna/studies.db", workers=1, heartbeat_s=60, retries=0
    )


def experiment(**changes):
    known = {
        "study": "fake",
        "benchmark": "msvd",
        "part": "one",
        "space": {"b": scale([1, 2]), "a": choice(True, False)},
        "cells": grid({"a": [True, False], "b": [1, 2]}),
        "objectives": {"R@1": "maximize"},
        "run": lambda point, lab: Outcome(figures={}),
        "fixed": {"method": "one"},
    }
    return Experiment(**known | changes)


def planned(an_experiment, params):
    queue = Queue(an_experiment, open_storage(params), claim_lock(params))
    queue.plan(0)
    return queue


def finish(queue, figures):
    """Claim the next trial and complete it."""
    trial = queue.claim()
    queue.suggested(trial)
    for name, value in figures.items():
        trial.set_user_attr(name, value)
    queue.complete(trial, [figures["R@1"]])


def test_rows_have_the_same_columns_in_whatever_order_the_storage_has_them(here):
    """Property: objectives come first, then the other figures by name; factors as the space."""
    grids = experiment()
    queue = planned(grids, here)
    for figures in (
        {"MnR": 2.0, "R@1": 30.0, "curve": [1], "seconds": 3.5, "made with": {"commit": "x"}},
        {"R@1": 31.0, "MnR": 1.5},
    ) * 2:
        finish(queue, figures)
    rows = export.rows_of(queue)
    names = ["study", "benchmark", "part", "state", "method", "b", "a", "R@1", "MnR"]
    assert [list(row) for row in rows] == [names] * 4
    assert [(row["a"], row["b"]) for row in rows] == [
        (True, 1), (True, 2), (False, 1), (False, 2),
    ]  # fmt: skip


def test_a_grid_with_a_failed_trial_makes_no_table(here):
    grids = experiment()
    queue = planned(grids, here)
    queue.fail(queue.claim(), "KeyError: 'R@1'")
    for _ in range(3):
        finish(queue, {"R@1": 1.0})
    with pytest.raises(InputError, match=r"trial 0 \(.*\"a\": true.*\) failed: KeyError: 'R@1'"):
        export.rows_of(queue)


def test_a_search_tells_of_pruned_and_failed_tries(here):
    search = experiment(cells=({},) * 3, startup_trials=1)
    queue = planned(search, here)
    finish(queue, {"R@1": 1.0})
    trial = queue.claim()
    queue.suggested(trial)
    queue.prune(trial)
    queue.fail(queue.claim(), "ValueError")
    rows = export.rows_of(queue)
    assert [row["state"] for row in rows] == ["complete", "pruned", "failed"]
    assert {"a", "b"} <= set(rows[1])


def test_a_stage_without_workers_says_how_to_start_some(here, caplog):
    queue = planned(experiment(), here)
    for _ in range(4):
        finish(queue, {"R@1": 1.0})
    with caplog.at_level("INFO"):
        driver.wait("fake", [queue], here.model_copy(update={"workers": 0}))
    assert "make study-worker STUDY=fake" in caplog.text


class Ending:
    """A study that could be run, whose workers all end in one way."""

    def __init__(self, monkeypatch, params, end):
        self.started, self.end = [], end
        monkeypatch.setattr(driver, "_work", self.work)
        monkeypatch.setattr(driver.time, "sleep", lambda seconds: os.sched_yield())
        worker = driver._worker
        monkeypatch.setattr(
            driver, "_worker", lambda *which: self.started.append(which[-1]) or worker(*which)
        )
        self.queues = [planned(experiment(), params)]

    def work(self, name, params, gpu):
        self.end()


def test_a_worker_that_cannot_go_on_ends_the_stage_at_once(here, monkeypatch):
    ending = Ending(monkeypatch, here, lambda: sys.exit(2))
    with pytest.raises(InputError, match=r"fake: a worker cannot go on \(above\)"):
        driver.wait("fake", ending.queues, here)
    assert ending.started == [0]


def test_workers_that_are_lost_again_and_again_end_the_stage(here, monkeypatch, capsys):
    ending = Ending(monkeypatch, here, lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(InputError, match="fake: 11 workers ended with an error"):
        driver.wait("fake", ending.queues, here)
    assert ending.started == [0] * 11
    assert "0/" not in capsys.readouterr().err, "in a log, the bar is a line a minute"


def test_an_interrupted_worker_ends_without_a_traceback(here, monkeypatch, capfd):
    def interrupted(join):
        raise KeyboardInterrupt

    monkeypatch.setattr(driver, "held", interrupted)
    worker = driver._worker("fake", here, 0)
    worker.join()
    assert worker.exitcode == 130
    assert capfd.readouterr().err == ""


class Recorded:
    """Stands for :mod:`multiprocessing`: says how workers would be started."""

    def __init__(self, monkeypatch):
        self.started = []
        monkeypatch.setattr(driver, "get_context", self.context)

    def context(self, method):
        return SimpleNamespace(Process=lambda target, args: self.process(method, args[-1]))

    def process(self, method, gpu):
        return SimpleNamespace(start=lambda: self.started.append((method, gpu)))


def test_each_worker_gets_the_next_gpu_which_no_fork_could_use(here, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    monkeypatch.setattr(driver, "best_device", lambda: torch.device("cuda"))
    recorded = Recorded(monkeypatch)
    for slot in range(3):
        driver._worker("fake", here, slot)
    assert recorded.started == [("spawn", "2"), ("spawn", "5"), ("spawn", "2")]


@pytest.mark.parametrize(
    ("storage", "method"),
    [
        ("sqlite:///.optuna/studies.db", "fork"),
        ("postgresql://user@host/studies", "spawn"),
        ("grpc://host:1", "spawn"),
    ],
)
def test_workers_are_forked_unless_they_would_share_a_connection(
    here, monkeypatch, storage, method
):
    recorded = Recorded(monkeypatch)
    driver._worker("fake", here.model_copy(update={"storage": storage}), 0)
    assert recorded.started == [(method, None)]
