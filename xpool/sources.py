"""What a module needs, read from the source: files of the project, and keys of ``params.yaml``.

DVC follows neither imports nor reads. ``xpool.check`` writes down both for each module, and a stage
depends on what it finds there. A study's trials are named by the same closure of imports, so that
no trial of other code is taken for one of this.
"""

import ast
import json
from functools import cache
from pathlib import Path

from xpool.digests import sha256

TOP = Path(__file__).resolve().parent.parent
OURS = ("xpool", "baselines", "studies")
NOTEBOOKS = "notebooks"


def path_of(module: str) -> Path | None:
    """File of one of our modules or notebooks, relative to the top; None for anything else."""
    package, *_ = parts = module.split(".")
    if package not in (*OURS, NOTEBOOKS):
        return None
    place = TOP.joinpath(*parts)
    if package == NOTEBOOKS:
        candidates = [place.with_suffix(".ipynb")]
    else:
        candidates = [place.with_suffix(".py"), place / "__init__.py"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.relative_to(TOP)
    return None


def modules() -> list[str]:
    """Names of all our modules and notebooks, sorted."""
    files = [path for package in OURS for path in (TOP / package).rglob("[!_]*.py")]
    files += (TOP / NOTEBOOKS).glob("*.ipynb")
    return sorted(".".join(path.relative_to(TOP).with_suffix("").parts) for path in files)


def imported(path: Path) -> set[str]:
    """Our modules that a file (or a notebook) names in its imports, at any depth of its code."""
    return {name for name in _named(code_of(path)) if path_of(name)}


def code_of(path: Path) -> str:
    """Python text of a file or a notebook."""
    text = (TOP / path).read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = [c for c in json.loads(text)["cells"] if c["cell_type"] == "code"]
        lines = [line for c in cells for line in "".join(c["source"]).splitlines()]
        text = "\n".join(line for line in lines if not line.startswith("%"))
    return text


_parsed = cache(ast.parse)  # by the text: many closures share most of their files


@cache
def _named(text: str) -> frozenset[str]:
    """Modules, and what may be modules, that a source text names in its imports."""
    names = set()
    for node in ast.walk(_parsed(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def closure(*modules: str) -> set[str]:
    """Files that the modules need, themselves included; package docstrings left out."""
    waiting, seen = list(modules), set()
    while waiting:
        path = path_of(waiting.pop())
        if path is None or path.as_posix() in seen:
            continue
        seen.add(path.as_posix())
        waiting += imported(path)
    return {path for path in seen if not path.endswith("__init__.py")}


def digests(*modules: str) -> dict[str, str]:
    """SHA-256 of each file that the modules need, by its path, sorted."""
    files = sorted(closure(*modules))
    return {path: sha256(TOP / path) for path in files}


NO_MATTER = ("setting", "optuna")
"""Keys that make no stage run again: its paths hold the one, the other changes no result."""


def keys(module: str) -> tuple[set[str], set[str]]:
    """Keys of ``params.yaml`` that a module and the files that it needs read.

    Returns:
        Keys that the source spells out; and those of which it spells the beginning, as in
        ``read(f"recipes.{method}")``. What another module's ``main`` reads is left out.
    """
    own = path_of(module)
    found = [_read(code_of(Path(path)), Path(path) == own) for path in closure(module)]
    whole, begun = (set[str]().union(*part) for part in zip(*found, strict=True))
    return whole.difference(NO_MATTER), begun


@cache
def _read(text: str, with_main: bool) -> tuple[frozenset[str], frozenset[str]]:
    """Keys in the calls of ``xpool.params.read`` in a source text."""
    whole, begun = set(), set()
    for part in _parsed(text).body:
        if isinstance(part, ast.FunctionDef) and part.name == "main" and not with_main:
            continue
        for node in ast.walk(part):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "read" and node.args:
                key = node.args[0]
                if isinstance(key, ast.JoinedStr):
                    begun.add(str(getattr(key.values[0], "value", "")).rstrip("."))
                elif isinstance(key, ast.Constant):
                    whole.add(str(key.value))
    return frozenset(whole), frozenset(begun)
