"""Progress bars: live in a terminal, one line a minute elsewhere."""

import multiprocessing
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

MINUTE_S = 60.0


class _Lines:
    """A stream that writes each update of a bar as a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        if line := text.strip():
            self._stream.write(f"{line}\n")

    def flush(self) -> None:
        self._stream.flush()


def progress(items: Iterable[Any] | None = None, title: str = "", **options: Any) -> Any:
    """Return a ``tqdm`` bar over some items.

    If stderr is not a terminal (a log file, CI), a loop of over a minute writes a line a minute and
    one at its end, and a shorter loop writes nothing. Nor does a process of a pool: several bars
    would overwrite each other, and their parent shows how many are done.

    Args:
        items: what to iterate over; None for a bar that the caller advances.
        title: printed before the bar.
        options: further arguments of ``tqdm``.
    """
    if multiprocessing.parent_process() is not None:
        options["disable"] = True
    if sys.stderr.isatty():
        return tqdm(items, title, **{"mininterval": 0.5} | options)
    quiet = {"mininterval": MINUTE_S, "maxinterval": MINUTE_S, "delay": MINUTE_S, "ncols": 100}
    # position 0: below another bar, tqdm would move the cursor
    return tqdm(items, title, **options | quiet, position=0, file=_Lines(sys.stderr))
