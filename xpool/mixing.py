"""Whether results may stand in one table: their runs were equal in all but what is compared.

The methods of a comparison share data, encoder, budget, frames and selection; the seeds of a method
share its recipe too. Commit, device and versions may differ: they are in each run's record.
"""

from collections.abc import Iterable
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


def refuse_mixed(setting: str, places: Iterable[Place]) -> None:
    """Compare the records of all runs of a table.

    Raises:
        InputError: a record is missing, two runs differ in what must be equal, or a similarity is
            not of the weights beside its run; names the runs and the first key that differs.
    """
    first: dict[tuple[str, ...], tuple[Path, dict[str, Any]]] = {}
    for method, benchmark, seed in places:
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
                _check_equal(key, other, _at(expected, key), folder, _at(record, key))


def _at(record: dict[str, Any], key: str) -> dict[str, Any]:
    value: Any = record
    for part in key.split("."):
        value = value.get(part, {}) if isinstance(value, dict) else {}
    return {key: value}


def _check_equal(
    key: str, one: Path, expected: dict[str, Any], other: Path, found: dict[str, Any]
) -> None:
    for name, left, right in differences(expected, found):
        raise InputError(
            f"{one} and {other} cannot stand in one table: {name} is {left!r} in the one and "
            f"{right!r} in the other; run `dvc repro`, which makes again what params.yaml and the "
            "data no longer ask for"
        )


def _check_scored(run: Path, record: dict[str, Any], scored: Path) -> None:
    weights = record.get("files", {}).get("checkpoint.safetensors")
    found = read_record(scored).get("checkpoint")
    if found != weights:
        raise InputError(
            f"{scored} and {run} do not belong together: the weights that were scored have the "
            f"sha256 {found}, those of the run {weights}; run `dvc repro`, which scores them again"
        )
