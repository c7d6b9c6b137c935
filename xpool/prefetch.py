"""A run's batches on its device; on CUDA the next one is copied while a step works."""

from collections.abc import Iterable, Iterator

import torch

from xpool.batches import Batch


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
