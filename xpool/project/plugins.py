"""Sets of interchangeable files: methods, benchmarks, encoders and studies.

A member of a set is one file that ends in the set's name, such as ``METHOD = MeanPool``. The folder
is the registry: a new file needs no entry in any list in Python.
"""

import importlib
from functools import cache
from typing import Any

from xpool.project.errors import InputError
from xpool.project.paths import TOP


@cache
def members(package: str, name: str) -> tuple[str, ...]:
    """Return the members of a set, sorted; reads the files and imports none.

    Args:
        package: import path of the set's folder, e.g. ``"xpool.data.benchmarks"``.
        name: what each member defines at its end, e.g. ``"BENCHMARK"``.

    Example:
        >>> members("baselines", "METHOD")[:2]
        ('attention', 'mean_pool')
    """
    files = TOP.joinpath(*package.split(".")).glob("[!_]*.py")
    return tuple(
        sorted(file.stem for file in files if f"\n{name} = " in file.read_text(encoding="utf-8"))
    )


def load(path: str, name: str) -> Any:
    """Return what one member defines, e.g. ``load("baselines.mean_pool", "METHOD")``.

    Raises:
        InputError: there is no such file, or it does not end in that name.
    """
    package, _, member = path.rpartition(".")
    if member not in (known := members(package, name)):
        file = f"{path.replace('.', '/')}.py"
        if member.isidentifier() and (TOP / file).is_file():
            raise InputError(f"{file}: the file must end in '{name} = ...'")
        raise InputError(f"no file {file} for {member!r}; there are: {', '.join(known) or 'none'}")
    return getattr(importlib.import_module(path), name)
