"""The commands that README and the other pages show, and what each must fit: a real parser."""

import itertools
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
import yaml
from accelerate.commands.launch import launch_command_parser
from dvc.cli import parse_args

from xpool.__main__ import app

TOP = Path(__file__).resolve().parents[1]
PAGES = [
    TOP / "README.md",
    TOP / "CONTRIBUTING.md",
    *sorted(TOP.glob("[a-z]*/README.md")),
    *sorted((TOP / "docs").rglob("*.md")),
]
BLOCK = re.compile(r"(?:<!-- ([^>]*) -->\n+)?^( *)```(\w*)\n(.*?)^\2```", re.M | re.S)
SPAN = re.compile(r"`((?:xpool|make|dvc) [^`<]+)`")
EXEMPT = {"dvc exp apply", "dvc exp run --set-param", "dvc repro ablate@dropout"}
"""Commands that are named without their words; and the study that CONTRIBUTING adds."""
SHELL = {"sh", "bash", ""}
OTHERS = {"cat", "cd", "cp", "diff", "export", "git", "head", "pre-commit", "ray", "rm", "sed"}
OTHERS |= {"source", "srun"}
"""Programs whose words nobody checks."""


@dataclass(frozen=True)
class Block:
    """A fenced block of commands, with the comment above it: why no test here runs it."""

    page: str
    mark: str
    text: str

    @property
    def lines(self) -> list[str]:
        lines = map(str.strip, self.text.splitlines())
        return [line for line in lines if line and not line.startswith("#")]


def blocks(page: Path) -> list[Block]:
    found = BLOCK.findall(page.read_text())
    name = str(page.relative_to(TOP))
    return [Block(name, mark, text) for mark, _, language, text in found if language in SHELL]


def spans(page: Path) -> list[str]:
    """Return the commands in the running text."""
    text = BLOCK.sub("", page.read_text())
    found = [" ".join(span.split()) for span in SPAN.findall(text)]
    return [span for span in found if span not in EXEMPT]


def commands(line: str) -> Iterator[list[str]]:
    """Yield the words of each command of a line, without variables before it."""
    reader = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
    reader.whitespace_split = True
    words: list[str] = []
    for word in [*reader, ";"]:
        if word[0] not in ";&|<>":
            words.append(word)
            continue
        while words and re.fullmatch(r"\w+=.*", words[0]):
            words.pop(0)
        if words:
            yield words
        words = ["#"] if word[0] in "<>" else []  # what follows is a file


def check(words: list[str]) -> None:
    """Raise unless a command's own parser takes these words; runs nothing."""
    match words:
        case ["#" | "...", *_]:
            pass
        case ["xpool", *rest] | ["python", "-m", "xpool", *rest]:
            _click(typer.main.get_command(app), rest)
        case ["python", "-m", module, *rest]:
            name = module if module.count(".") else f"{module}.__main__"
            single = typer.Typer()
            single.command()(import_module(name).main)
            _click(typer.main.get_command(single), rest)
        case ["python", "-c", code]:
            compile(code, "documented", "exec")
        case ["make", *rest]:
            _make(rest)
        case ["dvc", *rest]:
            _dvc(rest)
        case ["accelerate", "launch", *rest]:
            launched = launch_command_parser().parse_args(rest)
            assert launched.module
            check(["python", "-m", launched.training_script, *launched.training_script_args])
        case [program, *_]:
            assert program in OTHERS, program


def _click(command: Any, words: list[str]) -> None:
    if "--help" in words:
        return
    with command.make_context("documented", list(words)) as context:
        if hasattr(command, "resolve_command"):
            given = [*context._protected_args, *context.args]
            name, found, rest = command.resolve_command(context, given)
            found.make_context(name, rest, parent=context)


@cache
def _makefile() -> str:
    return (TOP / "Makefile").read_text()


def _make(words: list[str]) -> None:
    for word in words:
        name, given, _ = word.partition("=")
        if given:
            assert f"$({name})" in _makefile(), f"make knows no variable {name}"
        else:
            subprocess.run(
                ["make", "--dry-run", "-o", "setup", *words],
                cwd=TOP, check=True, capture_output=True,
            )  # fmt: skip


@cache
def _params(file: str) -> dict[str, Any]:
    return yaml.safe_load((TOP / file).read_text())


@cache
def _stages() -> dict[str, set[str]]:
    """Return the stages, each with what may follow its ``@``."""
    params = _params("params.yaml")
    paper = _params("settings/paper.yaml")
    found = {}
    for name, stage in yaml.safe_load((TOP / "dvc.yaml").read_text())["stages"].items():
        axes = []
        for listed in stage.get("matrix", {}).values():
            *parents, last = listed.strip("${}").split(".")
            values: list[str] = []
            for place in (params, paper):
                for parent in parents:
                    place = place[parent]
                values += place[last]
            axes.append(values)
        found[name] = {"-".join(items) for items in itertools.product(*axes)} if axes else set()
    return found


def _dvc(words: list[str]) -> None:
    parsed = parse_args(words)
    stages = [] if words[0] == "plots" else getattr(parsed, "targets", None) or []  # else files
    for target in stages:
        name, _, item = target.partition("@")
        assert name in _stages(), f"dvc.yaml has no stage {target}"
        assert not item or item in _stages()[name], f"{name} has no {item}"
    for change in getattr(parsed, "set_param", None) or []:
        place = _params("params.yaml")
        for key in change.partition("=")[0].split("."):
            assert key in place, f"params.yaml has no {change}"
            place = place[key]
