"""Find the files of code and the keys of ``params.yaml`` that a module uses, from its source.

DVC follows neither imports nor reads. The stage ``check`` therefore writes both down for each
module, and the other stages depend on what it wrote. Studies and work folders carry a digest of
their code in their names, so work is continued only by the code that began it.

A digest of code is taken of the syntax tree without docstrings, comments and imports for type
checkers (``if TYPE_CHECKING:``), so a change of these makes nothing run again.
"""

import ast
import hashlib
import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cache, wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from xpool.project.digests import sha256, without_outputs
from xpool.project.errors import InputError
from xpool.project.paths import TOP

log = logging.getLogger(__name__)
OURS = ("xpool", "baselines", "studies")
NOTEBOOKS = "notebooks"
NEVER_RERUN = ("setting", "optuna")
"""Keys that make no stage run again: all paths contain the ``setting`` already, and ``optuna`` only
says where and by how many workers trials are run."""
SETS = ("baselines", "studies", "xpool.data.benchmarks", "xpool.postprocessing")
"""Packages from which some stages load members by names that ``params.yaml`` lists."""
_BY_NAME = (*SETS, "xpool.encoders", NOTEBOOKS)
"""Folders of which a file that nothing uses may be half written."""
LOADED_BY_NAME = {"xpool/encoders/base.py": ("xpool.encoders.", "encoder.library")}
"""Files that load another module by its name in ``params.yaml``: its package, and the key."""
T = TypeVar("T")
_KNOWN: dict[tuple[str, Path], tuple[tuple[int, int], Any]] = {}
"""Answers of functions about files, with the state of the file that each is about."""
_OUTSIDE: dict[Path, Path] = {}
"""Where Python found the files of methods in other packages, by their paths as in an import."""
_held = False
"""Whether this process keeps the first answer about each file."""


def _remembered(function: Callable[[Path], T]) -> Callable[[Path], T]:
    """Remember what a function says of a file until the file changes, or for good: :func:`hold`."""

    @wraps(function)
    def remembered(path: Path) -> T:
        key = function.__name__, located(path)
        if not (_held and key in _KNOWN):
            state = _state(path)
            if key not in _KNOWN or _KNOWN[key][0] != state:
                _KNOWN[key] = state, function(path)
        answer: T = _KNOWN[key][1]
        return answer

    return remembered


def located(path: Path) -> Path:
    """Return where a file of code is; ``path`` is relative to the top, or to where Python found it.

    The latter is named as by an import, so that records of two machines agree.
    """
    return _OUTSIDE.get(path, TOP / path)


def _state(path: Path) -> tuple[int, int]:
    status = located(path).stat()
    return status.st_size, status.st_mtime_ns


def hold(known: dict[str, Any]) -> None:
    """Keep the first answer about each file, since what a process has imported stays as it is.

    Args:
        known: :func:`facts` of an earlier process. They spare the time to parse (10 ms a file), and
            are used of files with the same bytes.
    """
    global _held
    _held = True
    here = Path(__file__).relative_to(TOP).as_posix()
    if known.get(here, {}).get("bytes") != sha256(Path(__file__)):
        return  # another version of this file found the facts
    for name, fact in known.items():
        path = Path(name)
        if (TOP / path).is_file() and sha256(TOP / path) == fact["bytes"]:
            state = _state(path)
            _KNOWN["code_digest", TOP / path] = state, fact["code"]
            _KNOWN["imported", TOP / path] = state, frozenset(map(Path, fact["imports"]))


def facts(files: Iterable[str]) -> dict[str, Any]:
    """Return what is known about files of code: digests of bytes and code, and what they import."""
    return {
        file: {
            "bytes": sha256(located(Path(file))),
            "code": code_digest(Path(file)),
            "imports": sorted(path.as_posix() for path in imported(Path(file))),
        }
        for file in sorted(files)
    }


def path_of(module: str) -> Path | None:
    """Return the file of a module or notebook of the project, relative to the top, else None.

    Also of a module of a package from which a method was loaded.
    """
    known = module.partition(".")[0] in {path.parts[0] for path in _OUTSIDE}
    return _outside(module) if known else _path_of(TOP, module)


def _outside(module: str) -> Path | None:
    """Return the file of a module that is not the project's, as by an import, and remember it."""
    try:
        spec = None if _is_ours(module) else find_spec(module)
    except ImportError:  # a package above it is missing, or cannot be imported
        spec = None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    stem, file = Path(*module.split(".")), Path(spec.origin)
    path = stem / file.name if file.name == "__init__.py" else stem.with_suffix(".py")
    _OUTSIDE[path] = file
    return path


