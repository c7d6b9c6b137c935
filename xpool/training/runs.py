"""All runs of a method on a benchmark: each is trained, recorded and published.

A finished run stays in the work folder, since DVC deletes a stage's outputs before it runs the
stage: when a seed is added, the other seeds are not trained again, and params that are changed and
changed back find the runs that they had made. ``make clean`` removes them.
"""

import gc
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import accelerate
import torch

from xpool.data.frame_cache import FramesParams
from xpool.project import paths
from xpool.project.command import available_cores, side_by_side
from xpool.project.fingerprints import fingerprint
from xpool.project.params import read, setting
from xpool.project.progress import progress
from xpool.project.provenance import checkout, code, inputs_of, of_training
from xpool.project.records import RECORD, deciding, read_record
from xpool.project.workspace import (
    keep_only,
    publish,
    replacing,
    work_folder,
    work_path,
    write_json,
)
from xpool.training.cell import Cell, code_of, coordinates
from xpool.training.checkpoints.run_state import RunState
from xpool.training.data import Data, open_data
from xpool.training.fit import FINISHED, TRAINED, fit, new_accelerator
from xpool.training.recipes import TrainParams, short_name, wants_words

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

    Runs with frozen towers on a CPU are trained side by side, each on a core of its own.

    Args:
        cells: one for each seed; they differ in nothing else.

    Raises:
        InputError: a run cannot be trained; or a process of several was killed.
    """
    if checkout().dirty is None:
        log.warning(
            "the records cannot name the code: %s; %s", checkout().commit, checkout().remedy
        )
    _shared.cache_clear()  # the data may be others by now
    beside = False
    if cells[0].train.reads == "embeddings":
        # batches of cached embeddings are too small to share between cores: more threads wait for
        # each other (twenty times slower on a busy machine), and their number changes float sums
        torch.set_num_threads(1)
        state = accelerate.PartialState()
        beside = state.device.type == "cpu" and state.num_processes == 1
    if not beside or min(available_cores(), len(cells)) == 1:
        for cell in cells:
            _train_one(cell)
        return
    what = f"{short_name(cells[0].method)} {cells[0].benchmark}: a training"
    for _ in progress(side_by_side(_train_one, cells, what), "runs", total=len(cells)):
        pass


def opened(cell: Cell) -> tuple[accelerate.Accelerator, Data, dict[str, Any]]:
    """Return what a cell's run needs: accelerator, data, and the data's record."""
    return _opened(cell.benchmark, cell.train, wants_words(cell.method))


def _opened(
    benchmark: str, train: TrainParams, words: bool
) -> tuple[accelerate.Accelerator, Data, dict[str, Any]]:
    accelerator = new_accelerator(train)
    data = open_data(setting(), benchmark, train, read("frames", FramesParams), words)
    training = data.texts[data.texts["split"] == "train"]
    about = inputs_of(setting(), benchmark, train.reads)
    about["training_videos"] = int(training["video_id"].nunique())
    about["training_captions"] = len(training)
    gc.freeze()  # accelerate collects after each training, and what was imported is the most of it
    return accelerator, data, about


_shared = lru_cache(maxsize=1)(_opened)
"""As :func:`opened`; the cells of a process on the same data share one answer."""


class Plan(NamedTuple):
    """A run before it is made: where, and from what."""

    label: str
    digest: str
    """Fingerprint of the code, params and data that decide the run."""
    params: dict[str, Any]
    """The params of the run, from :func:`ruling`."""
    precision: str
    """In which it trains, ``fp32`` or ``bf16``."""

    @property
    def folder(self) -> Path:
        """The run's work folder."""
        return work_path("train", self.label, self.digest)


def planned(cell: Cell, accelerator: accelerate.Accelerator, about: dict[str, Any]) -> Plan:
    """Return the plan of a cell's run; the arguments are from :func:`opened`."""
    params = ruling(cell, read("frames", FramesParams))
    precision = "bf16" if accelerator.mixed_precision == "bf16" else "fp32"
    # by content, not by time: the same data checked out again find the run
    values = [setting(), cell.method, cell.seed, deciding(params), precision, about]
    digest = fingerprint(values, code=code_of(__name__, cell.method))
    label = f"{setting()}-{short_name(cell.method)}-{cell.benchmark}-{cell.seed}"
    return Plan(label, digest, params, precision)


def published(cell: Cell, folder: Path) -> None:
    """Copy a finished run from its work folder to its place among the results."""
    finished, copy = folder / FINISHED, folder / "published"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(finished, copy)
    publish(copy, paths.training(setting(), short_name(cell.method), cell.benchmark, cell.seed))
    keep_only(folder, finished)


def unfinished(cells: Iterable[Cell]) -> Iterator[Cell]:
    """Yield the cells whose published run is not that of the params, data and code as they are now.

    Cells on the same data that follow each other open it once.
    """
    _shared.cache_clear()  # the data may be others by now
    for cell in cells:
        accelerator, _, about = _shared(cell.benchmark, cell.train, wants_words(cell.method))
        made = planned(cell, accelerator, about).folder / FINISHED / RECORD
        run = paths.training(setting(), short_name(cell.method), cell.benchmark, cell.seed)
        there = run / RECORD
        if not made.is_file() or not there.is_file() or made.read_bytes() != there.read_bytes():
            yield cell


def _train_one(cell: Cell) -> None:
    """Publish a cell's run, after training it unless a finished one has its fingerprint."""
    accelerator, data, about = _shared(cell.benchmark, cell.train, wants_words(cell.method))
    plan = planned(cell, accelerator, about)
    record = code(*code_of(__name__, cell.method)) | about
    record |= {"global_batch": cell.train.batch_size, "precision": plan.precision}
    record["params"] = plan.params
    folder = plan.folder
    main_process = accelerator.is_main_process
    with work_folder("train", plan.label, plan.digest, FINISHED) if main_process else nullcontext():
        accelerator.wait_for_everyone()
        finished = folder / FINISHED
        if (finished / RECORD).is_file():  # the last file to be written
            log.info("%s: %s", plan.label, _how(finished))
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
            published(cell, folder)


def _how(finished: Path) -> str:
    """Return how a finished run came to be, and how to train one that was not trained here."""
    imported = read_record(finished).get("imported")
    if imported is None:
        return "is trained already"
    return f"is imported from {imported['file']}; to train it, delete {finished.parent}"


def _started(folder: Path) -> str:
    """Return when the work in a folder first began, even if it was killed since."""
    path = folder / "started"
    if not path.exists():
        with replacing(path) as file:
            file.write(datetime.now(UTC).isoformat(timespec="seconds"))
    return path.read_text(encoding="utf-8")
