"""Sets of interchangeable files: methods, benchmarks, encoders, studies and post-processing.

A member of a set is one file that ends in the set's name, such as ``METHOD = MeanPool``. The folder
is the registry: a new file needs no entry in any list in Python.
"""

import importlib
import inspect
import traceback
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_type_hints

from xpool.project import snapshot
from xpool.project.errors import InputError
from xpool.project.params import PARAMS_FILE, validate
from xpool.project.paths import TOP


class BrokenMemberError(InputError):
    """A file of a set cannot be imported, which matters only where it is used."""


@cache
def members(package: str, name: str) -> tuple[str, ...]:
    """Return the members of a set, sorted; reads the files and imports none.

    Args:
        package: import path of the set's folder, e.g. ``"xpool.data.benchmarks"``.
        name: what each member defines at its end, e.g. ``"BENCHMARK"``.

    Example:
        >>> members("baselines", "METHOD")[:2]
        ('attention', 'attention_token')
    """
    files = TOP.joinpath(*package.split(".")).glob("[!_]*.py")
    line = f"\n{name} = ".encode()
    return tuple(sorted(file.stem for file in files if line in file.read_bytes()))


def load(path: str, name: str) -> Any:
    """Return what one member defines, e.g. ``load("baselines.mean_pool", "METHOD")``.

    A path that leads out of the project, such as ``their_package.pooling``, is imported as it is.

    Raises:
        InputError: there is no such file, or it does not end in that name.
        BrokenMemberError: the file, or one that it imports, is not valid or cannot be imported.
    """
    package, _, member = path.rpartition(".")
    if not TOP.joinpath(*package.split(".")).is_dir():
        return _load_from_elsewhere(path, name)
    if member not in (known := members(package, name)):
        file = f"{path.replace('.', '/')}.py"
        if member.isidentifier() and (TOP / file).is_file():
            raise InputError(f"{file}: the file must end in '{name} = ...'")
        raise InputError(f"no file {file} for {member!r}; there are: {', '.join(known) or 'none'}")
    return getattr(_imported(path), name)


def _load_from_elsewhere(path: str, name: str) -> Any:
    """Return what a module of another package defines."""
    try:
        found = find_spec(path)
    except ImportError:
        found = None
    if found is None:
        raise BrokenMemberError(
            f"{path}: no such module; install its package, or put its folder on PYTHONPATH"
        )
    module = _imported(path)
    if not hasattr(module, name):
        raise BrokenMemberError(f"{path}: the module must define {name}")
    return getattr(module, name)


def _imported(path: str) -> Any:
    try:
        module = importlib.import_module(path)
    except Exception as error:  # a file that a user writes can raise anything
        raise BrokenMemberError(_located(error)) from error
    snapshot.use(path)
    return module


def arguments(kind: Any) -> dict[str, inspect.Parameter]:
    """Return the arguments that ``params.yaml`` may give a member's constructor.

    ``dim`` is the encoder's.
    """
    anything = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)  # nn.Module's own
    known = inspect.signature(kind).parameters
    return {k: p for k, p in known.items() if k != "dim" and p.kind not in anything}


def check_arguments(
    path: str, name: str, given: Mapping[str, Any], key: str, file: Path = PARAMS_FILE
) -> None:
    """Check arguments of ``params.yaml`` against the constructor of a member.

    Args:
        path: import path of the member.
        name: what it defines at its end.
        given: arguments, by their names.
        key: where they stand in the file.
        file: the params file.

    Raises:
        InputError: an argument is unknown, missing or of a wrong type.
    """
    kind = load(path, name)
    known, types = arguments(kind), get_type_hints(kind.__init__)
    for argument, value in given.items():
        if argument not in known:
            raise InputError(
                f"{file}: {key}.{argument}: {path} takes no such argument; "
                f"known: {', '.join(known) or 'none'}"
            )
        validate(value, f"{key}.{argument}", types.get(argument, Any), file)
    for argument, parameter in known.items():
        if parameter.default is parameter.empty and argument not in given:
            raise InputError(f"{file}: {key}.{argument} is missing; {path} needs it")


def _located(error: Exception) -> str:
    """Return an error of an import with the file and the line of ours that it comes from."""
    if isinstance(error, SyntaxError) and error.filename:
        file, line, what = Path(error.filename), error.lineno, error.msg
    else:
        ours = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).is_relative_to(TOP) and frame.filename != __file__
        ]
        file, line = (Path(ours[-1].filename), ours[-1].lineno) if ours else (Path("?"), None)
        what = f"{type(error).__name__}: {error}"
    shown = file.relative_to(TOP) if file.is_relative_to(TOP) else file
    return " ".join(f"{shown}: line {line}: {what}".split())
