"""The world of the mini benchmarks: flat shapes that move before textured backgrounds.

This module describes a :class:`Scene` in words; ``xpool.mini.drawing`` draws it. 8 shapes, 8
colours, 8 backgrounds and 2 counts give 1,024 appearances, each with one of 6 motions. All
randomness comes from the generator that the caller passes.
"""

import itertools
import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from xpool.project.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The content of a scene; each value is a key of a table in this module."""

    shape: str
    colour: str
    background: str
    count: int
    """One object, or two identical ones side by side."""
    motion: str


# In each table the first word is the plain one; half of the captions use it.
SHAPES: dict[str, tuple[tuple[str, str], ...]] = {
    "circle": (("circle", "circles"), ("disc", "discs")),
    "square": (("square", "squares"), ("box", "boxes")),
    "triangle": (("triangle", "triangles"), ("pyramid", "pyramids")),
    "star": (("star", "stars"),),
    "cross": (("cross", "crosses"), ("plus", "pluses")),
    "ring": (("ring", "rings"), ("hoop", "hoops")),
    "diamond": (("diamond", "diamonds"), ("rhombus", "rhombuses")),
    "heart": (("heart", "hearts"),),
}
"""Shape -> its nouns, singular and plural."""

COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson", "scarlet"),
    "orange": ("orange", "tangerine"),
    "yellow": ("yellow", "golden"),
    "green": ("green", "emerald"),
    "cyan": ("cyan", "turquoise", "aqua"),
    "blue": ("blue", "cobalt"),
    "pink": ("pink", "magenta"),
    "white": ("white", "snowy"),
}
"""Colour -> its adjectives."""

BACKGROUNDS: dict[str, tuple[str, ...]] = {
    "grass": ("grass", "lawn", "meadow"),
    "sand": ("sand", "beach"),
    "water": ("water", "sea", "lake"),
    "brick": ("brick wall", "bricks"),
    "tiles": ("tiles", "tiled floor"),
    "wood": ("wood", "planks"),
    "dusk": ("dusk", "evening sky"),
    "asphalt": ("asphalt", "road", "tarmac"),
}
"""Background -> its nouns."""

COUNTS: dict[int, tuple[str, ...]] = {
    1: ("a", "one", "a single"),
    2: ("two", "a pair of", "twin"),
}

MOTIONS: dict[str, tuple[str, ...]] = {
    "left": ("moving left", "drifting to the left", "sliding leftwards"),
    "right": ("moving right", "drifting to the right", "sliding rightwards"),
    "up": ("moving up", "rising", "floating upwards"),
    "down": ("moving down", "sinking", "falling downwards"),
    "loop": ("moving in a loop", "going round and round", "orbiting"),
    "grow": ("growing", "getting bigger", "swelling"),
}
"""Motion -> its phrases; none occurs in a caption that leaves out the motion."""

# {be} is "is" or "are", {on} a preposition; {motion} is empty or starts with a space.
TEMPLATES = (
    "{things}{motion} {on} the {background}",
    "{things}{motion} {on} the {background}",
    "{things} {be}{motion} {on} the {background}",
    "there {be} {things}{motion} {on} the {background}",
    "we see {things}{motion} {on} the {background}",
    "{on} the {background} {things}{motion}",
    "the {background} with {things}{motion}",
    "the {background} behind {things}{motion}",
)
PREPOSITIONS = ("on", "over", "against")


APPEARANCES = tuple(itertools.product(SHAPES, COLOURS, BACKGROUNDS, COUNTS))
"""Everything that a still can show: shape, colour, background, count."""


def draw_scenes(n: int, rng: np.random.Generator) -> list[Scene]:
    """Draw scenes so that an appearance repeats only after all 1,024 have been drawn.

    An appearance is everything but the motion. Up to 1,024 scenes therefore look different, and a
    caption, which names the whole appearance, fits only one of them.
    """
    motions = list(MOTIONS)
    order = [
        index
        for _ in range(math.ceil(n / len(APPEARANCES)))
        for index in rng.permutation(len(APPEARANCES))
    ]
    scenes = []
    for index in order[:n]:
        shape, colour, background, count = APPEARANCES[index]
        motion = motions[rng.integers(len(motions))]
        scenes.append(
            Scene(shape=shape, colour=colour, background=background, count=count, motion=motion)
        )
    return scenes


def caption(scene: Scene, rng: np.random.Generator, motion: bool) -> str:
    """Describe a scene in at most 15 lower-case words without punctuation.

    The caption names shape, colour, background and count.

    Args:
        scene: what to describe.
        rng: draws the wording.
        motion: whether to name the motion too.
    """
    number = _word(COUNTS[scene.count], rng)
    adjective = _word(COLOURS[scene.colour], rng)
    singular, plural = _word(SHAPES[scene.shape], rng)
    if number == "a" and adjective[0] in "aeiou":
        number = "an"
    noun = singular if scene.count == 1 else plural
    template = TEMPLATES[rng.integers(len(TEMPLATES))]
    return template.format(
        things=f"{number} {adjective} {noun}",
        be="is" if scene.count == 1 else "are",
        motion=f" {_word(MOTIONS[scene.motion], rng)}" if motion else "",
        on=PREPOSITIONS[rng.integers(len(PREPOSITIONS))],
        background=_word(BACKGROUNDS[scene.background], rng),
    )


def opening(text: str) -> str:
    """Return the words that name the background if a caption begins with them, else "".

    Example:
        >>> opening("on the brick wall a ring moving up"), opening("a ring on the sand")
        ('on the brick wall', '')
    """
    for preposition in PREPOSITIONS:
        for noun in itertools.chain.from_iterable(BACKGROUNDS.values()):
            if text.startswith(f"{preposition} the {noun} "):
                return f"{preposition} the {noun}"
    return ""


def _word(words: tuple[T, ...], rng: np.random.Generator) -> T:
    plain = len(words) == 1 or rng.random() < 0.5
    return words[0] if plain else words[rng.integers(1, len(words))]


def check(scene: Scene) -> None:
    """Check the values of a scene.

    Raises:
        InputError: a value is not in its table.
    """
    known: dict[str, tuple[str | int, ...]] = {
        "shape": tuple(SHAPES),
        "colour": tuple(COLOURS),
        "background": tuple(BACKGROUNDS),
        "count": tuple(COUNTS),
        "motion": tuple(MOTIONS),
    }
    for name, values in known.items():
        if getattr(scene, name) not in values:
            allowed = ", ".join(map(str, values))
            raise InputError(f"scene: {name} {getattr(scene, name)!r} is unknown; known: {allowed}")
