"""All runs of a method on a benchmark: each is trained, recorded and published.

A finished run stays in the work folder, since DVC deletes a stage's outputs before it runs the
stage: when a seed is added, the other seeds are not trained again, and params that are changed and
changed back find the runs that they had made. ``make clean`` removes them.
"""

import json
import logging
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import accelerate
import torch

from xpool.data.frame_cache import FramesParams
from xpool.project import paths
from xpool.project.fingerprints import fingerprint
from xpool.project.params import read, setting
from xpool.project.provenance import checkout, code, inputs_of, of_training
from xpool.project.records import RECORD, deciding
from xpool.project.workspace import (
    keep_only,
    publish,
    replacing,
    work_folder,
    work_path,
    write_json,
)
from xpool.training.cell import Cell, code_of, coordinates
from xpool.training.checkpoints import RunState
from xpool.training.data import Data, open_data
from xpool.training.fit import FINISHED, TRAINED, fit, new_accelerator
from xpool.training.recipes import short_name

log = logging.getLogger(__name__)


def ruling(cell: Cell, frames: FramesParams) -> dict[str, Any]:
    """Return the params of a run, as JSON holds them; ``deciding`` of them make it what it is."""
    return {  # what of it is hashed and compared: xpool.project.records.deciding
        "train": json.loads(cell.train.model_dump_json()),
        "frames": json.loads(frames.model_dump_json()),
        "recipe": json.loads(cell.recipe.model_dump_json()),
        "selection": cell.rule,
        "manifest": read(f"manifest.{cell.benchmark}", dict[str, Any]),
    }


def train(cells: Sequence[Cell]) -> None:
    """Train and publish the runs of one method on one benchmark.

    Args:
        cells: one for each seed; they differ in nothing else.
    """
    first = cells[0]
    if first.train.reads == "embeddings":
        # batches of cached embeddings are too small to share between cores: more threads wait for
        # each other (twenty times slower on a busy machine), and their number changes float sums
        torch.set_num_threads(1)
    accelerator = new_accelerator(first.train)
    frames = read("frames", FramesParams)
    data = open_data(setting(), first.benchmark, first.train, frames)
    if checkout().dirty is None:
        log.warning(
            "the records cannot name the code: %s; %s", checkout().commit, checkout().remedy
        )
    inputs = inputs_of(setting(), first.benchmark, first.train.reads)
    precision = "bf16" if accelerator.mixed_precision == "bf16" else "fp32"
    modules = code_of(__name__, first.method)
    training = data.texts[data.texts["split"] == "train"]
    record = code(*modules) | inputs
    record |= {"global_batch": first.train.batch_size, "precision": precision}
    record |= {
        "training_videos": int(training["video_id"].nunique()),
        "training_captions": len(training),
    }
    for cell in cells:
        params = ruling(cell, frames)
        # by content, not by time: the same data checked out again find the run
        values = [setting(), cell.method, cell.seed, deciding(params), precision, inputs]
        digest = fingerprint(values, code=modules)
        _train_one(cell, data, digest, record | {"params": params}, accelerator)


def _train_one(
    cell: Cell,
    data: Data,
    digest: str,
    record: dict[str, Any],
    accelerator: accelerate.Accelerator,
) -> None:
    """Publish a cell's run, after training it unless a finished one has its fingerprint."""
    name = short_name(cell.method)
    label = f"{setting()}-{name}-{cell.benchmark}-{cell.seed}"
    folder = work_path("train", label, digest)
    main_process = accelerator.is_main_process
    with work_folder("train", label, digest, FINISHED) if main_process else nullcontext():
        accelerator.wait_for_everyone()
        finished = folder / FINISHED
        if (finished / RECORD).is_file():  # the last file to be written
            log.info("%s %s seed %d: is trained already", name, cell.benchmark, cell.seed)
        else:
            started = _started(folder) if main_process else ""
            fit(cell, data, folder, accelerator)
            if main_process:
                state = RunState(folder).record()  # None if nothing was to be trained
                made = record | of_training(
                    run=coordinates(cell),
                    folder=finished,
                    files=TRAINED,
                    device=accelerator.device,
                    started=started,
                    seconds=state["seconds"] if state else 0.0,
                    processes=accelerator.num_processes,
                )
                write_json(finished / RECORD, made)
        if main_process:
            published = folder / "published"
            shutil.rmtree(published, ignore_errors=True)
            shutil.copytree(finished, published)
            publish(published, paths.training(setting(), name, cell.benchmark, cell.seed))
            keep_only(folder, finished)


def _started(folder: Path) -> str:
    """Return when the work in a folder first began, even if it was killed since."""
    path = folder / "started"
    if not path.exists():
        with replacing(path) as file:
            file.write(datetime.now(UTC).isoformat(timespec="seconds"))
    return path.read_text(encoding="utf-8")
