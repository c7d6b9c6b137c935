"""The bank of a run: similarity of its test split with training data, and the files that hold it.

The stage ``evaluate`` writes it beside ``similarity.npy``, where a listed post-processing needs it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from xpool.project.errors import InputError
from xpool.project.made import made
from xpool.project.params import Section, Seed

Scores = NDArray[Any]
MATRICES = {
    "text_video": "bank.npy",
    "video_text": "bank_videos.npy",
    "video_video": "bank_video_video.npy",
    "text_text": "bank_text_text.npy",
}
"""File of each matrix."""
TEXTS, VIDEOS = "bank_texts.parquet", "bank_videos.parquet"
FILES = (*MATRICES.values(), TEXTS, VIDEOS)
"""All files of a bank."""


class BankParams(Section):
    """``post_processing.bank``: the training data that similarities are held against."""

    captions: int = Field(ge=1)
    """Number of training captions; their videos are the bank of videos."""
    seed: Seed
    """Draws them, the same for every method and seed of a run."""


class Bank(NamedTuple):
    """Similarity of the test gallery with training data."""

    queries: Scores
    """``(bank query, gallery)``: training data of the queries' kind."""
    gallery: Scores
    """``(bank item, gallery)``: training data of the gallery's own kind."""


@dataclass(frozen=True, kw_only=True)
class Banks:
    """Similarity of test texts and videos with training texts and videos, and what these are.

    Of two videos or two texts it is the cosine of their embeddings, of a video the mean of its
    frames' (L2-normalised): a method that pools for a text has no similarity of two videos.
    """

    text_video: Scores
    """``(bank text, video)``."""
    video_text: Scores
    """``(text, bank video)``."""
    video_video: Scores
    """``(bank video, video)``."""
    text_text: Scores
    """``(bank text, text)``."""
    texts: pd.DataFrame
    """``caption_id``, ``video_id`` of each bank text."""
    videos: pd.DataFrame
    """``video_id`` of each bank video."""

    def of(self, direction: str) -> Bank:
        """Return the bank of one direction: the queries are texts in t2v and videos in v2t."""
        if direction == "t2v":
            return Bank(queries=self.text_video, gallery=self.video_video)
        return Bank(queries=self.video_text.T, gallery=self.text_text)

    def write(self, folder: Path) -> None:
        """Write all files of the bank."""
        for name, file in MATRICES.items():
            np.save(folder / file, getattr(self, name))
        self.texts.to_parquet(folder / TEXTS)
        self.videos.to_parquet(folder / VIDEOS)


def read_banks(folder: Path, n_text: int, n_video: int, captions: int) -> Banks:
    """Read the bank of a run.

    Args:
        folder: the run's similarity.
        n_text: texts of the test split.
        n_video: videos of the test split.
        captions: number of training captions that ``params.yaml`` asks for.

    Raises:
        InputError: a file is missing, or does not fit the others or the params.
    """
    texts, videos = (pd.read_parquet(made(folder / name)) for name in (TEXTS, VIDEOS))
    read = {name: np.load(made(folder / file)) for name, file in MATRICES.items()}
    shapes = {
        "text_video": (captions, n_video),
        "video_text": (n_text, len(videos)),
        "video_video": (len(videos), n_video),
        "text_text": (captions, n_text),
    }
    for name, expected in shapes.items():
        if read[name].shape != expected or len(texts) != captions:
            raise InputError(
                f"{folder / MATRICES[name]}: shape {read[name].shape}, expected {expected}; run "
                "'dvc repro' to make it again"
            )
    return Banks(**read, texts=texts, videos=videos)
