"""Which of the project's files a module needs: the closure of its imports, read from the source."""

import ast
import json
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
    """Our modules that a file names in its imports, at any depth of its code."""
    text = (TOP / path).read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = [c for c in json.loads(text)["cells"] if c["cell_type"] == "code"]
        lines = [line for c in cells for line in "".join(c["source"]).splitlines()]
        text = "\n".join(line for line in lines if not line.startswith("%"))
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if path_of(name)}


def closure(*modules: str) -> set[str]:
    """Files that the modules need, themselves included; package docstrings left out."""
    waiting, seen = list(modules), set()
    while waiting:
        module = waiting.pop()
        path = path_of(module)
        if path is None or path.as_posix() in seen:
            continue
        seen.add(path.as_posix())
        waiting += imported(path)
    return {path for path in seen if not path.endswith("__init__.py")}
