"""Measure what a trained method costs when it answers queries, beside how well it does.

``results/<setting>/cost/<method>.json`` has, for each benchmark, the size of the method and of its
gallery, the time of a query, and the curve of the two-stage form (:func:`two_stage_curve`). Times
differ from machine to machine and from run to run; nothing but the page of results reads them.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xpool.metrics import recall_of_any
from xpool.pooling import Method, mean_similarity
from xpool.project import paths
from xpool.similarity import similarity, two_stage
from xpool.training.data import Gallery

TIMINGS = 3
"""Repeats of a measurement; the shortest counts, since what comes between only adds time."""
LONG_S = 5
"""After so many seconds a measurement is not repeated: what comes between is a small part of it."""
SHORTLISTS = (1, 5, 10, 20, 50, 100, 200, 500)
"""Lengths of the shortlist of mean pooling."""
TIMED_QUERIES = 20
"""Texts with which the two-stage form is timed, one after the other as users ask."""
FIRST = 10
"""How many answers of the two forms are compared."""


def read_cost(setting: str, method: str) -> dict[str, Any]:
    """Return what was measured of a method so far, by benchmark; empty before the first."""
    file = paths.cost(setting, method)
    if not file.is_file():
        return {}
    measured: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return measured


def cost_of(method: Method, gallery: Gallery, scores: Tensor) -> dict[str, Any]:
    """Return the cost of a method on a gallery.

    Args:
        method: trained, in eval mode, on the gallery's device.
        gallery: the test split.
        scores: ``(text, video)``, as the method scores the gallery.

    Returns:
        ``parameters`` of the method beside the encoder; ``bytes_per_video`` of the embeddings that
        the gallery keeps, in float32; ``ms_per_query``, all texts together; ``two_stage``, empty
        for a method whose gallery is one vector a video.
    """
    device, (_, n_frame, dim) = gallery.text.device, gallery.frames.shape
    agnostic = method.family == "text-agnostic"
    seconds = least_time_s(lambda: similarity(method, *gallery.embeddings()), device)
    return {
        "family": method.family,
        "parameters": sum(parameter.numel() for parameter in method.parameters()),
        "bytes_per_video": 4 * dim * (1 if agnostic else n_frame),
        "ms_per_query": 1000 * seconds / len(gallery.text),
        "two_stage": [] if agnostic else two_stage_curve(method, gallery, scores),
    }


@torch.no_grad()
def two_stage_curve(method: Method, gallery: Gallery, scores: Tensor) -> list[dict[str, float]]:
    """Return how exact and how fast a shortlist of mean pooling is, for each length of it.

    A pair's score depends on that pair alone, so that the second stage ranks as the whole does; the
    curve therefore follows from the scores of all pairs.

    Returns:
        For each length ``k``: ``R@1`` in percent; ``same_first``, the percent of texts with the
        same first video as in the whole gallery; ``same_ten``, the percent of its first ten videos
        that are among the first ten; ``ms_per_query``, one text at a time.
    """
    video = gallery.video_of_text()
    nearness = mean_similarity(gallery.text, gallery.frames, gallery.mask)
    order = nearness.argsort(dim=1, descending=True, stable=True)
    index = order.argsort(dim=1)  # of each video on the shortlist
    ten = min(FIRST, scores.shape[1])
    best = scores.argsort(dim=1, descending=True, stable=True)[:, :ten]
    few = slice(0, TIMED_QUERIES)
    words = None if gallery.words is None else gallery.words[torch.arange(len(scores))[few]]
    curve = []
    for k in sorted({min(k, scores.shape[1]) for k in SHORTLISTS}):
        listed = scores.masked_fill(index >= k, -torch.inf)
        first = listed.argsort(dim=1, descending=True, stable=True)[:, :ten]
        found = (first[:, :, None] == best[:, None, :]) & (index.gather(1, first) < k)[:, :, None]
        seconds = least_time_s(
            lambda k=k: two_stage(  # type: ignore[misc]
                method, gallery.text[few], gallery.frames, k, gallery.mask, words
            ),
            scores.device,
        )
        curve.append(
            {
                "k": k,
                "R@1": recall_of_any(listed.cpu().numpy(), np.arange(len(video)), video),
                "same_first": 100 * float((first[:, 0] == best[:, 0]).double().mean()),
                "same_ten": 100 * float(found.any(dim=1).double().mean()),
                "ms_per_query": 1000 * seconds / len(gallery.text[few]),
            }
        )
    return curve


def least_time_s(work: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds that some work takes at its best.

    On a CPU this is the time in which this process computed, which other processes do not prolong;
    on a GPU it is the time on the clock.
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    times: list[float] = []
    while len(times) < TIMINGS and sum(times) < LONG_S:
        began = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(clock() - began)
    return min(times)
