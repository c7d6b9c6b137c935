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
from optuna.storages import BaseStorage, GrpcStorageProxy, RDBStorage
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
BEHIND = ("OperationalError", "InterfaceError", "An exception is raised during the commit")
"""Words by which a gRPC proxy tells that the database behind it is away. The last stand for a
StorageInternalError whose cause the proxy does not name."""

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
        except (
            exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, ConnectionError,
        ) as error:  # fmt: skip
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
    kinds = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError, ConnectionError)
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

    def _attempt(self, name: str, *arguments: Any, **options: Any) -> Any:
        self._check_file()
        return getattr(self._inner, name)(*arguments, **options)


class PatientProxy(BaseStorage):
    """Optuna's storage behind a gRPC proxy; each call of it is made :func:`patiently`.

    It has no heartbeats, which a proxy does not forward.
    """

    def __init__(self, url: sqlalchemy.URL, proxy: GrpcStorageProxy) -> None:
        """Wrap a proxy.

        Args:
            url: its address.
            proxy: the client that was opened there.
        """
        self._proxy, self._url = proxy, url

    def _attempt(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Make one call.

        Raises:
            ConnectionError: the proxy is away, or the database behind it.
        """
        import grpc

        try:
            if name == "set_trial_param":
                return self._set_param(*arguments, **options)
            return getattr(self._proxy, name)(*arguments, **options)
        except grpc.RpcError as error:
            details = str(error.details())
            away = error.code() == grpc.StatusCode.UNAVAILABLE
            if not away and not any(kind in details for kind in BEHIND):
                raise
            if away:
                # a client waits ever longer between two attempts to connect, up to two minutes
                self._proxy.close()
                self._proxy = open_proxy(self._url)
            raise ConnectionError(details) from None

    def _set_param(self, *arguments: Any, **options: Any) -> None:
        """Set a trial's parameter, which a proxy takes only of trials that it has listed.

        One that was restarted in mid-trial has listed none, and answers KeyError.
        """
        try:
            self._proxy.set_trial_param(*arguments, **options)
        except KeyError:
            for study in self._proxy.get_all_studies():
                study_id = self._proxy.get_study_id_from_name(study.study_name)
                self._proxy.get_all_trials(study_id, deepcopy=False)
            self._proxy.set_trial_param(*arguments, **options)


def open_proxy(url: sqlalchemy.URL) -> GrpcStorageProxy:
    """Return a client of the proxy at an address; it connects at its first call."""
    return GrpcStorageProxy(host=url.host or "", port=url.port or 0)


def _patient(name: str) -> Callable[..., Any]:
    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        return patiently(partial(self._attempt, name, *arguments, **options), self._url)

    return call


def _fill(kind: type[BaseStorage], *interfaces: type) -> None:
    """Make each public or abstract method of the interfaces a patient call."""
    for name in {name for interface in interfaces for name in dir(interface)}:
        if not name.startswith("_") or name in kind.__abstractmethods__:
            setattr(kind, name, _patient(name))
    abc.update_abstractmethods(kind)


_fill(PatientStorage, BaseStorage, BaseHeartbeat)  # type: ignore[type-abstract]
_fill(PatientProxy, BaseStorage)  # type: ignore[type-abstract]
