"""The source of a run's texts and frames: cached embeddings, or cached frames and the encoder."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from xpool.blocks.words import Words
from xpool.data import transforms
from xpool.data.frame_cache import FrameCache, FramesParams
from xpool.data.manifest import read_manifest
from xpool.encoders.base import open_encoder
from xpool.encoders.embed import (
    count_cut,
    embed_images,
    embed_texts,
    embed_words,
    warn_of_small_frames,
)
from xpool.encoders.embedding_cache import EmbeddingCache
from xpool.encoders.processes import here, joined, part_of
from xpool.pooling import TextTransformer
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.seeds import seed_for
from xpool.training.recipes import TrainParams
from xpool.training.towers import EncoderTowers, FrozenTowers, Towers


class Batch(NamedTuple):
    """Pairs of a text and its video; a video may be in several."""

    text: Tensor
    """Input of ``towers.text``, or of ``towers.words``, one row a pair."""
    frames: tuple[Tensor, ...]
    """Input of ``towers.frames``, one row a video in each."""
    mask: Tensor
    """``(video, frame)`` bool, True where the frame exists."""
    video: Tensor
    """``(pair,)`` row of each pair's video."""
    pairs: int
    """Number of pairs in the batch of all processes, without those that fill up a part."""
    word_mask: Tensor | None = None
    """``(pair, word)`` bool, True where the word exists; None where no words are wanted."""

    def to(self, device: torch.device) -> "Batch":
        """Copy to a device; from pinned memory, without waiting for the copy."""
        text, frames, mask, video, pairs, words = self
        text, mask, video, *parts = (
            part.to(device, non_blocking=True) for part in (text, mask, video, *frames)
        )
        words = None if words is None else words.to(device, non_blocking=True)
        return Batch(text, tuple(parts), mask, video, pairs, words)


class Gallery(NamedTuple):
    """All texts and videos of a split, embedded."""

    text: Tensor
    """``(text, dim)``."""
    frames: Tensor
    """``(video, frame, dim)``."""
    mask: Tensor
    """``(video, frame)`` bool."""
    texts: pd.DataFrame
    """``caption_id``, ``video_id`` of each row of ``text``."""
    video_ids: list[str]
    words: Words | None = None
    """The words of the texts; None where no words are wanted."""

    def embeddings(self) -> tuple[Tensor, Tensor, Tensor, Words | None]:
        """Return what :func:`xpool.similarity.similarity` takes of it: its first four arguments."""
        return self.text, self.frames, self.mask, self.words

    def video_of_text(self) -> NDArray[np.int64]:
        """``(text,)`` row of each text's video in ``frames``."""
        rows = {video_id: row for row, video_id in enumerate(self.video_ids)}
        return np.array([rows[video_id] for video_id in self.texts["video_id"]], np.int64)


class Data(Protocol):
    """A benchmark as a run reads it."""

    texts: pd.DataFrame

    def towers(self) -> Towers:
        """Return fresh towers, which turn a batch's text and frames into embeddings."""

    def text_transformer(self) -> TextTransformer:
        """Return the encoder's text transformer, for methods that start from it."""

    def batch(self, rows: NDArray[np.int64], seed: int) -> Batch:
        """Return the pairs of these rows of ``texts``; ``seed`` decides the augmentation."""

    def gallery(self, towers: Towers, split: str) -> Gallery:
        """Embed a split with the towers in their current state; all processes must call it."""

    def embedded(self, towers: Towers, texts: pd.DataFrame) -> Gallery:
        """Embed rows of ``texts`` and the videos they belong to, as :meth:`gallery` does."""


