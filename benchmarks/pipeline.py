"""What the pipeline costs beside its work: `dvc repro` with nothing to do, and `--help`.

The former wants a finished `make repro` in this checkout; elsewhere its row is unmeasured. Both are
of this machine's processor, whatever the device.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.measure import Row

TOP = Path(__file__).resolve().parent.parent
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
    value = statistics.median(_times([dvc, "repro"], REPEATS))
    note = f"a lock of {lock.stat().st_size / 1000:.0f} kB"
    return [Row(what=what, value=value, unit="s", note=note)]


def _help() -> list[Row]:
    """``--help`` against the imports that it does without, in turns."""
    module = f"xpool.{SLOWEST}"
    asked, imported = ["-m", module, "--help"], ["-c", f"import {module}"]
    turns = [
        (_times([sys.executable, *asked], 1)[0], _times([sys.executable, *imported], 1)[0])
        for _ in range(REPEATS)
    ]
    quick, slow = (statistics.median(times) for times in zip(*turns, strict=True))
    ratio = statistics.median(slow_one / quick_one for quick_one, slow_one in turns)
    what = f"python -m {module} --help"
    return [
        Row(what=what, value=quick, unit="s", baseline=slow, ratio=ratio, note="against its import")
    ]


def _times(command: Sequence[str], count: int) -> list[float]:
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        _run(command)
        times.append(time.perf_counter() - begun)
    return times


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "PYTHONPATH": str(TOP)}
    return subprocess.run(
        command, cwd=TOP, env=environment, text=True, capture_output=True, check=False
    )
