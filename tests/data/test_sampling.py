"""Oracles: the rule written out in slow loops; properties over many lengths and counts."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpool.data.sampling import cached_indices, frame_indices, padded, positions_for, select
from xpool.project.errors import InputError

LENGTHS = [1, 2, 5, 11, 12, 13, 29, 50, 119, 330, 419]
COUNTS = [1, 2, 4, 8, 12, 32]
FIXED = settings(derandomize=True, deadline=None)
"""The same examples in every run, and no time limit that a busy machine would break."""


def intervals(video_frames, count):
    n = min(count, video_frames)
    edges = [int(edge) for edge in np.linspace(0, video_frames, n + 1)]
    return [(edges[i], edges[i + 1] - 1) for i in range(n)]


@pytest.mark.parametrize("video_frames", LENGTHS)
@pytest.mark.parametrize("count", COUNTS)
def test_uniform_is_the_middle_of_each_interval(video_frames, count):
    expected = [(low + high) // 2 for low, high in intervals(video_frames, count)]
    assert frame_indices(video_frames, count, "uniform", 0, "v").tolist() == expected


@pytest.mark.parametrize("video_frames", LENGTHS)
@pytest.mark.parametrize("count", COUNTS)
def test_rand_draws_inside_each_interval(video_frames, count):
    drawn = frame_indices(video_frames, count, "rand", 7, "v")
    bounds = intervals(video_frames, count)
    assert len(drawn) == len(bounds)
    assert all(low <= index <= high for index, (low, high) in zip(drawn, bounds, strict=True))


def test_rand_reaches_both_ends_of_an_interval():
    drawn = {int(frame_indices(3, 1, "rand", seed, "v")[0]) for seed in range(50)}
    assert drawn == {0, 1, 2}


def test_rand_is_fixed_by_seed_and_video():
    first = frame_indices(1000, 12, "rand", 0, "a").tolist()
    assert first == frame_indices(1000, 12, "rand", 0, "a").tolist()
    assert first != frame_indices(1000, 12, "rand", 1, "a").tolist()
    assert first != frame_indices(1000, 12, "rand", 0, "b").tolist()


def test_rand_golden_values_hold_on_every_machine():
    """Golden: recorded from this code; a change would silently mix caches of two machines."""
    assert frame_indices(100, 4, "rand", 0, "video0").tolist() == [6, 31, 52, 82]


def test_short_video_gives_all_its_frames():
    assert frame_indices(5, 12, "uniform", 0, "v").tolist() == [0, 1, 2, 3, 4]
    assert frame_indices(5, 12, "rand", 0, "v").tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("video_frames", "count"), [(0, 12), (5, 0)])
def test_nothing_to_sample_is_refused(video_frames, count):
    with pytest.raises(ValueError, match="at least 1"):
        frame_indices(video_frames, count, "uniform", 0, "v")


@FIXED
@given(
    video_frames=st.integers(1, 700),
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=9),
    rules=st.sampled_from([["uniform"], ["rand"], ["uniform", "rand"]]),
    seed=st.integers(0, 99),
)
def test_cache_serves_every_listed_count_by_every_listed_rule_and_holds_no_more(
    video_frames, counts, rules, seed
):
    stored = cached_indices(video_frames, counts, rules, seed, "v")
    used = set()
    for count, rule in itertools.product(counts, rules):
        positions, mask = positions_for(stored, video_frames, count, rule, seed, "v", "mask")
        expected = frame_indices(video_frames, count, rule, seed, "v")
        assert stored[positions[mask]].tolist() == expected.tolist()
        used |= set(expected.tolist())
    assert stored.tolist() == sorted(used)


def test_cache_of_nothing_new_is_no_larger():
    """A count or a rule that is listed twice, or in another order, is stored once."""
    stored = cached_indices(500, [4, 12], ["uniform", "rand"], 0, "v").tolist()
    assert cached_indices(500, [12, 4, 12], ["rand", "uniform", "rand"], 0, "v").tolist() == stored


def test_cache_holds_a_short_video_once_and_whole():
    assert cached_indices(30, [1, 6, 32], ["uniform", "rand"], 0, "v").tolist() == list(range(30))


@FIXED
@given(count=st.integers(1, 12), odd=st.integers(0, 4), length=st.integers(1, 40))
def test_uniform_nests_in_an_odd_multiple_that_divides_the_video(count, odd, length):
    """The interval and its middle piece have the same middle frame, as cached_indices promises."""
    finer = count * (2 * odd + 1)
    coarse, fine = (frame_indices(finer * length, n, "uniform", 0, "v") for n in (count, finer))
    assert set(coarse.tolist()) <= set(fine.tolist())
    assert cached_indices(finer * length, [count, finer], ["uniform"], 0, "v").size == finer


@pytest.mark.parametrize(
    ("rule", "video_frames", "count", "finer"),
    [("uniform", 120, 6, 12), ("uniform", 100, 4, 12), ("rand", 120, 4, 12)],
)
def test_what_does_not_nest_is_stored_beside(rule, video_frames, count, finer):
    """An even multiple, a length that it does not divide, and a rule that draws anew."""
    stored = cached_indices(video_frames, [count, finer], [rule], 0, "v")
    assert finer < stored.size <= count + finer


@pytest.mark.parametrize(("rules", "frames"), [(["uniform"], 91), (["uniform", "rand"], 163)])
def test_frames_that_the_whole_sweep_stores_of_a_400_frame_video(rules, frames):
    """Golden: on these numbers stands the disk space that settings/paper.yaml states."""
    counts = [1, 2, 4, 6, 8, 12, 16, 24, 32]
    stored = [cached_indices(400, counts, rules, 0, f"video{i}").size for i in range(100)]
    assert round(sum(stored) / len(stored)) == frames


def test_unlisted_count_is_served_where_its_frames_are_stored():
    stored = cached_indices(120, [12], ["uniform"], 0, "v")
    positions, mask = positions_for(stored, 120, 4, "uniform", 0, "v", "mask")
    assert stored[positions].tolist() == [14, 44, 74, 104]
    assert mask.all()


def test_unlisted_count_is_refused_with_frame_and_key():
    stored = cached_indices(120, [12], ["uniform"], 0, "video7")
    with pytest.raises(
        InputError, match=r"frames\.counts: 5 uniform frames of video7.*frame 11 is not"
    ):
        positions_for(stored, 120, 5, "uniform", 0, "video7", "mask")


def test_other_rule_than_the_stored_one_is_refused():
    stored = cached_indices(1000, [12], ["uniform"], 0, "v")
    with pytest.raises(InputError, match="add 12 to frames.counts and rand to frames.rules"):
        positions_for(stored, 1000, 12, "rand", 0, "v", "mask")


def test_select_gives_positions():
    assert select([3, 7, 20, 21], [7, 21], count=2, rule="rand", video_id="v").tolist() == [1, 3]


def test_padding_is_masked_or_counts():
    positions, mask = padded([4, 5, 9], 5, "mask")
    assert positions.tolist() == [4, 5, 9, 9, 9]
    assert mask.tolist() == [True, True, True, False, False]
    positions, mask = padded([4, 5, 9], 5, "repeat_last")
    assert positions.tolist() == [4, 5, 9, 9, 9]
    assert mask.all()
