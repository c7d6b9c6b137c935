"""Optuna's storage: what can be opened, what cannot and why, and that a trial is claimed once."""

import logging
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
import warnings
from collections import Counter
from pathlib import Path

import optuna
import psycopg
import pytest
from optuna.trial import TrialState

from xpool.ablation.patience import PatientStorage
from xpool.ablation.storage import (
    OptunaParams,
    address,
    artifact_store,
    claim_lock,
    is_missing,
    open_storage,
)
from xpool.project.errors import InputError
from xpool.project.params import validate

pytest_plugins = ["postgres"]
SQLITE = "sqlite:///.optuna/studies.db"
TRIALS, WORKERS = 200, 4


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XPOOL_STORAGE", raising=False)


def params(storage=SQLITE, **changes):
    known = {"storage": storage, "workers": 1, "heartbeat_s": 60, "retries": 1}
    return OptunaParams(**known | changes)


def error_of(storage):
    with pytest.raises(InputError) as caught:
        open_storage(params(storage))
    text = str(caught.value)
    assert text.startswith("params.yaml: optuna.storage")
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("key", "value"),
    [("workers", -1), ("heartbeat_s", 0), ("retries", -1), ("storage", 3), ("workers", True)],
)
def test_values_that_cannot_be_are_refused(key, value):
    with pytest.raises(InputError, match=f"params.yaml: optuna.{key}: "):
        validate(params().model_dump() | {key: value}, "optuna", OptunaParams)


def test_a_new_file_is_made_with_its_folder_and_keeps_what_is_written():
    assert is_missing(params())
    assert address(params()) == SQLITE
    optuna.create_study(study_name="one", storage=open_storage(params()))
    assert Path(".optuna/studies.db").is_file()
    assert not is_missing(params())
    assert optuna.get_all_study_names(open_storage(params())) == ["one"]


def test_heartbeat_and_grace_are_set():
    storage = open_storage(params(heartbeat_s=7))
    assert isinstance(storage, PatientStorage)
    assert storage.get_heartbeat_interval() == 7
    assert storage._inner._backend.grace_period == 28


def test_optuna_is_quiet(capfd):
    study = optuna.create_study(storage=open_storage(params()))
    study.enqueue_trial({"x": 1})
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        storage = open_storage(params())
        optuna.samplers.TPESampler(multivariate=True)
    assert storage.get_heartbeat_interval() == 60
    assert [str(warning.message) for warning in heard] == []
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == logging.WARNING


def test_the_variable_takes_the_place_of_the_file(monkeypatch):
    monkeypatch.setenv("XPOOL_STORAGE", "sqlite:///other/place.db")
    open_storage(params("postgresql://nowhere/none"))
    assert Path("other/place.db").is_file()
    with claim_lock(params("postgresql://nowhere/none")):
        assert Path("other/place.db.lock").is_file()
    monkeypatch.setenv("XPOOL_STORAGE", "nonsense")
    assert "(by XPOOL_STORAGE): not a URL" in error_of(SQLITE)


def test_artifacts_get_a_folder():
    Path("strip.png").write_bytes(b"pixels")
    study = optuna.create_study(storage=open_storage(params()))
    name = optuna.artifacts.upload_artifact(
        artifact_store=artifact_store(), file_path="strip.png", study_or_trial=study
    )
    assert Path(".optuna/artifacts", name).read_bytes() == b"pixels"


@pytest.mark.parametrize("url", ["nonsense", "", "postgresql://me:hidden@host:port/x"])
def test_what_is_no_url_is_refused(url):
    text = error_of(url)
    assert "not a URL; write sqlite:///.optuna/studies.db, postgresql://" in text
    assert "hidden" not in text


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:hidden@host/0", "no storage of kind 'redis'; known: sqlite, postgresql"),
        ("sqlite://", "names no file that workers can share"),
        ("sqlite:///:memory:", "names no file that workers can share"),
        ("sqlite:///file:x.db?uri=true", "names no file that workers can share"),
        ("grpc://host", "write grpc://host:port"),
        ("mysql+nosuch://me:hidden@host/x", "cannot open mysql+nosuch://me:***@host/x"),
        ("postgresql://me:hidden@127.0.0.1:1/x", "cannot open postgresql+psycopg://me:***@127"),
        ("postgresql://127.0.0.1:1/x?user=me&password=hidden", "//127.0.0.1:1/x: connection"),
    ],
)
def test_what_cannot_be_opened_is_said_without_the_password(url, said):
    text = error_of(url)
    assert said in text
    assert "hidden" not in text


