"""Properties of spliced videos, and a slow version that reads the definition word by word."""

import itertools

import numpy as np
import pytest
import torch

from xpool.ablation.splice import spliced
from xpool.project.errors import InputError

VIDEOS, FRAMES = 7, 12


@pytest.fixture
def gallery():
    """Each frame is its video's number and its own: ``frames[v, f] = (v, f)``."""
    grid = torch.stack(torch.meshgrid(torch.arange(VIDEOS), torch.arange(FRAMES), indexing="ij"))
    mask = torch.ones(VIDEOS, FRAMES, dtype=torch.bool)
    mask[2, 5:] = False
    return grid.permute(1, 2, 0).float(), mask


def rng(seed=0):
    return np.random.default_rng(seed)


def test_without_distractors_nothing_changes(gallery):
    frames, mask = gallery
    new, kept = spliced(frames, mask, 0, rng())
    assert torch.equal(kept, mask)
    assert torch.equal(new[kept], frames[mask])


@pytest.mark.parametrize("distractors", [1, 2, 3, 5, 6])
def test_each_video_keeps_its_share_and_gets_that_many_others(gallery, distractors):
    frames, _ = gallery
    new, kept = spliced(frames, torch.ones(VIDEOS, FRAMES, dtype=torch.bool), distractors, rng())
    assert kept.all()
    assert new.shape == frames.shape
    share = FRAMES / (distractors + 1)
    for video in range(VIDEOS):
        origins = new[video, :, 0].int().tolist()
        assert len(set(origins)) == distractors + 1
        assert abs(origins.count(video) - share) <= 1
        assert len(list_of_runs(origins)) == distractors + 1, "a video stands in one piece"
        for origin in set(origins):
            order = [int(f) for v, f in new[video].tolist() if v == origin]
            assert order == sorted(order), "its frames keep their order"


def list_of_runs(values):
    return [value for value, _ in itertools.groupby(values)]


def test_no_masked_frame_is_ever_taken(gallery):
    frames, mask = gallery
    new, kept = spliced(frames, mask, 3, rng(1))
    taken = {(int(v), int(f)) for v, f in new[kept].tolist()}
    assert not taken & {(2, f) for f in range(5, FRAMES)}


def test_short_videos_together_still_fill_fewer_than_all_slots():
    frames = torch.arange(6.0).reshape(3, 2, 1)
    mask = torch.tensor([[True, False], [True, False], [True, True]])
    new, kept = spliced(frames, mask, 1, rng())
    for video in range(3):
        assert kept[video].any()
        assert set(new[video, kept[video], 0].int().tolist()) <= {0, 2, 4, 5}


def test_the_same_generator_gives_the_same_videos(gallery):
    first, second, other = (spliced(*gallery, 3, rng(seed))[0] for seed in (4, 4, 5))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_all_others_are_chosen_equally_often():
    """400 draws of 2 of 6 others: each is chosen 133 times, with a deviation of 9.4."""
    frames = torch.arange(7.0)[:, None, None].expand(7, FRAMES, 1)
    mask = torch.ones(7, FRAMES, dtype=torch.bool)
    generator = rng(7)
    seen = [
        value
        for _ in range(400)
        for value in set(spliced(frames, mask, 2, generator)[0][3, :, 0].int().tolist()) - {3}
    ]
    counts = [seen.count(value) for value in (0, 1, 2, 4, 5, 6)]
    assert sum(counts) == 800
    assert max(abs(count - 800 / 6) for count in counts) < 40


@pytest.mark.parametrize(
    ("videos", "distractors", "said"),
    [(3, 3, "asked of a gallery of 3"), (20, 12, "leave no frame of a video's own 12")],
)
def test_more_than_there_is_room_for_is_refused(videos, distractors, said):
    frames, mask = torch.zeros(videos, FRAMES, 1), torch.ones(videos, FRAMES, dtype=torch.bool)
    with pytest.raises(InputError, match=said):
        spliced(frames, mask, distractors, rng())
