"""Training pairs on their way to the device: their order, and batches that are read ahead.

The order is drawn from the run's seed alone. On CUDA a batch is copied while the step before it
still computes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import accelerate
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from xpool.encoders.processes import part_of
from xpool.project.seeds import seed_for
from xpool.training.data import Batch, Data


@dataclass(frozen=True, kw_only=True)
class Order:
    """The rows that each step takes, and the steps after which the model is evaluated."""

    rows: NDArray[np.int64]
    """Training rows of ``data.texts``."""
    epochs: int
    batch_size: int
    evaluations_per_epoch: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps in an epoch; the last, smaller batch counts."""
        return -(-len(self.rows) // self.batch_size)

    @property
    def steps(self) -> int:
        """Number of steps in the run."""
        return self.epochs * self.steps_per_epoch

    def batch_rows(self, step: int) -> NDArray[np.int64]:
        """Return the rows of a step's batch: a slice of the epoch's own permutation."""
        epoch, index = divmod(step, self.steps_per_epoch)
        order = _permutation(self.seed, epoch, len(self.rows))
        return self.rows[order[index * self.batch_size : (index + 1) * self.batch_size]]

    def evaluations(self) -> set[int]:
        """Return the numbers of finished steps at which the model is evaluated.

        The last step is always one of them.
        """
        count = min(self.evaluations_per_epoch, self.steps_per_epoch)
        marks = np.linspace(0, self.steps_per_epoch, count + 1)[1:].round().astype(int)
        return {
            epoch * self.steps_per_epoch + int(m) for epoch in range(self.epochs) for m in marks
        }


@lru_cache(maxsize=1)  # a run asks for an epoch's own at each of its steps
def _permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed_for("order", seed, epoch)).permutation(count)


class _Batches(Dataset[Batch]):
    """This process's share of each batch of a run, from a given step on."""

    def __init__(
        self, data: Data, order: Order, seed: int, start: int, rank: int, world: int
    ) -> None:
        self._data, self._order, self._seed, self._start = data, order, seed, start
        self._rank, self._world = rank, world

    def __len__(self) -> int:
        return self._order.steps - self._start

    def __getitem__(self, index: int) -> Batch:
        step = self._start + index
        rows = self._order.batch_rows(step)
        mine = rows[part_of(len(rows), self._rank, self._world)]
        batch = self._data.batch(mine, seed_for("batch", self._seed, step))
        return batch._replace(pairs=len(rows))


def batches(
    data: Data,
    order: Order,
    seed: int,
    start: int,
    accelerator: accelerate.Accelerator,
    workers: int,
) -> Iterator[Batch]:
    """Yield this process's share of each batch, on its device.

    Args:
        data: the benchmark.
        order: the order of the run's training pairs.
        seed: the seed of the augmentation.
        start: the first step.
        accelerator: device and processes.
        workers: number of processes that read ahead.
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
    """Copy each batch on a separate CUDA stream, so that it need not wait for the step before it.

    The host gets here as soon as it has queued a step, long before the device has finished it. This
    holds for pinned batches only; copying other memory makes the host wait.
    """
    step, copies = torch.cuda.current_stream(device), torch.cuda.Stream(device)

    def copied() -> Batch | None:
        batch = next(batches, None)
        with torch.cuda.stream(copies):
            return None if batch is None else batch.to(device)

    coming = copied()
    while coming is not None:
        step.wait_stream(copies)
        parts = (coming.text, *coming.frames, coming.mask, coming.video, coming.word_mask)
        for part in parts:
            if part is not None:
                part.record_stream(step)  # keeps its memory until the step is done
        yield coming
        coming = copied()
