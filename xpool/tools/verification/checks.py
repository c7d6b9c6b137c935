"""A run, and a check of a thing that it left behind."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from xpool.project import paths
from xpool.project.records import differences

Verdict = Literal["ok", "DIFFERS", "no verdict", "note"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Coordinates of a run; the method by its short name."""

    setting: str
    method: str
    benchmark: str
    seed: int

    @property
    def coordinates(self) -> dict[str, Any]:
        """The coordinates as a record holds them."""
        return asdict(self)

    @property
    def trained(self) -> Path:
        """Folder with its checkpoint."""
        return paths.training(self.setting, self.method, self.benchmark, self.seed)

    @property
    def scored(self) -> Path:
        """Folder with its similarity."""
        return paths.similarity(self.setting, self.method, self.benchmark, self.seed)


@dataclass(frozen=True, kw_only=True)
class Check:
    """A thing that was verified, and the verdict on it."""

    what: str
    verdict: Verdict
    detail: str = ""


def compared(what: str, expected: Any, found: Any, source: str, where: str) -> Check:
    """Check whether two values are equal; a difference is told by its first key.

    Args:
        what: name of the thing.
        expected: the value that it should have; mappings may be nested.
        found: the value that it has.
        source: where the expected value comes from.
        where: where the other value was found.
    """
    for key, left, right in differences(expected, found):
        name = f"{key}: " if key else ""
        detail = f"{name}expected {left} ({source}), found {right} ({where})"
        return Check(what=what, verdict="DIFFERS", detail=detail)
    return Check(what=what, verdict="ok")
