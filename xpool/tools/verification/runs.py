"""Verify runs from what they left behind.

Files, params and data are compared with the run's ``provenance.json``. The test split is scored
again with its checkpoint; similarity, ranks and all figures are compared to the last digit.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from xpool.data.frame_cache import FramesParams
from xpool.project import paths
from xpool.project.digests import content, sha256
from xpool.project.errors import InputError
from xpool.project.fingerprints import code_digests
from xpool.project.params import PARAMS_FILE, read, setting
from xpool.project.provenance import SCORED, checkout, data_of
from xpool.project.records import RECORD, deciding, differences, read_record
from xpool.statistics.ranks import cells_of
from xpool.tools.verification.checks import Check, Run, Verdict, compared
from xpool.tools.verification.rescoring import check_results
from xpool.training.cell import code_of, read_cell, run_at
from xpool.training.fit import TRAINED
from xpool.training.recipes import TrainParams, import_path
from xpool.training.runs import ruling

ENVIRONMENT = ("device", "threads", "determinism", "versions")
MADE_BY = {"training": "xpool.training.runs", "evaluation": "xpool.training.evaluate"}
IMPORTER = "xpool.training.checkpoints.imported"
_WORST: tuple[Verdict, ...] = ("DIFFERS", "no verdict")


def verify(run: Run) -> Iterator[Check]:
    """Check everything that the records of a run state.

    Raises:
        InputError: a record is missing or lacks a key, or params.yaml has no such run.
    """
    trained = _complete(run.trained, ("run", "params", "data", "encoder", "files"))
    scored = _complete(run.scored, ("run", "checkpoint", "files", *ENVIRONMENT))
    for record, folder in ((trained, run.trained), (scored, run.scored)):
        yield compared(str(folder / RECORD), run.coordinates, record["run"], "its path", RECORD)
    yield from _files(run.trained, TRAINED, trained)
    bank = sorted(set(scored["files"]) - set(SCORED))  # where one was asked for
    yield from _files(run.scored, (*SCORED, *bank), scored)
    weights = trained["files"].get("checkpoint.safetensors", "nothing")
    yield compared("weights that were scored", weights, scored["checkpoint"], "run", "evaluation")
    yield from _params(run, trained["params"])
    yield from _inputs(run, trained)
    yield from check_results(run, trained["params"], scored)
    for name, record in (("training", trained), ("evaluation", scored)):
        made_by = IMPORTER if "imported" in record else MADE_BY[name]
        yield _code(name, record["code"], code_of(made_by, import_path(run.method)))
        here = checkout()
        clean = record["dirty"] is False and here.dirty is False
        if record["commit"] != here.commit or not clean:
            changed = {True: " with changes that are in no commit", None: ", its changes unknown"}
            yield Check(
                what=f"code of the {name}",
                verdict="note",
                detail=f"it ran at commit {record['commit']}{changed.get(record['dirty'], '')}; "
                f"this is {here.commit}",
            )


def _code(name: str, recorded: dict[str, str], modules: Iterable[str]) -> Check:
    """Compare the code that made something with the code that is here now."""
    what = f"code of the {name}"
    differ = [path for path, *_ in differences(recorded, code_digests(*modules))]
    if not differ:
        return Check(what=what, verdict="ok", detail="the same as here")
    more = f" and {len(differ) - 1} more" if len(differ) > 1 else ""
    detail = f"{differ[0]}{more} changed since; `dvc repro` makes it again"
    return Check(what=what, verdict="DIFFERS", detail=detail)


def _complete(folder: Path, keys: Iterable[str]) -> dict[str, Any]:
    """Read a record and make sure that it has these keys."""
    record = read_record(folder)
    for key in ("commit", "dirty", "code", *keys):
        if key not in record:
            raise InputError(
                f"{folder / RECORD}: {key} is missing; run `dvc repro` to make it again"
            )
    return record


def _files(folder: Path, names: Iterable[str], record: dict[str, Any]) -> Iterator[Check]:
    for name in names:
        path = folder / name
        found = sha256(path) if path.is_file() else "no such file"
        yield compared(str(path), record["files"].get(name, "nothing"), found, RECORD, "file")


def _params(run: Run, recorded: dict[str, Any]) -> Iterator[Check]:
    """Compare the params of the run with params.yaml as it is now, with a check per difference."""
    cell = read_cell(import_path(run.method), run.benchmark, run.seed)
    now = ruling(cell, read("frames", FramesParams))
    differ = list(differences(deciding(recorded), deciding(now)))
    for key, made, asked in differ:
        yield Check(
            what=f"params {key}",
            verdict="DIFFERS",
            detail=f"expected {made!r} ({run.trained / RECORD}), found {asked!r} ({PARAMS_FILE})",
        )
    if not differ:
        yield Check(what="params", verdict="ok", detail=f"as {PARAMS_FILE} says")


def _inputs(run: Run, record: dict[str, Any]) -> Iterator[Check]:
    reads = read("train", TrainParams).reads
    folders = data_of(run.setting, run.benchmark, reads)
    expected = record["data"] | {"encoder": record["encoder"]}
    for name, path in {**folders, "encoder": paths.encoder(run.setting)}.items():
        found = content([path]) if path.exists() else "nothing there"
        yield compared(str(path), expected.get(name, "nothing"), found, RECORD, "data")


def run_of(folder: Path) -> Run:
    """Return the run that a folder holds.

    Raises:
        InputError: the folder holds no run of the setting in force.
    """
    method, benchmark, seed = run_at(folder)
    return Run(setting=setting(), method=method, benchmark=benchmark, seed=seed)


def all_runs() -> list[Run]:
    """Return the runs of the comparison, in the order of ``metrics.csv``."""
    methods = ["xpool", *read("baselines", list[str])]
    cells = cells_of(read("benchmarks", list[str]), methods, read("seeds", list[int]))
    return [Run(setting=setting(), method=m, benchmark=b, seed=s) for b, m, s in cells]


def worst_of(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict on a run from those of its checks."""
    found = set(verdicts)
    return next((v for v in _WORST if v in found), "ok")
