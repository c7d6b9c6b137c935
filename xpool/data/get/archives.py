"""Unpack zip and tar archives of other people: nothing leaves the folder, nothing half is seen."""

import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from xpool.data.raw_folder import ARCHIVES
from xpool.project.errors import InputError
from xpool.project.progress import progress

MOST_FILES = 1_000_000
MOST_GROWTH, SMALL_BYTES = 100, 10**9
"""An archive may unpack to a hundred times its bytes; one that unpacks to less than a GB may grow
by more. Videos hardly grow, and captions about ten times."""
DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError,
    NotImplementedError, RuntimeError, FileExistsError, IsADirectoryError,
)  # fmt: skip
"""Errors that the libraries raise for an archive that is damaged, encrypted, of an unknown kind,
or in which a file has the name of a folder."""
SAFELY: dict[str, Any] = (
    {"filter": "data"} if hasattr(tarfile, "data_filter") else {"set_attrs": False}
)
"""How a tar's files are extracted. Python 3.11.3 and older (Debian 12's is one) know no filters;
there the check of names, and that links are left out, keep all files inside."""


class Member(NamedTuple):
    """A file in an archive."""

    name: str
    size: int
    extract: Callable[[Path], object]
    """Writes it below a folder."""


def is_archive(name: str) -> bool:
    """Return whether a file's name is that of a zip or tar archive."""
    return name.lower().endswith(ARCHIVES)


def stem(name: str) -> str:
    """Return an archive's name without its suffix.

    Example:
        >>> stem("YouTubeClips.tar.gz"), stem("MSR-VTT.ZIP")
        ('YouTubeClips', 'MSR-VTT')
    """
    return name[: -len(next(end for end in ARCHIVES if name.lower().endswith(end)))]


@contextmanager
def members(path: Path) -> Iterator[list[Member]]:
    """Open an archive, and give the list of its files, in its order.

    Links, devices and files of the system (hidden ones, ``__MACOSX``) are left out: no reader
    looks at them.

    Raises:
        InputError: it is damaged, cut short or encrypted; a name leads out of the folder; or it
            holds too many files or bytes.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as opened:
                yield _checked(path, _in_zip(opened))
        else:
            with tarfile.open(path) as tar:
                yield _checked(path, _in_tar(tar))
    except DAMAGE as error:
        reason = str(error).partition("\n")[0].rstrip(":") or type(error).__name__
        raise InputError(f"{path}: no whole archive ({reason}); fetch it again") from error


def _in_zip(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if not info.is_dir() and kind in (0, stat.S_IFREG):
            yield Member(info.filename, info.file_size, partial(archive.extract, info))


def _in_tar(archive: tarfile.TarFile) -> Iterator[Member]:
    for info in archive:
        if info.isfile():
            yield Member(info.name, info.size, partial(archive.extract, info, **SAFELY))


def _checked(path: Path, found: Iterator[Member]) -> list[Member]:
    most = max(path.stat().st_size * MOST_GROWTH, SMALL_BYTES)
    listed, total = list[Member](), 0
    for member in found:
        parts = PurePosixPath(member.name.replace("\\", "/")).parts
        if not parts or parts[0] == "/" or ".." in parts or ":" in parts[0]:
            raise InputError(
                f"{path}: the name {member.name!r} leads out of the folder; nothing was unpacked: "
                "get the archive from another place"
            )
        total += member.size
        if total > most or len(listed) >= MOST_FILES:
            raise InputError(
                f"{path}: would unpack to over {total / 1e9:.1f} GB in {len(listed)} files, more "
                "than such an archive holds; nothing was unpacked: get it from another place"
            )
        if not any(part.startswith(".") or part == "__MACOSX" for part in parts):
            listed.append(member)
    return listed


def unpack(path: Path, into: Path, wanted: Callable[[str], bool]) -> Path:
    """Unpack the wanted files into a new folder, named after the archive, below ``into``.

    They are written into a hidden folder, which no reader looks into, and which gets its name when
    all of them are there. A killed call leaves that one, and the next call begins it anew.

    Args:
        path: the archive.
        into: the folder of the new folder.
        wanted: says of a name in the archive whether to unpack it.

    Raises:
        InputError: as :func:`members`, or the disk has no room.
    """
    unfinished = into / f".{path.name}.unpacking"
    shutil.rmtree(unfinished, ignore_errors=True)
    with members(path) as found:
        chosen = [member for member in found if wanted(member.name)]
        into.mkdir(parents=True, exist_ok=True)
        expect_room(into, sum(member.size for member in chosen), path.name)
        unfinished.mkdir()
        for member in progress(chosen, f"{path.name}: files"):
            member.extract(unfinished)
    os.sync()  # a folder that has its name must have its files, also after a power cut
    folder, number = into / stem(path.name), 1
    while folder.exists() or folder.is_symlink():
        number += 1
        folder = into / f"{stem(path.name)}-{number}"
    unfinished.rename(folder)
    return folder


def expect_room(folder: Path, size: int, what: str) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        InputError: fewer bytes are free than needed.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        raise InputError(
            f"{folder}: {what} needs {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; free "
            "space, or link the folder to a larger disk"
        )
