"""Read a pickle of plain data, without running anything in it."""

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

from xpool.data.annotations.text import read_bytes, refuse_half_pairs
from xpool.project.errors import InputError


class _PlainUnpickler(pickle.Unpickler):
    """Loads containers, strings and numbers, and refuses every class and function.

    A pickle can call any function while it loads, so a plain ``pickle.load`` of a downloaded file
    would run its author's code.
    """

    def find_class(self, module_name: str, global_name: str) -> NoReturn:
        raise pickle.UnpicklingError(
            f"it names {module_name}.{global_name}, which is not plain data"
        )


def read_pickle(path: Path, instead: str) -> Any:
    """Return the content of a pickle of mappings, lists, strings and numbers.

    Args:
        path: the file.
        instead: a file that can stand in for it, for messages.

    Raises:
        InputError: it is no such pickle, or a string in it holds half of a surrogate pair.
    """
    try:
        content = _PlainUnpickler(io.BytesIO(read_bytes(path)), encoding="utf-8").load()
    except InputError:
        raise
    except Exception as error:  # a broken pickle can raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path}: refused: {reason}; expected a pickle of plain lists and strings; fetch it "
            f"again, or use {instead} instead"
        ) from error
    refuse_half_pairs(path, content)
    return content
