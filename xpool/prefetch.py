"""A run's batches on its device: read ahead, and on CUDA copied while a step works."""

from collections.abc import Iterable, Iterator

import accelerate
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from xpool.batches import Batch, Data
from xpool.order import Order
from xpool.seeds import seed_for


class _Batches(Dataset[Batch]):
    """The batches of a run from one step on; this process's share of each."""

    def __init__(
        self, data: Data, order: Order, seed: int, start: int, rank: int, world: int
    ) -> None:
        self._data, self._order, self._seed, self._start = data, order, seed, start
        self._rank, self._world = rank, world

    def __len__(self) -> int:
        return self._order.steps - self._start

    def __getitem__(self, place: int) -> Batch:
        step = self._start + place
        rows = self._order.batch_rows(step)
        # every process needs as many rows as the others (all_gather takes equal shapes), and
        # neighbouring ones, so that what is gathered stands in the order of one process
        rows = np.resize(rows, max(len(rows), self._world))
        share = len(rows) // self._world
        mine = rows[self._rank * share : (self._rank + 1) * share]
        return self._data.batch(mine, seed_for("batch", self._seed, step))


def batches(
    data: Data,
    order: Order,
    seed: int,
    start: int,
    accelerator: accelerate.Accelerator,
    workers: int,
) -> Iterator[Batch]:
    """Yield this process's share of each batch from a step on, on its device.

    Args:
        data: the benchmark.
        order: of the run.
        seed: of the augmentation.
        start: the first step.
        accelerator: device and processes.
        workers: processes that read ahead.
    """
    loader = DataLoader(
        _Batches(data, order, seed, start, accelerator.process_index, accelerator.num_processes),
        batch_size=None,
        num_workers=workers,
        pin_memory=accelerator.device.type == "cuda" and workers > 0,
    )
    return on_device(loader, accelerator.device)


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield batches on a device."""
    if device.type == "cuda":
        return _beside_the_step(iter(batches), device)
    return (batch.to(device) for batch in batches)


def _beside_the_step(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Copy each batch on a stream of its own: on the step's, it would wait for the step before it.

    The host gets here as soon as it has queued a step, long before the device has done it. That
    holds for pinned batches; the copy of any other makes the host wait.
    """
    step, copies = torch.cuda.current_stream(device), torch.cuda.Stream(device)

    def copied() -> Batch | None:
        batch = next(batches, None)
        with torch.cuda.stream(copies):
            return None if batch is None else batch.to(device)

    coming = copied()
    while coming is not None:
        step.wait_stream(copies)
        for part in (coming.text, *coming.frames, coming.mask, coming.video):
            part.record_stream(step)  # its memory is not given away before the step is done
        yield coming
        coming = copied()
