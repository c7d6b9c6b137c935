"""Commands of the pipeline without their seconds of imports, for tests that run all stages.

:func:`serving` starts a process that has imported what stages use, and a folder with a ``python``
and an ``xpool`` that hand their commands to it. DVC runs the stages as ever; each then runs in a
fork, and so do the kernels of its notebooks. Only libraries are there already: the project's own
code is imported anew, from the folders of PYTHONPATH. For runs that nobody kills.
"""

import contextlib
import gc
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
LIBRARIES = (
    "open_clip",
    "optuna_dashboard",
    "torch._dynamo",
    "nbclient",
    "nbconvert",
    "matplotlib.pyplot",
    "ipykernel.kernelapp",
)
"""Libraries that stages import inside functions, and those of kernels."""
CLIENT = """#!{python} -SE
import os, pickle, signal, socket, sys
if sys.argv[0].endswith("/xpool"):
    module, words = "xpool", sys.argv[1:]
elif sys.argv[1:2] == ["-m"] and sys.argv[2] in ("xpool", "ipykernel_launcher"):
    module, words = sys.argv[2], sys.argv[3:]
else:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
signal.signal(signal.SIGINT, signal.SIG_IGN)  # which kernels get at their end
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    task = pickle.dumps((module, words, os.getcwd(), dict(os.environ)))
    socket.send_fds(server, [len(task).to_bytes(8)], [0, 1, 2])
    server.sendall(task)
    sys.exit(int(server.recv(8) or b"1"))
"""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Path]:
    """Yield a folder for the front of PATH, made in ``folder``; the server ends with the block."""
    address, python = folder / "socket", folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    for program in (python, python.with_name("xpool")):
        program.write_text(CLIENT.format(python=sys.executable, address=str(address)))
        program.chmod(0o755)
    environment = os.environ | {
        "PYTHONPATH": str(TOP),
        "OMP_WAIT_POLICY": "PASSIVE",
        "JPY_PARENT_PID": "1",  # read at import: a kernel is no program of its own
    }
    command = [sys.executable, __file__, str(address), str(python)]
    server = subprocess.Popen(command, env=environment)
    try:
        while not address.exists():
            assert server.poll() is None, "the server ended"
            time.sleep(0.05)
        yield python.parent
    finally:
        server.terminate()
        server.wait()


def serve(address: str, python: str) -> None:
    """Run each command that comes in a fork of this process, and what it starts by ``python``."""
    from xpool.project.fingerprints import modules

    for name in (*LIBRARIES, *modules()):
        if not name.startswith("notebooks."):
            importlib.import_module(name)
    own = {path.name for path in TOP.iterdir()}
    for name in list(sys.modules):
        if name.partition(".")[0] in own:
            del sys.modules[name]
    del sys.path[0]  # the folder of this file
    sys.executable = python
    gc.freeze()  # a collection in a fork would visit all this, and copy it
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
        module, words, folder, environment = pickle.loads(task.read(int.from_bytes(size)))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [folder, *environment.get("PYTHONPATH", folder).split(os.pathsep)]
    sys.argv = [module, *words]
    if module != "xpool":  # kernels set MPLBACKEND, too late here
        sys.modules["matplotlib"].rcParams["backend"] = "module://matplotlib_inline.backend_inline"
    status = 0
    try:
        runpy.run_module(module, run_name="__main__")
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
    serve(*sys.argv[1:])
