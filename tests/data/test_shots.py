"""Shot changes against videos whose cuts are known, and quantiles against their definition."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import write_pixels

from xpool.data.frame_cache import FrameCache
from xpool.data.shots import quantile_bins, read_lengths, read_shots, shot_changes
from xpool.mini import drawing, world
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.stages import shots


def scenes(count, seed, frames=12):
    rng = np.random.default_rng(seed)
    drawn = world.draw_scenes(count, rng)
    return np.concatenate([drawing.frames_of(scene, frames, 48, 64, rng) for scene in drawn])


def test_cuts_between_generated_scenes_are_counted():
    """The world knows its cuts: nineteen videos in twenty are counted right, none by far."""
    errors = [
        shot_changes(scenes(count, 100 * count + seed)) - (count - 1)
        for count in (1, 2, 3, 4)
        for seed in range(25)
    ]
    assert np.mean(np.equal(errors, 0)) >= 0.9
    assert np.abs(errors).max() <= 1


def test_a_still_and_a_slow_change_have_no_cut():
    still = np.full((10, 8, 8, 3), 90, np.uint8)
    assert shot_changes(still) == 0
    assert shot_changes(still[:1]) == 0
    width = 32
    ramp = np.zeros((width, 8, width, 3), np.uint8)
    for frame in range(width):
        ramp[frame, :, :frame] = 255  # a wipe: one column a frame
    assert shot_changes(ramp) == 0


def test_noise_within_a_scene_is_no_cut():
    rng = np.random.default_rng(0)
    grey = 112 + rng.integers(-10, 10, (20, 24, 24, 3))
    assert shot_changes(grey.astype(np.uint8)) == 0


@given(
    values=st.lists(st.integers(0, 12), min_size=1, max_size=60),
    bins=st.integers(1, 6),
)
def test_bins_are_ordered_and_complete_and_keep_equal_values_together(values, bins):
    values = np.array(values)
    of_value, bounds = quantile_bins(values, bins)
    assert 1 <= len(bounds) <= bins
    assert set(of_value.tolist()) == set(range(len(bounds)))
    for number, (low, high) in enumerate(bounds):
        inside = values[of_value == number]
        assert (inside.min(), inside.max()) == (low, high)
    assert all(left[1] < right[0] for left, right in itertools.pairwise(bounds))


def test_distinct_values_give_bins_of_equal_size():
    of_value, bounds = quantile_bins(np.random.default_rng(0).permutation(40), 4)
    assert np.bincount(of_value).tolist() == [10, 10, 10, 10]
    assert bounds == [(0, 9), (10, 19), (20, 29), (30, 39)]


def test_few_distinct_values_are_a_bin_each():
    """Also where most queries have the highest one."""
    of_value, bounds = quantile_bins(np.array([0.5, 2, 2, 2, 2, 2, 2]), 3)
    assert of_value.tolist() == [0, 1, 1, 1, 1, 1, 1]
    assert bounds == [(0.5, 0.5), (2, 2)]


def test_the_stage_writes_one_row_for_each_video(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("setting: mini\nbenchmarks: [msvd]\n")
    write_pixels("mini", "msvd", videos=(3, 2, 1))
    with pytest.raises(InputError, match=r"msvd\.csv: not found; run `dvc repro shots`"):
        read_shots(paths.shots("mini", "msvd"))
    shots.main()
    found = read_shots(paths.shots("mini", "msvd"))
    assert sorted(found.index) == ["test0", "train0", "train1", "train2", "val0", "val1"]
    assert (found >= 0).all()
    cache = FrameCache(paths.frames("mini", "msvd"))
    lengths = {video: cache.stored(video)[2] for video in cache.video_ids}
    assert read_lengths(paths.shots("mini", "msvd")).to_dict() == lengths


def test_a_table_of_an_earlier_version_is_named(tmp_path):
    file = tmp_path / "msvd.csv"
    file.write_text("video_id,shot_changes\nv0,1\n")
    with pytest.raises(
        InputError, match=r"msvd\.csv: no column video_frames; run `dvc repro shots`"
    ):
        read_lengths(file)
