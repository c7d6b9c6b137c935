"""Commands as tasks of a Ray cluster: Ray places them, and restarts those of a lost node.

Ray is optional (the extra ``fleet``), and so is imported only when it is used. It knows nothing of
cells and trials: what is done is in the work folders and in Optuna's storage, on a file system that
all nodes share. Whatever Ray loses or starts twice, a lock there lets one process do the work, and
a restarted one goes on where the lost one was.
"""

import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from xpool.project.command import BUSY, INPUT_ERROR, STARTED, available_cores
from xpool.project.errors import InputError
from xpool.project.params import HELD_IN
from xpool.project.paths import TOP

T = TypeVar("T")
ADDRESS = "RAY_ADDRESS"
"""Variable that names the cluster to use; without it Ray starts on this machine."""
INSTALL = "pip install 'ray>=2.49'"
STORE_BYTES = 100 * 2**20
"""Memory of Ray's object store, near its least: tasks exchange files."""
BUSY_S = 2.0
"""Pause before a command is started again that found another process at its work."""


@dataclass(frozen=True)
class Job:
    """A command of ours to run."""

    name: str
    """The job's name, and that of its log file."""
    words: tuple[str, ...]
    """The words after ``python -m xpool``."""


class LostError(Exception):
    """A command was killed or broke off; Ray starts it again."""


class Cluster:
    """A Ray cluster, with what a task takes of it.

    Attributes:
        gpus: GPUs of a task.
        cores: CPU cores of a task.
        hosts: the machines by name, each with the number of tasks that run there at a time.
    """

    def __init__(self, gpus: float | None, cores: int, retries: int) -> None:
        """Connect to the cluster that ``RAY_ADDRESS`` names, or start Ray on this machine.

        Args:
            gpus: GPUs of a task; None for one where there are GPUs, and none elsewhere.
            cores: CPU cores of a task.
            retries: how often a task is started again after its process or its node was lost.

        Raises:
            InputError: Ray is not installed or does not start, or no node has room for a task.
        """
        self._ray = _connected()
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        there = any(node["Resources"].get("GPU") for node in nodes)
        self.gpus, self.cores = float(there) if gpus is None else gpus, cores
        self.hosts: dict[str, int] = {}
        for node in nodes:
            name = node["NodeManagerHostname"]
            self.hosts[name] = self.hosts.get(name, 0) + self._room(node["Resources"])
        if not self.slots:
            self.close()
            raise InputError(
                f"no node of the cluster has {self.share()}; pass other numbers to --gpus and "
                "--cores, or start Ray with more"
            )
        self._options = {"num_gpus": self.gpus, "num_cpus": cores, "max_retries": retries}
        self._jobs: dict[Any, Job] = {}

    def close(self) -> None:
        """End all tasks, and Ray if it was started here."""
        self._ray.shutdown()

    @property
    def slots(self) -> int:
        """The number of tasks that run at a time."""
        return sum(self.hosts.values())

    def share(self) -> str:
        """Return what a task takes, in words."""
        cores = f"{self.cores} core{'s' if self.cores > 1 else ''}"
        return (
            f"{self.gpus:g} GPU{'s' if self.gpus > 1 else ''} and {cores}" if self.gpus else cores
        )

    def _room(self, resources: dict[str, float]) -> int:
        """Return how many tasks such resources are enough for."""
        by_cores = int(resources.get("CPU", 0) / self.cores)
        return min(by_cores, int(resources.get("GPU", 0) / self.gpus)) if self.gpus else by_cores

    def ask(self, function: Callable[[], T]) -> T:
        """Return what a function of a module returns in a new process, with the device of a task.

        Raises:
            InputError: the function raised it.
        """
        task = self._ray.remote(max_calls=1)(_in_folder).options(**self._options, **self._inside())
        try:
            answer: T = self._ray.get(task.remote(str(Path.cwd()), function))
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error
        return answer

    def submit(self, job: Job, log: Path) -> None:
        """Queue a command. It starts when there is room for it.

        Args:
            job: the command.
            log: file that its output is added to.
        """
        also = {"name": job.name, "retry_exceptions": [LostError]}
        task = self._ray.remote(_run).options(**self._options, **also, **self._inside())
        reference = task.remote(str(Path.cwd()), sys.executable, job.words, str(log))
        self._jobs[reference] = job

    def finished(self, within_s: float) -> list[tuple[Job, str | None]]:
        """Wait until a job ends; return those that did, each with its error.

        Args:
            within_s: time after which to return in any case.
        """
        done, _ = self._ray.wait(list(self._jobs), timeout=within_s)
        return [(self._jobs.pop(reference), self._error(reference)) for reference in done]

    def _error(self, reference: Any) -> str | None:
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            return str(error.cause)
        except self._ray.exceptions.RayError as error:  # lost more often than it is restarted
            return " ".join(str(error).split())
        return None

    def cancel(self) -> None:
        """End the jobs that run or wait."""
        for reference in self._jobs:
            self._ray.cancel(reference)
        self._jobs.clear()

    @property
    def unfinished(self) -> int:
        """The number of jobs that run or wait."""
        return len(self._jobs)

    def running(self) -> int:
        """Return how many jobs run now, by what of the cluster is taken."""
        kind, each = ("GPU", self.gpus) if self.gpus else ("CPU", self.cores)
        there, free = self._ray.cluster_resources(), self._ray.available_resources()
        taken = (there.get(kind, 0.0) - free.get(kind, 0.0)) / each
        return min(round(float(taken)), self.unfinished)

    def _inside(self) -> dict[str, Any]:
        """Return the option for variables that a task has beside the environment of its node."""
        path = os.pathsep.join([str(TOP), *filter(None, [os.environ.get("PYTHONPATH")])])
        variables = {"PYTHONPATH": path, STARTED: "fleet"}  # the code of this process, on all nodes
        if HELD_IN in os.environ:
            variables[HELD_IN] = os.environ[HELD_IN]
        if not self.gpus:
            variables["CUDA_VISIBLE_DEVICES"] = ""  # else all tasks of a node would share one
        return {"runtime_env": {"env_vars": variables}}


