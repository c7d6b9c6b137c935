"""[step 5] Score a cell's test split: checkpoint to ``results/<setting>/similarity/...``.

Writes ``similarity.npy``, the ``(text, video)`` float32 matrix, and the names of its rows and
columns: ``texts.parquet`` (caption_id, video_id) and ``videos.parquet`` (video_id).

Run: ``python -m xpool.evaluate --method xpool.xpool --benchmark msrvtt --seed 0``
"""

import logging

import numpy as np
import pandas as pd

from xpool import paths
from xpool.batches import open_data
from xpool.cell import cell_of_flags, new_model
from xpool.checkpoints import load_weights
from xpool.command import run
from xpool.device import best_device
from xpool.frame_cache import FramesParams
from xpool.params import read, setting
from xpool.recipes import short_name
from xpool.similarity import similarity
from xpool.workspace import WORK, publish

log = logging.getLogger(__name__)


def main() -> None:
    """Score the cell that the flags name."""
    cell = cell_of_flags(__doc__)
    name = short_name(cell.method)
    data = open_data(setting(), cell.benchmark, cell.train, read("frames", FramesParams))
    model = new_model(cell, data)
    trained = paths.training(setting(), name, cell.benchmark, cell.seed)
    load_weights(model, trained / "checkpoint.safetensors")
    model = model.to(best_device()).eval()
    gallery = data.gallery(model.towers, "test")
    scores = similarity(model.pooling, gallery.text, gallery.frames, gallery.mask)

    folder = WORK / "evaluate" / f"{setting()}-{name}-{cell.benchmark}-{cell.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "similarity.npy", scores.cpu().numpy())
    gallery.texts.to_parquet(folder / "texts.parquet")
    pd.DataFrame({"video_id": gallery.video_ids}).to_parquet(folder / "videos.parquet")
    publish(folder, paths.similarity(setting(), name, cell.benchmark, cell.seed))
    log.info("%s %s seed %d: %d x %d", name, cell.benchmark, cell.seed, *scores.shape)


if __name__ == "__main__":
    run(main)
