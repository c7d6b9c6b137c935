"""The attention demo's contents: which queries, their frames, weights and first videos.

Reads what the pipeline wrote for one seed of each benchmark: the similarities of all methods,
X-Pool's checkpoint, the packed frames, and, where the videos were generated, which frames each
caption describes. ``notebooks/attention.ipynb`` shows it with ``xpool.filmstrips``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xpool import paths
from xpool.captions import read_manifest
from xpool.command import InputError
from xpool.frame_cache import FrameCache, FramesParams
from xpool.metrics import ranks
from xpool.params import read
from xpool.picks import XPOOL, Pick, described, groups, margins, picks
from xpool.protocol import Protocol
from xpool.ranks import read_cell as read_similarity
from xpool.ranks import video_of_text
from xpool.sampling import positions_for
from xpool.seeds import seed_for
from xpool.workspace import replacing

if TYPE_CHECKING:
    from xpool.batches import Gallery
    from xpool.xpool import XPool

SHOWN = 5
"""Retrieved videos in a row."""


# --- what one picture shows ---


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A text's own video, and how X-Pool spreads its attention over the frames."""

    frames: NDArray[np.uint8]
    """``(frame, h, w, 3)``."""
    mask: NDArray[np.bool_]
    """``(frame,)`` True where the frame counts."""
    weights: NDArray[Any]
    """``(frame,)``; sums to 1."""
    described: NDArray[np.bool_] | None
    """``(frame,)`` True where the frame is of the scene that the text describes; None if nobody
    knows."""


@dataclass(frozen=True, kw_only=True)
class Retrieved:
    """One of the videos that a method found for a text."""

    video_id: str
    place: int
    """From 1."""
    score: float
    """Cosine similarity."""
    right: bool
    """Whether it is the text's own video."""
    picture: NDArray[np.uint8]
    """``(h, w, 3)``, the frame that stands for the video."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The first videos of one method."""

    method: str
    rank: float
    """Of the right video, from 1; half a rank where others tie with it."""
    stands_for: str
    """Which frame stands for a video, in words."""
    retrieved: tuple[Retrieved, ...]


@dataclass(frozen=True, kw_only=True)
class Query:
    """A text with its video and what each method found for it."""

    caption: str
    reason: str
    """Why this text is shown."""
    strip: Strip
    rows: tuple[Row, ...]


# --- a benchmark's runs of one seed ---


class Attention:
    """X-Pool's weights on the test split, from its embeddings; on the CPU."""

    def __init__(self, pooling: "XPool", gallery: "Gallery") -> None:
        """Take the pooling and what the towers made of the test split to the CPU."""
        self._pooling = pooling.cpu().eval()
        self._text, self._frames, self._mask = (
            tensor.detach().cpu().float() for tensor in (gallery.text, gallery.frames, gallery.mask)
        )
        self._mask = self._mask.bool()

    def weights(self, texts: Sequence[int], videos: Sequence[int]) -> NDArray[Any]:
        """Return ``(text, video, frame)``, the mean over heads; sums to 1 over frames."""
        import torch

        t, v = list(texts), list(videos)
        with torch.inference_mode():
            weights = self._pooling.attention(self._text[t], self._frames[v], self._mask[v])
        return weights.mean(dim=2).numpy()

    def own(self, right: NDArray[np.int64]) -> NDArray[Any]:
        """Return ``(text, frame)``: each text's weights on its own video."""
        weights = np.zeros((len(right), self._frames.shape[1]), np.float32)
        for video in np.unique(right):
            texts = np.flatnonzero(right == video)
            weights[texts] = self.weights(texts.tolist(), [int(video)])[:, 0]
        return weights


