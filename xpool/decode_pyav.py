"""Read chosen frames of one video file with PyAV, to see what the decoder matters.

For the study ``variance``; the pipeline reads with decord (``xpool.decode``). Imports little, as
every process that decodes imports it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from xpool.decode import DecodeError, resized


def decode(
    path: Path,
    choose_indices: Callable[[int], Sequence[int] | NDArray[np.int64]],
    short_side_px: int,
    antialias: bool,
    colours: Literal["ITU709"] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], int]:
    """Do with PyAV what :func:`xpool.decode.decode` does with decord.

    Decodes twice, as the length that a file states may be wrong.

    Args:
        path: the video file.
        choose_indices: from the video's length in frames to the wanted indices, increasing.
        short_side_px: of the result.
        antialias: see :func:`xpool.decode.resized`.
        colours: what the file's colours are taken for, in place of what FFmpeg takes them for.

    Raises:
        DecodeError: the file cannot be decoded.
    """
    import av

    try:
        with av.open(str(path)) as container:
            video_frames = sum(1 for _ in container.decode(video=0))
        indices = np.asarray(choose_indices(video_frames), np.int64)
        wanted, kept = set(indices.tolist()), []
        with av.open(str(path)) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if index in wanted:
                    rgb = frame.reformat(format="rgb24", src_colorspace=colours)
                    kept.append(resized(rgb.to_ndarray(), short_side_px, antialias))
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        raise DecodeError(f"PyAV does not decode it: {type(error).__name__}") from error
    return np.stack(kept), indices, video_frames
