"""Pictures and short films of a video, as every browser shows them."""

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xpool.data.videos.decode import frames_of, scaled
from xpool.data.videos.video_file import Length, open_video, upright, video_stream
from xpool.search.library import UNKNOWN_RATE_FPS, still_there

SHORT_SIDE_PX, LONGEST_S, FPS, BITS_PER_S = 180, 60, 12, 150_000
"""Size, length and rates of a film: a page with ten of them opens at once."""
PICTURE_PX = 96
"""Shorter side of a picture."""


def film(path: Path) -> bytes:
    """Return a video as a small WebM file (VP8, no sound), its first minute if it is longer.

    Raises:
        InputError: it does not open as a video any more.
    """
    import av

    file = io.BytesIO()
    with still_there(path), open_video(path) as source, av.open(file, "w", "webm") as made:
        stream, _ = video_stream(source)
        rate = float(stream.average_rate or UNKNOWN_RATE_FPS)
        output, due = None, 0.0
        for number, (frame, matrix) in enumerate(frames_of(source, stream, Length(source, stream))):
            time_s = number / rate
            if time_s > LONGEST_S:
                break
            if time_s < due:
                continue
            due += 1 / FPS
            picture = smaller(upright(frame.to_ndarray(format="rgb24"), matrix), SHORT_SIDE_PX)
            picture = picture[: len(picture) // 2 * 2, : picture.shape[1] // 2 * 2]
            if output is None:
                output = made.add_stream("libvpx", rate=FPS)
                output.height, output.width = picture.shape[:2]
                output.pix_fmt, output.bit_rate = "yuv420p", BITS_PER_S
                output.options = {"deadline": "realtime", "cpu-used": "8"}
                output.codec_context.time_base = Fraction(1, 1000)
            shown = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            shown.pts, shown.time_base = round(1000 * time_s), Fraction(1, 1000)
            made.mux(output.encode(shown))
        if output is not None:
            made.mux(output.encode())
    return file.getvalue()


def smaller(picture: NDArray[np.uint8], short_side_px: int) -> NDArray[np.uint8]:
    """Return ``(h, w, 3)`` with this shorter side, unless it is smaller already."""
    height, width, _ = picture.shape
    scale = short_side_px / min(height, width)
    if scale >= 1:
        return picture
    size = max(2, round(height * scale)), max(2, round(width * scale))
    return scaled(picture, size, antialias=True)


def jpeg(picture: NDArray[np.uint8]) -> bytes:
    """Return ``(h, w, 3)`` as a small JPEG file."""
    file = io.BytesIO()
    Image.fromarray(smaller(picture, PICTURE_PX)).save(file, "JPEG", quality=80)
    return file.getvalue()
