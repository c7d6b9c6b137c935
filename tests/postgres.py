"""A throw-away PostgreSQL server from the system's package; what asks for it skips without one."""

import ctypes
import getpass
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import sqlalchemy

PASSWORD = "only-for-tests"
STARTS = 3  # another process can take the free port before the server does
START_S = 60


def binaries() -> Path | None:
    """Return the folder of initdb and postgres; Debian keeps it off PATH."""
    found = shutil.which("initdb")
    if found and shutil.which("postgres"):
        return Path(found).parent
    debian = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    folders = sorted((path.parent for path in debian), key=lambda folder: float(folder.parent.name))
    return folders[-1] if folders else None


def owner() -> str | None:
    """Return the user to run the server as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return getpass.getuser()
    users = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in users else None


@contextmanager
def postgres_server() -> Iterator[str]:
    """Start a server on a free port of 127.0.0.1, yield the URL of its empty database, remove it.

    Skips the test where PostgreSQL is not installed.
    """
    programs, user = binaries(), owner()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    if user is None:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))  # which every user can enter
    process = None
    try:
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:
            shutil.chown(folder, user)
            shutil.chown(secret, user)
        data = folder / "data"
        _as_user(
            user,
            [programs / "initdb", "--pgdata", data, "--username=tester", f"--pwfile={secret}",
             "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"],
            folder,
        )  # fmt: skip
        process, url = _started(programs / "postgres", data, user, folder)
        yield url
    finally:
        if process:
            process.send_signal(signal.SIGINT)  # closes the connections that are left
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder)


def _started(
    program: Path, data: Path, user: str, folder: Path
) -> tuple[subprocess.Popen[bytes], str]:
    log = folder / "log"
    for _ in range(STARTS):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        settings = {
            "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "",
            "fsync": "off", "max_connections": 50, "shared_buffers": "16MB",
        }  # fmt: skip
        flags = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [program, "-D", data, *flags], stdout=output, stderr=output, cwd=folder,
                preexec_fn=_die_with_tests, **_identity(user),
            )  # fmt: skip
        address = f"127.0.0.1:{port}/postgres"
        if _answers(process, f"postgresql://tester:{PASSWORD}@{address}"):
            return process, f"postgresql+psycopg://tester:{PASSWORD}@{address}"
        process.kill()
        process.wait()
    raise AssertionError(f"PostgreSQL did not start:\n{log.read_text()[-3000:]}")


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return True
    return False


def _as_user(user: str, command: list, folder: Path) -> None:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        **_identity(user),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def _identity(user: str) -> dict:
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _die_with_tests() -> None:
    """Let a killed test run leave no server behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGQUIT)  # PR_SET_PDEATHSIG


@pytest.fixture(scope="session")
def _postgres():
    with postgres_server() as url:
        yield url


@pytest.fixture
def postgres_url(_postgres):
    """URL of an empty database of its own."""
    name = f"test_{secrets.token_hex(4)}"
    with psycopg.connect(_postgres.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return sqlalchemy.make_url(_postgres).set(database=name).render_as_string(hide_password=False)
