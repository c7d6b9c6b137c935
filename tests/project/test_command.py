"""How every command ends: one-line errors, tracebacks for bugs, no orphans."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xpool.project.command import STARTERS


def python(code, cwd, **kwargs):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=60, **kwargs
    )


def command(body):
    return (
        "import sys\nfrom xpool.project.command import run\n"
        "from xpool.project.errors import InputError\n"
        f"def main():\n    {body}\nrun(main)\n"
    )


def test_input_error_is_one_line_and_status_2(top):
    done = python(command("raise InputError('a.yaml: row 3: no such video; remove it')"), top)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "error: a.yaml: row 3: no such video; remove it\n"


def test_input_error_of_several_lines_is_still_one_line(top):
    done = python(command("raise InputError('first\\nsecond')"), top)
    assert done.returncode == 2
    assert done.stderr == "error: first second\n"


def test_input_error_with_a_cause_shows_no_traceback(top):
    body = "try: int('x')\n    except ValueError as error: raise InputError('bad') from error"
    assert python(command(body), top).stderr == "error: bad\n"


def test_work_that_another_process_does_has_a_status_of_its_own(top):
    """75 is EX_TEMPFAIL of sysexits.h: the same command may succeed later."""
    body = "from xpool.project.errors import BusyError; raise BusyError('a.lock: wait')"
    done = python(command(body), top)
    assert (done.returncode, done.stderr) == (75, "error: a.lock: wait\n")


@pytest.mark.parametrize("kind", ["ValueError", "KeyError", "FileNotFoundError"])
def test_any_other_error_is_a_bug_and_raises(top, kind):
    done = python(command(f"raise {kind}('oops')"), top)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert f"{kind}: " in done.stderr


def test_a_command_that_ends_well_exits_with_0_and_logs_to_stderr(top):
    body = "import logging; logging.getLogger('xpool.x').info('done'); logging.info('chatter')"
    done = python(command(body), top)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "xpool.x: done\n")


def test_exit_status_of_the_command_is_kept(top):
    assert python(command("sys.exit(7)"), top).returncode == 7


def test_a_real_command_without_params_or_arguments_says_so(tmp_path, top):
    def setting(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "xpool", "setting", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(top)},
            capture_output=True,
            text=True,
            timeout=60,
        )

    done = setting()
    assert done.returncode == 2
    assert "Error: Missing argument 'name'." in done.stderr
    assert "Traceback" not in done.stderr
    done = setting("paper")
    assert done.returncode == 2
    assert done.stderr.startswith("error: params.yaml: not found")
    assert done.stderr.count("\n") == 1


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such call")
@pytest.mark.parametrize("starter", ["DVC_STAGE", "XPOOL_STARTED", "TORCHELASTIC_RUN_ID"])
def test_a_command_that_a_program_started_ends_when_its_parent_is_killed(top, starter):
    """The killed parent has no chance to end its child: the kernel does it."""
    child = (
        "import time\nfrom xpool.project.command import run\n"
        "def main():\n    print('ready', flush=True)\n    time.sleep(300)\nrun(main)\n"
    )
    parent = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\nprint(child.pid, flush=True)\nchild.wait()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", parent], cwd=top, stdout=subprocess.PIPE, text=True,
        env=os.environ | {starter: "1"},
    )  # fmt: skip
    try:
        pid = int(process.stdout.readline())
        assert is_alive(pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        until = time.monotonic() + 10
        while is_alive(pid) and time.monotonic() < until:
            time.sleep(0.02)
        assert not is_alive(pid)
    finally:
        process.kill()
        process.stdout.close()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such call")
def test_a_command_whose_parent_lives_goes_on(top):
    done = python(command("import time; time.sleep(0.2); print('end')"), top)
    assert done.stdout == "end\n"


def test_a_users_command_outlives_its_shell(tmp_path, top):
    """``nohup xpool train ... &`` in a terminal that is closed: the shell's group is hung up."""
    body = (
        "import time, pathlib\n    pathlib.Path('began').touch()\n    time.sleep(1.5)\n"
        "    pathlib.Path('ended').touch()"
    )
    (tmp_path / "command.py").write_text(command(body))
    clean = {name: value for name, value in os.environ.items() if name not in STARTERS}
    shell = subprocess.Popen(
        ["sh", "-c", f"nohup {sys.executable} command.py > out 2>&1 & while ! [ -e began ]; do "
         "sleep 0.05; done"],
        cwd=tmp_path, env=clean | {"PYTHONPATH": str(top)}, start_new_session=True,
    )  # fmt: skip
    assert shell.wait(timeout=60) == 0
    os.killpg(shell.pid, signal.SIGHUP)
    until = time.monotonic() + 30
    while not (tmp_path / "ended").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert (tmp_path / "ended").exists(), (tmp_path / "out").read_text()


FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); "
"""A limit on the size of a file, which fails as a full disk does."""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (FULL + "open('big', 'w').write('x' * 9999)", "File too large"),
        (FULL + "import numpy as np; np.save('big', np.zeros(9999))", "requested and"),
        ("raise OSError(28, 'No space left on device', '.work/train/a')",
         "error: .work/train/a: No space left on device; free space"),
        ("raise OSError(30, 'Read-only file system', '.work')", "error: .work: Read-only"),
    ],
)  # fmt: skip
def test_a_machine_that_does_not_write_is_one_line(body, said, tmp_path, top):
    done = python(command(body), tmp_path, env=os.environ | {"PYTHONPATH": str(top)})
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
