"""Optuna's storage, which holds the trials of all studies for workers and the dashboard.

``optuna.storage`` in ``params.yaml`` is a URL:

- ``sqlite:///.optuna/studies.db``: a file; for the processes of one machine.
- ``postgresql://user@host/database`` or ``mysql+pymysql://...``: a server; for many machines.
- ``grpc://host:port``: Optuna's proxy before such a server (``optuna.storages.
  run_grpc_proxy_server``), where workers may not reach the database; needs the package ``grpcio``.
  It does not forward heartbeats, so a trial stays *running* if its machine goes down.

The environment variable ``XPOOL_STORAGE`` overrides ``optuna.storage``. A password belongs there,
or with PostgreSQL in ``PGPASSWORD`` or ``~/.pgpass``; never in a committed file.

Artifacts are files in ``.optuna/artifacts``. Machines that show theirs in one dashboard share that
folder.
"""

import fcntl
import logging
import os
import random
import time
import warnings
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import optuna
import sqlalchemy
from optuna.artifacts import FileSystemArtifactStore
from optuna.storages import BaseStorage, RDBStorage
from pydantic import Field
from sqlalchemy import exc

from xpool.ablation.patience import (
    PatientProxy,
    PatientStorage,
    open_proxy,
    patiently,
    reason,
    shown,
)
from xpool.project.errors import InputError
from xpool.project.params import PARAMS_FILE, Section

log = logging.getLogger(__name__)
FOLDER = Path(".optuna")
VARIABLE = "XPOOL_STORAGE"
KEY = f"{PARAMS_FILE}: optuna.storage"

CONNECT_S = 10
"""Time that a server has to answer."""
BUSY_S = 60
"""Time that a process waits while others write to an SQLite file."""
GRACE = 4
"""Missed heartbeats after which a trial is given up; fewer fail live ones (optuna#4234, #5470)."""
OPENINGS = 5
"""Tries to create the tables, which other processes may be creating too."""

DRIVERS = {
    "postgresql": "psycopg[binary]",
    "mysql": "pymysql (and write mysql+pymysql://) or mysqlclient",
    "grpc": "grpcio protobuf",
}
"""The package to install for each kind of storage."""


class OptunaParams(Section):
    """Section ``optuna``."""

    storage: str
    """A URL, see the module's docstring."""
    workers: int = Field(ge=0)
    """Worker processes that a stage starts; 0: it only plans the trials and waits for workers."""
    heartbeat_s: int = Field(ge=1)
    """Seconds between two heartbeats of a running trial, which is given up after four intervals."""
    retries: int = Field(ge=0)
    """Number of further runs that a failed trial gets."""


def open_storage(params: OptunaParams) -> BaseStorage:
    """Open the storage, creating its tables if it is new; silences Optuna's log.

    Raises:
        InputError: not a URL of a known kind, its driver is missing, or it cannot be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    url = _url(params)
    kind = url.get_backend_name()
    try:
        if kind == "grpc":
            return _open_proxy(url)
        if kind == "sqlite":
            with claim_lock(params):  # makes the folder; and one process at a time makes tables
                return _open_database(url, params)
        return _open_database(url, params)
    except ImportError as error:
        raise _no_driver(url) from error
    except (exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError) as error:
        fix = "fix the path" if kind == "sqlite" else "start the server, or fix URL and password"
        raise InputError(
            f"{_key()}: cannot open {shown(url)}: {reason(error, url)}; {fix}"
        ) from error
    except RuntimeError as error:  # the tables of another version of Optuna; says what to do
        raise InputError(f"{_key()}: {shown(url)}: {reason(error, url)}") from error


def check_driver(params: OptunaParams, used: bool) -> None:
    """Check the storage's URL and, if a study will open it, that its driver is installed.

    Raises:
        InputError: not a URL of a known kind, or the driver is missing.
    """
    url = _url(params)
    kind = url.get_backend_name()
    try:
        if used and kind == "grpc":
            import_module("grpc")
        elif used:
            url.get_dialect().import_dbapi()
    except ImportError as error:
        raise _no_driver(url) from error


def address(params: OptunaParams) -> str:
    """Return the storage's URL without its password."""
    return shown(_url(params))


def is_file(params: OptunaParams) -> bool:
    """Whether the storage is a file, which serves the processes of one machine only."""
    return _url(params).get_backend_name() == "sqlite"


def is_missing(params: OptunaParams) -> bool:
    """Whether the storage is a file that does not exist yet; opening it would create it."""
    return is_file(params) and not Path(_url(params).database or "").is_file()


def artifact_store() -> FileSystemArtifactStore:
    """Return the store of the trials' artifacts; creates its folder."""
    folder = FOLDER / "artifacts"
    folder.mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(folder)


