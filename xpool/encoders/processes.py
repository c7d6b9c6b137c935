"""Share rows between the processes of a run, and join what they made of them.

Processes exchange tensors of one shape, so their parts have one length: those that would be shorter
are filled up with rows taken again. The filling is dropped where the parts are joined, so that no
row is lost and none counts twice.
"""

import numpy as np
import torch
import torch.distributed.nn
from numpy.typing import NDArray
from torch import Tensor


def here() -> tuple[int, int]:
    """Return the number of this process, from 0, and how many work together."""
    if not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def part_of(count: int, rank: int, world: int) -> NDArray[np.int64]:
    """Return which of ``count`` rows a process takes: neighbours, filled up from the first row on.

    Example:
        >>> [part_of(4, rank, world=3).tolist() for rank in range(3)]
        [[0, 1], [2, 3], [0, 1]]
    """
    size = -(-count // world)
    return np.arange(rank * size, (rank + 1) * size) % count


def joined(local: Tensor, count: int) -> Tensor:
    """Return the rows of all processes in order; gradients flow back to each row's process.

    Args:
        local: what this process made of its :func:`part_of`, one row each.
        count: number of rows of all parts, without what fills them up.
    """
    _, world = here()
    if world == 1:
        return local
    if local.requires_grad:
        return torch.cat(torch.distributed.nn.all_gather(local))[:count]
    parts = [torch.empty_like(local) for _ in range(world)]
    torch.distributed.all_gather(parts, local.contiguous())
    return torch.cat(parts)[:count]
