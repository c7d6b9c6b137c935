"""Streamed top-k against a full sort of the whole matrix."""

import pytest
import torch

from baselines.mean_pool import MeanPool
from xpool.project.errors import InputError
from xpool.similarity import similarity, top_k
from xpool.xpool import XPool


def inputs(n_text=9, n_video=23, n_frame=3, dim=8):
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(n_text, dim, generator=generator, dtype=torch.float64)
    frames = torch.randn(n_video, n_frame, dim, generator=generator, dtype=torch.float64)
    count = torch.randint(1, n_frame + 1, (n_video, 1), generator=generator)
    return text, frames, torch.arange(n_frame) < count


def parted(frames, mask, size):
    return zip(frames.split(size), mask.split(size), strict=True)


@pytest.mark.parametrize("method", [XPool(8).double(), MeanPool()], ids=["xpool", "mean_pool"])
@pytest.mark.parametrize("size", [1, 4, 23])
@pytest.mark.parametrize("k", [1, 5, 23, 40])
def test_equals_full_sort(method, size, k):
    text, frames, mask = inputs()
    scores, videos = top_k(method, text, parted(frames, mask, size), k)
    whole = similarity(method, text, frames, mask)
    expected = whole.sort(dim=1, descending=True, stable=True)
    torch.testing.assert_close(scores, expected.values[:, :k])
    assert torch.equal(videos, expected.indices[:, :k])


@pytest.mark.parametrize("size", [1, 3, 12])
def test_ties_stand_in_the_order_of_the_gallery(size):
    text, frames, mask = inputs(n_video=3)
    again = torch.arange(12) % 3
    scores, videos = top_k(MeanPool(), text, parted(frames[again], mask[again], size), 12)
    for one_scores, one_videos in zip(scores, videos, strict=True):
        for value in one_scores.unique():
            tied = one_videos[one_scores == value]
            assert torch.equal(tied, tied.sort().values)


def test_blocks_may_differ_in_frames():
    text, frames, mask = inputs(n_frame=4)
    mask[:10, 2:] = False
    blocks = [(frames[:10, :2], mask[:10, :2]), (frames[10:], mask[10:])]
    method = XPool(8).double()
    scores, videos = top_k(method, text, blocks, 6)
    expected, order = similarity(method, text, frames, mask).topk(6)
    torch.testing.assert_close(scores, expected)
    assert torch.equal(videos, order)


def test_gallery_is_read_once_and_one_block_at_a_time():
    text, frames, mask = inputs()
    alive = []

    def blocks():
        for start in range(0, 23, 5):
            alive.append(start)
            yield frames[start : start + 5], mask[start : start + 5]

    top_k(MeanPool(), text, blocks(), 2)
    assert alive == [0, 5, 10, 15, 20]


def test_empty_gallery_and_impossible_k_are_named():
    text, frames, mask = inputs()
    with pytest.raises(InputError, match="no video"):
        top_k(MeanPool(), text, [], 3)
    with pytest.raises(ValueError, match="at least 1; got 0"):
        top_k(MeanPool(), text, [(frames, mask)], 0)
