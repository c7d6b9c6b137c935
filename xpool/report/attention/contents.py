"""Contents of the attention page: queries, the frames of their videos, weights, nearest videos.

Reads what the pipeline wrote for the first seed of each benchmark: the similarities of all methods,
X-Pool's checkpoint, the packed frames, and, for generated videos, which frames each caption
describes. :mod:`xpool.report.attention.filmstrips` draws it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xpool.data.frame_cache import FrameCache, FramesParams
from xpool.data.manifest import read_manifest
from xpool.metrics import ranks
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.made import made
from xpool.project.params import read
from xpool.project.seeds import seed_for
from xpool.project.workspace import replacing
from xpool.report.attention.examples import Example, described, examples, groups, margins
from xpool.report.protocol import XPOOL, Protocol
from xpool.statistics.ranks import read_similarity, video_of_text

if TYPE_CHECKING:
    from xpool.training.data import Gallery
    from xpool.xpool import XPool

SHOWN = 5
"""Number of retrieved videos in a row."""


# --- what one picture shows ---


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A text's own video, and the attention that X-Pool gives to each frame."""

    frames: NDArray[np.uint8]
    """``(frame, h, w, 3)``."""
    mask: NDArray[np.bool_]
    """``(frame,)`` True where the frame counts."""
    weights: NDArray[Any]
    """``(frame,)``; sums to 1."""
    described: NDArray[np.bool_] | None
    """``(frame,)`` True where the frame shows the scene that the text describes; None if that is
    not known."""


@dataclass(frozen=True, kw_only=True)
class Retrieved:
    """A video that a method retrieved for a text."""

    video_id: str
    rank: int
    """Rank from 1."""
    score: float
    """Cosine similarity."""
    right: bool
    """Whether it is the text's own video."""
    picture: NDArray[np.uint8]
    """``(h, w, 3)`` the frame that stands for the video."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The nearest videos by a method."""

    method: str
    rank: float
    """Rank of the right video, from 1; a tie counts as half a rank."""
    stands_for: str
    """Words that say which frame stands for a video."""
    retrieved: tuple[Retrieved, ...]


@dataclass(frozen=True, kw_only=True)
class Query:
    """A text with its video and what each method retrieved for it."""

    caption: str
    reason: str
    """Why this text is shown."""
    strip: Strip
    rows: tuple[Row, ...]

    def table(self) -> pd.DataFrame:
        """Return what the picture draws: each frame with its weight, each video with its score."""
        shown = np.flatnonzero(self.strip.mask)
        frames = [{"frame": n + 1, "weight": float(self.strip.weights[n])} for n in shown.tolist()]
        videos = [
            {"method": row.method, "rank": one.rank, "video_id": one.video_id, "score": one.score}
            for row in self.rows
            for one in row.retrieved
        ]
        return pd.DataFrame([*frames, *videos]).assign(caption=self.caption)


# --- a benchmark's runs of one seed ---


class Attention:
    """X-Pool's weights on the test split, computed from its embeddings on the CPU."""

    def __init__(self, pooling: "XPool", gallery: "Gallery") -> None:
        """Move the pooling and the embeddings of the test split to the CPU."""
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

    def own(self, video_of_text: NDArray[np.int64]) -> NDArray[Any]:
        """Return ``(text, frame)``: the weights of each text on its own video."""
        weights = np.zeros((len(video_of_text), self._frames.shape[1]), np.float32)
        for video in np.unique(video_of_text):
            texts = np.flatnonzero(video_of_text == video)
            weights[texts] = self.weights(texts.tolist(), [int(video)])[:, 0]
        return weights


