"""One query against 100,000 videos, as ``xpool search`` and the demo ask it.

Embeddings and weights are random, float32, 12 frames, dim 512, which takes 2.3 GiB. X-Pool scores
every video, from projections that are made when the videos are opened; the rows hold this against
pooling every video anew for the query. The two-stage form scores 100 videos that mean pooling
leaves; how often it finds the same first video depends on the model, and a run's results have it.
"""

from collections.abc import Iterator

import torch

from performance.measure import Row, paired, seconds
from xpool.search.scoring import Scorer, TwoStages, exact
from xpool.similarity import similarity
from xpool.xpool import XPool

VIDEOS, FRAMES, DIM = 100_000, 12, 512
SHORTLIST, TOP = 100, 5
REPEATS = 3


def rows(device: torch.device) -> Iterator[Row]:
    """Yield all rows; takes about two minutes on two cores."""
    torch.manual_seed(0)
    method = XPool(DIM).to(device).eval()
    for parameter in method.parameters():  # away from the identity, from which it starts
        parameter.data += 0.02 * torch.randn_like(parameter)
    frames = torch.empty(VIDEOS, FRAMES, DIM, device=device).normal_()
    mask = torch.ones(VIDEOS, FRAMES, dtype=torch.bool, device=device)
    text = torch.randn(1, DIM, device=device)
    scorers: list[Scorer] = []
    opened = seconds(lambda: scorers.append(exact(method, frames, mask)), device)
    yield Row(what=f"open {VIDEOS:,} videos for X-Pool", value=opened, unit="s")

    def direct() -> torch.Tensor:
        return similarity(method, text, frames, mask, scorer="direct")[0]

    fast, slow, ratio = paired(lambda: scorers[0](text, None), direct, device, REPEATS)
    best, brute = (
        scores.topk(TOP).indices.tolist() for scores in (scorers[0](text, None), direct())
    )
    yield Row(
        what=f"a query among {VIDEOS:,} videos, every video scored",
        value=fast,
        unit="s",
        baseline=slow,
        ratio=ratio,
        note=f"the same first {TOP}: {'yes' if best == brute else 'NO'}",
    )
    short = TwoStages.of(method, frames, mask, SHORTLIST)
    few, all_, ratio = paired(
        lambda: short(text, None), lambda: scorers[0](text, None), device, REPEATS
    )
    yield Row(
        what=f"a query among {VIDEOS:,} videos, {SHORTLIST} of mean pooling scored",
        value=few,
        unit="s",
        baseline=all_,
        ratio=ratio,
        note="against every video scored",
    )
