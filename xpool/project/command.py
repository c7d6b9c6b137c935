"""Run a command: a user's error ends it with one line, and a stage never outlives its DVC."""

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

import typer

from xpool.project.errors import BusyError, InputError
from xpool.project.workspace import refused

T = TypeVar("T")
R = TypeVar("R")
STARTED = "XPOOL_STARTED"
"""Variable that a process sets for the commands that it starts."""
STARTERS = (STARTED, "DVC_STAGE", "TORCHELASTIC_RUN_ID")
"""Variables in the environment of a command that no user started."""
INPUT_ERROR = 2
"""Exit status after an :class:`InputError`, the same as after an unknown option."""
LOCALHOST = "127.0.0.1"
BUSY = os.EX_TEMPFAIL
"""Exit status after a :class:`BusyError`."""


def die_with_parent() -> None:
    """End this process when its parent ends (Linux only).

    Otherwise the stage of a killed ``dvc repro`` would go on, and the next ``dvc repro`` would
    start a second writer. On other systems only the work folder's lock prevents that.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        parent = os.getppid()
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
        if os.getppid() != parent:  # the parent ended before the call took effect
            sys.exit(1)


def available_cores() -> int:
    """Return how many cores this process may use; a batch system may limit them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def side_by_side(work: Callable[[T], R], items: Sequence[T], what: str) -> Iterator[R]:
    """Yield what ``work`` returns for each item, in their order; each core takes one at a time.

    Processes are forked: starting anew, each would import everything again, which takes as long as
    a small piece of work.

    Args:
        work: a function of a module.
        items: what each process gets; they and the results are pickled.
        what: what a process does, for the message.

    Raises:
        InputError: a process was killed.
    """
    processes = min(available_cores(), len(items))
    with ProcessPoolExecutor(processes, get_context("fork"), die_with_parent) as pool:
        try:
            yield from pool.map(work, items)
        except BrokenProcessPool as error:
            raise InputError(
                f"{what} was killed, perhaps for want of memory; what is finished is kept: run the "
                "same command again"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def run(command: Callable[[], object]) -> None:
    """Run a command; what a user can mend becomes one line on stderr and exit status 2.

    A command that DVC, a study or a launcher of several processes started ends with its parent. One
    that a user started outlives the shell, so that ``nohup xpool train ... &`` works.

    Threads that wait for others sleep: spinning ones would cost a busy machine dearly.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # which torch reads as it is loaded
    if any(name in os.environ for name in STARTERS):
        die_with_parent()
    logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stderr)
    for ours in ("__main__", "xpool", "baselines", "studies"):
        logging.getLogger(ours).setLevel(logging.INFO)  # libraries log warnings only
    try:
        command()
    except BusyError as error:
        _end(str(error), BUSY)
    except InputError as error:
        _end(str(error))
    except OSError as error:
        if not (line := refused(error)):
            raise
        _end(line)


def _end(message: str, status: int = INPUT_ERROR) -> None:
    print("error:", " ".join(message.splitlines()), file=sys.stderr)
    sys.exit(status)


def expect_free(port: int, target: str) -> None:
    """Refuse a port of this machine that is taken.

    Args:
        port: on :data:`LOCALHOST`.
        target: the target of make that serves there.

    Raises:
        InputError: nothing can listen there; names another port.
    """
    import socket

    try:
        socket.create_server((LOCALHOST, port)).close()
    except OSError as error:
        other = port + 1 if 1024 <= port < 65535 else 8080
        raise InputError(
            f"--port {port}: cannot listen on {LOCALHOST}:{port} ({error}); take another one: "
            f"--port {other}, or make {target} PORT={other}"
        ) from error


def run_alone(main: Callable[..., object]) -> None:
    """Run a function with a command line made from its arguments, for ``python -m <module>``."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(main)
    run(app)
