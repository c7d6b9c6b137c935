"""The command `xpool`: every sub-command has a help that is complete, and answers at once."""

import re
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest

from xpool.__main__ import STAGES, TOOLS

TOP = Path(__file__).resolve().parents[1]
COMMANDS = {**STAGES, **TOOLS}
SLOW = r"\| +(torch|pandas|numpy|optuna|scipy|transformers|open_clip|matplotlib)$"


def run(*words, flags=()):
    return subprocess.run(
        [sys.executable, *flags, "-m", "xpool", *words],
        cwd=TOP, capture_output=True, text=True, check=False, timeout=60,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "100", "PYTHONPATH": str(TOP)},
    )  # fmt: skip


@cache
def helped(name):
    """Ask a command for its help, once; Python writes down what it imports meanwhile."""
    return run(name, "--help", flags=["-X", "importtime"])


def test_help_lists_all_commands_in_the_order_of_the_pipeline():
    lines = run("--help").stdout.splitlines()
    listed = [line.split()[0] for line in lines[lines.index("Commands:") + 1 :] if line.strip()]
    assert listed == list(COMMANDS)


def test_each_command_is_listed_with_one_whole_line():
    """At 80 columns, the width of a plain terminal, no line is cut short."""
    done = subprocess.run(
        [sys.executable, "-m", "xpool", "--help"], cwd=TOP, capture_output=True, text=True,
        check=True, env={"PATH": "/usr/bin:/bin", "COLUMNS": "80", "PYTHONPATH": str(TOP)},
    )  # fmt: skip
    assert "..." not in done.stdout.partition("Commands:")[2]


def test_the_order_of_the_stages_is_that_of_the_pipeline():
    commands = re.findall(r"python -m xpool ([\w-]+)", (TOP / "dvc.yaml").read_text())
    assert list(STAGES) == list(dict.fromkeys(commands))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_how_it_is_used_with_each_option_and_an_example(name):
    done = helped(name)
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: python -m xpool {name}")
    assert f"Example: xpool {name}" in " ".join(done.stdout.split())
    pattern = r"^  (--?[\w-]+(?: <\w+>)?|\[?[A-Z_]+\]?\S*) {2,}(\S.*)?$"
    options = re.findall(pattern, done.stdout, re.M)
    assert options
    assert all(meaning for _, meaning in options), options
    assert "python -m xpool." not in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_help_answers_before_anything_slow_is_imported(name):
    imported = helped(name).stderr
    assert "| xpool" in imported
    assert not re.search(SLOW, imported, re.M)


def test_help_answers_at_once():
    """0.3 s on an idle machine; the time is the best of three, and the bound for a busy one."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run("train", "--help")
        times.append(time.perf_counter() - start)
    assert min(times) < 2


def test_an_unknown_option_or_command_is_one_clear_error():
    for words in (["train", "--metod", "x"], ["trian"], ["train"]):
        done = run(*words)
        assert done.returncode == 2
        assert "Error: " in done.stderr
        assert "Traceback" not in done.stderr


def test_the_console_script_is_this_command():
    script = Path(sys.executable).with_name("xpool")
    done = subprocess.run([script, "--help"], capture_output=True, text=True, check=True, cwd=TOP)
    assert done.stdout.startswith("Usage: xpool ")
    assert "train" in done.stdout


def test_an_input_error_is_one_line_and_status_2(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "xpool", "ranks"], cwd=tmp_path, capture_output=True, text=True,
        check=False, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(TOP)},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: params.yaml: not found; run this from the project's top folder"
    ]


DOCUMENTS = [TOP / "README.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs").rglob("*.md"))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_only_commands_and_modules_that_exist(path):
    text = path.read_text()
    for name in re.findall(r"(?:^|[\s`])xpool ([a-z][\w-]+)(?=[ `\n])", text):
        assert name in COMMANDS, f"{path.name}: xpool {name}"
    for module in re.findall(r"python -m (xpool[.\w]*|performance[.\w]*)", text):
        assert (
            module in {"xpool", "xpool.compare", "performance"}
            or (TOP / module.replace(".", "/")).with_suffix(".py").is_file()
        ), module
    files = r"`((?:xpool|baselines|studies|performance|tests|notebooks)/[\w/.]+)`"
    for file in re.findall(files, text):
        assert (TOP / file).exists(), f"{path.name}: {file}"
