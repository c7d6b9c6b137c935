"""Download one file over HTTP: resumed where it broke off, and complete before it has its name."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from xpool.data.get.archives import expect_room
from xpool.data.get.sources import Login, Remote, shown
from xpool.data.get.verified import PAGE, UnavailableError, refuse_other
from xpool.project.errors import InputError
from xpool.project.progress import progress
from xpool.project.workspace import write_json

TRIES = 5
"""Attempts in a row of which none brings a byte."""
WAIT_S = 1.0
"""Pause after the first of them; it doubles each time."""
TIMEOUT_S = (15.0, 60.0)
"""For a connection, and between two pieces of a file."""
CHUNK = 2**20
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""States of a server that is busy, by HTTP's numbers."""
log = logging.getLogger(__name__)


class _BrokenOffError(Exception):
    """The connection ended or the server was busy; a further attempt may succeed."""


Auth = tuple[str, str] | None
"""User and password."""


def download(
    session: requests.Session,
    remote: Remote,
    destination: Path,
    ledger: Path | None,
    auth: Auth = None,
    *,
    bar: bool = True,
) -> None:
    """Download a file; an earlier call that broke off or was killed is continued.

    What arrives is written to a hidden ``.<name>.part`` beside the destination, which is renamed
    when it is complete and verified.

    Args:
        session: its connections are used again.
        remote: the file.
        destination: where it goes.
        ledger: JSON file of digests; see :func:`xpool.data.get.verified.refuse_other`.
        auth: whom the server is told.
        bar: whether to show the bytes as they come.

    Raises:
        UnavailableError: this address does not give the file.
        InputError: the connection broke off with a part of the file here, or the disk has no room.
    """
    part = part_of(destination)
    part.parent.mkdir(parents=True, exist_ok=True)
    failed = 0
    while True:
        before = _size(part)
        try:
            _receive(session, remote, part, auth, bar)
            break
        except _BrokenOffError as error:
            failed = 1 if _size(part) > before else failed + 1
            if failed >= TRIES:
                _give_up(remote, part, error)
            log.info("%s: %s; trying again", remote.file_name, error)
            time.sleep(WAIT_S * 2 ** (failed - 1))
    refuse_other(part, remote, _key(remote), ledger)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(destination)
    _notes(part).unlink(missing_ok=True)


def _give_up(remote: Remote, part: Path, error: Exception) -> NoReturn:
    if not _size(part):
        raise UnavailableError(f"{shown(remote.url)}: {error}") from error
    raise InputError(
        f"{shown(remote.url)}: broke off after {_size(part) / 1e6:,.1f} MB ({error}); run the same "
        "command again, which continues there"
    ) from error


def part_of(destination: Path) -> Path:
    """Return where the bytes of an unfinished download are."""
    return destination.with_name(f".{destination.name}.part")


def auth_for(login: Login | None, url: str) -> Auth:
    """Return the user and password that the environment holds for an address.

    Raises:
        InputError: they are needed and not set.
    """
    if login is None or urlsplit(url).hostname not in login.hosts:
        return None
    user, password = os.environ.get(login.user), os.environ.get(login.password)
    if not (user and password):
        raise InputError(
            f"{shown(url)}: needs a user name and a password; set {login.user} and "
            f"{login.password} in the environment (docs/data/real_data.md says who gives them)"
        )
    return user, password


