"""A storage that stops answering: a server comes back or not, a file is deleted or cannot be used.

The server is a real PostgreSQL behind a door that can be shut: it cuts the open connections and
refuses new ones, as a restart does.
"""

import contextlib
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy

from xpool.ablation import patience
from xpool.ablation.experiment import Experiment, grid, scale
from xpool.ablation.lab import Outcome
from xpool.ablation.patience import StorageError
from xpool.ablation.queue import Queue
from xpool.ablation.storage import OptunaParams, claim_lock, open_storage

pytest_plugins = ["postgres"]


@pytest.fixture(autouse=True)
def _alone(in_empty_project, monkeypatch):
    monkeypatch.delenv("XPOOL_STORAGE", raising=False)
    monkeypatch.setattr(patience, "PAUSE_S", 0.05)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Door:
    """A port that leads to another one while it is open."""

    def __init__(self, port):
        self._inner, self._pairs, self.port = port, [], free_port()
        self.open()

    def open(self):
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def shut(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._pairs:
            with contextlib.suppress(OSError):  # it is closed already
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._pairs.clear()

    def _serve(self, listener):
        with contextlib.suppress(OSError):  # the door was shut
            while True:
                outer, _ = listener.accept()
                inner = socket.create_connection(("127.0.0.1", self._inner))
                self._pairs += [outer, inner]
                for source, target in ((outer, inner), (inner, outer)):
                    threading.Thread(target=_carry, args=(source, target), daemon=True).start()


def _carry(source, target):
    with contextlib.suppress(OSError):  # the door was shut
        while data := source.recv(65536):
            target.sendall(data)


@pytest.fixture(scope="module")
def server():
    from postgres import postgres_server

    with postgres_server() as url:
        yield sqlalchemy.make_url(url)


@pytest.fixture
def door(server):
    made = Door(server.port)
    yield made
    made.shut()


def params(storage):
    return OptunaParams(storage=storage, workers=0, heartbeat_s=60, retries=1)


def through(server, door):
    url = server.set(port=door.port)
    return params(url.render_as_string(hide_password=False))


def queue_of(known, study="away"):
    experiment = Experiment(
        study=study, benchmark="msvd", part="x", space={"x": scale([0, 9])},
        cells=grid({"x": [1, 2, 3]}), objectives={"R@1": "maximize"},
        run=lambda point, lab: Outcome(figures={"R@1": 1.0}),
    )  # fmt: skip
    return Queue(experiment, open_storage(known), claim_lock(known))


@pytest.mark.slow
def test_a_server_that_comes_back_loses_no_trial(server, door, caplog):
    """Away before each kind of call: plan, claim, heartbeat, point, end, and what is left."""
    queue = queue_of(through(server, door))

    opening = threading.Timer(0, lambda: None)
    opening.start()

    def away():
        nonlocal opening
        opening.join()
        door.shut()
        opening = threading.Timer(0.3, door.open)
        opening.start()

    away()
    queue.plan(1)
    away()
    trial = queue.claim()
    away()
    with queue.beating(trial):
        assert queue.suggested(trial) == {"x": 1}
        away()
        trial.set_user_attr("R@1", 1.0)
    away()
    queue.complete(trial, [1.0])
    away()
    queue.reap()
    away()
    assert queue.unfinished() == 2
    assert [attempt.state.name for attempt in queue.attempts().values()] == [
        "COMPLETE", "WAITING", "WAITING",
    ]  # fmt: skip
    assert "trying for 120 s" in caplog.text
    assert "answers again" in caplog.text


@pytest.mark.slow
def test_a_server_that_stays_away_is_one_line(server, door, monkeypatch):
    monkeypatch.setattr(patience, "AWAY_S", 0.3)
    queue = queue_of(through(server, door), "gone")
    queue.plan(1)
    door.shut()
    for call in (queue.claim, queue.unfinished, lambda: queue.plan(1)):
        with pytest.raises(StorageError) as caught:
            call()
        text = str(caught.value)
        assert text.startswith("params.yaml: optuna.storage: postgresql+psycopg://tester:***@127")
        assert "for 0 s; start the server; finished trials are kept" in text
        assert "only-for-tests" not in text
        assert "\n" not in text
    door.open()
    assert queue.claim() is not None


# --- behind a gRPC proxy ---


class Proxy:
    """Optuna's own proxy server on a port of 127.0.0.1, before a storage."""

    def __init__(self, url):
        self.url, self.port = url, free_port()
        self.start()

    def start(self):
        """A new server knows nothing of what an earlier one did, as in another process."""
        from optuna.storages import get_storage
        from optuna.storages._grpc.server import make_server

        self._server = make_server(get_storage(self.url), "127.0.0.1", self.port)
        self._server.start()

    def stop(self):
        self._server.stop(None).wait()


@pytest.fixture
def proxy(tmp_path):
    pytest.importorskip("grpc", reason="grpcio is not installed")
    made = Proxy(f"sqlite:///{tmp_path}/behind.db")
    yield made
    made.stop()


def test_a_proxy_that_comes_back_loses_no_trial(proxy, caplog):
    """Away before each kind of call, for longer than gRPC's first pause between connections."""
    queue = queue_of(params(f"grpc://127.0.0.1:{proxy.port}"))
    opening = threading.Timer(0, lambda: None)
    opening.start()

    def away(for_s=0.3):
        nonlocal opening
        opening.join()
        proxy.stop()
        opening = threading.Timer(for_s, proxy.start)
        opening.start()

    away(4.0)
    began = time.monotonic()
    queue.plan(1)
    assert 4.0 <= time.monotonic() - began < 6.5
    away()
    trial = queue.claim()
    away()
    with queue.beating(trial):
        assert queue.suggested(trial) == {"x": 1}
        away()
        trial.set_user_attr("R@1", 1.0)
    away()
    queue.complete(trial, [1.0])
    away()
    assert queue.unfinished() == 2
    opening.join()
    assert [attempt.state.name for attempt in queue.attempts().values()] == [
        "COMPLETE", "WAITING", "WAITING",
    ]  # fmt: skip
    assert f"grpc://127.0.0.1:{proxy.port}: " in caplog.text
    assert "trying for 120 s" in caplog.text
    assert "answers again" in caplog.text


def test_a_proxy_that_stays_away_is_one_line(proxy, monkeypatch):
    monkeypatch.setattr(patience, "AWAY_S", 0.3)
    queue = queue_of(params(f"grpc://127.0.0.1:{proxy.port}"))
    queue.plan(1)
    proxy.stop()
    for call in (queue.claim, queue.unfinished, lambda: queue.plan(1)):
        with pytest.raises(StorageError) as caught:
            call()
        text = str(caught.value)
        assert text.startswith(f"params.yaml: optuna.storage: grpc://127.0.0.1:{proxy.port}: ")
        assert "for 0 s; start the server; finished trials are kept" in text
        assert "\n" not in text
    proxy.start()
    assert queue.claim() is not None


@pytest.mark.slow
def test_a_database_that_is_away_behind_a_proxy_is_waited_for(server, door, caplog):
    pytest.importorskip("grpc", reason="grpcio is not installed")
    proxy = Proxy(server.set(port=door.port).render_as_string(hide_password=False))
    queue = queue_of(params(f"grpc://127.0.0.1:{proxy.port}"), "behind")
    queue.plan(1)
    door.shut()
    opening = threading.Timer(1.0, door.open)
    opening.start()
    assert queue.claim() is not None
    assert "answers again" in caplog.text
    with pytest.raises(KeyError):  # what was asked is wrong, and no server is away
        queue.storage.get_trial(99_999)
    opening.join()
    proxy.stop()


def deleted():
    shutil.rmtree(".optuna")


def replaced():
    Path(".optuna/studies.db").unlink()
    Path(".optuna/studies.db").touch()


@pytest.mark.parametrize("loss", [deleted, replaced])
@pytest.mark.parametrize("call", ["claim", "unfinished", "reap", "plan", "complete"])
def test_a_file_that_is_gone_is_one_line(call, loss):
    """An open SQLite file stays writable after its end, for nobody to read."""
    queue = queue_of(params("sqlite:///.optuna/studies.db"))
    queue.plan(1)
    trial = queue.claim()
    loss()
    calls = {"plan": lambda: queue.plan(1), "complete": lambda: queue.complete(trial, [1.0])}
    with pytest.raises(StorageError, match=r"^\.optuna/studies\.db: was deleted or replaced") as at:
        calls.get(call, getattr(queue, call))()
    assert "\n" not in str(at.value)


def test_a_full_disk_is_one_line_at_once():
    """SQLite's own limit of pages stands for the disk: the same error, and the same text."""
    known = params("sqlite:///.optuna/studies.db")
    queue = queue_of(known)
    engine = queue.storage._inner._backend.engine
    engine.dispose()

    @sqlalchemy.event.listens_for(engine, "connect")
    def limit(connection, record):
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    def fill():
        for _ in range(50):
            queue._enqueue("x" * 5000, {"x": 1}, 1)

    with pytest.raises(StorageError, match=r"studies.db: database or disk is full; finished"):
        fill()
