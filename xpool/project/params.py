"""Strict reader of ``params.yaml``, which refuses unknown keys, missing keys and wrong types.

Each section is declared as a :class:`Section` beside the code that uses it, and read with
:func:`read`. ``xpool.settings`` reads all sections and checks the rules that span several of them.
"""

import json
import os
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, overload

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from xpool.project.errors import InputError

try:  # libyaml's parser takes a sixth of the time; PyYAML can be built without it
    from yaml import CSafeLoader as SafeLoader
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

PARAMS_FILE = Path("params.yaml")
HELD_IN = "XPOOL_PARAMS"
"""Environment variable that names the snapshot (:mod:`xpool.project.snapshot`) that a process and
its children read in place of :data:`PARAMS_FILE`."""
_held: dict[str, Any] | None = None


class Section(BaseModel):
    """A part of ``params.yaml``: immutable, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Seed = Annotated[int, Field(ge=0)]
"""A seed. Results lie in a folder of its name, and NumPy takes no negative one."""

T = TypeVar("T")


@cache
def _load(path: Path, _changed_ns: int) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8") as file:  # given a file, YAML names it in its errors
            loaded = yaml.load(file, Loader=_UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict):
        raise InputError(f"{path}: expected a mapping of sections at the top level")
    return loaded


class _UniqueKeys(SafeLoader):
    """SafeLoader that refuses a key given twice, where YAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # the inherited method refuses it below
            if key in seen:
                mark = key_node.start_mark
                raise InputError(
                    f"{mark.name}: line {mark.line + 1}: the key {key!r} is given twice"
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def load(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Return the whole file as plain containers.

    Raises:
        InputError: the file is missing, not YAML, or gives a key twice.
    """
    if path == PARAMS_FILE and HELD_IN in os.environ and _held is None:
        hold(json.loads(Path(os.environ[HELD_IN]).read_text(encoding="utf-8"))["params"])
    if path == PARAMS_FILE and _held is not None:
        return _held
    if not path.is_file():
        raise InputError(f"{path}: not found; run this from the project's top folder")
    return _load(path, path.stat().st_mtime_ns)


def hold(values: dict[str, Any]) -> None:
    """Make :func:`load` return these values for the rest of this process, whatever is edited."""
    global _held
    _held = values


@contextmanager
def holding(values: dict[str, Any]) -> Iterator[None]:
    """Make :func:`load` return these values while the block runs."""
    global _held
    before, _held = _held, values
    try:
        yield
    finally:
        _held = before


@overload
def read(key: str, kind: type[T], path: Path = PARAMS_FILE) -> T: ...
@overload
def read(key: str, kind: Any, path: Path = PARAMS_FILE) -> Any: ...
def read(key: str, kind: Any, path: Path = PARAMS_FILE) -> Any:
    """Return the value at a dotted key, checked against a type.

    Args:
        key: its path in the file, e.g. ``"frames"`` or ``"recipes.xpool.msrvtt"``.
        kind: a :class:`Section`, or any type that pydantic can check, e.g. ``list[str]``.
        path: the params file.

    Raises:
        InputError: the key is missing, or the value is not of that type; names the key and what is
            allowed there.
    """
    value: Any = load(path)
    rest, walked = key.split("."), list[str]()
    while rest:
        # a key may have points of its own: recipes of a method in another package
        parts = (".".join(rest[:n]) for n in range(1, len(rest) + 1))
        part = next((p for p in parts if isinstance(value, dict) and p in value), None)
        if part is None:
            names = ", ".join(map(str, value)) if isinstance(value, dict) else ""
            known = f"; known there: {names}" if names else ""
            raise InputError(f"{path}: {'.'.join([*walked, rest[0]])} is missing{known}")
        value = value[part]
        walked.append(part)
        rest = rest[part.count(".") + 1 :]
    return validate(value, key, kind, path)


def validate(value: Any, key: str, kind: Any, path: Path = PARAMS_FILE) -> Any:
    """Return a value checked against a type; ``key`` and ``path`` are for the message."""
    try:
        return TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        raise InputError(f"{path}: {_first_problem(error, key, kind)}") from error


def _first_problem(error: ValidationError, key: str, kind: Any) -> str:
    problem = error.errors()[0]
    where = ".".join([key, *(str(part) for part in problem["loc"])])
    if problem["type"] == "extra_forbidden":
        allowed = _fields_at(kind, problem["loc"][:-1])
        return f"{where}: unknown key; known: {', '.join(allowed)}"
    if problem["type"] == "missing":
        return f"{where} is missing"
    return f"{where}: {problem['msg']}; got {problem['input']!r}{_hint(problem)}"


def _hint(problem: Any) -> str:
    """Return how to write a number that YAML reads as text because a point or a sign is missing."""
    value = problem["input"]
    if problem["type"] not in {"float_type", "int_type"} or not isinstance(value, str):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    whole = problem["type"] == "int_type" and number.is_integer()
    mantissa, e, exponent = repr(number).partition("e")
    pointed = mantissa if "." in mantissa else f"{mantissa}.0"
    return f", which YAML reads as text; write {int(number) if whole else pointed + e + exponent}"


def _fields_at(kind: Any, location: tuple[int | str, ...]) -> list[str]:
    """Return the fields of the section at a validation error's location."""
    kind = _plain(kind)
    for part in location:
        fields = getattr(kind, "model_fields", None)
        if fields is None:  # list[X] or dict[str, X]
            kind = get_args(kind)[-1] if get_args(kind) else None
        else:
            kind = fields[part].annotation if part in fields else None
        kind = _plain(kind)
    return sorted(getattr(kind, "model_fields", {}))


def _plain(kind: Any) -> Any:
    """Return ``X`` for ``Annotated[X, ...]`` and ``X | None``."""
    while get_origin(kind) in (Annotated, Union, UnionType):
        kind = get_args(kind)[0]
    return kind


def setting() -> str:
    """Return the setting in force: ``mini`` (generated videos) or ``paper`` (official files)."""
    name: str = read("setting", str)
    return name
