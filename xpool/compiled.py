"""A tower through ``torch.compile``."""

from collections.abc import Callable

import torch
from torch import Tensor


class Compiled:
    """A tower compiled for one number of rows; fewer are filled up, and what they give dropped.

    Code for any number of rows is slower, and once made takes over. A run's batches have one
    size, but for the last of an epoch.

    Args:
        tower: ``(row, ...)`` to ``(row, ...)``.
        graphs: whether a GPU is to replay the tower's kernels as one CUDA graph. A step of 32
            pairs is too short for the host to queue them one by one. A call's result is
            overwritten by the next step's, so a tower may be called once a step only.
    """

    def __init__(self, tower: Callable[[Tensor], Tensor], graphs: bool) -> None:
        mode = "reduce-overhead" if graphs else "default"
        self._tower = torch.compile(tower, dynamic=False, mode=mode)
        self._rows = 0

    def __call__(self, inputs: Tensor) -> Tensor:
        """``(row, ...)`` to the tower's ``(row, ...)``."""
        count = len(inputs)
        self._rows = max(self._rows, count)
        if missing := self._rows - count:
            inputs = torch.cat([inputs, inputs[:1].expand(missing, *inputs.shape[1:])])
        return self._tower(inputs)[:count]