def claim_lock(params: OptunaParams) -> AbstractContextManager[None]:
    """Return the lock to hold while the queue is changed; it can be used again and again.

    Optuna changes one trial at a time, and SQLite lets two processes claim the same one. So all
    users of a storage take turns to plan, claim, end and requeue trials: with a lock file beside an
    SQLite file, and with a locked row on a server. A gRPC proxy offers no lock; there a lock file
    keeps the processes of one checkout apart.
    """
    url = _url(params)
    if url.get_backend_name() == "sqlite":
        return _FileLock(Path(f"{url.database}.lock"))
    if url.get_backend_name() == "grpc":
        return _FileLock(FOLDER / "claim.lock")
    return _RowLock(url)


class _Held(AbstractContextManager[None]):
    """A lock that is held by an open file or connection, and released with it."""

    _held: IO[str] | sqlalchemy.Connection | None = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._held:
            self._held.close()
            self._held = None


class _FileLock(_Held):
    """Excludes other processes; released when its own ends, even if killed. Never nested."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("a")
        fcntl.flock(file, fcntl.LOCK_EX)
        self._held = file


class _RowLock(_Held):
    """Excludes all other users of a server's database while its connection is open. Never nested.

    It locks the only row of Optuna's table ``version_info``, which everything else only reads.
    """

    def __init__(self, url: sqlalchemy.URL):
        self._url = url
        # no pool: many workers share the server's connections, and this one is needed seldom
        self._engine = sqlalchemy.create_engine(
            url, poolclass=sqlalchemy.NullPool, connect_args=_engine_kwargs(url)["connect_args"]
        )

    def __enter__(self) -> None:
        self._held = patiently(self._locked, self._url)

    def __exit__(self, *error: Any) -> None:
        try:
            super().__exit__(*error)
        except exc.DBAPIError as lost:
            self._held = None
            log.warning("the server went away and released the lock: %s", reason(lost, self._url))

    def _locked(self) -> sqlalchemy.Connection:
        connection = self._engine.connect()
        try:
            connection.execute(
                sqlalchemy.text("SELECT version_info_id FROM version_info FOR UPDATE")
            )
        except BaseException:
            connection.close()
            raise
        return connection


def _url(params: OptunaParams) -> sqlalchemy.URL:
    text = os.environ.get(VARIABLE) or params.storage
    try:
        url = sqlalchemy.make_url(text)
    except (exc.ArgumentError, ValueError):  # whose texts may hold the password
        raise InputError(
            f"{_key()}: not a URL; write sqlite:///.optuna/studies.db, "
            "postgresql://user@host/database, mysql+pymysql://user@host/database or grpc://host:port"
        ) from None
    kind = url.get_backend_name()
    if kind not in {"sqlite", *DRIVERS}:
        raise InputError(
            f"{_key()}: no storage of kind {kind!r}; known: sqlite, {', '.join(DRIVERS)}"
        )
    if kind == "sqlite" and (url.database or ":memory:").startswith((":memory:", "file:")):
        raise InputError(
            f"{_key()}: {shown(url)} names no file that workers can share; "
            "write sqlite:///.optuna/studies.db"
        )
    if kind == "grpc" and not (url.host and url.port):
        raise InputError(f"{_key()}: {shown(url)} lacks host or port; write grpc://host:port")
    if url.drivername == "postgresql":  # SQLAlchemy would look for psycopg2
        url = url.set(drivername="postgresql+psycopg")
    return url


def _no_driver(url: sqlalchemy.URL) -> InputError:
    return InputError(
        f"{_key()}: {shown(url)} needs a package that is not installed; "
        f"install {DRIVERS[url.get_backend_name()]}"
    )


def _open_proxy(url: sqlalchemy.URL) -> BaseStorage:
    proxy = open_proxy(url)
    proxy.wait_server_ready(timeout=CONNECT_S)
    return PatientProxy(url, proxy)  # type: ignore[abstract]  # filled in by a loop


def _open_database(url: sqlalchemy.URL, params: OptunaParams) -> BaseStorage:
    for attempt in range(1, OPENINGS + 1):
        try:
            inner = RDBStorage(
                url.render_as_string(hide_password=False),
                engine_kwargs=_engine_kwargs(url),
                heartbeat_interval=params.heartbeat_s,
                grace_period=GRACE * params.heartbeat_s,
            )
            return PatientStorage(url, inner)  # type: ignore[abstract]  # filled in by a loop
        except exc.DBAPIError as error:
            made = isinstance(error, exc.ProgrammingError | exc.IntegrityError)
            if attempt == OPENINGS or not (made or "already exists" in str(error)):
                raise
            time.sleep(random.uniform(0.05, 0.2) * attempt)  # another process made a table first
    raise AssertionError("unreachable")


def _engine_kwargs(url: sqlalchemy.URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": BUSY_S}}
    known = url.get_driver_name() in {"psycopg", "psycopg2", "pymysql", "mysqldb"}
    timeout = {"connect_timeout": CONNECT_S} if known else {}
    # a connection that the server dropped during a long trial is noticed and made anew
    return {"pool_pre_ping": True, "connect_args": timeout}


def _key() -> str:
    return f"{KEY} (by {VARIABLE})" if os.environ.get(VARIABLE) else KEY
