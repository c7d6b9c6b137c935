"""Properties of the world of the mini benchmarks: captions say what is drawn."""

import itertools
import re

import numpy as np
import pytest

from xpool.mini import drawing, world
from xpool.project.errors import InputError

MOTION_WORDS = re.compile(
    r"\b(mov|drift|slid|left|right|up|down|ris|float|sink|fall|loop|round|orbit|grow|bigg|swell)"
)


def scene(**changes):
    values = {"shape": "star", "colour": "red", "background": "sand", "count": 1, "motion": "left"}
    return world.Scene(**(values | changes))


def parse(caption):
    """Read a caption back into the sets of values its words allow, without using the templates."""

    def found(phrases):
        return re.search(rf"\b({'|'.join(map(re.escape, phrases))})\b", caption) is not None

    return {
        "shape": [k for k, nouns in world.SHAPES.items() if found(itertools.chain(*nouns))],
        "colour": [k for k, words in world.COLOURS.items() if found(words)],
        "background": [k for k, nouns in world.BACKGROUNDS.items() if found(nouns)],
        "motion": [k for k, phrases in world.MOTIONS.items() if found(phrases)],
        "count": [2 if re.search(r"\b(two|pair|twin)\b", caption) else 1],
    }


def moving_part(frames):
    """Where the frames differ from each other, ``(height, width)`` bool."""
    return np.ptp(frames.astype(int), axis=0).max(axis=-1) > 60


def object_pixels(frame, colour):
    return np.abs(frame.astype(int) - drawing.RGB[colour]).max(axis=-1) < 60


def test_draw_scenes_up_to_1024_all_appearances_differ():
    scenes = world.draw_scenes(1024, np.random.default_rng(0))
    seen = {(s.shape, s.colour, s.background, s.count) for s in scenes}
    assert len(seen) == 1024
    assert {s.motion for s in scenes} == set(world.MOTIONS)


def test_draw_scenes_beyond_1024_starts_a_new_round():
    scenes = world.draw_scenes(2100, np.random.default_rng(0))
    rounds = [
        {(s.shape, s.colour, s.background, s.count) for s in scenes[start : start + 1024]}
        for start in (0, 1024)
    ]
    assert len(scenes) == 2100
    assert rounds[0] == rounds[1]


@pytest.mark.parametrize("motion", [True, False])
def test_caption_read_back_names_the_scene_and_only_it(motion):
    rng = np.random.default_rng(1)
    for s in world.draw_scenes(1024, rng):
        caption = world.caption(s, rng, motion=motion)
        expected = {
            "shape": [s.shape],
            "colour": [s.colour],
            "background": [s.background],
            "count": [s.count],
            "motion": [s.motion] if motion else [],
        }
        assert parse(caption) == expected, caption
        assert re.fullmatch(r"[a-z0-9]+( [a-z0-9]+)*", caption)
        assert len(caption.split()) <= 15, caption
        if not motion:
            assert not MOTION_WORDS.search(caption), caption


def test_vocabulary_no_word_of_one_attribute_serves_another():
    words = [
        *itertools.chain.from_iterable(itertools.chain(*nouns) for nouns in world.SHAPES.values()),
        *itertools.chain.from_iterable(world.COLOURS.values()),
        *itertools.chain.from_iterable(world.BACKGROUNDS.values()),
        *itertools.chain.from_iterable(world.MOTIONS.values()),
    ]
    assert len(words) == len(set(words))


def test_caption_twenty_of_a_scene_are_mostly_different():
    rng = np.random.default_rng(2)
    for s in world.draw_scenes(50, rng):
        assert len({world.caption(s, rng, motion=True) for _ in range(20)}) >= 16


def test_caption_article_and_number_agree():
    rng = np.random.default_rng(3)
    ones = {world.caption(scene(colour="orange"), rng, motion=True) for _ in range(80)}
    twos = {world.caption(scene(colour="orange", count=2), rng, motion=True) for _ in range(80)}
    assert any(" an orange star" in f" {c}" for c in ones)
    assert not any(re.search(r"\ba [aeiou]", c) or " are " in c or "stars" in c for c in ones)
    assert all("stars" in c and " is " not in c for c in twos)


