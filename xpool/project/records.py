"""Read and compare the records beside results: ``provenance.json``, and ``summary.json`` of caches.

``xpool.project.provenance`` describes the first.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from xpool.project.errors import InputError

RECORD = "provenance.json"
INERT = frozenset(
    {
        "train.workers",
        "train.compile",
        "train.micro_batch",
        "train.precision",
        "frames.timeout_s",
        "frames.allowed_unreadable",
        "manifest.allowed_missing",
    }
)
"""Params of a run that ask how its result is computed and not for another one, by their keys under
``params``. ``compile`` and ``micro_batch`` change it by rounding. ``precision`` is only asked for;
what a run had is recorded beside the params. What the last three let pass shows in the data."""


def read_record(folder: Path) -> dict[str, Any]:
    """Return the record in a run's folder.

    Raises:
        InputError: the file is missing, or is not a JSON object.
    """
    path = folder / RECORD
    if not path.is_file():
        raise InputError(f"{path}: not found; run `dvc repro`, which makes it")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); run `dvc repro` to make it again") from error
    if not isinstance(record, dict):
        raise InputError(f"{path}: expected an object; run `dvc repro` to make it again")
    return record


def deciding(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's ``params`` without the :data:`INERT` ones.

    Example:
        >>> deciding({"train": {"epochs": 3, "workers": 8}, "selection": "val"})
        {'train': {'epochs': 3}, 'selection': 'val'}
    """
    return {
        name: {key: value for key, value in section.items() if f"{name}.{key}" not in INERT}
        if isinstance(section, Mapping)
        else section
        for name, section in params.items()
    }


def decoder_of(cache: Path) -> str:
    """Return what decoded the frames of a cache (frames or embeddings), by its ``summary.json``."""
    summary = cache / "summary.json"
    about = json.loads(summary.read_text(encoding="utf-8")) if summary.is_file() else {}
    return str(about.get("decoder", "unknown"))  # a cache of an earlier version does not say


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by dotted key; an empty mapping is a leaf.

    Example:
        >>> flat({"train": {"epochs": 3}, "selection": "val"})
        {'train.epochs': 3, 'selection': 'val'}
    """
    if not isinstance(value, Mapping) or not value:
        return {key: value}
    parts = (flat(inner, f"{key}.{name}" if key else name) for name, inner in value.items())
    return {name: leaf for part in parts for name, leaf in part.items()}


def differences(one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield each dotted key at which two nested mappings differ, sorted, with both values."""
    left, right = flat(one), flat(other)
    for key in sorted(left.keys() | right.keys()):
        values = left.get(key, "nothing"), right.get(key, "nothing")
        if values[0] != values[1]:
            yield key, *values
