"""Weighted token-wise interaction of all pairs, against the plain form that pads every text.

Weights and embeddings are random, float32, 12 frames, dim 512, and at most 32 words. Texts are like
MSVD's test captions under CLIP's tokenizer: 2 + Poisson(7) words, of which each but the first is
drawn by Zipf's law, so that texts begin alike as often as those do. 48 % of the words of 27,763
texts have a beginning of their own (MSVD: 47 %), 63 % of 1,000 texts (1,000 of MSVD's: 64 %). In
rows of their own, 32 words without anything in common. The plain form is DRL's expression: one
einsum over texts padded to 32 words, its product with both masks, and maxima with indices.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

import torch
from torch import Tensor

from baselines.wti import WeightedTokenMax
from performance.measure import Row, memory_and_time, paired
from xpool.blocks.words import Words
from xpool.pooling import unit
from xpool.similarity import similarity

FRAMES, DIM, MOST_WORDS, MEAN_WORDS = 12, 512, 32, 7
VOCABULARY, ZIPF = 300, 1.6
SLICE = (1000, 670)
MSVD = (27_763, 670)
REPEATS = 3


def rows(device: torch.device) -> Iterator[Row]:
    """Yield all rows; takes several minutes on two cores."""
    for measure, shape in ((against_plain, SLICE), (whole, MSVD)):
        for full in (False, True):
            yield from measure(device, shape, full)


def against_plain(device: torch.device, shape: tuple[int, int], full: bool) -> list[Row]:
    """Time both forms on a slice that the plain one has memory for."""
    fast, slow = _forms(device, *shape, full)
    of_fast, of_slow, ratio = paired(fast, slow, device, REPEATS)
    return [
        Row(
            what=f"WTI of {_named(shape, full)}",
            value=of_fast,
            unit="s",
            baseline=of_slow,
            ratio=ratio,
            note="against the padded einsum",
        )
    ]


def whole(device: torch.device, shape: tuple[int, int], full: bool) -> list[Row]:
    """Measure time and memory at MSVD's shape, against the memory of the plain form's cosines."""
    return memory_and_time(
        f"WTI of {_named(shape, full)} (MSVD)",
        partial(_few_and_all, shape, full),
        device,
        shape[0] * shape[1] * MOST_WORDS * FRAMES * 4 / 2**20,
        "above the inputs; against the padded cosines, by arithmetic",
    )


def _named(shape: tuple[int, int], full: bool) -> str:
    words = f"{MOST_WORDS} words" if full else "words like MSVD's"
    return f"{shape[0]:,} texts of {words} x {shape[1]:,}"


def _few_and_all(
    shape: tuple[int, int], full: bool, device: torch.device
) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Return the harness's scoring of few videos, and of the whole shape."""
    return _forms(device, 100, 50, full)[0], _forms(device, *shape, full)[0]


def _forms(
    device: torch.device, n_text: int, n_video: int, full: bool
) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Return the harness's and the plain scoring of the same inputs, each to be called."""
    generator = torch.Generator().manual_seed(0)
    words = (_full_texts if full else _short_texts)(n_text, generator).to(device)
    text = torch.randn(n_text, DIM, generator=generator).to(device)
    frames = torch.randn(n_video, FRAMES, DIM, generator=generator).to(device)
    mask = torch.ones(n_video, FRAMES, dtype=torch.bool, device=device)
    torch.manual_seed(0)
    method = WeightedTokenMax(DIM).to(device).eval()
    return (
        lambda: similarity(method, text, frames, mask, words),
        lambda: _plain(method, words, frames, mask),
    )


def _full_texts(n_text: int, generator: torch.Generator) -> Words:
    """Return texts of 32 words, none of which two have in common."""
    count = torch.full((n_text,), MOST_WORDS)
    return Words.of(torch.randn(int(count.sum()), DIM, generator=generator), count)


def _short_texts(n_text: int, generator: torch.Generator) -> Words:
    """Return texts like MSVD's, with an embedding for each distinct beginning."""
    mean = torch.full((n_text,), float(MEAN_WORDS))
    count = (2 + torch.poisson(mean, generator=generator)).long().clamp(max=MOST_WORDS)
    chance = torch.arange(1, VOCABULARY + 1).float() ** -ZIPF
    drawn = iter(torch.multinomial(chance, int(count.sum()), True, generator=generator).tolist())
    beginnings: dict[tuple[int, ...], int] = {}
    rows = []
    for length in count.tolist():
        text = (-1, *islice(drawn, length - 1))  # all texts start with the same token
        rows += [
            beginnings.setdefault(text[:number], len(beginnings)) for number in range(1, length + 1)
        ]
    table = torch.randn(len(beginnings), DIM, generator=generator)
    return Words.of(table[torch.tensor(rows)], count)


@torch.no_grad()
def _plain(method: WeightedTokenMax, words: Words, frames: Tensor, mask: Tensor) -> Tensor:
    """Score with all texts padded to one length, in one piece; returns ``(text, video)``."""
    padded, exists = words.padded(MOST_WORDS)
    word_weights = method.word_weights(padded, exists)
    frame_weights = method.frame_weights(frames, mask)
    cosines = torch.einsum("twd,vfd->tvwf", unit(padded), unit(frames))
    cosines = torch.einsum("tvwf,tw->tvwf", cosines, exists.to(cosines.dtype))
    cosines = torch.einsum("tvwf,vf->tvwf", cosines, mask.to(cosines.dtype))
    by_words = torch.einsum("tvw,tw->tv", cosines.max(dim=3)[0], word_weights)
    by_frames = torch.einsum("tvf,vf->tv", cosines.max(dim=2)[0], frame_weights)
    return (by_words + by_frames) / 2
