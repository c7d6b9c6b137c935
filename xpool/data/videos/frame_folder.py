"""A video as a folder of pictures, such as ``video0/0001.jpg``, that other code has extracted.

Nothing in it says how many frames a second there are: ``manifest.<benchmark>.frames_fps`` does.
"""

import hashlib
import re
from pathlib import Path, PurePosixPath

import numpy as np
import PIL
from PIL import Image, ImageOps

from xpool.data.videos.decode import ChooseIndices, Decoded, decode, resized, scaled
from xpool.data.videos.video_file import DecodeError, Header
from xpool.project.digests import sha256

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


def is_frame(name: str) -> bool:
    """Return whether a file's name is that of a picture; hidden files are none."""
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def frame_files(folder: Path) -> list[Path]:
    """Return the pictures of a folder in the order of the last numbers in their names.

    Raises:
        DecodeError: there is none, a name has no number, two have the same, or one is missing in a
            row of equal steps, which a broken extraction leaves.
    """
    files = [path for path in folder.iterdir() if is_frame(path.name) and path.is_file()]
    if not files:
        raise DecodeError("the folder holds no frame")
    numbers: dict[int, Path] = {}
    for path in files:
        digits = re.findall(r"\d+", path.stem)
        if not digits:
            raise DecodeError(f"{path.name}: expected a name with a number")
        other = numbers.setdefault(int(digits[-1]), path)
        if other != path:
            raise DecodeError(f"{min(other, path).name} and {max(other, path).name} are one frame")
    ordered = sorted(numbers)
    steps = np.diff(ordered)
    if len(steps) and (uneven := np.flatnonzero(steps != steps.min())).size:
        before = numbers[ordered[uneven[0]]].name
        raise DecodeError(f"after {before} a frame is missing (steps of {steps.min()} elsewhere)")
    return [numbers[number] for number in ordered]


def state(folder: Path) -> tuple[int, int]:
    """Return the bytes of a folder's frames, and when one of them or the folder last changed."""
    found = [path.stat() for path in folder.iterdir() if is_frame(path.name)]
    changed = [folder.stat().st_mtime_ns, *(status.st_mtime_ns for status in found)]
    return sum(status.st_size for status in found), max(changed)


def digest(folder: Path) -> str:
    """Return a SHA-256 of the names and bytes of a folder's frames."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if is_frame(path.name)):
        whole.update(f"{sha256(path)}  {path.name}\n".encode())
    return whole.hexdigest()


def header(folder: Path) -> Header:
    """Return the size of the first frame; nothing in a folder states a rate.

    Raises:
        DecodeError: as :func:`frame_files`, or the first frame is no picture.
    """
    pixels = _picture(frame_files(folder)[0])
    return Header(pixels.shape[1], pixels.shape[0], None)


def read(
    path: Path,
    choose_indices: ChooseIndices,
    short_side_px: int,
    antialias: bool,
    allowed_cut: float = 0.0,
) -> Decoded:
    """Read a folder of frames, or decode a video file; see :func:`xpool.data.videos.decode.decode`.

    Only the chosen frames are opened. All get the size of the first of them.
    """
    if not path.is_dir():
        return decode(path, choose_indices, short_side_px, antialias, allowed_cut)
    files = frame_files(path)
    indices = np.asarray(choose_indices(len(files)), np.int64)
    pictures = [_picture(files[index]) for index in indices]
    size = pictures[0].shape[:2]
    pixels = [
        resized(scaled(picture, (size[0], size[1]), antialias), short_side_px, antialias)
        for picture in pictures
    ]
    return Decoded(np.stack(pixels), indices, len(files))


def reader() -> str:
    """Return the name and version of what reads frames, on which pixels depend."""
    return f"extracted frames, Pillow {PIL.__version__}"


def _picture(file: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return ``(h, w, 3)`` RGB pixels, turned as the picture asks."""
    try:
        with Image.open(file) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"), np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DecodeError(f"{file.name} does not decode: {error}") from error
