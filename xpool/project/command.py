"""Run a command: a user's error ends it with one line, and it never outlives its parent."""

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable

import typer

from xpool.project.errors import InputError

INPUT_ERROR = 2
"""Exit status after an :class:`InputError`, the same as after an unknown option."""


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


def run(command: Callable[[], object]) -> None:
    """Run a command; an :class:`InputError` becomes one line on stderr and exit status 2."""
    die_with_parent()
    logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stderr)
    for ours in ("__main__", "xpool", "baselines", "studies"):
        logging.getLogger(ours).setLevel(logging.INFO)  # libraries log warnings only
    try:
        command()
    except InputError as error:
        print("error:", " ".join(str(error).splitlines()), file=sys.stderr)
        sys.exit(INPUT_ERROR)


def run_alone(main: Callable[..., object]) -> None:
    """Run a function with a command line made from its arguments, for ``python -m <module>``."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(main)
    run(app)
