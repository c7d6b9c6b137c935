"""Work in progress that survives a kill: locked folders outside DVC's outputs, atomic writes.

DVC deletes a stage's outputs before it runs the stage, so what a killed run left must live
elsewhere: under ``.work/<step>/<cell>@<fingerprint>/``. So must a finished training, which is not
to be repeated where another one of its stage is asked for. The fingerprint covers everything the
work depends on, so a change of params, data or code never resumes another configuration's work.
"""

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from xpool.command import InputError

WORK = Path(".work")
TOP = Path(__file__).resolve().parent.parent


@contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path`` and rename it onto ``path`` when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    binary = "b" in mode
    try:
        with temporary.open(
            mode, encoding=None if binary else "utf-8", newline=None if binary else "\n"
        ) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, with sorted keys: the same value gives the same bytes."""
    with replacing(path) as file:
        json.dump(value, file, indent=2, sort_keys=True, ensure_ascii=False)
        file.write("\n")


def loaded_code() -> dict[str, str]:
    """Return a digest of each of the project's modules that this process has imported."""
    digests = {}
    for name, module in sorted(sys.modules.items()):
        source = getattr(module, "__file__", None)
        path = Path(source) if source else Path()
        ours = path.suffix == ".py" and path.is_relative_to(TOP)
        if ours and ".venv" not in path.relative_to(TOP).parts:
            digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


def fingerprint(values: Any, inputs: Iterable[Path] = ()) -> str:
    """Digest of values, input files and the code that is loaded.

    Inputs count by path, size and time of change: exact enough to resume, and free for large files.

    Args:
        values: anything JSON can hold: coordinates and params.
        inputs: files, or folders with all their files; what is missing adds nothing.
    """
    files = []
    for path in inputs:
        members = sorted(path.rglob("*")) if path.is_dir() else [path]
        files += [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in members if p.is_file()]
    # __main__ and the module it was run from are one file: the digests cover it either way.
    code = sorted(set(loaded_code().values()))
    record = json.dumps([values, files, code], sort_keys=True, default=str)
    return hashlib.sha256(record.encode()).hexdigest()[:16]


def work_path(step: str, cell: str, digest: str) -> Path:
    """Folder for a cell's work: ``.work/<step>/<cell>@<fingerprint>``."""
    return WORK / step / f"{cell}@{digest}"


@contextmanager
def work_folder(step: str, cell: str, digest: str) -> Iterator[Path]:
    """Lock, make and return a cell's :func:`work_path`.

    Older work of the same cell under another fingerprint is removed: nothing can resume it.

    Raises:
        InputError: another process is at the same cell.
    """
    folder = work_path(step, cell, digest)
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock_path = folder.with_name(f"{cell}.lock")
    with lock_path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise InputError(
                f"{lock_path}: process {lock.read().strip() or '?'} is already at this work; "
                "wait for it or stop it"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        for stale in folder.parent.glob(f"{cell}@*"):
            if stale != folder and stale.is_dir():
                shutil.rmtree(stale)
        folder.mkdir(exist_ok=True)
        yield folder


def keep_only(folder: Path, kept: Path) -> None:
    """Remove all from a folder but one entry."""
    for entry in folder.iterdir():
        if entry.is_dir() and entry != kept:
            shutil.rmtree(entry)
        elif entry != kept:
            entry.unlink()


def publish(folder: Path, destination: Path) -> None:
    """Move finished work to where the pipeline expects it, replacing what is there."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    if destination.exists():
        shutil.rmtree(destination)
    shutil.move(folder, destination)
