"""The post-processing that ``params.yaml`` lists."""

from pathlib import Path
from typing import Any

from xpool.postprocessing.banks import BankParams
from xpool.postprocessing.base import PostProcessing
from xpool.project.errors import InputError
from xpool.project.params import PARAMS_FILE, Section
from xpool.project.plugins import BrokenMemberError, check_arguments, load


class PostProcessingParams(Section):
    """``post_processing`` in ``params.yaml``."""

    members: dict[str, dict[str, Any]]
    """Files of ``xpool/postprocessing`` by name, each with arguments of its constructor."""
    bank: BankParams | None
    """None: no listed member needs one."""


def file_of(name: str) -> str:
    """Return the import path of a member."""
    return f"xpool.postprocessing.{name}"


def listed(params: PostProcessingParams, path: Path = PARAMS_FILE) -> dict[str, PostProcessing]:
    """Return the listed members by their names.

    Raises:
        InputError: there is no such file; an argument does not fit it; or there is a bank that no
            member needs, or none that one needs.
    """
    found = {}
    for name, arguments in params.members.items():
        key = f"post_processing.members.{name}"
        try:
            kind = load(file_of(name), "POSTPROCESSING")
        except BrokenMemberError:
            raise
        except InputError as error:
            raise InputError(f"{path}: {key}: {error}") from error
        check_arguments(file_of(name), "POSTPROCESSING", arguments, key, path)
        try:
            found[name] = kind(**arguments)
        except ValueError as error:
            raise InputError(f"{path}: {key}: {error}") from error
    needing = [name for name, member in found.items() if member.needs_bank]
    if needing and params.bank is None:
        raise InputError(
            f"{path}: post_processing.bank: {needing[0]} needs one; "
            "write {captions: 1000, seed: 0}, or take it off members"
        )
    if params.bank is not None and not needing:
        raise InputError(
            f"{path}: post_processing.bank: no listed member needs one, and it takes time; write "
            "null, or add a member that does"
        )
    return found
