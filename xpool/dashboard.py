"""Serve Optuna's dashboard on this machine: all studies, their trials, plots, notes and artifacts.

It reads the storage of ``params.yaml`` and may be started before, during and after the studies,
from an empty project too; what runs shows up as it comes. It listens on 127.0.0.1 alone, as
whoever reaches it can change and delete studies; from elsewhere, use a tunnel:
``ssh -L 8080:127.0.0.1:8080 <machine>``.

Run: ``make dashboard``, or ``python -m xpool.dashboard --port 8080``
"""

import argparse
from collections.abc import Iterator
from contextlib import suppress
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from optuna_dashboard import wsgi

from xpool.command import InputError, run
from xpool.params import read
from xpool.storage import OptunaParams, address, artifact_store, open_storage

HOST = "127.0.0.1"
PORT = 8080


class _Server(ThreadingMixIn, WSGIServer):
    """Answers while another request is still at work; ends without waiting for it."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    """Writes no line for each request: an open page makes one every few seconds."""

    def log_message(self, format: str, *args: object) -> None:
        pass


def studies_there(storage: BaseStorage) -> Iterator[str]:
    """Yield a line for each study, or one that says how to get some."""
    names = optuna.get_all_study_names(storage)
    if not names:
        yield "no study yet: run `dvc repro ablate@temperature`, and it appears here while it runs"
    for name in names:
        study = storage.get_study_id_from_name(name)
        done = storage.get_n_trials(study, TrialState.COMPLETE)
        yield f"  {name}: {done} of {storage.get_n_trials(study)} trials complete"


def server(storage: BaseStorage, port: int) -> WSGIServer:
    """Return the server, which listens already.

    Args:
        storage: with the studies.
        port: 0 takes any that is free.

    Raises:
        InputError: the port is in use, or not allowed.
    """
    try:
        listening = _Server((HOST, port), _Quiet)
    except (OSError, OverflowError) as error:
        other = port + 1 if 1024 <= port < 65535 else PORT
        raise InputError(
            f"--port {port}: cannot listen on {HOST}:{port} ({error}); take another one: "
            f"--port {other}, or make dashboard PORT={other}"
        ) from error
    listening.set_app(wsgi(storage, artifact_store=artifact_store()))
    return listening


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=PORT)
    port = parser.parse_args().port
    params = read("optuna", OptunaParams)
    storage = open_storage(params)
    with server(storage, port) as listening, suppress(KeyboardInterrupt):
        title = f"http://{HOST}:{listening.server_port}/ shows {address(params)}; Ctrl-C ends it"
        print("\n".join([title, *studies_there(storage)]), flush=True)
        listening.serve_forever()


if __name__ == "__main__":
    run(main)
