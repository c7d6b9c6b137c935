"""Draw the scenes of the mini benchmarks: outlines, colours, textures and motion.

Uses only NumPy and Pillow; all randomness comes from the generator that the caller passes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from xpool.mini.world import Scene, check

Colour = tuple[int, int, int]
Points = list[tuple[float, float]]
Field = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]

SUPERSAMPLE = 4  # the mask is drawn this many times larger, then averaged, for smooth edges


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Two muted colours and a texture that mixes them."""

    colours: tuple[Colour, Colour]
    texture: Field
    """Maps ``(x, y)``, in units of the short side, to the share of the second colour, 0 to 1."""


def _regular(corners: int, radius: float) -> Points:
    turns = [2 * math.pi * i / corners for i in range(corners)]
    return [(radius * math.sin(turn), -radius * math.cos(turn)) for turn in turns]


def _star() -> Points:
    outer, inner = _regular(5, 1.0), _regular(10, 0.42)[1::2]
    return [point for pair in zip(outer, inner, strict=True) for point in pair]


def _cross(arm: float = 0.95, half: float = 0.3) -> Points:
    corner = [(half, -arm), (half, -half), (arm, -half)]
    points: Points = []
    for _ in range(4):  # one corner, turned by a quarter each time
        points += corner
        corner = [(-y, x) for x, y in corner]
    return points


def _heart() -> Points:
    turns = [2 * math.pi * i / 48 for i in range(48)]
    x = [16 * math.sin(t) ** 3 for t in turns]
    y = [
        13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        for t in turns
    ]
    return [(a / 17, -(b + 2.5) / 15.5) for a, b in zip(x, y, strict=True)]


OUTLINES: dict[str, Points] = {
    "circle": _regular(48, 0.95),
    "square": [(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)],
    "triangle": [(0.0, -1.0), (0.98, 0.8), (-0.98, 0.8)],
    "star": _star(),
    "cross": _cross(),
    "ring": _regular(48, 1.0),
    "diamond": [(0.0, -1.0), (0.6, 0.0), (0.0, 1.0), (-0.6, 0.0)],
    "heart": _heart(),
}
"""Shape -> corners within the box from -1 to 1; y points down."""
HOLES: dict[str, Points] = {"ring": _regular(48, 0.54)}
RGB: dict[str, Colour] = {
    "red": (222, 14, 22),
    "orange": (255, 138, 0),
    "yellow": (255, 240, 20),
    "green": (10, 205, 40),
    "cyan": (30, 235, 240),
    "blue": (15, 30, 235),
    "pink": (255, 60, 190),
    "white": (252, 252, 252),
}