def _receive(session: requests.Session, remote: Remote, part: Path, auth: Auth, bar: bool) -> None:
    """Ask for what the part file lacks, and append it.

    Raises:
        _BrokenOffError: something is still lacking.
    """
    notes = _notes(part)
    address = hashlib.sha256(remote.url.encode()).hexdigest()  # itself it may hold a secret
    known = json.loads(notes.read_text()) if notes.is_file() else {}
    if known.get("address") != address:
        known = {}
        part.unlink(missing_ok=True)
    start = _size(part)
    headers = {"Accept-Encoding": "identity"}  # the bytes as they are stored
    if start:
        headers["Range"] = f"bytes={start}-"
        if known["version"]:
            headers["If-Range"] = known["version"]
    try:
        response = session.get(
            remote.url, headers=headers, stream=True, timeout=TIMEOUT_S, auth=auth
        )
    except requests.ConnectionError as error:
        raise _BrokenOffError(_innermost(error)) from error
    except requests.Timeout as error:
        raise _BrokenOffError("no answer") from error
    except (requests.RequestException, ValueError) as error:  # redirects in a circle, no address
        raise UnavailableError(f"{shown(remote.url)}: {type(error).__name__}") from error
    with response:
        _refuse(response, remote)
        if response.status_code == 200:  # the whole file, whatever was asked for
            length = response.headers.get("Content-Length", "")
            start, total = 0, int(length) if length.isdigit() else None
            part.unlink(missing_ok=True)
            write_json(notes, {"address": address, "total": total, "version": _version(response)})
        else:
            total = _continued(response, start, known, part)
        if response.status_code != 416:
            expect_room(part.parent, (total or 0) - start, remote.file_name)
            _append(response, remote, part, start, total, bar)
    if total is not None and _size(part) != total:
        raise _BrokenOffError(f"{_size(part)} of {total} bytes came")


def _refuse(response: requests.Response, remote: Remote) -> None:
    """Refuse an answer that is not the file.

    Raises:
        UnavailableError: it never will be.
        _BrokenOffError: the server is busy.
    """
    said = f"{response.status_code} {response.reason}"
    if response.status_code in PASSING:
        raise _BrokenOffError(said)
    if response.status_code in (401, 403):
        told = "Authorization" in response.request.headers
        why = "user name or password is wrong" if told else "a login or a permission is needed"
        raise UnavailableError(f"{shown(remote.url)}: {said}: {why}")
    if response.status_code not in (200, 206, 416):
        raise UnavailableError(f"{shown(remote.url)}: {said}")
    if response.status_code != 416 and "text/html" in response.headers.get("Content-Type", ""):
        raise UnavailableError(f"{shown(remote.url)}: {PAGE}")


def _continued(
    response: requests.Response, start: int, known: dict[str, Any], part: Path
) -> int | None:
    """Return the size of the whole file, of which the server sends the rest.

    Raises:
        _BrokenOffError: the server has another file than the part is of; the part is deleted.
    """
    span, _, whole = response.headers.get("Content-Range", "").rpartition("/")
    total = int(whole) if whole.isdigit() else known.get("total")
    fits = response.status_code == 416 or span.startswith(f"bytes {start}-")
    if not fits or known.get("total") not in (None, total) or _size(part) > (total or start):
        part.unlink(missing_ok=True)
        raise _BrokenOffError("the file has changed and is fetched from its beginning")
    return total


def _append(
    response: requests.Response,
    remote: Remote,
    part: Path,
    start: int,
    total: int | None,
    bar: bool,
) -> None:
    counted = progress(
        title=remote.file_name, total=total, initial=start, disable=not bar,
        unit="B", unit_scale=True, unit_divisor=1000,
    )  # fmt: skip
    with counted:
        try:
            with part.open("ab") as file:
                for piece in _pieces(response):
                    file.write(piece)
                    counted.update(len(piece))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(part)) from error


def _pieces(response: requests.Response) -> Iterator[bytes]:
    try:
        yield from response.raw.stream(CHUNK, decode_content=False)
    except (HTTPError, requests.RequestException) as error:
        raise _BrokenOffError(_innermost(error)) from error


def _version(response: requests.Response) -> str | None:
    """Return what tells a server whether a file is still the same, in ``If-Range``."""
    tag: str = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _key(remote: Remote) -> str:
    """Return the address under which a file's digest is recorded."""
    key = shown(remote.url)
    return key if remote.file_name in key else f"{key} {remote.file_name}"


def _notes(part: Path) -> Path:
    """Return the file that says of which address and version a part is."""
    return part.with_name(f"{part.name}.json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _innermost(error: BaseException) -> str:
    """Return the cause of an error; what is around it holds the whole address."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return " ".join(str(error).split()) or type(error).__name__
