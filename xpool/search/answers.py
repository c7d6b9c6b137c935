"""The videos that a run finds for a query, and the frames for which it found them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xpool.pooling import unit
from xpool.project.errors import InputError
from xpool.search.library import Library
from xpool.search.scoring import Scorer, TwoStages, exact
from xpool.search.trained import Trained
from xpool.xpool import XPool

LONGEST_QUERY = 2000
"""The most characters that a query may have; CLIP reads 77 tokens."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A video that was found."""

    rank: int
    """The video's rank, from 1; videos that tie have the same."""
    score: float
    """The method's similarity, a cosine for most methods."""
    library: int
    """Number of the library that holds the video, from 0, among those searched."""
    video: int
    """The video's row in that library."""
    video_id: str
    right: bool
    """Whether the query is a caption of this video in the test split."""
    weights: NDArray[np.float64]
    """``(frame,)``: how much each frame counts, from 0; 0 where there is none."""
    times_s: NDArray[np.float64]
    """``(frame,)``: the time of each frame, in seconds from the start of the video."""

    @property
    def best(self) -> int:
        """The frame that counts most."""
        return int(self.weights.argmax())


class Search:
    """A run and the libraries that it searches."""

    def __init__(
        self, run: Trained, libraries: Sequence[Library], shortlist: int | None = None
    ) -> None:
        """Compute what does not depend on the query.

        Args:
            run: scores.
            libraries: are searched together.
            shortlist: number of videos of each library that mean pooling leaves for the method;
                None: all, which is exact.
        """
        self.run, self.libraries = run, libraries
        self._scorers: list[Scorer] = [
            exact(run.model.pooling, library.frames, library.mask)
            if shortlist is None
            else TwoStages.of(run.model.pooling, library.frames, library.mask, shortlist)
            for library in libraries
        ]

    @property
    def weights_are(self) -> str:
        """A phrase that tells the reader what the weights of the frames are."""
        if isinstance(self.run.model.pooling, XPool):
            return "attention of the text on the frame"
        return "cosine of the text and the frame, from the lowest of the video"

    @torch.inference_mode()
    def __call__(self, query: str, top: int) -> list[Answer]:
        """Return the ``top`` nearest videos, best first; ties in the order of the libraries.

        Raises:
            InputError: the query is empty or longer than :data:`LONGEST_QUERY`.
        """
        query = " ".join(query.split())
        if not query:
            raise InputError("the query is empty; describe a video in a sentence")
        if len(query) > LONGEST_QUERY:
            raise InputError(
                f"the query has {len(query):,} characters; write {LONGEST_QUERY:,} or fewer, of "
                "which an encoder reads some 77 words"
            )
        text, words = self.run.text(query)
        scores = torch.cat([score(text, words) for score in self._scorers])
        order = scores.argsort(descending=True, stable=True)[:top]
        sizes = np.cumsum([0, *map(len, self.libraries)])
        answers = []
        for place, score in zip(order.tolist(), scores[order].tolist(), strict=True):
            if score == -np.inf:  # not on the shortlist
                break
            number = int(np.searchsorted(sizes, place, side="right")) - 1
            library, video = self.libraries[number], place - int(sizes[number])
            video_id = library.video_ids[video]
            answers.append(
                Answer(
                    rank=1 + int((scores > score).sum()),
                    score=score,
                    library=number,
                    video=video,
                    video_id=video_id,
                    right=video_id in library.video_of_caption.get(query, ()),
                    weights=self._weights(text, library.frames[video], library.mask[video]),
                    times_s=library.times_s(video),
                )
            )
        return answers

    def _weights(self, text: Tensor, frames: Tensor, mask: Tensor) -> NDArray[np.float64]:
        """Return ``(frame,)`` for one text and one video, ``(frame, dim)``."""
        method = self.run.model.pooling
        if isinstance(method, XPool):
            weights = method.attention(text, frames[None], mask[None])[0, 0].mean(dim=0)
        else:
            weights = unit(frames) @ unit(text)[0]
            weights = (weights - weights[mask].amin()).masked_fill(~mask, 0.0)
        return np.asarray(weights.double().cpu().numpy())