def test_frames_same_generator_same_frames_other_generator_other_frames():
    def frames(seed):
        return drawing.frames_of(scene(), 6, 50, 116, np.random.default_rng(seed))

    assert frames(0).shape == (6, 50, 116, 3)
    assert frames(0).dtype == np.uint8
    np.testing.assert_array_equal(frames(0), frames(0))
    assert (frames(0) != frames(1)).any()


@pytest.mark.parametrize("motion", world.MOTIONS)
@pytest.mark.parametrize("count", world.COUNTS)
def test_frames_of_any_motion_object_stays_in_the_centre_square(motion, count):
    rng = np.random.default_rng(4)
    for height, width in ((48, 48), (50, 116), (80, 60)):
        for shape in world.SHAPES:
            s = scene(shape=shape, motion=motion, count=count, background="asphalt")
            rows, columns = np.nonzero(moving_part(drawing.frames_of(s, 8, height, width, rng)))
            side = min(height, width)
            assert rows.min() >= (height - side) // 2
            assert rows.max() < (height + side) // 2
            assert columns.min() >= (width - side) // 2
            assert columns.max() < (width + side) // 2


@pytest.mark.parametrize("count", world.COUNTS)
def test_frames_direction_of_motion_is_visible(count):
    rng = np.random.default_rng(5)
    for motion, axis, sign in (("left", 1, -1), ("right", 1, 1), ("up", 0, -1), ("down", 0, 1)):
        frames = drawing.frames_of(scene(motion=motion, count=count), 5, 48, 48, rng)
        centres = [np.argwhere(object_pixels(frame, "red")).mean(axis=0) for frame in frames]
        travelled = centres[-1] - centres[0]
        assert sign * travelled[axis] > 6, (motion, travelled)
        assert abs(travelled[1 - axis]) < 1.5


def test_frames_grow_and_loop_are_visible():
    rng = np.random.default_rng(6)
    grow = drawing.frames_of(scene(motion="grow"), 5, 48, 48, rng)
    areas = [object_pixels(frame, "red").sum() for frame in grow]
    assert areas == sorted(areas)
    assert areas[-1] > 1.5 * areas[0]
    loop = drawing.frames_of(scene(motion="loop"), 9, 48, 48, rng)
    centres = np.array([np.argwhere(object_pixels(frame, "red")).mean(axis=0) for frame in loop])
    assert np.abs(centres[0] - centres[-1]).max() < 1.5
    assert (np.ptp(centres, axis=0) > 6).all()


def test_still_every_object_is_large_and_far_from_its_background_in_colour():
    rng = np.random.default_rng(7)
    for shape, colour, background in itertools.product(
        world.SHAPES, world.COLOURS, world.BACKGROUNDS
    ):
        image = drawing.still(scene(shape=shape, colour=colour, background=background), 48, rng)
        assert image.shape == (48, 48, 3)
        share = object_pixels(image, colour).mean()
        assert 0.03 < share < 0.4, (shape, colour, background, share)


def test_colours_pairwise_and_against_backgrounds_are_far_apart():
    for a, b in itertools.combinations(drawing.RGB.values(), 2):
        assert np.abs(np.subtract(a, b)).max() >= 90
    for colour, ground in itertools.product(drawing.RGB.values(), drawing.GROUNDS.values()):
        for shade in ground.colours:
            assert np.abs(np.subtract(colour, shade)).max() >= 90


def test_still_other_background_other_picture():
    pictures = [
        drawing.still(scene(background=name), 48, np.random.default_rng(8)).astype(float)
        for name in world.BACKGROUNDS
    ]
    for a, b in itertools.combinations(pictures, 2):
        assert np.abs(a - b).mean() > 8


def test_frames_unknown_colour_is_named():
    with pytest.raises(InputError, match=r"colour 'mauve' is unknown; known: red, "):
        drawing.still(scene(colour="mauve"), 48, np.random.default_rng(0))
