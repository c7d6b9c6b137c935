"""A run as a folder that other code loads; :mod:`xpool.report.model_card` lists its files."""

import re
import shutil
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from xpool.data.frame_cache import FramesParams
from xpool.encoders.base import Encoder, open_encoder
from xpool.encoders.tensors import save_tensors
from xpool.metrics import ranks
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.params import read, setting
from xpool.project.provenance import SCORED
from xpool.project.records import RECORD
from xpool.project.workspace import WORK, publish, replacing
from xpool.report.model_card import POOLING, TREC_DEPTH, model_card
from xpool.statistics.ranks import rank_table, read_similarity, video_of_text
from xpool.training.cell import Cell
from xpool.training.checkpoints.foreign import released
from xpool.training.data import open_data
from xpool.training.evaluate import trained
from xpool.training.fit import new_accelerator
from xpool.training.model import RetrievalModel
from xpool.training.recipes import short_name, wants_words
from xpool.training.towers import EncoderTowers, FrozenTowers

PROJECTIONS = {"text_projection": "text_projection", "visual.proj": "frame_projection"}
"""OpenAI's name of a tower's last projection: the map that a run learns after it, if frozen."""


def export(cell: Cell, out: Path) -> None:
    """Write the run of a cell to a new folder.

    Args:
        cell: of a run that was scored.
        out: the folder; it must not hold anything.

    Raises:
        InputError: the folder holds something, the run was not scored, or its encoder has no names
            that other code knows.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: holds something already; name a new folder")
    method = short_name(cell.method)
    scored = paths.similarity(setting(), method, cell.benchmark, cell.seed)
    matrix, texts, videos = read_similarity(scored)
    folder = WORK / "export"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in SCORED:
        shutil.copy(scored / name, folder)
    shutil.copy(paths.training(setting(), method, cell.benchmark, cell.seed) / RECORD, folder)
    _write_model(cell, folder)
    both = ranks(matrix, video_of_text(texts, videos))
    rank_table(both, texts, videos).to_parquet(folder / "ranks.parquet", index=False)
    _write_trec(matrix, texts, videos, method, folder)
    card = model_card(setting(), method, cell.benchmark, cell.seed, folder)
    (folder / "README.md").write_text(card, encoding="utf-8")
    publish(folder, out)


@torch.inference_mode()
def _write_model(cell: Cell, folder: Path) -> None:
    """Write encoder, method, and the embeddings of the test split."""
    accelerator = new_accelerator(cell.train)
    frames, words = read("frames", FramesParams), wants_words(cell.method)
    data = open_data(setting(), cell.benchmark, cell.train, frames, words)
    model = trained(cell, data, accelerator.device)
    source = paths.encoder(setting())
    shutil.copytree(source, folder, dirs_exist_ok=True)
    (folder / "encoder.json").unlink()  # describes the weights before training
    encoder_of(model, source).write(folder)
    if own := released(model.pooling):
        save_tensors(own, folder / POOLING)
    gallery = data.gallery(model.towers, "test")
    for name, tensor in (
        ("text", gallery.text), ("frames", gallery.frames), ("mask", gallery.mask)
    ):  # fmt: skip
        np.save(folder / f"{name}.npy", tensor.cpu().numpy())


def encoder_of(model: RetrievalModel, source: Path) -> Encoder:
    """Return the encoder of a trained model.

    Of frozen towers it is the encoder in ``source``, with the maps that were learned after the
    towers multiplied into their last projections.

    Raises:
        InputError: its last projections are not CLIP's.
    """
    if isinstance(model.towers, EncoderTowers):
        return model.towers.encoder
    towers = cast(FrozenTowers, model.towers)
    encoder = open_encoder(source)
    weights = dict(encoder.openai_weights())
    if missing := PROJECTIONS.keys() - weights.keys():
        raise InputError(
            f"{source}: its encoder has no {min(missing)}, into which the trained maps would be "
            "multiplied; export a run of another encoder, or of train.reads: frames"
        )
    for name, own in PROJECTIONS.items():
        learned: Tensor = getattr(towers, own)
        weights[name] = weights[name] @ learned.to(weights[name].device)
    weights["logit_scale"] = towers.logit_scale.reshape(weights["logit_scale"].shape)
    encoder.take(weights)
    return encoder


def _write_trec(
    matrix: NDArray[np.floating], texts: pd.DataFrame, videos: pd.DataFrame, tag: str, folder: Path
) -> None:
    """Write text to video as a TREC run and its qrels; scores to the last digit."""
    names = [_word(name) for name in videos["video_id"]]
    with replacing(folder / "t2v.run.txt") as run, replacing(folder / "t2v.qrels.txt") as qrels:
        for row, (caption_id, video_id) in enumerate(
            zip(texts["caption_id"], texts["video_id"], strict=True)
        ):
            query = _word(caption_id)
            qrels.write(f"{query} 0 {_word(video_id)} 1\n")
            order = np.argsort(-matrix[row], kind="stable")[:TREC_DEPTH]
            run.writelines(
                f"{query} Q0 {names[column]} {place} {float(matrix[row, column])!r} {tag}\n"
                for place, column in enumerate(order, start=1)
            )


def _word(name: str) -> str:
    """Return a name without spaces, which part the fields of TREC's files."""
    return re.sub(r"\s", "%20", name)
