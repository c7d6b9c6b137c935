"""A fleet on two Ray nodes of this machine, one killed in mid-run: nothing lost, nothing twice.

Oracle: the same cells and trials one after another, in one process, in a folder of their own.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path

import optuna
import psutil
import pytest
import worlds
import yaml
from optuna.trial import TrialState

from xpool.ablation.driver import plan_all
from xpool.ablation.queue import ERROR
from xpool.ablation.storage import OptunaParams, open_storage
from xpool.ablation.worker import work
from xpool.project import paths
from xpool.stages import evaluate, train
from xpool.tools.fleet.plan import missing_cells, trials_of
from xpool.training.fit import TRAINED

WAIT_S = 900  # a command starts slowly on a busy machine
METHODS = ("xpool", "mean_pool")
SEEDS = (0, 1)
STORE = {"object_store_memory": 80 * 2**20}
STUDY = {
    "benchmarks": ["msvd"],
    "seeds": [0],
    "epochs": 12,
    "attention_temperature": {"xpool": [0.1, 1.0], "attention": [0.01]},
    "contrastive_temperature": [0.05],
    "learnt": [True],
}


def write_world(folder):
    """Write cells that train for some seconds each, so that a node can be killed meanwhile."""
    folder.mkdir()
    with chdir(folder):
        worlds.write_project(epochs=12)
        (paths.encoder("mini") / "encoder.json").write_text("{}")
        path = Path("params.yaml")
        params = yaml.safe_load(path.read_text())
        params["seeds"] = list(SEEDS)
        params["studies"] = {"own_models": ["temperature"], "trained_models": []}
        params["ablations"]["temperature"] = STUDY
        path.write_text(yaml.safe_dump(params))


def optuna_params():
    return OptunaParams(**yaml.safe_load(Path("params.yaml").read_text())["optuna"])


def trials():
    """All trials of the storage."""
    storage = open_storage(optuna_params())
    studies = [
        optuna.load_study(study_name=name, storage=storage)
        for name in sorted(optuna.get_all_study_names(storage))
    ]
    return [(study.study_name, trial) for study in studies for trial in study.get_trials()]


def values():
    """The objectives of each complete trial by its study and point; a point has one such trial."""
    found = {}
    for name, trial in trials():
        if trial.state == TrialState.COMPLETE:
            key = (name, *sorted(trial.params.items()))
            assert key not in found, "a trial ran twice"
            found[key] = trial.values
    return found


def files():
    """The bytes of each run: what training and evaluation write, but for the records' times."""
    found = {}
    for method in METHODS:
        evaluate.main(method=method)
        for seed in SEEDS:
            run = paths.training("mini", method, "msvd", seed)
            scored = paths.similarity("mini", method, "msvd", seed)
            for file in (*(run / name for name in TRAINED), scored / "similarity.npy"):
                found[str(file)] = file.read_bytes()
    return found


def one_after_another(folder):
    """Return the bytes of all runs, and the values of all trials."""
    with chdir(folder):
        for method in METHODS:
            for seed in SEEDS:
                train.main(method=method, benchmark="msvd", seed=seed)
        work(plan_all("temperature", optuna_params()))
        return files(), values()


@pytest.fixture
def nodes(monkeypatch):
    """Return a cluster of two nodes with a core each; the driver connects to the first."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False} | STORE
    )
    try:
        cluster.add_node(num_cpus=1, **STORE)
        yield cluster
    finally:
        cluster.shutdown()


def commands_below(pid):
    """The words of each of our commands that a process has started, by their process."""
    found = {}
    for process in psutil.Process(pid).children(recursive=True):
        try:
            words = process.cmdline()
        except psutil.Error:  # it ended while we looked
            continue
        if words[1:3] == ["-m", "xpool"]:
            found[process.pid] = words[3:]
    return found


class Fleet:
    """``xpool fleet`` in a folder; its output goes to a file."""

    def __init__(self, folder, top, address):
        self.folder = folder
        self.log = folder / "fleet.log"
        environment = {"RAY_ADDRESS": address, "PYTHONPATH": str(top), "OMP_NUM_THREADS": "1"}
        with self.log.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "xpool", "fleet"],
                cwd=folder, env=os.environ | environment, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.deadline = time.monotonic() + WAIT_S

    def until(self, seen):
        """Wait for something while the fleet runs."""
        while not (found := seen()):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < self.deadline, self.log.read_text()
            time.sleep(0.02)
        return found

    def end(self):
        """Wait for its end; return what it said."""
        try:
            status = self.process.wait(timeout=self.deadline - time.monotonic())
        finally:
            self.process.kill()
        assert status == 0, self.log.read_text()
        return self.log.read_text()

    def logs(self):
        """The output of each task, by its name."""
        found = (self.folder / ".work/fleet/mini-all@logs").glob("*.log")
        return {path.stem: path.read_text() for path in found}


@pytest.mark.slow
def test_a_node_and_a_worker_are_killed_and_the_bytes_are_those_of_one_process(
    tmp_path, top, nodes
):
    """A node dies in the middle of a training, and then a worker in the middle of a trial."""
    sequence, side = tmp_path / "sequence", tmp_path / "side"
    write_world(sequence)
    shutil.copytree(sequence, side)
    runs, expected = one_after_another(sequence)
    fleet = Fleet(side, top, nodes.address)
    (second,) = nodes.worker_nodes
    raylet = second.all_processes["raylet"][0].process.pid

    def in_mid_run():
        """A cell that trains on the second node and has saved a state, but not the last one."""
        for words in commands_below(raylet).values():
            if words[0] == "train":
                cell = f"{words[2]}-{words[4]}-{words[6]}"
                states = (side / ".work/train").glob(f"mini-{cell}@*/step-*")
                if any(0 < int(state.name[5:]) < 40 for state in states):
                    return cell
        return None

    killed = fleet.until(in_mid_run)
    nodes.remove_node(second, allow_graceful=False)

    def in_mid_trial():
        below = commands_below(nodes.head_node.all_processes["raylet"][0].process.pid)
        workers = [pid for pid, words in below.items() if words[0] == "study-worker"]
        with chdir(side):
            running = any(trial.state == TrialState.RUNNING for _, trial in trials())
        return workers[0] if workers and running else None

    os.kill(fleet.until(in_mid_trial), signal.SIGKILL)
    said = fleet.end()
    assert "4 are to be trained" in said

    logs = fleet.logs()
    cells = {f"train-{method}-msvd-{seed}" for method in METHODS for seed in SEEDS}
    assert {name for name in logs if name.startswith("train-")} == cells
    for name in cells:
        assert logs[name].count(" steps in ") == 1, "it was trained to its end once"
        resumed = logs[name].count("resuming at step")
        assert resumed == (name == f"train-{killed}"), logs[name]
    with chdir(side):
        assert files() == runs
        assert values() == expected
        (lost,) = [trial for _, trial in trials() if trial.state == TrialState.FAIL]
        assert lost.user_attrs[ERROR] == "its worker was killed"
        assert missing_cells() == []
        assert trials_of("temperature", optuna_params(), trained=True).left == 0
