"""Commands of the pipeline without their seconds of imports, for tests that run all stages.

:func:`serving` starts a process that has imported what stages use, and a folder with a ``python``
that hands ``python -m xpool ...`` to it. DVC runs the stages as ever; each then runs in a fork.
For copies of the project whose code is that of the server, and for runs that nobody kills.
"""

import contextlib
import importlib
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
LIBRARIES = ("open_clip", "optuna_dashboard", "torch._dynamo")
"""Libraries that stages import inside functions."""
CLIENT = """#!{python} -SE
import os, pickle, socket, sys
if sys.argv[1:3] != ["-m", "xpool"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    task = pickle.dumps((sys.argv[3:], os.getcwd(), dict(os.environ)))
    socket.send_fds(server, [len(task).to_bytes(8)], [0, 1, 2])
    server.sendall(task)
    sys.exit(int(server.recv(8) or b"1"))
"""


@contextlib.contextmanager
def serving(folder: Path, *code: Path) -> Iterator[Path]:
    """Yield a folder for the front of PATH; the server ends with the block.

    Args:
        folder: for the socket and the ``python``.
        code: the top of the checkout whose code the server imports, and further folders to import
            from; none: this checkout.
    """
    address, python = folder / "socket", folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(CLIENT.format(python=sys.executable, address=str(address)))
    python.chmod(0o755)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, code or [TOP])),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    server = subprocess.Popen([sys.executable, __file__, str(address)], env=environment)
    try:
        while not address.exists():
            assert server.poll() is None, "the server ended"
            time.sleep(0.05)
        yield python.parent
    finally:
        server.terminate()
        server.wait()


def serve(address: str) -> None:
    """Run each command that comes in a fork of this process."""
    from xpool.project.fingerprints import modules

    for name in (*LIBRARIES, *modules()):
        if not name.startswith("notebooks."):
            importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # forks leave no zombies
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{address}.new")
        listening.listen()
        Path(f"{address}.new").rename(address)
        while True:
            client, _ = listening.accept()
            if not os.fork():
                listening.close()
                _run(client)
            client.close()


def _run(client: socket.socket) -> None:
    """Run a client's command with its streams, folder and environment; send its exit status."""
    import pickle

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, *_ = socket.recv_fds(client, 8, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    with client.makefile("rb") as task:
        arguments, folder, environment = pickle.loads(task.read(int.from_bytes(size)))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["xpool", *arguments]
    status = 0
    try:
        runpy.run_module("xpool", run_name="__main__")
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    client.sendall(str(status).encode())
    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1])
