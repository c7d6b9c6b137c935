"""A run whose weights other code trained: as a finished run of ours, and labelled as imported.

It lies in the work folder of the cell that it stands for, under the same fingerprint. So the stage
``train`` finds it and trains nothing, and everything after it reads it as any run. Its record has
``imported``: name and SHA-256 of the checkpoint.
"""

import logging
import shutil
from pathlib import Path

import pandas as pd

from xpool.project import paths
from xpool.project.digests import content, sha256
from xpool.project.errors import InputError
from xpool.project.params import PARAMS_FILE, setting
from xpool.project.provenance import code, environment
from xpool.project.records import RECORD, read_record
from xpool.project.workspace import work_folder, write_json
from xpool.training import evaluations
from xpool.training.cell import Cell, code_of, coordinates, new_model
from xpool.training.checkpoints.foreign import read_weights, take
from xpool.training.checkpoints.run_state import save_weights
from xpool.training.fit import FINISHED, TRAINED
from xpool.training.recipes import short_name
from xpool.training.runs import opened, planned, published

log = logging.getLogger(__name__)


def import_checkpoint(file: Path, cell: Cell) -> Path:
    """Publish the weights of a checkpoint as the run of a cell.

    Args:
        file: the checkpoint; :mod:`xpool.training.checkpoints.foreign` names the kinds.
        cell: what it stands for; its recipe says how the method is built.

    Returns:
        The folder of the run.

    Raises:
        InputError: the file cannot be read or does not fit, the towers are frozen, the benchmark's
            frames are not there, or the cell has a run that was trained here.
    """
    if cell.train.reads != "frames":
        raise InputError(
            f"{PARAMS_FILE}: train.reads: {cell.train.reads}, where all runs share an encoder, but "
            f"{file} holds one of its own; set train.reads: frames"
        )
    weights = read_weights(file)
    accelerator, data, about = opened(cell)
    model = new_model(cell, data)
    take(model, weights, file)
    plan = planned(cell, accelerator, about)
    place = paths.training(setting(), short_name(cell.method), cell.benchmark, cell.seed)
    with work_folder("train", plan.label, plan.digest, FINISHED) as folder:
        finished = folder / FINISHED
        _refuse_trained(place, place)
        _refuse_trained(finished, folder)
        shutil.rmtree(finished, ignore_errors=True)
        finished.mkdir()
        save_weights(model, finished / TRAINED[0])
        columns = ["step", "epoch", "loss"]
        pd.DataFrame(columns=columns).to_csv(finished / "curve.csv", index=False)
        evaluations.gather(folder, [], finished)
        about_run = coordinates(cell) | {"reads": cell.train.reads, "selection": "unknown"}
        write_json(finished / "run.json", about_run)
        record = code(*code_of(__name__, cell.method)) | {
            **{key: about[key] for key in ("data", "encoder", "decoder")},
            "run": coordinates(cell),
            "params": plan.params,
            "imported": {"file": file.name, "sha256": _digest(file)},
            "files": {name: sha256(finished / name) for name in TRAINED},
            **environment(model.towers.logit_scale.device),
        }
        write_json(finished / RECORD, record)
        published(cell, folder)
    log.info("%s: %d tensors of %s", place, len(weights), file)
    return place


def _digest(file: Path) -> str:
    """Return the SHA-256 of a checkpoint; of a folder, the digest of its weights."""
    return content(sorted(file.glob("*.safetensors"))) if file.is_dir() else sha256(file)


def _refuse_trained(finished: Path, folder: Path) -> None:
    """Refuse to replace what was trained here, finished or not.

    Raises:
        InputError: ``folder`` has something other than an imported run in ``finished``.
    """
    there = folder.is_dir() and any(folder.iterdir())
    if there and "imported" not in (read_record(finished) if finished.is_dir() else {}):
        raise InputError(
            f"{folder}: holds a run that was trained here; import into the run of another seed, or "
            "delete that folder"
        )