@cache
def _path_of(top: Path, module: str) -> Path | None:
    package, *_ = parts = module.split(".")
    if package not in (*OURS, NOTEBOOKS):
        return None
    stem = top.joinpath(*parts)
    if package == NOTEBOOKS:
        candidates = [stem.with_suffix(".ipynb")]
    else:
        candidates = [stem.with_suffix(".py"), stem / "__init__.py"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.relative_to(top)
    return None


def modules() -> tuple[str, ...]:
    """Return the names of all modules and notebooks of the project, sorted."""
    files = [path for package in OURS for path in (TOP / package).rglob("[!_]*.py")]
    files += (TOP / NOTEBOOKS).glob("*.ipynb")
    return tuple(sorted(".".join(path.relative_to(TOP).with_suffix("").parts) for path in files))


def usable(used: Collection[str]) -> list[str]:
    """Return the modules and notebooks that can be read with all that they import.

    Args:
        used: those of :data:`SETS`, encoders and notebooks that are used; others may be broken.

    Raises:
        InputError: one that is used is not valid Python; names the file and the line.
    """
    found = []
    others = (name for name in used if not _is_ours(name))
    for name in (*modules(), *sorted(others)):
        try:
            closure(name)
        except InputError as error:
            if name in used or name.rpartition(".")[0] not in _BY_NAME:
                raise
            log.warning("%s; it does not matter, since nothing listed uses it", error)
        else:
            found.append(name)
    return found


@_remembered
def syntax(path: Path) -> ast.Module:
    """Return the syntax tree of a file, or of a notebook's code cells, without docstrings.

    A file of data has an empty one.

    Raises:
        InputError: it is not valid Python; names the file and the line.
    """
    if path.suffix not in (".py", ".ipynb"):
        return ast.Module([], [])
    source = located(path).read_bytes()
    if path.suffix == ".py":
        return _parsed(source, str(path))
    trees = [_parsed(cell, where) for where, cell in _cells(source, path)]
    return ast.Module([statement for tree in trees for statement in tree.body], [])


def _cells(notebook: bytes, path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the code of each cell, without IPython's magic lines, and how messages name it."""
    try:
        cells = [
            (cell["cell_type"], "".join(cell["source"])) for cell in json.loads(notebook)["cells"]
        ]
    except (ValueError, KeyError, TypeError) as error:  # as by a conflict marker
        raise InputError(f"{path}: not a notebook: {error}") from error
    for number, (kind, source) in enumerate(cells, start=1):
        if kind == "code":
            lines = source.split("\n")
            code = "\n".join("" if line.startswith("%") else line for line in lines)
            yield f"{path}: cell {number}", code.encode()


def _parsed(source: bytes, where: str) -> ast.Module:
    try:
        tree: ast.Module = _WithoutProse().visit(ast.parse(source))
    except SyntaxError as error:
        raise InputError(f"{where}: line {error.lineno}: {error.msg}") from error
    except ValueError as error:  # null bytes
        raise InputError(f"{where}: {error}") from error
    return tree


class _WithoutProse(ast.NodeTransformer):
    """Drops docstrings, also those of attributes, and what only type checkers import."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if text else node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        typing_only = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return node.orelse if typing_only else node


@_remembered
def imported(path: Path) -> frozenset[Path]:
    """Return the project's files that a file or notebook imports, also inside functions.

    Also those that it reads: files of data beside the code, found by their names in its strings.
    """
    names: set[str] = set()
    read: set[Path] = set()
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and node.value in _data_files(TOP):
            read.add(_data_files(TOP)[node.value])
    return frozenset(found for name in names if (found := path_of(name))) | read


@cache
def _data_files(top: Path) -> dict[Any, Path]:
    """Return the files of data that lie between the code, by their names."""
    kinds = (".css", ".csv", ".html", ".js", ".json", ".yaml")
    files = [path for path in (top / "xpool").rglob("*.*") if path.suffix in kinds]
    return {path.name: path.relative_to(top) for path in files}


def closure(*modules: str) -> set[str]:
    """Return the paths of the files that modules use, themselves included.

    Leaves out our ``__init__.py``, which hold a docstring only. Of a method in another package, the
    files of that package count, and no further one's.
    """
    waiting = [path for module in modules if (path := path_of(module) or _outside(module))]
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += imported(path)
            if path in _OUTSIDE:  # importing it runs the packages in which it lies
                above = (".".join(parent.parts) for parent in path.parents if parent.parts)
                waiting += filter(None, map(_outside, above))
    return {path.as_posix() for path in seen if path.name != "__init__.py" or path in _OUTSIDE}


@_remembered
def code_digest(path: Path) -> str:
    """Return the SHA-256 of a file's code, of a notebook without its outputs, or of a data file."""
    if path.suffix == ".ipynb":
        return hashlib.sha256(without_outputs(located(path).read_bytes())).hexdigest()
    if path.suffix != ".py":
        return sha256(located(path))
    return hashlib.sha256(repr(_nested(syntax(path))).encode()).hexdigest()


def _nested(node: Any) -> Any:
    """Return a syntax tree as lists and tuples, the same under every version of Python.

    ``ast.dump`` is not: each version has further fields, empty in most nodes.
    """
    if isinstance(node, list):
        return [_nested(part) for part in node]
    if not isinstance(node, ast.AST):
        return node
    fields = [(name, part) for name, part in ast.iter_fields(node) if part not in (None, [])]
    return [type(node).__name__, *((name, _nested(part)) for name, part in fields)]


def code_digests(*modules: str) -> dict[str, str]:
    """Return :func:`code_digest` of each file that modules use, by its path, sorted."""
    return {path: code_digest(Path(path)) for path in sorted(closure(*modules))}


def fingerprint(values: Any, inputs: Iterable[Path] = (), code: Sequence[str] = ()) -> str:
    """Return a digest of all that a piece of work depends on, for the name of its work folder.

    Inputs count by path, size and time of change: exact enough to resume, and free for large files.

    Args:
        values: coordinates and params, as JSON can hold them.
        inputs: files, or folders with all their files; a missing one adds nothing.
        code: modules that do the work.
    """
    files = []
    for path in inputs:
        members = sorted(path.rglob("*")) if path.is_dir() else [path]
        files += [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in members if p.is_file()]
    record = json.dumps([values, files, code_digests(*code)], sort_keys=True)
    return hashlib.sha256(record.encode()).hexdigest()[:16]


def keys(module: str) -> tuple[set[str], set[str]]:
    """Return the keys of ``params.yaml`` that a module and the files it uses read.

    Returns:
        Keys that the source spells out; and the beginnings of those that it completes at run time,
        as in ``read(f"recipes.{method}")``.
    """
    found = [_read_keys(Path(path)) for path in closure(module)]
    whole, begun = (set[str]().union(*part) for part in zip(*found, strict=True))
    return whole.difference(NEVER_RERUN), begun


@_remembered
def _read_keys(path: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Return the keys in a file's calls of :func:`xpool.project.params.read`."""
    whole, begun = set(), set()
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "read" and node.args:
            key = node.args[0]
            if isinstance(key, ast.JoinedStr) and isinstance(key.values[0], ast.Constant):
                begun.add(str(key.values[0].value).rstrip("."))
            elif isinstance(key, ast.Constant):
                whole.add(str(key.value))
    return frozenset(whole), frozenset(begun)


def values(section: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each key of ``params.yaml`` with its value, dotted from the top, at every depth.

    Example:
        >>> list(values({"train": {"epochs": 3}}))
        [('train', {'epochs': 3}), ('train.epochs', 3)]
    """
    for name, value in section.items():
        yield f"{above}{name}", value
        if isinstance(value, dict):
            yield from values(value, f"{above}{name}.")


def uses(module: str, params: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what a module uses: its files with their digests, and its keys with their values.

    Args:
        module: its name, as in an import.
        params: the values of all keys, dotted.
    """
    files = code_digests(module)
    for file, (package, key) in LOADED_BY_NAME.items():
        if file in files:
            files |= code_digests(f"{package}{params[key]}")
    named, _ = keys(module)
    return {"code": files, "params": {key: params[key] for key in named if key in params}}


def uses_of_set(package: str, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the files, with their digests, that all members of a set use.

    Args:
        package: the set.
        names: from :func:`usable`.
    """
    own = [name for name in names if name_of_file(name).startswith(f"{package}.")]
    return {"code": code_digests(*own)}


def name_of_file(module: str) -> str:
    """Return the name under which ``check`` writes what a module uses, without suffix.

    A method of another package counts as one of ``baselines``, where ``dvc.yaml`` looks for it.
    """
    return module if _is_ours(module) else f"{SETS[0]}.{module}"


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in (*OURS, NOTEBOOKS)
