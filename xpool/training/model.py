"""A pooling on top of its towers, and the contrastive loss of a batch over all processes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xpool.encoders.processes import joined
from xpool.pooling import Pooling
from xpool.similarity import pair_similarity
from xpool.training.optimisation import symmetric_contrastive
from xpool.training.towers import Towers


class RetrievalModel(nn.Module):
    """Towers and pooling; ``forward`` is one training step's loss."""

    def __init__(self, towers: Towers, pooling: Pooling, micro_batch: int | None) -> None:
        super().__init__()
        self.towers = towers
        self.pooling = pooling
        self._micro_batch = micro_batch

    def forward(
        self, text: Tensor, frames: tuple[Tensor, ...], mask: Tensor, video: Tensor, pairs: int
    ) -> Tensor:
        """Contrastive loss over the batch of all processes.

        Each process encodes its own pairs, joins the embeddings of all processes with their
        gradient, and computes the loss of the whole batch. The averaged gradient therefore equals
        that of one process with the whole batch, whatever the number of processes. A video with
        several texts in a process's part is encoded once.

        Args:
            text: what ``towers.text`` takes, one row a pair.
            frames: what ``towers.frames`` takes, one row a video in each.
            mask: ``(video, frame)`` bool.
            video: ``(pair,)`` row of each pair's video.
            pairs: number of pairs in the parts of all processes.
        """
        all_texts = joined(self._encoded(self.towers.text, text), pairs)
        all_frames = joined(self._encoded(self.towers.frames, *frames)[video], pairs)
        scores = pair_similarity(self.pooling, all_texts, all_frames, joined(mask[video], pairs))
        return symmetric_contrastive(scores, self.towers.logit_scale)

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
