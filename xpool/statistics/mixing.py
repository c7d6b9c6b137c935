"""Check that the runs of a table differ only in what the table compares.

The methods of a comparison share data, encoder, budget, frames and selection; the seeds of a method
share its recipe too. What happened is compared, not what was asked for: the precision of training
and scoring, the pairs in a batch of all processes, and the decoder of the frames. Commit, device,
versions and what changes no result (:data:`xpool.project.records.INERT`) may differ; each run's
record has them. ``mixing: allow`` in params.yaml admits other runs, and the captions of their
tables then say so. A run that was imported was trained by other code, of which nothing is known: it
is compared in all but its training, and tables name it.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.records import deciding, differences, read_record
from xpool.statistics.ranks import Coordinates

EVERYWHERE = (
    "encoder",
    "precision",
    "scored.precision",
    "global_batch",
    "params.train",
    "params.frames",
    "params.selection",
)
ON_A_BENCHMARK = ("data", "decoder", "params.manifest")
OF_A_METHOD = ("params.recipe",)
OF_TRAINING = ("precision", "global_batch")
"""Keys that a run has only if it was trained here."""


def mixed(setting: str, cells: Iterable[Coordinates]) -> dict[Coordinates, str]:
    """Compare the records of all runs of a table.

    Returns:
        For each run that differs from the first in what must be equal: the first such key, with the
        values in both runs.

    Raises:
        InputError: a record is missing, or a run's similarity was made with other weights.
    """
    first: dict[tuple[str, ...], tuple[Path, dict[str, Any]]] = {}  # by key and group
    found: dict[Coordinates, str] = {}
    for cell in cells:
        benchmark, method, seed = cell
        folder = paths.training(setting, method, benchmark, seed)
        record = _compared(folder, paths.similarity(setting, method, benchmark, seed))
        for keys, group in (
            (EVERYWHERE, ()),
            (ON_A_BENCHMARK, (benchmark,)),
            (OF_A_METHOD, (benchmark, method)),
        ):
            for key in keys:
                if "imported" in record and key in OF_TRAINING:
                    continue
                other, expected = first.setdefault((key, *group), (folder, record))
                for name, left, right in differences(_at(expected, key), _at(record, key)):
                    found.setdefault(
                        cell,
                        f"{other} and {folder} differ: {name} is {left!r} in the one and {right!r} "
                        "in the other",
                    )
    return found


def imported(setting: str, cells: Iterable[Coordinates]) -> dict[Coordinates, str]:
    """Return the file from which each run was imported, for those that were not trained here."""
    files = {}
    for benchmark, method, seed in cells:
        record = read_record(paths.training(setting, method, benchmark, seed))
        if "imported" in record:
            files[benchmark, method, seed] = str(record["imported"]["file"])
    return files


def refuse(found: Mapping[Coordinates, str]) -> None:
    """Refuse the first of the runs that :func:`mixed` found.

    Raises:
        InputError: there is such a run.
    """
    for difference in found.values():
        raise InputError(
            f"{difference}; they cannot stand in one table: run `dvc repro`, which redoes runs "
            "that no longer match params.yaml and the data, or set mixing: allow, which names "
            "such runs in the tables' captions"
        )


def _at(record: dict[str, Any], key: str) -> dict[str, Any]:
    value: Any = record
    for part in key.split("."):
        value = value.get(part, {}) if isinstance(value, dict) else {}
    return {key: value}


def _compared(run: Path, scored: Path) -> dict[str, Any]:
    """Return the record of a run, with that of its scoring, without what may differ.

    Raises:
        InputError: a record is missing, or other weights were scored than those of the run.
    """
    record, scoring = read_record(run), read_record(scored)
    weights, found = (
        record.get("files", {}).get("checkpoint.safetensors"),
        scoring.get("checkpoint"),
    )
    if found != weights:
        raise InputError(
            f"{scored} and {run} do not belong together: the scored weights have the sha256 "
            f"{found}, those of the run {weights}; run `dvc repro`, which scores the run again"
        )
    return record | {"params": deciding(record.get("params", {})), "scored": scoring}