def _stripes(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return (x / 0.15 % 1 < 0.45) + 0.0 * y


def _waves(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 + 0.5 * np.sin(2 * np.pi * (y / 0.2 + 0.25 * np.sin(2 * np.pi * x / 0.5)))


def _dots(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return ((x / 0.17 % 1 - 0.5) ** 2 + (y / 0.17 % 1 - 0.5) ** 2 < 0.09).astype(float)


def _bricks(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    row = np.floor(y / 0.19)
    return ((y / 0.19 % 1 < 0.22) | ((x / 0.38 + row / 2) % 1 < 0.11)).astype(float)


def _checks(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return (np.floor(x / 0.2) + np.floor(y / 0.2)) % 2


def _diagonal(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return ((x + y) / 0.24 % 1 < 0.4).astype(float)


def _gradient(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 - 0.5 * np.cos(np.pi * y) + 0.0 * x  # period 2: one transition along the short side


def _plain(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.0 * (x + y)


# Muted colours of middle or low brightness; the objects are saturated or white.
GROUNDS: dict[str, Ground] = {
    "grass": Ground(colours=((62, 88, 48), (84, 108, 64)), texture=_stripes),
    "sand": Ground(colours=((196, 172, 128), (158, 130, 90)), texture=_dots),
    "water": Ground(colours=((62, 92, 122), (104, 136, 158)), texture=_waves),
    "brick": Ground(colours=((132, 66, 52), (176, 150, 138)), texture=_bricks),
    "tiles": Ground(colours=((158, 158, 158), (92, 92, 92)), texture=_checks),
    "wood": Ground(colours=((112, 78, 40), (80, 52, 26)), texture=_diagonal),
    "dusk": Ground(colours=((52, 36, 72), (152, 112, 150)), texture=_gradient),
    "asphalt": Ground(colours=((44, 45, 48), (44, 45, 48)), texture=_plain),
}
"""Background -> how it is drawn."""


def frames_of(
    scene: Scene,
    n_frames: int,
    height: int,
    width: int,
    rng: np.random.Generator,
    kept: NDArray[np.int64] | None = None,
) -> NDArray[np.uint8]:
    """Draw the frames of one scene, in which the motion runs once from start to end.

    The objects stay inside the centre square, because wide videos are cropped to it. Their
    position, size and hue, the brightness, the phase of the texture and a slight grain are drawn
    at each call and hold for all its frames.

    Args:
        scene: what to draw.
        n_frames: length of the scene.
        height: height of a frame in pixels.
        width: width of a frame in pixels.
        rng: source of all random values.
        kept: ``(frame,)`` indices of the frames to draw, which look the same as when all are
            drawn; None draws all.

    Returns:
        ``(frame, height, width, channel)`` uint8 RGB.
    """
    moments = np.linspace(0, 1, n_frames)
    return _draw(scene, moments if kept is None else moments[kept], height, width, rng)


def still(scene: Scene, size_px: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one square image of the scene, at a random moment of its motion.

    Returns:
        ``(size_px, size_px, channel)`` uint8 RGB.
    """
    frame: NDArray[np.uint8] = _draw(scene, rng.random(1), size_px, size_px, rng)[0]
    return frame


def _draw(
    scene: Scene, moments: NDArray[np.float64], height: int, width: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw the scene at moments between 0, the start of its motion, and 1, the end."""
    check(scene)
    ground = _ground(GROUNDS[scene.background], height, width, rng)
    colour = np.clip(np.array(RGB[scene.colour]) + rng.uniform(-10, 10, 3), 0, 255)
    centres, radii = _paths(scene, moments, rng)
    brightness = rng.uniform(0.9, 1.08)
    grain = rng.normal(0, 2.5, (height, width, 1))
    frames = np.empty((len(moments), height, width, 3), np.uint8)
    for index, radius in enumerate(radii):
        alpha = _mask(scene.shape, centres[index], radius, height, width)[..., None]
        frame = brightness * (ground + alpha * (colour - ground)) + grain
        frames[index] = np.clip(frame + 0.5, 0, 255)
    return frames


def _paths(
    scene: Scene, moments: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the positions and sizes of the objects, in units of the centre square.

    Returns:
        centres ``(moment, object, 2)`` as x, y, and radii ``(moment,)``.
    """
    largest = rng.uniform(0.26, 0.31) if scene.count == 1 else rng.uniform(0.165, 0.185)
    radii = np.full(len(moments), largest)
    if scene.motion == "grow":
        radii *= 0.7 + 0.35 * moments
        largest *= 1.05
    offsets = np.zeros((1, 2))
    if scene.count == 2:
        axis = rng.permutation([1.0, 0.0])  # side by side, or one above the other
        offsets = np.outer([-1.1, 1.1], axis) * largest
    reach = np.abs(offsets).max(axis=0) + largest + 0.02
    low, high = reach, 1 - reach
    middle = low + (high - low) * rng.random(2)
    path = np.tile(middle, (len(moments), 1))
    ends = rng.uniform(0, 0.12), 1 - rng.uniform(0, 0.12)
    share = (ends[0] + (ends[1] - ends[0]) * moments)[:, None]
    if scene.motion in ("left", "up"):
        share = 1 - share
    if scene.motion in ("left", "right"):
        path[:, :1] = low[0] + (high - low)[0] * share
    elif scene.motion in ("up", "down"):
        path[:, 1:] = low[1] + (high - low)[1] * share
    elif scene.motion == "loop":
        turn = 2 * np.pi * (rng.random() + rng.choice([-1, 1]) * moments)
        path = 0.5 + 0.5 * (high - low) * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return path[:, None] + offsets[None], radii


def _mask(
    shape: str, centres: NDArray[np.float64], radius: float, height: int, width: int
) -> NDArray[np.float64]:
    """Return the share of each pixel that the objects cover, ``(height, width)``."""
    side = min(height, width)
    corner = np.array([width - side, height - side]) / 2
    image = Image.new("L", (width * SUPERSAMPLE, height * SUPERSAMPLE))
    draw = ImageDraw.Draw(image)
    for centre in centres:
        for outline, ink in ((OUTLINES[shape], 255), (HOLES.get(shape), 0)):
            if outline is not None:
                points = corner + side * (centre + radius * np.array(outline))
                # Pillow's coordinates are pixel centres
                draw.polygon((points * SUPERSAMPLE - 0.5).ravel().tolist(), fill=ink)
    return np.asarray(image.reduce(SUPERSAMPLE), dtype=float) / 255


def _ground(
    background: Ground, height: int, width: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw the background alone, ``(height, width, 3)`` from 0 to 255."""
    side, fine = min(height, width), 2
    shift = rng.random(2) if background.texture is not _gradient else np.zeros(2)
    x = shift[0] + ((np.arange(width * fine) + 0.5) / fine - (width - side) / 2) / side
    y = shift[1] + ((np.arange(height * fine) + 0.5) / fine - (height - side) / 2) / side
    share = background.texture(x[None, :], y[:, None])
    share = share.reshape(height, fine, width, fine).mean(axis=(1, 3))[..., None]
    first, second = np.array(background.colours, dtype=float)
    ground: NDArray[np.float64] = first + share * (second - first)
    return ground
