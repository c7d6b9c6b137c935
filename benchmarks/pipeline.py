"""What the pipeline costs beside its work: `dvc repro` with nothing to do, and `--help`.

The former wants a finished `make repro` in this checkout; elsewhere its row is unmeasured. Both are
of this machine's processor, whatever the device.
"""

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.measure import Row, paired, seconds

TOP = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")
REPEATS = 3
SLOWEST = "train"
"""Imports the most."""


def rows(device: torch.device) -> list[Row]:
    """Return the rows; the device plays no part."""
    return [*_repro(), *_help()]


def _repro() -> list[Row]:
    what, dvc = "dvc repro with nothing to do", str(Path(sys.executable).with_name("dvc"))
    lock = TOP / "dvc.lock"
    if not lock.is_file() or _run([dvc, "status", "--quiet"]).returncode:  # it would run stages
        return [Row(what=what, value=None, unit="s", note="needs a finished make repro here")]
    value = statistics.median(seconds(lambda: _run([dvc, "repro"]), CPU) for _ in range(REPEATS))
    note = f"a lock of {lock.stat().st_size / 1000:.0f} kB"
    return [Row(what=what, value=value, unit="s", note=note)]


def _help() -> list[Row]:
    """``--help`` against the imports that it does without, in turns."""
    module = f"xpool.{SLOWEST}"
    quick, slow, ratio = paired(
        lambda: _run([sys.executable, "-m", module, "--help"]),
        lambda: _run([sys.executable, "-c", f"import {module}"]),
        CPU,
        REPEATS,
    )
    what = f"python -m {module} --help"
    return [
        Row(what=what, value=quick, unit="s", baseline=slow, ratio=ratio, note="against its import")
    ]


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "PYTHONPATH": str(TOP)}
    return subprocess.run(
        command, cwd=TOP, env=environment, text=True, capture_output=True, check=False
    )