@pytest.mark.parametrize(
    ("module", "url", "package"),
    [
        ("pymysql", "mysql+pymysql://me:hidden@host/x", "pymysql"),
        ("MySQLdb", "mysql://me:hidden@host/x", "mysqlclient"),
        ("grpc", "grpc://host:13000", "grpcio"),
    ],
)
def test_a_missing_driver_is_named(monkeypatch, module, url, package):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    text = error_of(url)
    assert "needs a package that is not installed; install " in text
    assert package in text
    assert "hidden" not in text


def test_a_file_that_is_no_database_is_left_as_it_is():
    Path("notes.txt").write_text("precious" * 200)
    assert "file is not a database; fix the path" in error_of("sqlite:///notes.txt")
    assert Path("notes.txt").read_text() == "precious" * 200


def test_a_folder_that_cannot_be_made_is_said():
    Path("taken").touch()
    assert "cannot open sqlite:///taken/studies.db" in error_of("sqlite:///taken/studies.db")


def test_tables_of_another_optuna_say_so():
    open_storage(params())
    with sqlite3.connect(".optuna/studies.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    database.close()
    assert "no longer compatible" in error_of(SQLITE)


def test_the_lock_keeps_others_out_and_can_be_taken_again():
    """Held by another process: not to be had; let go of: to be had, and again."""
    code = (
        "import fcntl, sys\n"
        "with open('.optuna/studies.db.lock', 'a') as file:\n"
        "    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
    )
    other = [sys.executable, "-c", code]
    lock = claim_lock(params())
    for _ in range(2):
        with lock:
            assert b"BlockingIOError" in subprocess.run(other, capture_output=True).stderr
        assert subprocess.run(other, capture_output=True).returncode == 0
    with pytest.raises(RuntimeError), lock:
        raise RuntimeError
    assert subprocess.run(other, capture_output=True).returncode == 0


def test_the_lock_goes_with_a_killed_process():
    code = (
        "import time\nfrom xpool.ablation.storage import *\n"
        f"with claim_lock(OptunaParams(**{params().model_dump()})):\n"
        "    print('held', flush=True)\n    time.sleep(300)\n"
    )
    top = Path(__file__).resolve().parents[2]
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(top)},
    )  # fmt: skip
    assert holder.stdout.readline() == b"held\n"
    entered = threading.Event()

    def enter():
        with claim_lock(params()):
            entered.set()

    waiting = threading.Thread(target=enter, daemon=True)
    waiting.start()
    assert not entered.wait(0.3)
    holder.kill()
    assert entered.wait(30)
    holder.wait()
    holder.stdout.close()


def test_a_proxy_is_locked_for_one_checkout():
    with claim_lock(params("grpc://host:13000")):
        assert Path(".optuna/claim.lock").is_file()


HOLDER = """
import time
from xpool.ablation.storage import *
with claim_lock(OptunaParams(**{known})):
    print("held", flush=True)
    time.sleep(300)
"""


@pytest.mark.slow
def test_the_lock_of_a_server_keeps_others_out_and_goes_with_a_killed_process(postgres_url):
    here = params(postgres_url)
    open_storage(here)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(known=here.model_dump())], stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )  # fmt: skip
    assert holder.stdout.readline() == b"held\n"
    entered = threading.Event()

    def enter():
        lock = claim_lock(here)
        for _ in range(2):  # and it can be had again
            with lock:
                pass
        entered.set()

    waiting = threading.Thread(target=enter, daemon=True)
    waiting.start()
    assert not entered.wait(0.5)
    optuna.create_study(storage=open_storage(here)).enqueue_trial({})  # all else goes on meanwhile
    holder.kill()
    assert entered.wait(30)
    holder.wait()
    holder.stdout.close()


