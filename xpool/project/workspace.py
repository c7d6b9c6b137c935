"""Atomic writes, and locked work folders in which unfinished work survives a kill.

DVC deletes a stage's outputs before it runs the stage. Unfinished work therefore lives elsewhere,
under ``.work/<stage>/<cell>@<fingerprint>/``, and so do finished runs, which are not trained again
when a seed is added. The fingerprint covers everything the work depends on, so work is never
resumed with other params, data or code.
"""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from xpool.project.errors import BusyError

WORK = Path(".work")
REFUSALS = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
    errno.ENOTDIR,
}  # fmt: skip
"""Numbers of errors with which a machine refuses to read or write a file."""


def refused(error: BaseException) -> str | None:
    """Return a line about a file that the machine does not read or write; None for other errors.

    A disk that is full or read-only is for the user to mend, and no error of the program.
    """
    if not isinstance(error, OSError):
        return None
    short = error.errno is None and " requested and " in str(error)  # numpy's word for a full disk
    if error.errno not in REFUSALS and not short:
        return None
    name = f"{error.filename}: " if error.filename else ""
    why = error.strerror or f"only a part could be written ({error})"
    return (
        f"{name}{why}; free space or make it writable, and run the same command again: what is "
        "finished is kept"
    )


@contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path``; rename it to ``path`` unless the block raises."""
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


def work_path(stage: str, cell: str, digest: str) -> Path:
    """Return the folder of a cell's work: ``.work/<stage>/<cell>@<fingerprint>``."""
    return WORK / stage / f"{cell}@{digest}"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made, while the block runs.

    Raises:
        BusyError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise BusyError(
                f"{path}: process {lock.read().strip() or '?'} already does this work; "
                "wait for it or stop it"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextmanager
def work_folder(stage: str, cell: str, digest: str, finished: str = "") -> Iterator[Path]:
    """Make a cell's :func:`work_path`, and lock the cell while the block runs.

    Removes work of the same cell under another fingerprint, which cannot be resumed.

    Args:
        stage: name of the stage.
        cell: what is worked on.
        digest: fingerprint of all that the work depends on.
        finished: entry of a folder whose work is finished; such folders are kept.

    Raises:
        BusyError: another process works on the same cell.
    """
    folder = work_path(stage, cell, digest)
    with locked(folder.with_name(f"{cell}.lock")):
        for stale in folder.parent.glob(f"{cell}@*"):
            if (
                stale != folder
                and stale.is_dir()
                and not (finished and (stale / finished).exists())
            ):
                shutil.rmtree(stale)
        folder.mkdir(exist_ok=True)
        yield folder


def keep_only(folder: Path, kept: Path) -> None:
    """Remove everything in a folder except one entry."""
    for entry in folder.iterdir():
        if entry.is_dir() and entry != kept:
            shutil.rmtree(entry)
        elif entry != kept:
            entry.unlink()


def publish(folder: Path, destination: Path) -> None:
    """Move a finished folder to its destination, replacing what is there."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    if destination.exists():
        shutil.rmtree(destination)
    shutil.move(folder, destination)