@dataclass(frozen=True, kw_only=True)
class Demo:
    """A benchmark's runs with the first seed, on the test split."""

    protocol: Protocol
    texts: pd.DataFrame
    """Columns caption_id, video_id, caption; in the order of the similarity's rows."""
    video_ids: list[str]
    video_of_text: NDArray[np.int64]
    """``(text,)`` index of each text's own video in ``video_ids``."""
    similarity: dict[str, NDArray[Any]]
    """``(text, video)`` for each method, X-Pool first."""
    attention: Attention
    cache: FrameCache
    count: int
    """Number of sampled frames of a video."""
    sampling: FramesParams

    @property
    def seed(self) -> int:
        """Seed of the runs."""
        return self.protocol.seeds[0]

    @property
    def title(self) -> str:
        """The benchmark's title, marked if its videos were generated."""
        return ", ".join(filter(None, (self.protocol.title, self.protocol.mark)))

    @cached_property
    def rank(self) -> dict[str, NDArray[Any]]:
        """``(text,)`` rank of the right video by each method, from 1."""
        return {
            method: ranks(scores, self.video_of_text)["t2v"].rank
            for method, scores in self.similarity.items()
        }

    @cached_property
    def described(self) -> NDArray[np.bool_] | None:
        """``(text, frame)`` from the function :func:`described`; None for real videos.

        Raises:
            InputError: the videos were generated, and a table of the generator is missing.
        """
        if not self.protocol.synthetic:
            return None
        folder = paths.truth(self.protocol.setting, self.protocol.benchmark)
        captions, scenes = (
            pd.read_parquet(made(folder / f"{name}.parquet")) for name in ("captions", "scenes")
        )
        sampled = {video_id: self._sampled(video_id) for video_id in self.video_ids}
        return described(self.texts, captions, scenes, sampled)

    def _sampled(self, video_id: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return the indices of a video's sampled frames, and their mask."""
        return self.cache.sampled(video_id, self.count, self.sampling)

    def counts(self) -> str:
        """Return the number of texts in each group, in words."""
        sizes = [f"{words}: {int(rows.sum())}" for (_, words), rows in groups(self.rank).items()]
        return f"{len(self.texts)} texts. {'; '.join(sizes)}."

    def examples(self, drawn: int = 3) -> list[Example]:
        """Return the texts to show, see the function :func:`examples`."""
        chance = np.random.default_rng(seed_for("attention", self.protocol.benchmark))
        margin = margins(self.similarity[XPOOL], self.video_of_text)
        return examples(self.rank, margin, chance, drawn)

    def query(self, example: Example) -> Query:
        """Gather what the picture of a text shows."""
        text, video = example.text, int(self.video_of_text[example.text])
        frames, mask = self._read(video)
        strip = Strip(
            frames=frames,
            mask=mask,
            weights=self.attention.weights([text], [video])[0, 0],
            described=None if self.described is None else self.described[text],
        )
        rows = tuple(self._row(method, text) for method in self.similarity)
        caption = str(self.texts["caption"].iloc[text])
        return Query(caption=caption, reason=example.reason, strip=strip, rows=rows)

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
                    rank=rank,
                    score=float(scores[video]),
                    right=video == self.video_of_text[text],
                    picture=pixels[rank - 1][shown[rank - 1]],
                )
                for rank, video in enumerate(first, start=1)
            ),
        )

    def mass(self) -> pd.DataFrame:
        """Return the attention of each text on the frames of its own video that it describes.

        Returns:
            Columns benchmark, caption_id, share (of the sampled frames, which is what an even
            attention would give them), mass (X-Pool's attention), both from 0 to 1, and rank (by
            X-Pool). No rows for real videos, since it is not known what their captions describe.
        """
        columns = ["benchmark", "caption_id", "share", "mass", "rank"]
        if self.described is None:
            return pd.DataFrame(columns=columns)
        own = self.attention.own(self.video_of_text)
        real = np.stack([self._sampled(video_id)[1].sum() for video_id in self.video_ids])
        values = {
            "benchmark": self.protocol.benchmark,
            "caption_id": self.texts["caption_id"],
            "share": self.described.sum(axis=1) / real[self.video_of_text],
            "mass": (own * self.described).sum(axis=1, dtype=float),
            "rank": self.rank[XPOOL],
        }
        return pd.DataFrame(values, columns=columns)


def mass_summary(mass: pd.DataFrame) -> pd.DataFrame:
    """Return the means of :meth:`Demo.mass` in percent, for each benchmark and choice of texts.

    If a text describes all of its video's sampled frames, or none of them, the share of attention
    they get says nothing. The rows after the first leave such texts out.

    Returns:
        Columns benchmark, texts (the choice in words), n_texts, share, mass; a choice without texts
        has no row.
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
        video_of_text=video_of_text(texts, videos),
        similarity={method: scores for method, (scores, _, _) in cells.items()},
        attention=attention,
        cache=FrameCache(paths.frames(here, benchmark)),
        count=read("train.frames", int),
        sampling=read("frames", FramesParams),
    )


def _attention(here: str, benchmark: str, seed: int) -> "tuple[Attention, Gallery]":
    """Return X-Pool's weights, and the gallery that names its texts and videos."""
    from xpool.encoders.base import best_device
    from xpool.training.cell import new_model, read_cell
    from xpool.training.checkpoints.run_state import load_weights
    from xpool.training.data import open_data

    checkpoint = made(paths.training(here, XPOOL, benchmark, seed) / "checkpoint.safetensors")
    cell = read_cell("xpool.xpool", benchmark, seed)
    data = open_data(here, benchmark, cell.train, read("frames", FramesParams))
    model = new_model(cell, data)
    load_weights(model, checkpoint)
    model = model.to(best_device()).eval()
    gallery = data.gallery(model.towers, "test")
    return Attention(cast("XPool", model.pooling), gallery), gallery


def _unlike(one: Path, other: object) -> InputError:
    return InputError(
        f"{one}: its texts or videos are not those of {other}; run 'dvc repro' to make it again"
    )
