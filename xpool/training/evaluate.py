"""Score test splits with the checkpoints of finished runs.

``results/<setting>/similarity/<method>/<benchmark>/<seed>/`` gets ``similarity.npy``, the
``(text, video)`` float32 matrix; the names of its rows and columns, ``texts.parquet``
(caption_id, video_id) and ``videos.parquet`` (video_id); and ``provenance.json``. Where a listed
post-processing needs a bank, the files of :mod:`xpool.postprocessing.banks` lie beside them.
"""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from xpool.data.frame_cache import FramesParams
from xpool.pooling import mean_of_units, unit
from xpool.postprocessing.banks import FILES, BankParams, Banks
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.params import PARAMS_FILE, read, setting
from xpool.project.provenance import SCORED, code, device_name, of_evaluation
from xpool.project.records import RECORD
from xpool.project.seeds import seed_for
from xpool.project.workspace import WORK, publish, write_json
from xpool.similarity import similarity
from xpool.training.cell import CHECKPOINT, Cell, code_of, coordinates, new_model
from xpool.training.checkpoints.run_state import load_weights
from xpool.training.cost import cost_of
from xpool.training.data import Data, Gallery, open_data, rows_of
from xpool.training.fit import new_accelerator
from xpool.training.model import RetrievalModel
from xpool.training.recipes import short_name, wants_words

log = logging.getLogger(__name__)


def evaluate(cells: Sequence[Cell], bank: BankParams | None) -> dict[str, Any]:
    """Score and publish the runs of one method on one benchmark.

    Returns the cost of the first run (:func:`xpool.training.cost.cost_of`), with the device.

    Args:
        cells: one for each seed; they differ in nothing else.
        bank: the training data of a bank; None if no listed post-processing needs one.
    """
    first = cells[0]
    accelerator = new_accelerator(first.train)
    origin = code(*code_of(__name__, first.method))
    frames, words = read("frames", FramesParams), wants_words(first.method)
    data = open_data(setting(), first.benchmark, first.train, frames, words)
    chosen = None if bank is None else bank_texts(data.texts, bank, first.benchmark)
    cost: dict[str, Any] = {}
    for cell in cells:
        model = trained(cell, data, accelerator.device)
        gallery = data.gallery(model.towers, "test")
        scored = _scores(model, gallery)
        if not cost:
            scores = torch.from_numpy(scored[0]).to(accelerator.device)
            cost = cost_of(model.pooling, gallery, scores)
            cost["device"] = device_name(accelerator.device)
        banks = None
        if chosen is not None:
            banks = _banks(model, gallery, data.embedded(model.towers, chosen))
        if accelerator.is_main_process:
            _write(cell, origin, *scored, banks, accelerator.device)
    return cost


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
    model = trained(cell, data, device)
    return _scores(model, data.gallery(model.towers, "test"))


def bank_texts(texts: pd.DataFrame, bank: BankParams, benchmark: str) -> pd.DataFrame:
    """Draw the captions of a bank from the training captions, without replacement.

    Args:
        texts: all captions of the benchmark, with their split.
        bank: how many, and the seed of the draw.
        benchmark: its name; each benchmark has a draw of its own.

    Returns:
        Rows of ``texts``, in their order.

    Raises:
        InputError: there are fewer training captions.
    """
    rows = rows_of(texts, "train")
    if len(rows) < bank.captions:
        raise InputError(
            f"{PARAMS_FILE}: post_processing.bank.captions: {bank.captions:,}, but {benchmark} has "
            f"{len(rows):,} training captions; write {len(rows)} or fewer"
        )
    rng = np.random.default_rng(seed_for("bank", benchmark, bank.seed))
    return rows.iloc[np.sort(rng.choice(len(rows), bank.captions, replace=False))]


def trained(cell: Cell, data: Data, device: torch.device) -> RetrievalModel:
    """Return the model of a run, with its selected weights, in eval mode."""
    model = new_model(cell, data)
    load_weights(model, checkpoint_of(cell))
    return model.to(device).eval()


def _scores(
    model: RetrievalModel, gallery: Gallery
) -> tuple[NDArray[np.float32], pd.DataFrame, pd.DataFrame]:
    scores = similarity(model.pooling, *gallery.embeddings())
    videos = pd.DataFrame({"video_id": gallery.video_ids})
    return scores.cpu().numpy(), gallery.texts, videos


@torch.no_grad()
def _banks(model: RetrievalModel, test: Gallery, training: Gallery) -> Banks:
    """Hold the test split against training data."""
    first, second = (unit(mean_of_units(one.frames, one.mask)) for one in (training, test))
    matrices = {
        "text_video": similarity(
            model.pooling, training.text, test.frames, test.mask, training.words
        ),
        "video_text": similarity(
            model.pooling, test.text, training.frames, training.mask, test.words
        ),
        "video_video": first @ second.T,
        "text_text": unit(training.text) @ unit(test.text).T,
    }
    return Banks(
        **{name: matrix.float().cpu().numpy() for name, matrix in matrices.items()},
        texts=training.texts,
        videos=pd.DataFrame({"video_id": training.video_ids}),
    )


def checkpoint_of(cell: Cell) -> Path:
    """Return the file with a cell's selected weights."""
    run = paths.training(setting(), short_name(cell.method), cell.benchmark, cell.seed)
    return run / CHECKPOINT


def _write(
    cell: Cell,
    origin: dict[str, Any],
    matrix: NDArray[np.float32],
    texts: pd.DataFrame,
    videos: pd.DataFrame,
    banks: Banks | None,
    device: torch.device,
) -> None:
    name = short_name(cell.method)
    folder = WORK / "evaluate" / f"{setting()}-{name}-{cell.benchmark}-{cell.seed}"
    shutil.rmtree(folder, ignore_errors=True)  # a killed evaluation may have left a bank there
    folder.mkdir(parents=True)
    np.save(folder / "similarity.npy", matrix)
    texts.to_parquet(folder / "texts.parquet")
    videos.to_parquet(folder / "videos.parquet")
    if banks is not None:
        banks.write(folder)
    precision = cell.train.evaluation_precision if cell.train.reads == "frames" else "fp32"
    files = SCORED if banks is None else (*SCORED, *FILES)
    record = of_evaluation(
        coordinates(cell), origin, checkpoint_of(cell), folder, files, device, precision
    )
    write_json(folder / RECORD, record)
    publish(folder, paths.similarity(setting(), name, cell.benchmark, cell.seed))
    log.info("%s %s seed %d: %d x %d", name, cell.benchmark, cell.seed, *matrix.shape)
