"""Contents of the errors page, from the similarities of all runs: ranks, first videos, hubs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xpool.data.frame_cache import FrameCache, FramesParams
from xpool.data.manifest import read_manifest
from xpool.metrics import ranks
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.params import read
from xpool.report.errors import hubs, misses
from xpool.report.protocol import XPOOL, Protocol, method_name
from xpool.statistics.ranks import read_similarity, video_of_text

WORST = 20
"""Worst queries of a benchmark that are shown."""
HUBS = 6
"""Hubs of a benchmark that are shown."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The ranks and first videos of a run, as the page needs them."""

    rank: NDArray[np.float64]
    """``(text,)`` rank of the right video, from 1; a tie counts as half a rank."""
    first: NDArray[np.int64]
    """``(text,)`` column of the video ranked first; of equals the first column."""
    occurrences: NDArray[np.int64]
    """``(video,)`` of :func:`xpool.report.errors.hubs.occurrences`."""


@dataclass(frozen=True, kw_only=True)
class Miss:
    """A query with what was found in place of its video."""

    caption: str
    video_id: str
    found_id: str
    """Video that X-Pool ranks first with the first seed."""
    ranks: dict[str, float]
    """Rank of the right video by each method, mean over seeds; X-Pool first."""
    likeness: int
    """How near the text is to the captions of the video found: a value of
    :mod:`xpool.report.errors.misses`."""


@dataclass(frozen=True, kw_only=True)
class Hub:
    """A video that many queries find."""

    video_id: str
    occurrences: float
    """Texts for which it is among the first, mean over seeds."""
    texts: int
    """Texts that are its own."""
    caption: str
    """The first of them; empty if it has none."""


@dataclass(frozen=True, kw_only=True)
class Errors:
    """The runs of a benchmark, on the test split."""

    protocol: Protocol
    captions: list[str]
    """``(text,)``"""
    video_ids: list[str]
    video_of_text: NDArray[np.int64]
    """``(text,)`` index of each text's own video in ``video_ids``."""
    runs: dict[str, list[Run]]
    """By method, X-Pool first; one for each seed."""

    def mean_ranks(self) -> dict[str, NDArray[Any]]:
        """Return ``(text,)`` rank of the right video by each method, mean over seeds."""
        return {
            method: np.mean([run.rank for run in runs], axis=0)
            for method, runs in self.runs.items()
        }

    def worst(self, count: int = WORST) -> list[Miss]:
        """Return the texts that X-Pool ranks worst, by the mean rank over seeds.

        Of texts with equal ranks, the first in the test split; none that every seed finds.
        """
        mean, first = self.mean_ranks(), self.runs[XPOOL][0].first
        order = np.argsort(-mean[XPOOL], kind="stable")[:count]
        like = misses.likeness_of_first(self.captions, self.video_of_text, first)
        return [
            Miss(
                caption=self.captions[text],
                video_id=self.video_ids[self.video_of_text[text]],
                found_id=self.video_ids[first[text]],
                ranks={method: float(of_method[text]) for method, of_method in mean.items()},
                likeness=int(like[text]),
            )
            for text in order.tolist()
            if mean[XPOOL][text] > 1
        ]

    def occurrences(self) -> pd.DataFrame:
        """Return N_k of each video by each method, mean over seeds.

        Returns:
            Columns benchmark, method, video_id, occurrences, own_texts.
        """
        own = np.bincount(self.video_of_text, minlength=len(self.video_ids))
        parts = [
            pd.DataFrame(
                {
                    "benchmark": self.protocol.benchmark,
                    "method": method,
                    "video_id": self.video_ids,
                    "occurrences": np.mean([run.occurrences for run in runs], axis=0),
                    "own_texts": own,
                }
            )
            for method, runs in self.runs.items()
        ]
        return pd.concat(parts, ignore_index=True)

    def hubs(self, count: int = HUBS) -> list[Hub]:
        """Return the videos that X-Pool finds for most texts; of equals the first."""
        table = self.occurrences()
        counts = table[table["method"] == XPOOL]["occurrences"].to_numpy()
        found = []
        for video in np.argsort(-counts, kind="stable")[:count].tolist():
            own = np.flatnonzero(self.video_of_text == video)
            found.append(
                Hub(
                    video_id=self.video_ids[video],
                    occurrences=float(counts[video]),
                    texts=len(own),
                    caption=self.captions[own[0]] if len(own) else "",
                )
            )
        return found

    def hub_rows(self) -> pd.DataFrame:
        """Return how uneven N_k is by each method, mean over seeds.

        Returns:
            Columns benchmark, method, then skewness, most (the largest N_k), never (percent of
            videos with none) and chance (skewness of random lists).
        """
        texts, videos = len(self.captions), len(self.video_ids)
        rows = [
            {
                "benchmark": self.protocol.title,
                "method": method_name(method),
                "skewness": np.mean([hubs.skewness(run.occurrences) for run in runs]),
                "by chance": hubs.skewness_by_chance(texts, videos),
                f"largest N_{hubs.K}": np.mean([run.occurrences.max() for run in runs]),
                "never found, %": 100 * np.mean([(run.occurrences == 0).mean() for run in runs]),
            }
            for method, runs in self.runs.items()
        ]
        return pd.DataFrame(rows)

    def miss_rows(self) -> pd.DataFrame:
        """Return how often a miss is right for its caption, mean over seeds.

        Returns:
            Columns benchmark, method, then percent of texts that miss, and percent of these misses
            whose first video has the same caption, or one that differs in one word.
        """
        rows = []
        for method, runs in self.runs.items():
            missed, same, near = [], [], []
            for run in runs:
                wrong = run.first != self.video_of_text
                like = misses.likeness_of_first(self.captions, self.video_of_text, run.first)
                missed.append(100 * wrong.mean())
                same.append(_percent(like[wrong] == misses.SAME))
                near.append(_percent(like[wrong] == misses.NEAR))
            rows.append(
                {
                    "benchmark": self.protocol.title,
                    "method": method_name(method),
                    "misses, % of texts": np.mean(missed),
                    "same caption, % of misses": np.mean(same),
                    "one word apart, % of misses": np.mean(near),
                }
            )
        return pd.DataFrame(rows)