@dataclass(frozen=True, kw_only=True)
class Demo:
    """One benchmark: all runs with the first seed, on the test split."""

    protocol: Protocol
    texts: pd.DataFrame
    """Columns caption_id, video_id, caption; a row is one of the similarity's."""
    video_ids: list[str]
    right: NDArray[np.int64]
    """``(text,)`` place of each text's own video in ``video_ids``."""
    similarity: dict[str, NDArray[Any]]
    """Of each method, X-Pool first, ``(text, video)``."""
    attention: Attention
    cache: FrameCache
    count: int
    """Sampled frames a video."""
    sampling: FramesParams

    @property
    def seed(self) -> int:
        """Seed of the runs that are shown."""
        return self.protocol.seeds[0]

    @property
    def title(self) -> str:
        """The benchmark, marked where its videos were generated."""
        mark = ", SYNTHETIC: generated videos" if self.protocol.synthetic else ""
        return f"{self.protocol.title}{mark}"

    @cached_property
    def rank(self) -> dict[str, NDArray[Any]]:
        """Of each method, ``(text,)`` rank of the right video, from 1."""
        return {
            method: ranks(scores, self.right)["t2v"].rank
            for method, scores in self.similarity.items()
        }

    @cached_property
    def described(self) -> NDArray[np.bool_] | None:
        """``(text, frame)``, see the function :func:`described`; None for real videos.

        Raises:
            InputError: the videos were generated, and what the generator knows is not there.
        """
        if not self.protocol.synthetic:
            return None
        folder = paths.truth(self.protocol.setting, self.protocol.benchmark)
        captions, scenes = (
            pd.read_parquet(_made(folder / f"{name}.parquet")) for name in ("captions", "scenes")
        )
        sampled = {video_id: self._sampled(video_id) for video_id in self.video_ids}
        return described(self.texts, captions, scenes, sampled)

    def _sampled(self, video_id: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return the places of a video's sampled frames in the video, and their mask."""
        _, stored, video_frames = self.cache.stored(video_id)
        rule, seed, short = self.sampling.sampling, self.sampling.seed, self.sampling.short_videos
        where, mask = positions_for(stored, video_frames, self.count, rule, seed, video_id, short)
        return stored[where], mask

    def counts(self) -> str:
        """Return how many texts are in each group, in words."""
        sizes = [f"{words}: {int(rows.sum())}" for (_, words), rows in groups(self.rank).items()]
        return f"{len(self.texts)} texts. {'; '.join(sizes)}."

    def picks(self, drawn: int = 3) -> list[Pick]:
        """Return which texts to show; see :func:`picks`."""
        chance = np.random.default_rng(seed_for("attention", self.protocol.benchmark))
        margin = margins(self.similarity[XPOOL], self.right)
        return picks(self.rank, margin, chance, drawn)

    def query(self, pick: Pick) -> Query:
        """Gather what the picture of one text shows."""
        text, right = pick.text, int(self.right[pick.text])
        frames, mask = self._read(right)
        strip = Strip(
            frames=frames,
            mask=mask,
            weights=self.attention.weights([text], [right])[0, 0],
            described=None if self.described is None else self.described[text],
        )
        rows = tuple(self._row(method, text) for method in self.similarity)
        caption = str(self.texts["caption"].iloc[text])
        return Query(caption=caption, reason=pick.reason, strip=strip, rows=rows)

    def _read(self, video: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        return self.cache.read(self.video_ids[video], self.count, self.sampling)

    def _row(self, method: str, text: int) -> Row:
        scores = self.similarity[method][text]
        first = np.argsort(-scores, kind="stable")[:SHOWN].tolist()
        pixels, masks = zip(*(self._read(video) for video in first), strict=True)
        if method == XPOOL:
            shown = self.attention.weights([text], first)[0].argmax(axis=1).tolist()
        else:
            shown = [(int(mask.sum()) - 1) // 2 for mask in masks]
        return Row(
            method=method,
            rank=float(self.rank[method][text]),
            stands_for="most attended frame" if method == XPOOL else "middle frame",
            retrieved=tuple(
                Retrieved(
                    video_id=self.video_ids[video],
                    place=place,
                    score=float(scores[video]),
                    right=video == self.right[text],
                    picture=pixels[place - 1][shown[place - 1]],
                )
                for place, video in enumerate(first, start=1)
            ),
        )

    def mass(self) -> pd.DataFrame:
        """Return each text's attention on the frames that it describes, in its own video.

        Returns:
            Columns benchmark, caption_id, share (of the sampled frames, what an even attention
            puts there), mass (X-Pool's attention), both from 0 to 1, and rank (X-Pool's). No rows
            for real videos: what their captions describe is not known.
        """
        columns = ["benchmark", "caption_id", "share", "mass", "rank"]
        if self.described is None:
            return pd.DataFrame(columns=columns)
        real = np.stack([self._sampled(video_id)[1].sum() for video_id in self.video_ids])
        values = {
            "benchmark": self.protocol.benchmark,
            "caption_id": self.texts["caption_id"],
            "share": self.described.sum(axis=1) / real[self.right],
            "mass": (self.attention.own(self.right) * self.described).sum(axis=1, dtype=float),
            "rank": self.rank[XPOOL],
        }
        return pd.DataFrame(values, columns=columns)


def mass_summary(mass: pd.DataFrame) -> pd.DataFrame:
    """Return the means of :meth:`Demo.mass` in percent, a row a benchmark and choice of texts.

    Texts whose video shows nothing else leave the attention no choice, and texts whose scene is on
    none of the sampled frames give it no chance; the rows after the first leave both out.

    Returns:
        Columns benchmark, texts (the choice in words), n_texts, share, mass; no row where a choice
        has no text.
    """
    free = mass[(mass["share"] > 0) & (mass["share"] < 1)]
    choices = {
        "all": mass,
        "whose video shows other scenes too": free,
        "of these, found first by X-Pool": free[free["rank"] == 1],
        "of these, not found first": free[free["rank"] > 1],
    }
    rows = [
        {
            "benchmark": benchmark,
            "texts": choice,
            "n_texts": len(of_it),
            "share": 100 * of_it["share"].mean(),
            "mass": 100 * of_it["mass"].mean(),
        }
        for benchmark in mass["benchmark"].unique()
        for choice, chosen in choices.items()
        if len(of_it := chosen[chosen["benchmark"] == benchmark])
    ]
    return pd.DataFrame(rows, columns=["benchmark", "texts", "n_texts", "share", "mass"])


def write_mass(mass: pd.DataFrame, folder: Path) -> None:
    """Write :meth:`Demo.mass` of all benchmarks to ``mass.csv``, in full precision."""
    with replacing(folder / "mass.csv") as file:
        mass.to_csv(file, index=False, lineterminator="\n")


def open_demo(protocol: Protocol) -> Demo:
    """Open a benchmark's runs with its first seed.

    Raises:
        InputError: a run is missing, or the runs do not fit each other.
    """
    here, benchmark, seed = protocol.setting, protocol.benchmark, protocol.seeds[0]
    methods = [XPOOL, *(method for method in protocol.methods if method != XPOOL)]
    folders = {method: paths.similarity(here, method, benchmark, seed) for method in methods}
    cells = {method: read_similarity(folder) for method, folder in folders.items()}
    _, texts, videos = cells[XPOOL]
    for method, (_, its_texts, its_videos) in cells.items():
        if not (texts.equals(its_texts) and videos.equals(its_videos)):
            raise _unlike(folders[method], folders[XPOOL])
    manifest = read_manifest(paths.manifest(here, benchmark))
    captions = manifest[manifest["split"] == "test"].set_index("caption_id")["caption"]
    texts = texts.assign(caption=captions.reindex(texts["caption_id"]).to_numpy())
    if texts["caption"].isna().any():
        raise _unlike(folders[XPOOL], paths.manifest(here, benchmark))
    attention, gallery = _attention(here, benchmark, seed)
    same_texts = gallery.texts["caption_id"].tolist() == texts["caption_id"].tolist()
    if not same_texts or gallery.video_ids != videos["video_id"].tolist():
        raise _unlike(folders[XPOOL], "the test split")
    return Demo(
        protocol=protocol,
        texts=texts,
        video_ids=gallery.video_ids,
        right=video_of_text(texts, videos),
        similarity={method: scores for method, (scores, _, _) in cells.items()},
        attention=attention,
        cache=FrameCache(paths.frames(here, benchmark)),
        count=read("train.frames", int),
        sampling=read("frames", FramesParams),
    )


def _attention(here: str, benchmark: str, seed: int) -> "tuple[Attention, Gallery]":
    """Return X-Pool's weights, and the names of what it embedded."""
    from xpool.batches import open_data
    from xpool.cell import new_model, read_cell
    from xpool.checkpoints import load_weights
    from xpool.device import best_device

    checkpoint = _made(paths.training(here, XPOOL, benchmark, seed) / "checkpoint.safetensors")
    cell = read_cell("xpool.xpool", benchmark, seed)
    data = open_data(here, benchmark, cell.train, read("frames", FramesParams))
    model = new_model(cell, data)
    load_weights(model, checkpoint)
    model = model.to(best_device()).eval()
    gallery = data.gallery(model.towers, "test")
    return Attention(cast("XPool", model.pooling), gallery), gallery


def _made(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path}: not found; run 'dvc repro' to make it")
    return path


def _unlike(one: Path, other: object) -> InputError:
    return InputError(
        f"{one}: its texts or videos are not those of {other}; run 'dvc repro' to make it again"
    )
