"""Wait for a study's storage when its server is away, or end with one line.

A server may restart while a trial trains for hours. Each call is therefore repeated until the
server answers again, for at most :data:`AWAY_S`. A file cannot come back: one that was deleted, or
that cannot be written, ends the process at once. Finished trials are kept in both cases.
"""

import abc
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._heartbeat import BaseHeartbeat
from sqlalchemy import exc

from xpool.project.errors import InputError
from xpool.project.params import PARAMS_FILE

log = logging.getLogger(__name__)
AWAY_S = 120.0
"""Time for which a server that went away is called again."""
PAUSE_S = 1.0
"""Pause between two calls."""
KEPT = "finished trials are kept; run the same command again"
BUSY = ("locked", "busy")
"""Words of SQLite's errors that pass when other processes have finished writing."""

T = TypeVar("T")


class StorageError(InputError):
    """The storage of a study can no longer be used; names it and the reason."""


def shown(url: sqlalchemy.URL) -> str:
    """Return the URL without anything that may be secret."""
    return url.set(query={}).render_as_string(hide_password=True)


def reason(error: BaseException, url: sqlalchemy.URL) -> str:
    """Return the start of the innermost error's text, without the password."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    for secret in (url.password, url.query.get("password")):
        if secret:
            text = text.replace(str(secret), "***")
    return text[:300].rstrip(" .;")


def patiently(call: Callable[[], T], url: sqlalchemy.URL) -> T:
    """Return what a call of the storage returns, calling again while its server is away.

    Raises:
        StorageError: a server was away for :data:`AWAY_S`, or a file cannot be used.
    """
    began: float | None = None
    while True:
        try:
            answer = call()
        except (exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            if not _is_of_the_storage(error):
                raise
            why, now = reason(error, url), time.monotonic()
            is_file = url.get_backend_name() == "sqlite" and not any(w in why for w in BUSY)
            if began is None and not is_file:
                log.warning("%s: %s; trying for %.0f s", shown(url), why, AWAY_S)
            began = now if began is None else began
            if is_file or now - began >= AWAY_S:
                again = "" if is_file else f" for {AWAY_S:.0f} s; start the server"
                raise StorageError(
                    f"{PARAMS_FILE}: optuna.storage: {shown(url)}: {why}{again}; {KEPT}"
                ) from error
            time.sleep(PAUSE_S)
        else:
            if began is not None:
                log.warning("%s answers again", shown(url))
            return answer


def _is_of_the_storage(error: BaseException) -> bool:
    """Whether a call failed for want of its server or file, and not for what it asked."""
    kinds = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError)
    return isinstance(error, kinds) or isinstance(error.__cause__, kinds)


class PatientStorage(BaseStorage, BaseHeartbeat):
    """Optuna's storage in a database; each call of it is made :func:`patiently`."""

    def __init__(self, url: sqlalchemy.URL, inner: RDBStorage) -> None:
        """Wrap a storage.

        Args:
            url: its address.
            inner: the storage that was opened there.
        """
        self._inner, self._url = optuna.storages.get_storage(inner), url
        self._file = Path(url.database or "") if url.get_backend_name() == "sqlite" else None
        self._opened = self._file.stat().st_ino if self._file else None

    def _check_file(self) -> None:
        """Check that the database is the file that was opened.

        A deleted file stays writable for who has it open: trials would be lost without a word.

        Raises:
            StorageError: it was deleted or replaced.
        """
        if self._file is None:
            return
        if not self._file.exists() or self._file.stat().st_ino != self._opened:
            raise StorageError(
                f"{self._file}: was deleted or replaced while a study used it, and its trials with "
                "it; run the same command again, which plans them anew"
            )


def _patient(name: str) -> Callable[..., Any]:
    def call(self: PatientStorage, *arguments: Any, **options: Any) -> Any:
        self._check_file()
        method = getattr(self._inner, name)
        return patiently(partial(method, *arguments, **options), self._url)

    return call


for _name in {*dir(BaseStorage), *dir(BaseHeartbeat)}:
    if not _name.startswith("_") or _name in PatientStorage.__abstractmethods__:
        setattr(PatientStorage, _name, _patient(_name))
abc.update_abstractmethods(PatientStorage)  # type: ignore[type-abstract]