def _percent(here: NDArray[np.bool_]) -> float:
    """Return a share in percent; 0 of none."""
    return 100 * float(here.mean()) if len(here) else 0.0


def read_errors(protocol: Protocol) -> Errors:
    """Read the runs of a benchmark; one matrix is in memory at a time.

    Raises:
        InputError: a run is missing, or the runs do not fit each other or the manifest.
    """
    here, benchmark = protocol.setting, protocol.benchmark
    methods = [XPOOL, *(method for method in protocol.methods if method != XPOOL)]
    first_folder = paths.similarity(here, XPOOL, benchmark, protocol.seeds[0])
    _, texts, videos = read_similarity(first_folder)
    own = video_of_text(texts, videos)
    runs: dict[str, list[Run]] = {method: [] for method in methods}
    for method in methods:
        for seed in protocol.seeds:
            folder = paths.similarity(here, method, benchmark, seed)
            matrix, its_texts, its_videos = read_similarity(folder)
            if not (texts.equals(its_texts) and videos.equals(its_videos)):
                raise InputError(
                    f"{folder}: its texts or videos are not those of {first_folder}; run "
                    "'dvc repro' to make it again"
                )
            run = Run(
                rank=ranks(matrix, own)["t2v"].rank,
                first=matrix.argmax(axis=1).astype(np.int64),
                occurrences=hubs.occurrences(matrix),
            )
            runs[method].append(run)
    path = paths.manifest(here, benchmark)
    manifest = read_manifest(path)
    captions = manifest[manifest["split"] == "test"].set_index("caption_id")["caption"]
    said = captions.reindex(texts["caption_id"])
    if said.isna().any():
        missing = said.index[said.isna()][0]
        raise InputError(f"{path}: no test caption {missing}; run 'dvc repro' to score anew")
    return Errors(
        protocol=protocol,
        captions=said.tolist(),
        video_ids=videos["video_id"].tolist(),
        video_of_text=own,
        runs=runs,
    )


class Films:
    """Frames of a benchmark's videos, as runs sample them."""

    def __init__(self, protocol: Protocol) -> None:
        """Open the frame cache.

        Raises:
            InputError: the cache is absent or incomplete.
        """
        self._cache = FrameCache(paths.frames(protocol.setting, protocol.benchmark))
        self._count = read("train.frames", int)
        self._sampling = read("frames", FramesParams)

    def frames(self, video_id: str, count: int) -> Sequence[NDArray[np.uint8]]:
        """Return at most so many of a video's sampled frames ``(h, w, 3)``, evenly spread."""
        pixels, mask = self._cache.read(video_id, self._count, self._sampling)
        real = np.flatnonzero(mask)
        chosen = np.unique(np.linspace(0, len(real) - 1, count).round().astype(int))
        return [pixels[real[number]] for number in chosen.tolist()]
