"""A method on top of its towers, and the loss of a batch over all processes."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xpool.encoders.processes import joined
from xpool.pooling import Method
from xpool.similarity import pair_losses, pair_similarity
from xpool.training.optimisation import symmetric_contrastive
from xpool.training.towers import Towers

CONTRASTIVE = "contrastive"
"""Name of the term of the loss that every method has."""


def total(terms: dict[str, Tensor]) -> Tensor:
    """Return the loss: the sum of its terms."""
    first, *others = terms.values()
    return sum(others, start=first)


class RetrievalModel(nn.Module):
    """Towers and method; ``forward`` is one training step's loss."""

    def __init__(self, towers: Towers, pooling: Method, micro_batch: int | None) -> None:
        super().__init__()
        self.towers = towers
        self.pooling = pooling
        self._micro_batch = micro_batch

    def forward(
        self,
        text: Tensor,
        frames: tuple[Tensor, ...],
        mask: Tensor,
        video: Tensor,
        pairs: int,
        word_mask: Tensor | None,
    ) -> dict[str, Tensor]:
        """Return the terms of the loss over the batch of all processes, by name.

        Each process encodes its own pairs, joins the embeddings of all processes with their
        gradient, and computes the loss of the whole batch. The averaged gradient therefore equals
        that of one process with the whole batch, whatever the number of processes. A video with
        several texts in a process's part is encoded once.

        Args:
            text: what ``towers.text`` takes, or ``towers.words`` if there is a ``word_mask``; one
                row a pair.
            frames: what ``towers.frames`` takes, one row a video in each.
            mask: ``(video, frame)`` bool.
            video: ``(pair,)`` row of each pair's video.
            pairs: number of pairs in the parts of all processes.
            word_mask: ``(pair, word)`` bool, for a method that wants words.
        """
        tower = self.towers.text if word_mask is None else self.towers.words
        texts = joined(self._encoded(tower, text), pairs)
        words: tuple[Tensor, ...] = ()
        if word_mask is not None:
            texts, words = texts[:, 0], (texts[:, 1:], joined(word_mask, pairs))
        of_videos = joined(self._encoded(self.towers.frames, *frames)[video], pairs)
        batch = (texts, of_videos, joined(mask[video], pairs), *words)
        contrast = partial(symmetric_contrastive, logit_scale=self.towers.logit_scale)
        loss = contrast(pair_similarity(self.pooling, *batch))
        return {CONTRASTIVE: loss} | pair_losses(self.pooling, contrast, *batch)

    def _encoded(self, tower: Callable[..., Tensor], *parts: Tensor) -> Tensor:
        """Return a tower's embeddings, computed in micro-batches if the run has them.

        A micro-batch keeps its embeddings only. When their gradients come back from the loss of the
        whole batch, it is encoded again with the same dropout, and passes the gradients on. The
        gradient is that of the batch in one piece, and takes one backward pass, as gathering
        between processes requires. These are the two passes of GradCache, done by torch's
        checkpointing.

        Source: GradCache (arXiv 2101.06983), section 3.2.
        """
        if self._micro_batch is None:
            return tower(*parts)
        encoded = []
        for micro_batch in zip(*(part.split(self._micro_batch) for part in parts), strict=True):
            # casts the weights anew: gradients of a bfloat16 copy that the micro-batches share
            # would be summed in bfloat16
            torch.clear_autocast_cache()
            encoded.append(checkpoint(tower, *micro_batch, use_reentrant=False))
        return torch.cat(encoded)

    def groups(self, lr_encoder: float, lr_pooling: float) -> list[dict[str, object]]:
        """Return parameter groups for the optimiser, with the encoder's and the pooling's rate."""
        named: Sequence[tuple[nn.Module, float]] = (
            (self.towers, lr_encoder),
            (self.pooling, lr_pooling),
        )
        groups = [
            {"params": list(module.parameters()), "lr": rate, "full_rate": rate}
            for module, rate in named
        ]
        return [group for group in groups if group["params"]]
