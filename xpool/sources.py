"""Which of the project's files a module needs: the closure of its imports, read from the source.

A study's trials are named by the code that makes them, so that no trial of other code is taken for
one of this; ``tests/test_pipeline.py`` compares the same closure with the deps of ``dvc.yaml``.
"""

import ast
import json
from functools import cache
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
OURS = ("xpool", "baselines", "studies")


def path_of(module: str) -> Path | None:
    """File of one of our modules, relative to the top; None for anything else."""
    if module.split(".")[0] not in OURS:
        return None
    place = TOP.joinpath(*module.split("."))
    for candidate in (place.with_suffix(".py"), place / "__init__.py"):
        if candidate.is_file():
            return candidate.relative_to(TOP)
    return None


def imported(path: Path) -> set[str]:
    """Our modules that a file (or a notebook) names in its imports, at any depth of its code."""
    text = (TOP / path).read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = [c for c in json.loads(text)["cells"] if c["cell_type"] == "code"]
        lines = [line for c in cells for line in "".join(c["source"]).splitlines()]
        text = "\n".join(line for line in lines if not line.startswith("%"))
    return {name for name in _named(text) if path_of(name)}


@cache  # by the text: many closures share most of their files
def _named(text: str) -> frozenset[str]:
    """Modules, and what may be modules, that a source text names in its imports."""
    names = set()
    for node in ast.walk(ast.parse(text)):
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
