"""The order in which a run takes its training pairs, drawn from its seed alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xpool.seeds import seed_for


@dataclass(frozen=True, kw_only=True)
class Order:
    """Which rows each step takes, and after which steps the model is evaluated."""

    rows: NDArray[np.int64]
    """Training rows of ``data.texts``."""
    epochs: int
    batch_size: int
    evaluations_per_epoch: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch; the last, smaller batch counts."""
        return -(-len(self.rows) // self.batch_size)

    @property
    def steps(self) -> int:
        """Steps of the run."""
        return self.epochs * self.steps_per_epoch

    def batch_rows(self, step: int) -> NDArray[np.int64]:
        """Rows of a step's batch: a slice of the epoch's own permutation."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng(seed_for("order", self.seed, epoch)).permutation(self.rows)
        return order[place * self.batch_size : (place + 1) * self.batch_size]

    def evaluations(self) -> set[int]:
        """Numbers of finished steps at which the model is evaluated; the last is always one."""
        count = min(self.evaluations_per_epoch, self.steps_per_epoch)
        marks = np.linspace(0, self.steps_per_epoch, count + 1)[1:].round().astype(int)
        return {
            epoch * self.steps_per_epoch + int(m) for epoch in range(self.epochs) for m in marks
        }
