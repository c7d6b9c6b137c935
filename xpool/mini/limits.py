"""Limits that the params of all generated videos share."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field

LEAST_FRAMES_PER_SCENE = 3
"""Fewer frames would show no motion."""


def _ordered(bounds: list[Any]) -> list[Any]:
    if bounds[0] > bounds[1]:
        raise ValueError("give the least first, then the most")
    return bounds


AtLeastOne = Annotated[int, Field(ge=1)]
IntRange = Annotated[list[AtLeastOne], Field(min_length=2, max_length=2), AfterValidator(_ordered)]
"""``[least, most]``."""
FloatRange = Annotated[
    list[Annotated[float, Field(gt=0)]],
    Field(min_length=2, max_length=2),
    AfterValidator(_ordered),
]
"""``[least, most]``."""