def claim_all(known, start, claimed):
    """Claim waiting trials until none is left (a worker process)."""
    here = OptunaParams(**known)
    storage, lock = open_storage(here), claim_lock(here)
    study = storage.get_study_id_from_name("grid")
    numbers = []
    start.wait(timeout=60)
    while True:
        with lock:
            waiting = storage.get_all_trials(study, states=(TrialState.WAITING,))
            number = None
            for trial in waiting:
                try:
                    taken = storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
                except optuna.exceptions.UpdateFinishedTrialError:
                    continue
                if taken:
                    number = trial.number
                    break
        if number is None:
            break
        numbers.append(number)
    claimed.put(numbers)


def of_workers(target, here):
    """Run a function in several processes that start it at once; return what each one put."""
    context = multiprocessing.get_context("spawn")
    start, outcome = context.Barrier(WORKERS), context.Queue()
    arguments = (here.model_dump(), start, outcome)
    workers = [context.Process(target=target, args=arguments) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    outcomes = [outcome.get(timeout=200) for _ in workers]
    for worker in workers:
        worker.join()
    return outcomes


def claims(here):
    """Return how often each trial was claimed by any of four processes."""
    study = optuna.create_study(study_name="grid", storage=open_storage(here))
    for value in range(TRIALS):
        study.enqueue_trial({"x": value})
    numbers = of_workers(claim_all, here)
    assert sum(1 for each in numbers if each) > 1, "one process was alone"
    return Counter(number for each in numbers for number in each)


@pytest.mark.slow
def test_four_processes_claim_each_trial_of_an_sqlite_file_once():
    """Without the lock, about one trial in ten is claimed twice."""
    assert claims(params()) == dict.fromkeys(range(TRIALS), 1)


@pytest.mark.slow
def test_four_processes_claim_each_trial_of_postgresql_once(postgres_url):
    assert claims(params(postgres_url)) == dict.fromkeys(range(TRIALS), 1)


def open_at_once(known, start, outcome):
    start.wait(timeout=60)
    try:
        open_storage(OptunaParams(**known))
        outcome.put("")
    except BaseException as error:
        outcome.put(f"{type(error).__name__}: {error}")


@pytest.mark.slow
def test_many_may_make_a_new_sqlite_storage_at_once():
    assert of_workers(open_at_once, params()) == [""] * WORKERS


@pytest.mark.slow
def test_many_may_make_a_new_postgresql_storage_at_once(postgres_url):
    assert of_workers(open_at_once, params(postgres_url)) == [""] * WORKERS


@pytest.mark.slow
def test_postgresql_keeps_studies_and_its_url_may_name_no_driver(postgres_url):
    plain = postgres_url.replace("+psycopg", "")
    optuna.create_study(study_name="one", storage=open_storage(params(plain)))
    assert optuna.get_all_study_names(open_storage(params(postgres_url))) == ["one"]
    assert "only-for-tests" not in address(params(plain))


@pytest.mark.slow
def test_a_wrong_password_is_one_line_that_does_not_tell_it(postgres_url):
    text = error_of(postgres_url.replace("only-for-tests", "hidden"))
    assert "password authentication failed" in text
    assert "hidden" not in text
    text = error_of(postgres_url.replace("/test_", "/absent_"))
    assert "does not exist" in text
    assert "only-for-tests" not in text


@pytest.mark.slow
def test_the_password_may_come_from_libpq(postgres_url, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "only-for-tests")
    open_storage(params(postgres_url.replace(":only-for-tests", "")))


@pytest.mark.slow
def test_a_connection_that_the_server_dropped_is_made_anew(postgres_url):
    storage = open_storage(params(postgres_url))
    optuna.create_study(study_name="one", storage=storage)
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as other:
        ended = other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
    assert ended, "there was no connection to drop"
    assert optuna.get_all_study_names(storage) == ["one"]