def rows_of(texts: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return the rows of a split.

    Raises:
        InputError: the split is empty.
    """
    rows = texts[texts["split"] == split]
    if rows.empty:
        raise InputError(
            f"the manifest has no {split!r} rows; see its report, and manifest.<benchmark> in "
            "params.yaml (MSR-VTT: val_videos carves a validation split from training)"
        )
    return rows


class EmbeddingData:
    """Cached embeddings for frozen towers."""

    def __init__(
        self, folder: Path, train: TrainParams, frames: FramesParams, words: bool = False
    ) -> None:
        self._cache = EmbeddingCache(folder)
        self._words = self._cache.words() if words else None
        self._longest = 0 if self._words is None else int(self._words.count.max())
        self.texts = self._cache.texts
        self._video_ids = list(dict.fromkeys(self.texts["video_id"]))
        self._rows = {video_id: row for row, video_id in enumerate(self._video_ids)}
        self._video_of_text = np.array([self._rows[v] for v in self.texts["video_id"]], np.int64)
        self._sampled, self._mask = self._cache.sampled(self._video_ids, train.frames, frames)

    def towers(self) -> Towers:  # noqa: D102
        return FrozenTowers(self._cache.dim, self._cache.logit_scale)

    def text_transformer(self) -> TextTransformer:  # noqa: D102
        return self._cache.text_transformer()

    def batch(self, rows: NDArray[np.int64], seed: int) -> Batch:  # noqa: D102
        videos = self._video_of_text[rows]
        own, count = torch.arange(len(rows)), len(rows)
        text, mask = self._cache.text[rows], self._mask[videos]
        frames = self._cache.frames(self._sampled[videos])
        if self._words is None:
            return Batch(text, (frames,), mask, own, count, None)
        self._cache.note_read(len(rows) * self._longest, len(rows))
        # as wide for every process, since they exchange them
        words, word_mask = self._words[torch.from_numpy(rows)].padded(self._longest)
        text = torch.cat([text[:, None], words], dim=1)
        return Batch(text, (frames,), mask, own, count, word_mask)

    def gallery(self, towers: Towers, split: str) -> Gallery:  # noqa: D102
        return self.embedded(towers, rows_of(self.texts, split))

    @torch.inference_mode()
    def embedded(self, towers: Towers, texts: pd.DataFrame) -> Gallery:  # noqa: D102
        video_ids = list(dict.fromkeys(texts["video_id"]))
        videos = [self._rows[video_id] for video_id in video_ids]
        device = towers.logit_scale.device
        rows, words = texts.index.to_list(), None
        if self._words is not None:
            some = self._words[torch.tensor(rows)]
            self._cache.note_read(int(some.count.sum()), len(some))
            own = some.alone().to(device)
            words = replace(own, values=towers.text(own.values))
        return Gallery(
            towers.text(self._cache.text[rows].to(device)),
            towers.frames(self._cache.frames(self._sampled[videos]).to(device)),
            self._mask[videos].to(device),
            texts[["caption_id", "video_id"]].reset_index(drop=True),
            video_ids,
            words,
        )


class FrameData:
    """Packed frames for the whole encoder, augmented in training."""

    def __init__(
        self,
        setting: str,
        benchmark: str,
        train: TrainParams,
        frames: FramesParams,
        words: bool = False,
    ) -> None:
        self._encoder = open_encoder(paths.encoder(setting))
        self._cache = FrameCache(paths.frames(setting, benchmark))
        texts = read_manifest(paths.manifest(setting, benchmark))
        texts = texts[texts["video_id"].isin(set(self._cache.video_ids))]
        self.texts = texts.reset_index(drop=True)
        captions = self.texts["caption"].tolist()
        self._tokens = self._encoder.tokenize(captions)
        count_cut(self._encoder, captions)
        warn_of_small_frames(self._encoder, frames.short_side_px)
        self._train, self._frames_params, self._words = train, frames, words

    def towers(self) -> Towers:  # noqa: D102
        encoder = self._encoder.copied()  # a run changes it; the next starts from the same
        return EncoderTowers(encoder, self._frames_params.antialias, self._train)

    def text_transformer(self) -> TextTransformer:  # noqa: D102
        return self._encoder.text_transformer()

    def read(self, video_id: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return a video's sampled frames and their mask, as :meth:`FrameCache.read` does."""
        return self._cache.read(video_id, self._train.frames, self._frames_params)

    def batch(self, rows: NDArray[np.int64], seed: int) -> Batch:
        """Return the pairs of these rows; each video appears once, with one crop.

        Compiled towers take one number of videos, so for them each pair has its own copy.
        """
        of_pairs = self.texts["video_id"].iloc[rows]
        video, video_ids = pd.factorize(of_pairs)
        if self._train.compile:
            video, video_ids = np.arange(len(rows)), pd.Index(of_pairs)
        videos, masks = zip(*(self.read(video_id) for video_id in video_ids), strict=True)
        crops = []
        for video_id, frames in zip(video_ids, videos, strict=True):
            # seeded by the video: each process with a share of its texts draws the same crop
            chance = torch.Generator().manual_seed(seed_for("augment", seed, video_id))
            crops.append(transforms.draw_crop(frames.shape[1], frames.shape[2], chance))
        mask = torch.from_numpy(np.stack(masks))
        cut = transforms.cut(videos, crops)
        tokens, word_mask = self._tokens[rows], None
        if self._words:
            counts = self._encoder.word_counts(tokens)
            word_mask = torch.arange(tokens.shape[1]) < counts[:, None]
        return Batch(tokens, cut, mask, torch.from_numpy(video), len(rows), word_mask)

    def evaluated(self, video_id: str) -> tuple[Tensor, Tensor]:
        """Return a video's frames as the encoder takes them in evaluation, and their mask."""
        pixels, mask = self.read(video_id)
        size_px, antialias = self._encoder.size_px, self._frames_params.antialias
        levels = transforms.evaluation(torch.from_numpy(pixels), size_px, antialias)
        return levels, torch.from_numpy(mask)

    def gallery(self, towers: Towers, split: str) -> Gallery:  # noqa: D102
        return self.embedded(towers, rows_of(self.texts, split))

    def embedded(self, towers: Towers, texts: pd.DataFrame) -> Gallery:
        """Embed rows; each process encodes its part, from frames that its workers prepare."""
        video_ids = list(dict.fromkeys(texts["video_id"]))
        mine = [video_ids[row] for row in part_of(len(video_ids), *here())]
        masks: list[Tensor] = []

        def videos() -> Iterator[Tensor]:
            workers = self._train.workers
            for pixels, mask in DataLoader(_Videos(self, mine), None, num_workers=workers):
                masks.append(mask)
                yield pixels

        images = self._train.batch_size * self._train.frames
        encoder, device = cast(EncoderTowers, towers).encoder, towers.logit_scale.device
        bf16 = self._train.evaluation_precision == "bf16"
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            frames = embed_images(encoder, videos(), images)
            text = embed_texts(encoder, texts["caption"].tolist(), images)
            words = embed_words(encoder, texts["caption"].tolist(), images) if self._words else None
        frames = frames.reshape(len(mine), self._train.frames, -1)
        return Gallery(
            text.to(device),
            joined(frames.to(device), len(video_ids)),
            joined(torch.stack(masks).to(device), len(video_ids)),
            texts[["caption_id", "video_id"]].reset_index(drop=True),
            video_ids,
            None if words is None else words.to(device),
        )


class _Videos(Dataset[tuple[Tensor, Tensor]]):
    """The videos of a gallery, prepared one by one."""

    def __init__(self, data: FrameData, video_ids: list[str]) -> None:
        self._data, self._video_ids = data, video_ids

    def __len__(self) -> int:
        return len(self._video_ids)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self._data.evaluated(self._video_ids[row])


def open_data(
    setting: str, benchmark: str, train: TrainParams, frames: FramesParams, words: bool = False
) -> Data:
    """Return the benchmark's data for the regime that ``train.reads`` names.

    Args:
        setting: the setting in force.
        benchmark: its name.
        train: section ``train``.
        frames: section ``frames``.
        words: whether batches and galleries have the words of their texts.
    """
    if train.reads == "embeddings":
        return EmbeddingData(paths.embeddings(setting, benchmark), train, frames, words)
    return FrameData(setting, benchmark, train, frames, words)
