"""A run, and what a check of it found, in the words in which it is told."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from xpool import paths
from xpool.records import differences

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
        """As a record holds them."""
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
class Finding:
    """What was compared, and what came of it."""

    what: str
    verdict: Verdict
    detail: str = ""


def compared(what: str, expected: Any, found: Any, source: str, place: str) -> Finding:
    """Return whether two values are equal, with the first key at which they differ.

    Args:
        what: name of the thing.
        expected: value that it should have, or nested mappings of them.
        found: the value that it has.
        source: where the expected value stands.
        place: where the other one does.
    """
    for key, left, right in differences(expected, found):
        name = f"{key}: " if key else ""
        detail = f"{name}expected {left} ({source}), found {right} ({place})"
        return Finding(what=what, verdict="DIFFERS", detail=detail)
    return Finding(what=what, verdict="ok")
