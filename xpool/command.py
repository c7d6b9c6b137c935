"""What every ``python -m xpool.<step>`` shares: one-line errors, logging, end with the parent."""

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable


class InputError(ValueError):
    """Something a user can mend: names the file, row or key, and the way to mend it."""


def die_with_parent() -> None:
    """End this process when the one that started it ends (Linux).

    A killed ``dvc repro`` leaves its stage running as an orphan; a second ``dvc repro`` would then
    start a second writer. Other systems have only the work folder's lock.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        parent = os.getppid()
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
        if os.getppid() != parent:  # the parent ended before the call took effect
            sys.exit(1)


def run(main: Callable[[], None]) -> None:
    """Run a step's ``main``; an :class:`InputError` becomes one line on stderr, exit status 2."""
    die_with_parent()
    logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stderr)  # libraries: warnings
    for ours in ("__main__", "xpool", "baselines", "studies"):
        logging.getLogger(ours).setLevel(logging.INFO)
    try:
        main()
    except InputError as error:
        print("error:", " ".join(str(error).splitlines()), file=sys.stderr)
        sys.exit(2)
