"""Score test splits with the checkpoints of finished runs.

``results/<setting>/similarity/<method>/<benchmark>/<seed>/`` gets ``similarity.npy``, the
``(text, video)`` float32 matrix; the names of its rows and columns, ``texts.parquet``
(caption_id, video_id) and ``videos.parquet`` (video_id); and ``provenance.json``.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from xpool.data.frame_cache import FramesParams
from xpool.project import paths
from xpool.project.params import read, setting
from xpool.project.provenance import code, of_evaluation
from xpool.project.records import RECORD
from xpool.project.workspace import WORK, publish, write_json
from xpool.similarity import similarity
from xpool.training.cell import Cell, code_of, coordinates, new_model
from xpool.training.checkpoints import load_weights
from xpool.training.data import Data, open_data
from xpool.training.fit import new_accelerator
from xpool.training.recipes import short_name

log = logging.getLogger(__name__)


def evaluate(cells: Sequence[Cell]) -> None:
    """Score and publish the runs of one method on one benchmark.

    Args:
        cells: one for each seed; they differ in nothing else.
    """
    first = cells[0]
    accelerator = new_accelerator(first.train)
    origin = code(*code_of(__name__, first.method))
    data = open_data(setting(), first.benchmark, first.train, read("frames", FramesParams))
    for cell in cells:
        scored = score(cell, data, accelerator.device)
        if accelerator.is_main_process:
            _write(cell, origin, *scored, accelerator.device)


def score(
    cell: Cell, data: Data, device: torch.device
) -> tuple[NDArray[np.float32], pd.DataFrame, pd.DataFrame]:
    """Score a cell's test split with the checkpoint of its run.

    Args:
        cell: the cell of the run.
        data: its benchmark.
        device: the device to score on.

    Returns:
        The matrix ``(text, video)``; a table of its rows (caption_id, video_id); and a table of its
        columns (video_id).

    Raises:
        InputError: the checkpoint is missing, or does not fit the data.
    """
    model = new_model(cell, data)
    load_weights(model, checkpoint_of(cell))
    model = model.to(device).eval()
    gallery = data.gallery(model.towers, "test")
    scores = similarity(model.pooling, gallery.text, gallery.frames, gallery.mask)
    videos = pd.DataFrame({"video_id": gallery.video_ids})
    return scores.cpu().numpy(), gallery.texts, videos


def checkpoint_of(cell: Cell) -> Path:
    """Return the file with a cell's selected weights."""
    run = paths.training(setting(), short_name(cell.method), cell.benchmark, cell.seed)
    return run / "checkpoint.safetensors"


def _write(
    cell: Cell,
    origin: dict[str, Any],
    matrix: NDArray[np.float32],
    texts: pd.DataFrame,
    videos: pd.DataFrame,
    device: torch.device,
) -> None:
    name = short_name(cell.method)
    folder = WORK / "evaluate" / f"{setting()}-{name}-{cell.benchmark}-{cell.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "similarity.npy", matrix)
    texts.to_parquet(folder / "texts.parquet")
    videos.to_parquet(folder / "videos.parquet")
    precision = cell.train.evaluation_precision if cell.train.reads == "frames" else "fp32"
    record = of_evaluation(
        coordinates(cell), origin, checkpoint_of(cell), folder, device, precision
    )
    write_json(folder / RECORD, record)
    publish(folder, paths.similarity(setting(), name, cell.benchmark, cell.seed))
    log.info("%s %s seed %d: %d x %d", name, cell.benchmark, cell.seed, *matrix.shape)
