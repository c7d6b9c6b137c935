"""Read chosen frames of one video file with decord, for the study ``variance``.

The pipeline itself reads with PyAV (``xpool.data.videos.decode``). This module imports little,
because every decoding process imports it.
"""

import math
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xpool.data.videos.decode import ChooseIndices, Decoded, first_frame, resized
from xpool.data.videos.video_file import DecodeError, Matrix, upright

LIKE = 24
"""How many levels the first frame may differ on average from PyAV's; another picture differs more.
"""


def decode(
    path: Path,
    choose_indices: ChooseIndices,
    short_side_px: int,
    antialias: bool,
    allowed_cut: float = 0.0,
) -> Decoded:
    """Do with decord what :func:`xpool.data.videos.decode.decode` does with PyAV.

    There is no seeking or skipping. On h264 in AVI, ``get_batch``, ``seek_accurate`` and
    ``skip_frames`` of decord 0.6.0 give wrong frames after the first group of pictures
    (dmlc/decord#195, #252; in all twelve MSVD videos tried), while reading frame by frame agrees
    with FFmpeg to the bit.

    decord takes no stream and no list of formats, and turns frames without mirroring them. PyAV
    therefore opens the file first, and its first frame tells whether decord shows the same film.

    Args:
        path: the video file.
        choose_indices: maps the video's length to the wanted indices.
        short_side_px: shorter side of the resized frames.
        antialias: see :func:`xpool.data.videos.decode.scaled`.
        allowed_cut: not used: decord tells no lengths, and the pipeline's decoder has judged them.

    Raises:
        DecodeError: the file is absent, empty, no video, or one of its frames does not decode, or
            decord shows another picture than PyAV.
    """
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    first, matrix, known = first_frame(path)
    left = _left_to_turn(matrix, known)
    try:
        reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
        video_frames = len(reader)
    except (decord.DECORDError, RuntimeError) as error:
        raise DecodeError(f"it does not open as a video: {_reason(error, path)}") from error
    if video_frames < 1:
        raise DecodeError("it holds no frame")
    indices = np.asarray(choose_indices(video_frames), np.int64)
    wanted = set(indices.tolist())
    kept = []
    for index in range(video_frames):
        try:
            frame = reader.next()
        except StopIteration:  # the container may promise more frames than decode
            break
        except (decord.DECORDError, RuntimeError) as error:
            raise DecodeError(
                f"frame {index} of {video_frames} does not decode: {_reason(error, path)}"
            ) from error
        if index == 0:
            shown = upright(_rgb(frame.asnumpy()), left)
            if shown.shape != first.shape or np.abs(shown - first.astype(int)).mean() > LIKE:
                raise DecodeError("decord shows another picture than PyAV in the first frame")
        if index in wanted:
            shown = upright(_rgb(frame.asnumpy()), left)
            kept.append(resized(shown, short_side_px, antialias))
    if len(kept) < len(indices):
        raise DecodeError(f"frame {indices[len(kept)]} of {video_frames} does not decode")
    return Decoded(np.stack(kept), indices, video_frames)


def _left_to_turn(matrix: Matrix | None, known: bool) -> Matrix | None:
    """Return what is left to be done where decord has turned frames by the angle of their matrix.

    It does so where it knows the matrix.
    """
    if matrix is None or not known:
        return matrix
    a, b, c, d = matrix
    angle = math.atan2(b, a)
    cos, sin = round(math.cos(angle)), round(math.sin(angle))
    return cos * a - sin * c, cos * b - sin * d, sin * a + cos * c, sin * b + cos * d


def _rgb(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut off the padding of decord's rows, which at widths like 48 and 72 looks like channels.

    See dmlc/decord#93 and #336.
    """
    height, width = frame.shape[:2]
    return np.ascontiguousarray(frame.reshape(height, -1)[:, : 3 * width]).reshape(height, width, 3)


def _reason(error: Exception, path: Path) -> str:
    """Return the first line of decord's message, without clock time, source code and path."""
    line = str(error).splitlines()[0]
    line = re.sub(r"\[\d\d:\d\d:\d\d\] \S+:\d+: |Check failed: .* vs\. \S+\) ", "", line)
    return line.replace(str(path), "the file").strip()
