"""Which of the project's files a module needs: the closure of its imports, read from the source.

DVC follows no imports. As a step this writes ``results/sources/``: for each module and notebook a
list of the files that it needs, with the SHA-256 of each. A stage that depends on its list runs
again when one of these files changes, and no other. A study's trials are named by the same closure,
so that no trial of other code is taken for one of this.

Run: ``python -m xpool.sources``
"""

import argparse
import ast
import json
from functools import cache
from hashlib import sha256
from pathlib import Path

from xpool import paths
from xpool.command import run
from xpool.workspace import replacing

TOP = Path(__file__).resolve().parent.parent
OURS = ("xpool", "baselines", "studies")
NOTEBOOKS = "notebooks"


def path_of(module: str) -> Path | None:
    """File of one of our modules or notebooks, relative to the top; None for anything else."""
    package = module.split(".")[0]
    place = TOP.joinpath(*module.split("."))
    if package == NOTEBOOKS:
        candidates = [place.with_suffix(".ipynb")]
    elif package in OURS:
        candidates = [place.with_suffix(".py"), place / "__init__.py"]
    else:
        return None
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


def digests(*modules: str) -> dict[str, str]:
    """SHA-256 of each file that the modules need, by its path, sorted."""
    files = sorted(closure(*modules))
    return {path: sha256((TOP / path).read_bytes()).hexdigest() for path in files}


def main() -> None:
    """Write the lists."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    for module in modules():
        lines = [f"{digest}  {path}\n" for path, digest in digests(module).items()]
        with replacing(paths.sources() / f"{module}.txt") as file:
            file.write("".join(lines))


if __name__ == "__main__":
    run(main)
