"""A tower through ``torch.compile``."""

from collections.abc import Callable

import torch
from torch import Tensor


class Compiled:
    """A tower compiled for one number of rows; fewer are filled up, and what they give dropped.

    Code for any number of rows is slower, and once made takes over. A run's batches have one
    size, but for the last of an epoch.
    """

    def __init__(self, tower: Callable[[Tensor], Tensor]) -> None:
        self._tower = torch.compile(tower, dynamic=False)
        self._rows = 0

    def __call__(self, inputs: Tensor) -> Tensor:
        """``(row, ...)`` to the tower's ``(row, ...)``."""
        count = len(inputs)
        self._rows = max(self._rows, count)
        if missing := self._rows - count:
            inputs = torch.cat([inputs, inputs[:1].expand(missing, *inputs.shape[1:])])
        return self._tower(inputs)[:count]
