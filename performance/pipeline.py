"""The pipeline's overhead: `dvc repro` with nothing to do, and `--help`.

The first needs a finished `make repro` in this checkout, else its row is unmeasured. Both run on
the processor, whatever the device.
"""

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from performance.measure import Row, paired, seconds
from xpool.project.paths import TOP

CPU = torch.device("cpu")
REPEATS = 3
COMMAND, MODULE = "train", "xpool.training.fit"
"""The stage whose imports take longest, and the module in which most of that time goes."""


def rows(device: torch.device) -> list[Row]:
    """Return the rows, whatever the device."""
    return [*_repro(), *_help()]


def _repro() -> list[Row]:
    what, dvc = "dvc repro with nothing to do", str(Path(sys.executable).with_name("dvc"))
    lock = TOP / "dvc.lock"
    if not lock.is_file() or _run([dvc, "status", "--quiet"]).returncode:  # it would run stages
        return [Row(what=what, value=None, unit="s", note="needs a finished make repro here")]
    value = statistics.median(
        seconds(lambda: _succeed([dvc, "repro"]), CPU) for _ in range(REPEATS)
    )
    note = f"a lock of {lock.stat().st_size / 1000:.0f} kB"
    return [Row(what=what, value=value, unit="s", note=note)]


def _help() -> list[Row]:
    """Time ``--help`` in turns with the import that it avoids."""
    quick, slow, ratio = paired(
        lambda: _succeed([sys.executable, "-m", "xpool", COMMAND, "--help"]),
        lambda: _succeed([sys.executable, "-c", f"import {MODULE}"]),
        CPU,
        REPEATS,
    )
    what, note = f"python -m xpool {COMMAND} --help", f"against importing {MODULE}"
    return [Row(what=what, value=quick, unit="s", baseline=slow, ratio=ratio, note=note)]


def _succeed(command: Sequence[str]) -> None:
    """Run a command whose time says nothing if it fails.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    _run(command).check_returncode()


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "PYTHONPATH": str(TOP)}
    return subprocess.run(
        command, cwd=TOP, env=environment, text=True, capture_output=True, check=False
    )
