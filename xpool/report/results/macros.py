r"""The figures of the benchmarks' tables as LaTeX macros, so that prose cannot drift from them.

``tables/macros.tex`` has a macro for each figure that such a table prints, for the ends of its
interval, and for X-Pool minus each baseline in the same columns:

- ``\xpoolMsrvttRone``: X-Pool on MSR-VTT, text to video, R@1;
- ``\xpoolMsrvttRoneLow`` and ``\xpoolMsrvttRoneHigh``: its 95 % interval;
- ``\xpoolMsrvttRoneVideoToText``: the same in the other direction;
- ``\xpoolMinusMeanPoolMsrvttRone``: a difference, with its sign;
- ``\publishedXPoolPaperMsrvttRone``: a published figure, by the label of its row.

Names have letters only, and spell digits out. Names of synthetic figures begin with ``\synthetic``,
so that nobody takes one for a figure on real videos by mistake.
"""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from xpool.project.errors import InputError
from xpool.project.workspace import replacing
from xpool.report.protocol import METRICS, SYNTHETIC, Protocol
from xpool.report.results.tables import signed
from xpool.report.typesetting import Table, tex

FILE = "macros.tex"
DIRECTIONS = {"t2v": "", "v2t": "VideoToText"}
"""Part of a macro's name that tells the direction."""
NUMBERS = {
    "0": "zero", "1": "one", "2": "two", "3": "three", "4": "four", "5": "five", "6": "six",
    "7": "seven", "8": "eight", "9": "nine", "10": "ten", "50": "fifty",
}  # fmt: skip


def write(
    protocols: Sequence[Protocol], tables: Sequence[Table], comparisons: pd.DataFrame, folder: Path
) -> Path:
    """Write :data:`FILE`; the same tables give the same bytes.

    Args:
        protocols: the benchmarks.
        tables: their tables, of :func:`xpool.report.results.tables.benchmark_table`.
        comparisons: from :func:`xpool.report.results.inputs.read_statistics`.
        folder: where the tables are.

    Raises:
        InputError: two figures would have one name.
    """
    lines = [r"% figures of the tables beside this file: \input{macros}"]
    if protocols[0].synthetic:
        lines.append(f"% {SYNTHETIC}; no evidence about any benchmark")
    values: dict[str, str] = {}
    for name, value in _macros(protocols[0].synthetic, tables, comparisons):
        if name in values:
            raise InputError(
                f"params.yaml: two figures of the tables have the LaTeX name \\{name}; rename a "
                "method or a benchmark so that their letters differ"
            )
        values[name] = value
    lines += [rf"\newcommand{{\{name}}}{{{value}}}" for name, value in values.items()]
    with replacing(folder / FILE) as file:
        file.write("\n".join(lines) + "\n")
    return folder / FILE


def _macros(
    synthetic: bool, tables: Sequence[Table], comparisons: pd.DataFrame
) -> Iterator[tuple[str, str]]:
    """Yield name and value of each macro."""
    mark = "synthetic " if synthetic else ""
    figures = pd.concat([table.figures for table in tables])
    row: Any
    for row in figures[figures["metric"].isin(METRICS)].itertuples():
        ours = row.kind == "measured"
        yield from _of(f"{mark}{row.method}" if ours else f"published {row.label}", row, row.mean)
    for row in comparisons[comparisons["method"] == "xpool"].itertuples():
        yield from _of(f"{mark}{row.method} minus {row.against}", row, row.delta, "+")


def _of(who: str, row: Any, value: float, sign: str = "") -> Iterator[tuple[str, str]]:
    """Yield a figure, and the ends of its interval if it has one."""
    where = f"{row.benchmark} {row.metric.replace('@', '')} {DIRECTIONS[row.direction]}"
    name = in_letters(f"{who} {where}")
    yield name, tex(signed(value, sign))
    if not math.isnan(row.ci_low):
        yield f"{name}Low", tex(signed(row.ci_low, sign))
        yield f"{name}High", tex(signed(row.ci_high, sign))


def in_letters(words: str) -> str:
    """Return words as the name of a macro, which has letters only.

    Example:
        >>> in_letters("mean_pool msrvtt R10"), in_letters("published CLIP4Clip (paper)")
        ('meanPoolMsrvttRten', 'publishedCLIPfourClipPaper')
    """
    spelled = re.sub(r"10|50|\d", lambda digits: NUMBERS[digits[0]], words)
    first, *others = re.findall(r"[A-Za-z]+", spelled)
    return str(first) + "".join(word[0].upper() + word[1:] for word in others)
