"""Digests of files by their bytes: the same on every machine, wherever and whenever written.

And notebooks as they are stored, whose digests running and saving them does not change.
"""

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from xpool.project.errors import InputError

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
"""The kernel that every notebook names, whatever the one that last ran it is called."""
_LFS = b"version https://git-lfs.github.com/spec/"
_PAGES = (b"<!doctype html", b"<html")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as ``sha256sum`` prints it.

    Raises:
        InputError: the file is missing.
    """
    if not path.is_file():
        raise InputError(f"{path}: not found; run `dvc repro`, which makes it")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_lfs_pointer(path: Path) -> bool:
    """Return whether a file is a Git LFS pointer: a few lines with the digest of the file meant."""
    with path.open("rb") as file:
        return file.read(len(_LFS)) == _LFS


def is_web_page(path: Path) -> bool:
    """Return whether a file begins as HTML does, as one that a server gives in a file's place."""
    with path.open("rb") as file:
        start = file.read(512).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return start.startswith(_PAGES)


def refuse_lfs_pointer(path: Path) -> None:
    """Refuse a Git LFS pointer in a file's place.

    Raises:
        InputError: the file is one.
    """
    if is_lfs_pointer(path):
        raise InputError(
            f"{path}: a Git LFS pointer in place of the file; run `git lfs pull` where it came "
            "from, and copy the file itself"
        )


def content(paths: Iterable[Path]) -> str:
    """Return a digest of files, or of folders with all their files, by names and bytes.

    It is the same on every machine that shares a study. Packed pixels (``*.bin``) are skipped: the
    index beside them has their checksums.

    Raises:
        InputError: a path is missing.
    """
    digest = hashlib.sha256()
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: not found; run `dvc repro`, which makes it")
        members = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for member in members:
            if member.suffix != ".bin":
                state = member.stat()
                digest.update(member.name.encode())
                digest.update(_digest(member.resolve(), state.st_size, state.st_mtime_ns))
    return digest.hexdigest()


@cache
def _digest(path: Path, _size: int, _changed_ns: int) -> bytes:
    """Return a file's digest, computed once a process: a study asks for large files often."""
    return bytes.fromhex(sha256(path))


def without_outputs(notebook: bytes) -> bytes:
    """Return a notebook as it is stored: without what running and saving it adds.

    Its prose counts as much as its code, since both are on the page; outputs, numbers of execution
    and the editor's notes do not.
    """
    content = json.loads(notebook)
    for cell in content["cells"]:
        cell["metadata"] = {k: v for k, v in cell.get("metadata", {}).items() if k == "tags"}
        cell["source"] = "".join(cell["source"]).splitlines(keepends=True)
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    content["metadata"] = {"kernelspec": KERNEL}
    text = json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True)
    return f"{text}\n".encode()