def _connected() -> Any:
    """Return Ray, connected; its usage statistics and its dashboard are off."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise InputError(f"xpool fleet needs Ray; install it with: {INSTALL}") from error
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address := os.environ.get(ADDRESS):
        try:
            ray.init(address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InputError(
                f"{ADDRESS}: no Ray answers at {address} ({' '.join(str(error).split())}); start "
                "it, set RAY_AUTH_MODE=token if it asks for one, or unset the variable to use this "
                "machine"
            ) from error
        return ray
    try:
        ray.init(
            "local",
            num_cpus=available_cores(),
            include_dashboard=False,
            object_store_memory=STORE_BYTES,
            **quiet,
        )
    except Exception as error:  # Ray raises no narrower one when its processes start too slowly
        raise InputError(
            f"Ray did not start on this machine ({' '.join(str(error).split())}); its logs are in "
            "/tmp/ray/session_latest/logs; on a busy machine, run the same command again"
        ) from error
    return ray


# --- what runs in a process of Ray, on any node ---


def _in_folder(folder: str, function: Callable[[], T]) -> T:
    """Call a function in the project's folder."""
    os.chdir(folder)
    return function()


def _run(folder: str, python: str, words: Sequence[str], log: str) -> None:
    """Run a command to its end; it dies with this process.

    Raises:
        InputError: the command ended with one.
        LostError: it ended otherwise, and can be started again.
    """
    if not Path(folder).is_dir():
        raise InputError(
            f"{folder}: not found on {platform.node()}; all nodes must share the project's folder"
        )
    while True:
        with Path(log).open("a", encoding="utf-8") as output:
            output.write(f"--- xpool {' '.join(words)} on {platform.node()}, {time.ctime()}\n")
            output.flush()
            process = subprocess.Popen(
                [python, "-m", "xpool", *words],
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                status = process.wait()
            finally:
                process.terminate()
        if status != BUSY:
            break
        time.sleep(BUSY_S)  # the lost process that this one replaces may not have ended yet
    if not status:
        return
    line = _last_line(Path(log))
    if status == INPUT_ERROR:
        raise InputError(line.removeprefix("error: "))
    raise LostError(f"exit status {status}: {line}; see {log}")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "")
