"""Tell a whole file from a web page, a damaged archive or other bytes than before."""

import hashlib
import json
from pathlib import Path
from typing import Any

from xpool.data.get.archives import is_archive, members
from xpool.data.get.sources import Remote
from xpool.project.digests import is_web_page, sha256
from xpool.project.errors import InputError
from xpool.project.workspace import write_json

PAGE = (
    "a web page came in place of the file, perhaps to log in or to confirm: open the address in a "
    "browser, save the file in a folder, and name that with --from"
)


class UnavailableError(InputError):
    """A source does not give the file; another one may."""


def refuse_other(file: Path, remote: Remote, key: str, ledger: Path | None) -> None:
    """Refuse a finished download that is not the file; record its digest if nobody has published.

    Args:
        file: the download, still under another name.
        remote: what it should be.
        key: address under which its digest is recorded.
        ledger: JSON file of the digests of earlier downloads; None keeps none, for videos, whose
            digests the manifest has.

    Raises:
        UnavailableError: it is another file; it is deleted.
        InputError: it is another file than at the first download; it is kept under its other name.
    """
    try:
        refuse_page(file)
        if is_archive(remote.file_name):
            with members(file):
                pass
        if remote.md5 and (found := _md5(file)) != remote.md5:
            raise InputError(f"its MD5 is {found}; published is {remote.md5}")
        digest = sha256(file) if ledger or remote.sha256 else ""
        if remote.sha256 and digest != remote.sha256:
            raise InputError(f"its SHA-256 is {digest}; published is {remote.sha256}")
    except InputError as error:
        file.unlink()
        raise UnavailableError(f"{key}: {error}; the download was deleted") from error
    if ledger:
        _compare(digest, file, key, ledger)


def refuse_page(file: Path) -> None:
    """Refuse a web page in place of a file.

    Raises:
        InputError: it begins as HTML does.
    """
    if is_web_page(file):
        raise InputError(PAGE)


def _compare(digest: str, file: Path, key: str, ledger: Path) -> None:
    known: dict[str, Any] = json.loads(ledger.read_text()) if ledger.is_file() else {}
    before = known.setdefault(key, {"bytes": file.stat().st_size, "sha256": digest})["sha256"]
    if before != digest:
        raise InputError(
            f"{key}: its SHA-256 is {digest}, but {before} at the first download: the file has "
            f"changed. If that is right, delete its entry in {ledger} and run the command again "
            f"({file} is kept)"
        )
    write_json(ledger, known)


def _md5(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "md5").hexdigest()
