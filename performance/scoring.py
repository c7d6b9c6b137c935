"""X-Pool's similarity of all pairs: the factorised form against the direct one.

Weights and embeddings are random; each text lies near one frame of its video, so that ranks have a
meaning. Float32, one head, 12 frames, dim 512, as in the paper.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from performance.measure import Row, memory_and_time, paired, seconds
from xpool.metrics import ranks
from xpool.similarity import similarity
from xpool.xpool import XPool

FRAMES, DIM = 12, 512
SQUARE = 1000
MSVD = (27_763, 670)
SIDES = (500, 1000, 2000, 4000)
REPEATS = 3


def rows(device: torch.device) -> Iterator[Row]:
    """Yield all rows; takes several minutes on two cores."""
    for side in (SQUARE,) if device.type == "cpu" else (SQUARE, SIDES[-1]):
        yield from against_direct(device, side)
    yield from msvd(device, MSVD)
    yield from growth(device, SIDES)
    yield from on_gpu(device)


def against_direct(device: torch.device, side: int) -> list[Row]:
    """Time both forms on ``side`` texts and videos; compare their values and ranks."""
    fast, slow = _forms(device, side, side)
    of_fast, of_slow, ratio = paired(fast, slow, device, REPEATS)
    own, direct = fast().cpu(), slow().cpu()
    video = torch.arange(side)
    moved = sum(
        int((ranks(own, video)[way].rank != ranks(direct, video)[way].rank).sum())
        for way in ("t2v", "v2t")
    )
    values = f"largest difference of a cosine {(own - direct).abs().max():.0e}"
    shape = f"{side:,} x {side:,}"
    return [
        Row(
            what=f"scoring {shape}",
            value=of_fast,
            unit="s",
            baseline=of_slow,
            ratio=ratio,
            note="against the direct form",
        ),
        Row(
            what=f"ranks {shape}, that differ from the direct form's",
            value=moved,
            unit=f"of {2 * side}",
            note=values,
        ),
    ]


def msvd(device: torch.device, shape: tuple[int, int]) -> list[Row]:
    """Measure time and memory at MSVD's shape, against the memory of the official code's tensor."""
    n_text, n_video = shape
    return memory_and_time(
        f"scoring {n_text:,} x {n_video:,} (MSVD)",
        partial(_few_and_all, shape),
        device,
        n_text * n_video * DIM * 4 / 2**20,
        "above the inputs; against the texts x videos x dim tensor, by arithmetic",
    )


def growth(device: torch.device, sides: tuple[int, ...]) -> list[Row]:
    """Measure the time a pair as the square grows, and the exponent of time over pairs."""
    taken = {}
    for side in sides:
        fast, _ = _forms(device, side, side)
        fast()
        taken[side] = min(seconds(fast, device) for _ in range(REPEATS))
    first, last = sides[0], sides[-1]
    exponent = math.log(taken[last] / taken[first]) / math.log((last / first) ** 2)
    per_pair = {side: 1e6 * took / side**2 for side, took in taken.items()}
    hours = per_pair[last] * 1e10 / 1e6 / 3600
    return [
        *(
            Row(what=f"a pair of {side:,} x {side:,}", value=value, unit="us")
            for side, value in per_pair.items()
        ),
        Row(
            what=f"exponent of time over pairs, {first:,} to {last:,} squared",
            value=exponent,
            unit="",
            note="1 is linear; below it, the videos' own cost still shows",
        ),
        Row(
            what="100,000 x 100,000 at the last cost of a pair",
            value=hours,
            unit="h",
            note="extrapolated",
        ),
    ]


def on_gpu(device: torch.device) -> list[Row]:
    """Return a row for what a run on a CPU cannot measure."""
    if device.type == "cuda":
        return []
    what = f"scoring {SQUARE:,} x {SQUARE:,} on a GPU"
    return [Row(what=what, value=None, unit="s", note="make bench DEVICE=cuda")]


def _few_and_all(
    shape: tuple[int, int], device: torch.device
) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Return the factorised scoring of few videos, and of the whole shape."""
    return _forms(device, 100, 200)[0], _forms(device, *shape)[0]


def _forms(
    device: torch.device, n_text: int, n_video: int
) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Return the factorised and the direct scoring of the same inputs, each to be called."""
    generator = torch.Generator().manual_seed(0)
    method = XPool(DIM).eval()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)
    frames = torch.randn(n_video, FRAMES, DIM, generator=generator)
    noise: Tensor = 3 * torch.randn(n_text, DIM, generator=generator)
    text = frames[torch.arange(n_text) % n_video, 3] + noise
    inputs = method.to(device), text.to(device), frames.to(device)
    return (
        lambda: similarity(*inputs, scorer="factorised"),
        lambda: similarity(*inputs, scorer="direct"),
    )
