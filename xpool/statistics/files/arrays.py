"""Read a similarity matrix of anybody's code: NumPy's and torch's files, and text.

- ``.npy``; ``.npz`` and ``.pt`` (``.pth``) with one array, or ``FILE.npz:NAME`` for one of several.
  Of torch's files only weights are read, never code.
- ``.csv`` (commas) or ``.tsv`` (tabs), with or without a first line of column names and a first
  column of row names.
- three axes ``(video, caption, video)``, as the CLIP4Clip family pads videos of fewer captions: the
  rows of missing captions are -inf or NaN throughout.
"""

import csv
import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpool.project.errors import InputError

ARRAYS = (".npy", ".npz", ".pt", ".pth")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
UNREADABLE = (
    ValueError, OSError, EOFError, RuntimeError, LookupError, TypeError, AttributeError,
    MemoryError, OverflowError,
    pickle.UnpicklingError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""Errors that NumPy, torch and the zip files of both raise for a broken file."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """A similarity matrix, and what its file says about rows and columns."""

    matrix: NDArray[Any]
    """``(text, video)`` real numbers."""
    video_of_text: NDArray[np.int64] | None = None
    """``(text,)`` column of each text's video; None where the file does not say."""
    columns: tuple[str, ...] = ()
    """Names in the first line of a text file; empty if it has none."""
    rows: tuple[str, ...] = ()
    """Names in the first column of a text file; empty if it has none."""


def split_name(path: Path) -> tuple[Path, str]:
    """Return the file of ``FILE.npz:NAME``, and the name of the array; the name is '' if not given.

    Example:
        >>> split_name(Path("runs/a.npz:sims"))[1], split_name(Path("a.npy"))[1]
        ('sims', '')
    """
    found = re.fullmatch(r"(.+\.(?:npz|pt|pth)):(.+)", str(path))
    return (Path(found[1]), found[2]) if found and not path.exists() else (path, "")


def read_scores(path: Path) -> Scores:
    """Read a matrix from any file that the module's docstring lists.

    Raises:
        InputError: the file is missing or broken, or its numbers are no matrix of scores.
    """
    if path.suffix in DELIMITERS:
        return _parse(path)
    array = load(path)
    if array.dtype.kind not in "fiu":
        remedy = {
            "b": "; save the scores themselves, before any threshold",
            "c": "; save their real part",
        }
        raise InputError(
            f"{path}: expected a matrix of numbers (text, video); got {array.dtype} {array.shape}"
            f"{remedy.get(array.dtype.kind, '')}"
        )
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise InputError(
            f"{path}: expected a matrix of numbers (text, video), not empty; got {array.dtype} "
            f"{array.shape}"
        )
    return Scores(matrix=array) if array.ndim == 2 else _without_padding(path, array)


def load(path: Path) -> NDArray[Any]:
    """Read one array of ``.npy``, ``.npz`` or ``.pt``; the last two may name it.

    Raises:
        InputError: the file is missing or broken, or holds no array of that name.
    """
    file, name = split_name(path)
    if not file.is_file():
        raise InputError(f"{file}: not found")
    if not file.stat().st_size:
        raise InputError(f"{file}: empty; save it again")
    try:
        return _named(file, name)
    except UNREADABLE as error:
        if isinstance(error, InputError):
            raise
        if file.suffix in (".pt", ".pth"):  # torch's own words advise to run the file's code
            raise InputError(
                f"{file}: broken, or not a tensor that torch can read without running code; save "
                "the matrix alone, with torch.save(tensor, FILE)"
            ) from None
        raise InputError(
            f"{file}: not an array of numbers that NumPy can read; save it with numpy.save(FILE, "
            f"array) ({error})"
        ) from None


def _named(file: Path, name: str) -> NDArray[Any]:
    held: Any
    if file.suffix in (".pt", ".pth"):
        import torch

        with warnings.catch_warnings(action="ignore"):  # of what is refused anyway
            held = torch.load(file, map_location="cpu", weights_only=True)
        if isinstance(held, dict):
            held = {str(key): one for key, one in held.items() if isinstance(one, torch.Tensor)}
    else:
        held = np.load(file, allow_pickle=False)
    if isinstance(held, Mapping):
        if not held:
            raise InputError(f"{file}: holds no arrays; save the matrix itself")
        if (not name and len(held) > 1) or (name and name not in held):
            lacks = f"no array {name}" if name else f"{len(held)} arrays"
            raise InputError(
                f"{file}: {lacks}; it has {', '.join(held)}; name one, as {file}:{next(iter(held))}"
            )
        held = held[name or next(iter(held))]
    elif name:
        raise InputError(f"{file}: holds one array without a name; drop ':{name}'")
    if hasattr(held, "detach"):
        held = held.detach().resolve_conj()
        if held.is_floating_point() and held.element_size() < 4:
            held = held.float()  # NumPy has no bfloat16
        held = held.numpy()
    return np.asarray(held)


def _without_padding(path: Path, padded: NDArray[Any]) -> Scores:
    """Take the captions from ``(video, caption, video)``."""
    n_video, _, n_gallery = padded.shape
    if n_video != n_gallery:
        raise InputError(
            f"{path}: expected (video, caption, video) with the same videos first and last; got "
            f"{padded.shape}"
        )
    padding = (np.isnan(padded) | np.isneginf(padded)).all(axis=2)
    broken = np.argwhere(~np.isfinite(padded).all(axis=2) & ~padding)
    if len(broken):
        video, caption = broken[0]
        raise InputError(
            f"{path}: video {video}, caption {caption}: NaN or infinity beside numbers; a missing "
            "caption is -inf or NaN in the whole row"
        )
    if padding.all():
        raise InputError(f"{path}: every row is -inf or NaN, so no caption is left")
    return Scores(matrix=padded[~padding], video_of_text=np.nonzero(~padding)[0])


def lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number, from 1, and the cells of each line that is not blank (``.csv``, ``.tsv``).

    Raises:
        InputError: it is no text, or another character parts its cells.
    """
    delimiter = DELIMITERS[path.suffix]
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            others = "".join({",", "\t", ";"} - {delimiter})
            other = ";" if ";" in first else next((one for one in others if one in first), " ")
            if other in first.strip() and (other == ";" or delimiter not in first):
                names = {
                    ",": "commas (.csv)",
                    "\t": "tabs (.tsv)",
                    ";": "semicolons",
                    " ": "spaces",
                }
                raise InputError(
                    f"{path} line 1: {names[other]} between the cells; expected "
                    f"{names[delimiter]}, and points in decimal numbers"
                )
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, [cell.strip() for cell in cells]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a table in UTF-8; save it again ({error})") from None


def is_number(text: str) -> bool:
    """Return whether Python reads a text as a number, NaN and infinity included."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parse(path: Path) -> Scores:
    rows: list[NDArray[np.float64]] = []
    names: list[str] = []
    header: list[str] = []
    labelled, width = False, 0
    for number, cells in lines(path):
        if not width:
            width = len(cells)
            if _is_header(cells):
                header = cells
                continue
        if len(cells) != width:
            raise InputError(f"{path} line {number}: {len(cells)} numbers, but {width} before")
        if not rows:
            labelled = bool(header) and (not header[0] or not is_number(cells[0]))
        if labelled:
            names.append(cells.pop(0))
        try:
            rows.append(np.array(cells, dtype=np.float64))
        except ValueError as error:
            raise InputError(
                f"{path} line {number}: expected numbers only, or a first line with query_id "
                f"and rank ({error})"
            ) from None
    if not rows or not len(rows[0]):
        raise InputError(f"{path}: empty; expected a line of scores for each text")
    matrix = np.stack(rows)
    _refuse_numbering(path, matrix, bool(header), labelled)
    return Scores(matrix=matrix, columns=tuple(header[labelled:]), rows=tuple(names))


def _refuse_numbering(
    path: Path, matrix: NDArray[np.float64], header: bool, labelled: bool
) -> None:
    """Refuse a first line or column of whole numbers that number or name the others."""
    n_row, n_column = matrix.shape
    for known, across, spare, what in (
        (header, matrix, n_row == n_column + 1, "line"),
        (labelled, matrix.T, n_column == n_row + 1, "column"),
    ):
        first, others = across[0], across[1:]
        steps = len(first) > 2 and (np.diff(first) == 1).all() and first[0] in (0, 1)
        named = spare and (first == np.round(first)).all()
        if not known and (steps or named) and (others != np.round(others)).any():
            raise InputError(
                f"{path}: the first {what} holds whole numbers, and the others hold scores; if it "
                "is names or numbers, delete it"
            )


def _is_header(cells: list[str]) -> bool:
    """Return whether the first line holds names; pandas numbers columns after an empty cell."""
    if not cells[0] and cells[1:] == [str(column) for column in range(len(cells) - 1)]:
        return len(cells) > 1
    return not any(map(is_number, cells))


def read_video_of_text(path: Path) -> NDArray[np.int64]:
    """Return ``(text,)``: the column of each text's video, from an array or one number a line.

    Raises:
        InputError: the file is missing, or a line is no whole number.
    """
    if split_name(path)[0].suffix in ARRAYS:
        columns = load(path)
        if columns.ndim != 1 or columns.dtype.kind not in "iu":
            raise InputError(
                f"{path}: expected one whole number a text; got {columns.dtype} {columns.shape}"
            )
        found = columns.tolist()
    else:
        if not path.is_file():
            raise InputError(f"{path}: not found")
        try:
            texts = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not text in UTF-8; save it again ({error})") from None
        for number, text in enumerate(texts, start=1):
            if not text.strip().isdecimal():
                raise InputError(
                    f"{path} line {number}: expected the column of a video, from 0; got {text!r}"
                )
            if len(text.strip()) > 18:  # int() would take minutes, or int64 not hold it
                raise InputError(f"{path} line {number}: no matrix has so many columns")
        found = [int(text) for text in texts]
    if not found:
        raise InputError(f"{path}: empty; expected the column of each text's video, one a line")
    if not 0 <= min(found) <= max(found) < 2**63:
        row = next(i for i, column in enumerate(found) if not 0 <= column < 2**63)
        raise InputError(f"{path} row {row}: {found[row]} is the column of no video")
    return np.array(found, dtype=np.int64)
