"""Read annotation files: text lines, JSON and CSV, with errors that name the line, row or key."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from xpool.project.digests import refuse_lfs_pointer
from xpool.project.errors import InputError

_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
"""Byte-order marks of other encodings, the longer ones first."""


def is_text(value: object) -> bool:
    """Return whether a value is a string that can be stored: without half of a surrogate pair."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # UTF-8 has every other character
        return False
    return True


def text_lines(path: Path) -> list[str]:
    r"""Return a text file's lines, with any line ends, and with or without a byte-order mark.

    ``str.splitlines`` would also cut a caption at characters such as U+2028, and a lone ``\r``
    ends a line only where the file has no ``\n``.

    Raises:
        InputError: the file is empty or not UTF-8.
    """
    text = _text(path)
    lines = text.split("\n") if "\n" in text else text.split("\r")
    lines = [line.removesuffix("\r") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def read_list(path: Path, of: str) -> list[Any]:
    """Return a JSON file's content, which must be a list.

    Args:
        path: the file.
        of: what its entries are, for messages.

    Raises:
        InputError: as :func:`read_json`; or it is no list.
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise InputError(f"{path}: expected a list of {of}, found {str(content)[:200]}")
    return content


def read_json(path: Path) -> Any:
    """Return a JSON file's content.

    Raises:
        InputError: it is not JSON in UTF-8, e.g. an incomplete download; an object has a key twice,
            of which Python would keep the last; or a string holds half of a surrogate pair.
    """
    text = _text(path)
    objects = 0

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal objects
        objects += 1  # in the order of their closing braces
        content = dict(pairs)
        if len(content) < len(pairs):
            keys = [key for key, _ in pairs]
            key = next(key for key in keys if keys.count(key) > 1)
            line = _line_of_key(text, key, objects)
            raise InputError(f"{path} line {line}: the key {key!r} is given twice; keep one")
        return content

    try:
        content = json.loads(text, object_pairs_hook=mapping)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); fetch it again") from error
    except RecursionError as error:
        raise InputError(f"{path}: not valid JSON (nested too deeply); fetch it again") from error
    if "\\ud" in text.lower():  # as an escape, which UTF-8 does not check
        refuse_half_pairs(path, content)
    return content


def _line_of_key(text: str, key: str, number: int) -> int:
    """Return the line of a key in the object whose closing brace is the ``number``-th."""
    braces = (m for m in re.finditer(r'"(?:[^"\\]|\\.)*"|\}', text) if m[0] == "}")
    end = next(m.end() for n, m in enumerate(braces, start=1) if n == number)
    return text.count("\n", 0, max(text.rfind(json.dumps(key), 0, end), 0)) + 1


def refuse_half_pairs(path: Path, content: Any) -> None:
    """Refuse strings that are not text: half of a surrogate pair cannot be stored or tokenised.

    Raises:
        InputError: names the first such string by its keys.
    """
    for keys, string in _strings(content):
        if not is_text(string):
            raise InputError(
                f"{path}: {keys or 'content'}: {ascii(string)[:200]} holds half of a surrogate "
                "pair, e.g. of a cut emoji; correct it"
            )


def _strings(content: Any) -> Iterator[tuple[str, str]]:
    pending = [("", content)]
    while pending:
        keys, value = pending.pop()
        if isinstance(value, str):
            yield keys, value
        elif isinstance(value, dict):
            pending += [(f"{keys}: a key", key) for key in reversed(value)]
            pending += [(f"{keys}.{key}".lstrip("."), part) for key, part in value.items()][::-1]
        elif isinstance(value, list | tuple):
            pending += [(f"{keys}[{n}]", part) for n, part in enumerate(value)][::-1]


def read_csv(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Return the rows of a comma-separated file with a header; other columns are dropped.

    Raises:
        InputError: a column is missing or there twice, a row has too few or too many values, or a
            quote mark joins rows.
    """
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    rows: list[dict[str, str]] = []
    header: list[str] = []
    line = 1
    try:
        for values in reader:
            if not header:
                header = values
                _check_header(path, header, columns)
            elif values:
                _check_row(f"{path} line {line}", values, header)
                named = dict(zip(header, values, strict=True))
                rows.append({column: named[column] for column in columns})
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path} line {line}: not comma-separated values ({error}); quote marks around a value "
            "come in pairs, and one inside it is doubled"
        ) from error
    return rows


def _check_header(path: Path, header: list[str], columns: tuple[str, ...]) -> None:
    for column in columns:
        if (count := header.count(column)) != 1:
            fault = "missing" if count == 0 else f"there {count} times"
            raise InputError(
                f"{path}: column {column!r} is {fault}; the header is {','.join(header)[:200]!r}"
            )


def _check_row(where: str, values: list[str], header: list[str]) -> None:
    if len(values) != len(header):
        fault = "fewer" if len(values) < len(header) else "more"
        raise InputError(
            f"{where}: {fault} values ({len(values)}) than the header has columns ({len(header)}); "
            "a value that holds a comma needs quote marks around it"
        )
    for value in values:
        if "\n" in value or "\r" in value:
            raise InputError(
                f"{where}: a value in quote marks runs over several lines ({value[:120]!r}); close "
                "the quote marks, or write it in one line"
            )


def unique(path: Path, what: str, values: Iterable[str]) -> list[str]:
    """Return the values of a list file.

    Raises:
        InputError: one is empty or occurs twice.
    """
    seen: dict[str, None] = {}
    for position, value in enumerate(values, start=1):
        if not value or re.search(r"\s", value):
            raise InputError(f"{path}: entry {position} is {value!r}; expected one {what}")
        if value in seen:
            raise InputError(f"{path}: the {what} {value} occurs twice")
        seen[value] = None
    if not seen:
        raise InputError(f"{path}: empty; expected one {what} a line")
    return list(seen)


def read_bytes(path: Path) -> bytes:
    """Return an annotation file's bytes.

    Raises:
        InputError: it cannot be read, is empty, or is a Git LFS pointer in place of the file.
    """
    try:
        refuse_lfs_pointer(path)
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not content.strip():
        raise InputError(f"{path}: empty; fetch it again")
    return content


def _text(path: Path) -> str:
    content = read_bytes(path)
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            raise InputError(
                f"{path}: {encoding} text; expected UTF-8: iconv -f {encoding} -t UTF-8"
            )
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        near = content[max(error.start - 30, 0) : error.start + 10].decode("cp1252", "replace")
        raise InputError(
            f"{path} line {line}: not UTF-8 text (byte 0x{content[error.start]:02x} near "
            f"{near!r}); if it is Windows text: iconv -f cp1252 -t UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{path} line {line}: a NUL character; expected UTF-8 text")
    return text.lstrip("\ufeff")
