"""Measure times and memory, and describe the machine that they were measured on."""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import torch


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    what: str
    """Name of what was measured, with its shape."""
    value: float | None
    """None where it is not measured on this device."""
    unit: str
    baseline: float | None = None
    """Value of what it is held against, in the same unit and of the same run unless the note says
    otherwise."""
    ratio: float | None = None
    """How many times better than the baseline."""
    note: str = ""


def seconds(function: Callable[[], object], device: torch.device) -> float:
    """Run a function once and return its wall time."""
    _synchronize(device)
    start = time.perf_counter()
    function()
    _synchronize(device)
    return time.perf_counter() - start


def paired(
    fast: Callable[[], object], slow: Callable[[], object], device: torch.device, repeats: int
) -> tuple[float, float, float]:
    """Time two functions in turns, so that both see the same load of the machine.

    Returns:
        Median seconds of each, and the median over the turns of slow / fast.
    """
    fast()
    turns = [(seconds(fast, device), seconds(slow, device)) for _ in range(repeats)]
    quick, long = zip(*turns, strict=True)
    ratios = [slow_one / fast_one for fast_one, slow_one in turns]
    return statistics.median(quick), statistics.median(long), statistics.median(ratios)


def peak_mib(function: Callable[[], object], device: torch.device) -> float | None:
    """Return the peak memory of a function, in MiB above what was held before.

    On a CPU, call it in a process of its own: memory that earlier work left to the allocator would
    be reused unseen.

    Returns:
        None on a CPU outside Linux, where it cannot be measured.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        function()
        return float(torch.cuda.max_memory_allocated(device) - held) / 2**20
    if sys.platform != "linux":
        function()
        return None
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    held = _status_kib("VmRSS")
    function()
    return (_status_kib("VmHWM") - held) / 2**10


Prepared = Callable[[torch.device], tuple[Callable[[], object], Callable[[], object]]]
"""Returns, for a device, some work on little data and the same work on all of it."""


def memory_and_time(
    what: str, prepared: Prepared, device: torch.device, plain_mib: float, note: str
) -> list[Row]:
    """Run some work once after a warm-up; return a row of its peak memory, and one of its time.

    Args:
        what: name of what is measured.
        prepared: a function of a module; its small work warms up, its whole work is measured.
        device: where it runs.
        plain_mib: memory that the plain form would take, by arithmetic.
        note: says what that is.
    """
    if device.type == "cpu":  # in a process of its own, so that its peak is that of the work
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            taken, peak = pool.submit(_once, prepared, device).result()
    else:
        taken, peak = _once(prepared, device)
    return [
        Row(
            what=f"{what}, memory",
            value=peak,
            unit="MiB",
            baseline=plain_mib,
            ratio=plain_mib / peak if peak else None,
            note=note,
        ),
        Row(what=f"{what}, time", value=taken, unit="s"),
    ]


def _once(prepared: Prepared, device: torch.device) -> tuple[float, float | None]:
    """Return seconds and MiB of the whole work, after the small one."""
    few, whole = prepared(device)
    few()
    taken: list[float] = []
    peak = peak_mib(lambda: taken.append(seconds(whole, device)), device)
    return taken[0], peak


def machine(device: torch.device) -> dict[str, str]:
    """Return date, hardware and versions."""
    processor = f"{_processor()}, {os.cpu_count()} cores"
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else processor
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "device": f"{device.type}: {on}",
        "threads": str(torch.get_num_threads()),
        "load": f"{os.getloadavg()[0]:.1f} processes waiting or running at the start",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    """Return the model of the CPU, as the system names it."""
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _status_kib(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
