"""[step 5] Score the test splits: a method's checkpoints to ``results/<setting>/similarity/...``.

Writes for each benchmark and seed ``similarity.npy``, the ``(text, video)`` float32 matrix, the
names of its rows and columns, ``texts.parquet`` (caption_id, video_id) and ``videos.parquet``
(video_id), and ``provenance.json``. All in one process, as starting it takes longer than scoring a
small benchmark.

Run: ``python -m xpool.evaluate --method xpool.xpool``
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from xpool import paths
from xpool.batches import Data, open_data
from xpool.cell import Cell, coordinates, new_model, read_cell
from xpool.checkpoints import load_weights
from xpool.command import run
from xpool.device import best_device
from xpool.frame_cache import FramesParams
from xpool.params import read, setting
from xpool.provenance import of_evaluation
from xpool.recipes import short_name
from xpool.records import RECORD
from xpool.similarity import similarity
from xpool.workspace import WORK, publish, write_json

log = logging.getLogger(__name__)


def score(
    cell: Cell, data: Data, device: torch.device
) -> tuple[NDArray[np.float32], pd.DataFrame, pd.DataFrame]:
    """Score a cell's test split with the checkpoint of its run.

    Args:
        cell: which run.
        data: its benchmark.
        device: where to score.

    Returns:
        The matrix ``(text, video)``; its rows, with columns caption_id and video_id; its columns,
        with column video_id.

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


def main() -> None:
    """Score all runs of the method that the flag names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--method", required=True, help="import path, e.g. baselines.mean_pool")
    method, device = parser.parse_args().method, best_device()
    frames = read("frames", FramesParams)
    for benchmark in read("benchmarks", list[str]):
        cells = [read_cell(method, benchmark, seed) for seed in read("seeds", list[int])]
        data = open_data(setting(), benchmark, cells[0].train, frames)
        for cell in cells:
            _write(cell, *score(cell, data, device), device)


def _write(
    cell: Cell,
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
    record = of_evaluation(coordinates(cell), checkpoint_of(cell), folder, device)
    write_json(folder / RECORD, record)
    publish(folder, paths.similarity(setting(), name, cell.benchmark, cell.seed))
    log.info("%s %s seed %d: %d x %d", name, cell.benchmark, cell.seed, *matrix.shape)


if __name__ == "__main__":
    run(main)
