"""Record the origin of a result: commit, params, data, weights, device, versions and time.

A training writes ``provenance.json`` beside its checkpoint, and an evaluation beside its similarity
(without times, so the same evaluation gives the same bytes). A trial of a study has a short form in
its attributes. ``docs/running/provenance.md`` says what each key means.
"""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from xpool.project import paths
from xpool.project.digests import content, sha256
from xpool.project.fingerprints import code_digests
from xpool.project.params import load
from xpool.project.paths import TOP
from xpool.project.records import decoder_of

CODE = ("xpool", "baselines", "studies")
NO_CODE = (":(exclude,glob)**/__pycache__/**",)
NO_CHECKOUT = "clone the repository, or `git init && git add --all && git commit` what is here"
PACKAGES = ("torch", "numpy", "open_clip_torch", "transformers", "accelerate", "av")
CPU_NAMES = Path("/proc/cpuinfo")
SCORED = ("similarity.npy", "texts.parquet", "videos.parquet")
"""Files of every evaluation; its record has their digests."""


def provenance(device: torch.device) -> dict[str, str]:
    """Return commit (``+`` where the code differs), digest of the params, device, versions."""
    found = checkout()
    return {
        "commit": f"{found.commit}{'+' if found.dirty else ''}",
        "params": hashlib.sha256(json.dumps(load(), sort_keys=True).encode()).hexdigest()[:16],
        "device": device_name(device),
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
    }


def of_training(
    *,
    run: dict[str, Any],
    folder: Path,
    files: Iterable[str],
    device: torch.device,
    started: str,
    seconds: float,
    processes: int,
) -> dict[str, Any]:
    """Return what the record of a finished training says of its end.

    What it began with is known before: params, code, data, precision.

    Args:
        run: its coordinates: setting, method, benchmark, seed.
        folder: the finished run.
        files: names of its files.
        device: where it computed.
        started: when it first began, ISO 8601.
        seconds: time of training and evaluations over all starts; steps that a kill lost and that
            were repeated count once.
        processes: how many trained it, with a device each.
    """
    hours = seconds * processes / 3600
    on_cpu = device.type == "cpu"
    return {
        "run": run,
        "files": {name: sha256(folder / name) for name in files},
        **environment(device),
        "processes": processes,
        "started": started,
        "seconds": round(seconds, 3),
        "gpu_hours": 0.0 if on_cpu else round(hours, 6),
        "cpu_hours": round(hours * torch.get_num_threads(), 6) if on_cpu else 0.0,
    }


def of_evaluation(
    run: dict[str, Any],
    origin: dict[str, Any],
    checkpoint: Path,
    folder: Path,
    files: Iterable[str],
    device: torch.device,
    precision: str,
) -> dict[str, Any]:
    """Return the record of an evaluation: digests of the checkpoint and of the files written.

    Args:
        run: its coordinates: setting, method, benchmark, seed.
        origin: what :func:`code` returned before it began.
        checkpoint: the weights that were scored.
        folder: what was written.
        files: names of its files.
        device: where it computed.
        precision: ``fp32`` or ``bf16``, in the encoder; scores are float32.
    """
    return {
        "run": run,
        **origin,
        "checkpoint": sha256(checkpoint),
        "files": {name: sha256(folder / name) for name in files},
        **environment(device),
        "precision": precision,
    }


def data_of(setting: str, benchmark: str, reads: str) -> dict[str, Path]:
    """Return the paths of a run's data by kind; ``reads`` is ``train.reads``."""
    if reads == "embeddings":
        return {"embeddings": paths.embeddings(setting, benchmark)}
    return {
        "frames": paths.frames(setting, benchmark),
        "manifest": paths.manifest(setting, benchmark),
    }


def inputs_of(setting: str, benchmark: str, reads: str) -> dict[str, Any]:
    """Return digests of what a run reads, by kind, and of the encoder; and the frames' decoder.

    Raises:
        InputError: a file or folder is missing.
    """
    data = data_of(setting, benchmark, reads)
    return {
        "data": {name: content([path]) for name, path in data.items()},
        "encoder": content([paths.encoder(setting)]),
        "decoder": decoder_of(data[reads]),
    }


def environment(device: torch.device) -> dict[str, Any]:
    """Return what can change the last digits: device, threads, flags, versions."""
    return {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "determinism": {
            "algorithms": torch.are_deterministic_algorithms_enabled(),
            "cudnn_deterministic": torch.backends.cudnn.deterministic,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "cudnn_tf32": torch.backends.cudnn.allow_tf32,
            "matmul_precision": torch.get_float32_matmul_precision(),
        },
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
    }


def device_name(device: torch.device) -> str:
    """Return a device's type and model, as in ``cuda (NVIDIA A100-SXM4-40GB)``."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"{device.type} ({_cpu_name()})"


@cache
def _cpu_name() -> str:
    """Return the model of the processor on Linux, its architecture elsewhere."""
    lines = CPU_NAMES.read_text().splitlines() if CPU_NAMES.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def code(*modules: str) -> dict[str, Any]:
    """Return what is known of the code that runs.

    Returns:
        ``commit``, or ``unknown`` with the reason; ``dirty``, whether files differ from it, which
        is None where git does not tell: unknown is never "clean"; and ``code``, the digest of each
        file that these modules use.
    """
    found = checkout()
    return {"commit": found.commit, "dirty": found.dirty, "code": code_digests(*modules)}


class Checkout(NamedTuple):
    """The state of the code that runs, as git has it."""

    commit: str
    """The commit, or ``unknown`` with the reason."""
    dirty: bool | None
    """Whether a file of code differs from the commit or is in none; None where git does not say.
    Params, settings and notebooks are no code: the first two are recorded by value, and no run uses
    a notebook."""
    remedy: str = ""
    """How to let git answer; empty where it did."""


@cache  # once a process: what is committed later is not the code that runs
def checkout() -> Checkout:
    """Return the commit of the code that runs, and whether its files differ from it."""
    if not any((folder / ".git").exists() for folder in (TOP, *TOP.parents)):
        return Checkout("unknown: not a git checkout", None, NO_CHECKOUT)
    try:
        if not _git("ls-files", "--", *CODE):  # as where another project's repository surrounds it
            return Checkout("unknown: the code is in no git checkout", None, NO_CHECKOUT)
        commit = _git("rev-parse", "--verify", "HEAD")
        status = ("status", "--porcelain", "--untracked-files=all", "--no-renames")
        return Checkout(commit, bool(_git(*status, "--", *CODE, *NO_CODE)))
    except FileNotFoundError:
        return Checkout("unknown: git is not installed", None, "install git")
    except subprocess.CalledProcessError as error:
        said = [line.strip() for line in error.stderr.splitlines() if line.strip()]
        commands = [line for line in said if line.startswith("git ")]
        reason = said[0].removeprefix("fatal: ") if said else f"it ended with {error.returncode}"
        if "dubious ownership" in reason:  # whose message goes on with the folder
            reason = "dubious ownership"
        return Checkout(f"unknown: git refused ({reason})", None, "; ".join(commands))


def _git(*words: str) -> str:
    """Return what a git command prints about the checkout of this code.

    Raises:
        FileNotFoundError: git is not installed.
        subprocess.CalledProcessError: git refused; ``stderr`` has its reason, in English.
    """
    english = os.environ | {"LC_ALL": "C"}
    done = subprocess.run(
        ["git", *words], cwd=TOP, env=english, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
