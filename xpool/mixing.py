"""Whether results may stand in one table: their runs were equal in all but what is compared.

The methods of a comparison share data, encoder, budget, frames and selection; the seeds of a method
share its recipe too. Commit, device and versions may differ: they are in each run's record.
``mixing: allow`` in params.yaml admits other runs, and the captions of their tables then say so.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from xpool import paths
from xpool.command import InputError
from xpool.records import differences, read_record

Place = tuple[str, str, int]
"""Method, benchmark and seed."""
EVERYWHERE = ("encoder", "params.train", "params.frames", "params.selection")
ON_A_BENCHMARK = ("data", "params.manifest")
OF_A_METHOD = ("params.recipe",)


def mixed(setting: str, places: Iterable[Place]) -> dict[Place, str]:
    """Compare the records of all runs of a table.

    Returns:
        For each run that differs from the first in what must be equal: the first such key, with the
        values in both runs.

    Raises:
        InputError: a record is missing, or a similarity is not of the weights beside its run.
    """
    first: dict[tuple[str, ...], tuple[Path, dict[str, Any]]] = {}
    found: dict[Place, str] = {}
    for place in places:
        method, benchmark, seed = place
        folder = paths.training(setting, method, benchmark, seed)
        record = read_record(folder)
        _check_scored(folder, record, paths.similarity(setting, method, benchmark, seed))
        for keys, group in (
            (EVERYWHERE, ()),
            (ON_A_BENCHMARK, (benchmark,)),
            (OF_A_METHOD, (benchmark, method)),
        ):
            other, expected = first.setdefault(group, (folder, record))
            for key in keys:
                for name, left, right in differences(_at(expected, key), _at(record, key)):
                    found.setdefault(
                        place,
                        f"{other} and {folder} differ: {name} is {left!r} in the one and {right!r} "
                        "in the other",
                    )
    return found


def refuse(found: Mapping[Place, str]) -> None:
    """Stop at the first of the runs that :func:`mixed` found.

    Raises:
        InputError: there is one.
    """
    for difference in found.values():
        raise InputError(
            f"{difference}; they cannot stand in one table: run `dvc repro`, which makes again "
            "what params.yaml and the data no longer ask for, or set mixing: allow for tables that "
            "say so"
        )


def _at(record: dict[str, Any], key: str) -> dict[str, Any]:
    value: Any = record
    for part in key.split("."):
        value = value.get(part, {}) if isinstance(value, dict) else {}
    return {key: value}


def _check_scored(run: Path, record: dict[str, Any], scored: Path) -> None:
    weights = record.get("files", {}).get("checkpoint.safetensors")
    found = read_record(scored).get("checkpoint")
    if found != weights:
        raise InputError(
            f"{scored} and {run} do not belong together: the weights that were scored have the "
            f"sha256 {found}, those of the run {weights}; run `dvc repro`, which scores them again"
        )
