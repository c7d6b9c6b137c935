"""`--help` of every command: quick, and complete."""

import ast
import re
import subprocess
import sys
import time

import pytest

from xpool.sources import TOP

STEPS = sorted(p for p in (TOP / "xpool").glob("*.py") if "    run(main)" in p.read_text())


@pytest.mark.parametrize("path", STEPS, ids=lambda path: path.stem)
def test_the_docstring_names_the_command_and_all_its_flags(path):
    text = path.read_text()
    doc = ast.get_docstring(ast.parse(text))
    assert f"python -m xpool.{path.stem}" in doc or f"make {path.stem}" in doc
    flags = re.findall(r'add_argument\(\s*"(--[\w-]+)"', text)
    for flag in flags:
        assert flag in doc or flag.strip("-").upper() in doc, flag


@pytest.mark.parametrize("module", ["xpool.train", "xpool.ablate", "xpool.tables"])
def test_help_answers_before_anything_slow_is_imported(module):
    """0.1 s on an idle machine; the time is the best of three."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", module, "--help"],
            cwd=TOP, capture_output=True, text=True, check=True,
        )  # fmt: skip
        times.append(time.perf_counter() - start)
    assert f"python -m {module}" in done.stdout
    assert not re.search(r"\| (torch|pandas|numpy|optuna|pydantic)$", done.stderr, re.M)
    assert min(times) < 2


def test_other_imports_of_the_package_are_not_answered():
    code = "import sys; sys.argv = ['x', '--help']; import xpool; print('went on')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, check=True
    )
    assert done.stdout == "went on\n"
