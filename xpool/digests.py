"""Digests of files: the same on every machine for the same bytes, wherever and whenever written."""

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from xpool.command import InputError


def sha256(path: Path) -> str:
    """Return the digest of one file's bytes, as ``sha256sum`` prints it.

    Raises:
        InputError: the file is not there.
    """
    if not path.is_file():
        raise InputError(f"{path}: not found; run `dvc repro`, which makes it")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content(paths: Iterable[Path]) -> str:
    """Digest of files, or of folders with all their files, by what is in them.

    Unlike a time of change it is the same on every machine that shares a study. Packed pixels
    (``*.bin``) are skipped: the checksums in the index beside them vouch for them.

    Raises:
        InputError: a path is not there.
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
    """Digest of one file; the experiments of a study share what is large."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
