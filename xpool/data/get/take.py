"""Take over what already lies on a disk: link an unpacked folder, unpack archives.

A folder that is already unpacked is linked, never copied: LSMDC takes over a terabyte. Nothing in
it is changed.
"""

import logging
from functools import partial
from pathlib import Path, PurePosixPath

from xpool.data.get.archives import is_archive, members, unpack
from xpool.data.get.sources import Web
from xpool.data.get.target import Missing, Target
from xpool.data.raw_folder import RawFolder, composed, is_video
from xpool.project.errors import InputError

log = logging.getLogger(__name__)


def take(target: Target, folder: Path) -> Missing:
    """Link what a folder holds of a benchmark, and unpack its archives that hold more of it.

    Args:
        target: the benchmark.
        folder: where the files or archives lie, at any depth; the benchmark's raw folder too.

    Returns:
        What is still missing.

    Raises:
        InputError: there is no such folder, or an archive is damaged or unsafe.
    """
    found = RawFolder.scan(folder, target.name)
    missing = _linked(target, folder, found, target.missing())
    return unpacked(target, [folder / path for path in found.archives], missing)


def link_files(target: Target, folder: Path) -> Missing:
    """Link the missing files of what is no benchmark, found by their names anywhere in a folder.

    Returns:
        What is still missing.

    Raises:
        InputError: the folder has none of them, or two of one name.
    """
    missing = target.missing()
    files = [
        remote.file_name
        for part in missing.files
        for source in target.item.parts[part]
        if isinstance(source, Web)
        for remote in source.files
    ]
    if not files:
        raise InputError(
            f"{target.name}: nothing is taken from a folder; name the folder of the encoder's "
            "weights in encoder.model of params.yaml"
            if missing
            else f"{target.name}: complete; nothing is missing that {folder} could have"
        )
    found = {name: sorted(folder.rglob(name)) for name in files}
    for name, copies in found.items():
        if len(copies) > 1:
            raise InputError(f"{folder}: {name} is there twice ({copies[0]}, {copies[1]})")
        if copies:
            target.raw.mkdir(parents=True, exist_ok=True)
            (target.raw / name).symlink_to(copies[0].resolve())
    if not any(found.values()):
        raise InputError(f"{folder}: has none of {', '.join(files)}; name the files so")
    return target.missing()


def unpacked(target: Target, archives: list[Path], missing: Missing) -> Missing:
    """Unpack, of archives that hold something missing, what the raw folder does not have yet.

    Returns:
        What is still missing.
    """
    waiting = list(archives)
    while missing and (archive := _next(target, waiting, missing)):
        waiting.remove(archive)
        folder = target.scan()
        made = unpack(archive, target.raw, partial(_is_new, folder))
        log.info("%s: unpacked into %s", archive, made)
        missing = target.missing()
    return missing


def _is_new(folder: RawFolder, name: str) -> bool:
    path = PurePosixPath(name)
    again = is_video(name) and composed(path.stem) in folder.videos
    return path.name not in folder.by_name and not again


def _next(target: Target, archives: list[Path], missing: Missing) -> Path | None:
    """Return the first archive that holds something that is missing."""
    for archive in archives:
        with members(archive) as found:
            names = [member.name for member in found]
        if target.gains(names, missing):
            return archive
    return None


def _linked(target: Target, folder: Path, found: RawFolder, missing: Missing) -> Missing:
    """Link a folder into the raw folder if it brings something.

    Raises:
        InputError: the raw folder lies in it, or it has another copy of a file that is there.
    """
    own, other = target.raw.resolve(), folder.resolve()
    names = [name for name in found.by_name if not is_archive(name)]
    if other == own or other.is_relative_to(own) or not target.gains(names, missing):
        return missing
    if own.is_relative_to(other):
        raise InputError(f"{folder}: {target.raw} lies in it; name a folder beside or below it")
    link = target.raw / (other.name or "files")
    if link.exists() or link.is_symlink():
        raise InputError(f"{link}: is already there; remove or rename it, to link {other} there")
    target.raw.mkdir(parents=True, exist_ok=True)
    link.symlink_to(other, target_is_directory=True)
    try:
        still = target.missing()
    except InputError:
        link.unlink()
        raise
    log.info("%s: linked to %s; nothing was copied", link, other)
    return still
