"""A trained run that embeds what a user types, and videos that it has never seen."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from xpool.blocks.words import Words
from xpool.data.frame_cache import FramesParams
from xpool.encoders.base import Encoder, best_device, open_encoder
from xpool.encoders.embed import embed_texts, embed_words
from xpool.project import paths
from xpool.project.digests import sha256
from xpool.project.errors import InputError
from xpool.project.params import read, setting
from xpool.training.cell import CHECKPOINT, Cell, read_cell, run_at
from xpool.training.data import Data, Gallery, open_data
from xpool.training.evaluate import checkpoint_of, trained
from xpool.training.model import RetrievalModel
from xpool.training.recipes import import_path, short_name, wants_words
from xpool.training.towers import EncoderTowers


def runs() -> list[Path]:
    """Return the folders of all trained runs of the setting in force."""
    top = paths.training(setting(), "*", "*", 0).parent
    return sorted(file.parent for file in Path().glob(f"{top}/*/{CHECKPOINT}"))


def cell_of(folder: Path) -> Cell:
    """Return the cell of a run's folder.

    Raises:
        InputError: the folder holds no trained run of the setting in force.
    """
    there = runs()
    if folder.resolve() in {run.resolve() for run in there}:
        method, benchmark, seed = run_at(folder)
        return read_cell(import_path(method), benchmark, seed)
    remedy = f"there are {len(there)}, e.g. {there[-1]}" if there else "make some with: dvc repro"
    raise InputError(f"{folder}: no trained run of the setting {setting()}; {remedy}")


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A run's model, ready to embed and score, in eval mode."""

    cell: Cell
    data: Data
    model: RetrievalModel
    frames: FramesParams
    encoder: Encoder
    """The encoder behind the towers, which a fine-tuned run has changed."""

    @classmethod
    def open(cls, folder: Path) -> "Trained":
        """Open a run's folder, ``results/<setting>/train/<method>/<benchmark>/<seed>``.

        Raises:
            InputError: the run or its data are not there, or do not fit each other.
        """
        cell, frames = cell_of(folder), read("frames", FramesParams)
        data = open_data(setting(), cell.benchmark, cell.train, frames, wants_words(cell.method))
        model = trained(cell, data, best_device())
        if isinstance(model.towers, EncoderTowers):
            encoder = model.towers.encoder
        else:
            encoder = open_encoder(paths.encoder(setting())).to(best_device()).eval()
        return cls(cell=cell, data=data, model=model, frames=frames, encoder=encoder)

    @property
    def name(self) -> str:
        """The method's name, e.g. ``xpool``."""
        return short_name(self.cell.method)

    @property
    def count(self) -> int:
        """Number of frames of a video."""
        return self.cell.train.frames

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.towers.logit_scale.device

    @cached_property
    def made_by(self) -> str:
        """SHA-256 of the weights that embed videos: an index of others does not fit."""
        if isinstance(self.model.towers, EncoderTowers):
            return sha256(checkpoint_of(self.cell))
        return sha256(paths.encoder(setting()) / "encoder.json")

    @torch.inference_mode()
    def text(self, query: str) -> tuple[Tensor, Words | None]:
        """Return a query's ``(1, dim)`` embedding, and its words if the method wants them."""
        text = embed_texts(self.encoder, [query], 1).to(self.device)
        words = None
        if wants_words(self.cell.method):
            words = embed_words(self.encoder, [query], 1).to(self.device)
        if isinstance(self.model.towers, EncoderTowers):
            return text, words
        if words is not None:
            words = Words.of(self.model.towers.text(words.values), words.count)
        return self.model.towers.text(text), words

    @torch.inference_mode()
    def videos(self, embedded: Tensor) -> Tensor:
        """Return ``(video, frame, dim)`` as the method takes it, of what the encoder gave."""
        if isinstance(self.model.towers, EncoderTowers):
            return embedded.to(self.device)
        return self.model.towers.frames(embedded.to(self.device))

    def gallery(self) -> Gallery:
        """Embed the test split of the run's benchmark."""
        return self.data.gallery(self.model.towers, "test")
