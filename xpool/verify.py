"""Confirm results from what a run left: ``python -m xpool.verify [RUN ...]``.

RUN is a run's folder, ``results/<setting>/train/<method>/<benchmark>/<seed>``; without one, all
that params.yaml lists. Files, params and data are compared with the run's ``provenance.json``, the
test split is scored again with its checkpoint, and similarity, ranks and all figures are compared
to the last digit. Prints a line a check and writes nothing.

Exit status: 0 all as recorded, 1 something differs, 2 nothing could be compared, 3 nothing differs
but what was scored again, on another device or with other versions than before.

Run: ``make verify RUN=results/mini/train/xpool/msrvtt/0``
"""

import argparse
import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from xpool import paths
from xpool.cell import read_cell
from xpool.command import InputError, run
from xpool.digests import content, sha256
from xpool.findings import Finding, Run, Verdict, compared
from xpool.frame_cache import FramesParams
from xpool.params import PARAMS_FILE, read, setting
from xpool.provenance import SCORED, TRAINED, code, data_of
from xpool.recipes import TrainParams, import_path
from xpool.records import RECORD, differences, read_record
from xpool.rescoring import check_results
from xpool.train import ruling

ENVIRONMENT = ("device", "threads", "determinism", "versions")


def verify(run_: Run) -> Iterator[Finding]:
    """Yield a finding for each thing that a run's records vouch for.

    Raises:
        InputError: a record is missing or lacks a key, or params.yaml has no such run.
    """
    trained = _complete(run_.trained, ("run", "params", "data", "encoder", "files"))
    scored = _complete(run_.scored, ("run", "checkpoint", "files", *ENVIRONMENT))
    for record, folder in ((trained, run_.trained), (scored, run_.scored)):
        yield compared(str(folder / RECORD), run_.coordinates, record["run"], "its place", RECORD)
    yield from _files(run_.trained, TRAINED, trained)
    yield from _files(run_.scored, SCORED, scored)
    weights = trained["files"].get("checkpoint.safetensors", "nothing")
    yield compared("weights that were scored", weights, scored["checkpoint"], "run", "evaluation")
    yield from _params(run_, trained["params"])
    yield from _inputs(run_, trained)
    yield from check_results(run_, trained["params"], scored)
    for name, record in (("training", trained), ("evaluation", scored)):
        made = {"commit": record["commit"], "dirty": record["dirty"]}
        if made != code() or record["dirty"]:
            changed = " with changes that are in no commit" if record["dirty"] else ""
            yield Finding(
                what=f"code of the {name}",
                verdict="note",
                detail=f"it ran at commit {record['commit']}{changed}; this is {code()['commit']}",
            )


def _complete(folder: Path, keys: Iterable[str]) -> dict[str, Any]:
    """Read a record that has these keys."""
    record = read_record(folder)
    for key in ("commit", "dirty", *keys):
        if key not in record:
            raise InputError(
                f"{folder / RECORD}: {key} is missing; run `dvc repro` to make it again"
            )
    return record


def _files(folder: Path, names: Iterable[str], record: dict[str, Any]) -> Iterator[Finding]:
    for name in names:
        path = folder / name
        found = sha256(path) if path.is_file() else "no such file"
        yield compared(str(path), record["files"].get(name, "nothing"), found, RECORD, "file")


def _params(run_: Run, recorded: dict[str, Any]) -> Iterator[Finding]:
    """Compare the params that ruled the run with what params.yaml says now, a line a difference."""
    cell = read_cell(import_path(run_.method), run_.benchmark, run_.seed)
    now = ruling(cell, read("frames", FramesParams))
    differ = list(differences(recorded, now))
    for key, made, asked in differ:
        yield Finding(
            what=f"params {key}",
            verdict="DIFFERS",
            detail=f"expected {made!r} ({run_.trained / RECORD}), found {asked!r} ({PARAMS_FILE})",
        )
    if not differ:
        yield Finding(what="params", verdict="ok", detail=f"as {PARAMS_FILE} says")


def _inputs(run_: Run, record: dict[str, Any]) -> Iterator[Finding]:
    reads = read("train", TrainParams).reads
    places = data_of(run_.setting, run_.benchmark, reads)
    expected = record["data"] | {"encoder": record["encoder"]}
    for name, path in {**places, "encoder": paths.encoder(run_.setting)}.items():
        found = content([path]) if path.exists() else "nothing there"
        yield compared(str(path), expected.get(name, "nothing"), found, RECORD, "data")


def run_of(folder: Path) -> Run:
    """Return the run whose folder it is.

    Raises:
        InputError: it is no run's folder of the setting in force.
    """
    parts = folder.resolve().parts[-3:]
    if len(parts) == 3 and parts[2].isdecimal():
        found = Run(setting=setting(), method=parts[0], benchmark=parts[1], seed=int(parts[2]))
        if found.trained.resolve() == folder.resolve():
            return found
    example = paths.training(setting(), "xpool", read("benchmarks", list[str])[0], 0)
    raise InputError(f"{folder}: not a run of the setting {setting()}; expected, e.g., {example}")


def all_runs() -> list[Run]:
    """Return the runs of the comparison, in the order of the tables' files."""
    methods = ["xpool", *read("baselines", list[str])]
    cells = itertools.product(
        sorted(read("benchmarks", list[str])), sorted(methods), sorted(read("seeds", list[int]))
    )
    return [Run(setting=setting(), method=m, benchmark=b, seed=s) for b, m, s in cells]


def main() -> None:
    """Print the checks of the runs that the command names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="a run's folder")
    folders = parser.parse_args().runs
    runs = [run_of(folder) for folder in folders] or all_runs()
    worst: dict[Path, Verdict] = {}
    for one in runs:
        print(one.trained, flush=True)
        verdicts = set()
        for check in verify(one):
            print(f"  {check.verdict:10} {check.what}{check.detail and ': '}{check.detail}")
            verdicts.add(check.verdict)
        worst[one.trained] = next((v for v in ("DIFFERS", "no verdict") if v in verdicts), "ok")
    count = {verdict: list(worst.values()).count(verdict) for verdict in worst.values()}
    print(f"{len(runs)} verified:", ", ".join(f"{n} {verdict}" for verdict, n in count.items()))
    sys.exit(1 if "DIFFERS" in count else 3 if "no verdict" in count else 0)


if __name__ == "__main__":
    run(main)
