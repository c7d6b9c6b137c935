"""Scorers for one query against the similarity of all pairs, and the shortlist against a loop."""

import pytest
import torch

from baselines.attention import METHOD as Attention
from baselines.mean_pool import METHOD as MeanPool
from baselines.wti import METHOD as Wti
from xpool.blocks import factorised
from xpool.blocks.words import Words
from xpool.search import scoring
from xpool.search.scoring import TwoStages, exact
from xpool.similarity import similarity
from xpool.xpool import XPool

DIM, FRAMES, VIDEOS, TEXTS = 16, 5, 23, 4


def xpool():
    method = XPool(DIM)
    for parameter in method.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return method


METHODS = [xpool, MeanPool, Attention, lambda: Wti(DIM)]


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    mask = torch.rand(VIDEOS, FRAMES) < 0.7
    mask[:, 0] = True
    words = Words.of(torch.randn(11, DIM).double(), torch.tensor([3, 2, 4, 2]))
    return torch.randn(TEXTS, DIM).double(), torch.randn(VIDEOS, FRAMES, DIM).double(), mask, words


def each(scorer, text, words):
    return torch.stack(
        [scorer(text[row : row + 1], words[torch.tensor([row])]) for row in range(len(text))]
    )


@pytest.mark.parametrize("make", METHODS)
def test_one_text_at_a_time_has_the_scores_of_all_pairs(make, inputs, monkeypatch):
    monkeypatch.setattr(scoring, "VIDEOS_AT_A_TIME", 4)
    monkeypatch.setattr(factorised, "KEPT_VIDEOS", 5)
    torch.manual_seed(1)
    method, (text, frames, mask, words) = make().double().eval(), inputs
    expected = similarity(method, text, frames, mask, words, scorer="direct")
    found = each(exact(method, frames, mask), text, words)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", METHODS)
@pytest.mark.parametrize("count", [1, 6, 100])
def test_shortlist_holds_what_mean_pooling_ranks_first(make, count, inputs):
    torch.manual_seed(1)
    method, (text, frames, mask, words) = make().double().eval(), inputs
    scores = similarity(method, text, frames, mask, words, scorer="direct")
    found = each(TwoStages.of(method, frames, mask, count), text, words)
    for row in range(TEXTS):
        near = []
        for video in range(VIDEOS):
            units = [f / f.norm() for f in frames[video][mask[video]]]
            mean = sum(units) / len(units)
            near.append(float(mean / mean.norm() @ text[row] / text[row].norm()))
        listed = sorted(range(VIDEOS), key=lambda video: -near[video])[:count]
        expected = torch.full((VIDEOS,), -torch.inf, dtype=torch.float64)
        expected[listed] = scores[row, listed]
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-12)
