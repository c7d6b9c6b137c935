"""A pooling on top of its towers, and the loss of a batch over all processes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
import torch.distributed
import torch.distributed.nn
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xpool.interfaces import Pooling
from xpool.losses import symmetric_contrastive
from xpool.similarity import pair_similarity


class Towers(nn.Module, ABC):
    """What turns a batch's texts and frames into embeddings."""

    dim: int
    logit_scale: nn.Parameter
    """Logarithm of the contrastive scale."""

    @abstractmethod
    def text(self, text: Tensor) -> Tensor:
        """Return ``(text, dim)`` raw embeddings."""

    @abstractmethod
    def frames(self, *parts: Tensor) -> Tensor:
        """Return ``(video, frame, dim)`` raw embeddings; each part has one row a video."""


class FrozenTowers(Towers):
    """Cached embeddings behind two learned maps that start as the identity.

    A linear map after a frozen tower is the tower with its final projection fine-tuned, so every
    method, mean pooling too, has something of the encoder to learn.
    """

    def __init__(self, dim: int, logit_scale: float) -> None:
        super().__init__()
        self.dim = dim
        self.text_projection = nn.Parameter(torch.eye(dim))
        self.frame_projection = nn.Parameter(torch.eye(dim))
        self.logit_scale = nn.Parameter(torch.tensor(logit_scale))

    def text(self, text: Tensor) -> Tensor:
        """``(text, dim)`` cached embeddings to ``(text, dim)``."""
        return text @ self.text_projection

    def frames(self, *parts: Tensor) -> Tensor:
        """``(video, frame, dim)`` cached embeddings, the only part, to the same shape."""
        (frames,) = parts
        return frames @ self.frame_projection


class RetrievalModel(nn.Module):
    """Towers and pooling; ``forward`` is one training step's loss."""

    def __init__(self, towers: Towers, pooling: Pooling, micro_batch: int | None) -> None:
        super().__init__()
        self.towers = towers
        self.pooling = pooling
        self._micro_batch = micro_batch

    def forward(
        self, text: Tensor, frames: tuple[Tensor, ...], mask: Tensor, video: Tensor
    ) -> Tensor:
        """Contrastive loss over the batch of all processes.

        Each process encodes its own pairs, gathers everyone's embeddings with their gradient and
        computes the loss of the whole batch, so that the averaged gradient equals that of one
        process with the whole batch. A video with several texts in the batch is encoded once.

        Args:
            text: what ``towers.text`` takes, one row a pair.
            frames: what ``towers.frames`` takes, one row a video in each.
            mask: ``(video, frame)`` bool.
            video: ``(pair,)`` row of each pair's video.
        """
        gathered_text, gathered_frames = (
            _gather(self._encoded(self.towers.text, text)),
            _gather(self._encoded(self.towers.frames, *frames)[video]),
        )
        scores = pair_similarity(self.pooling, gathered_text, gathered_frames, _gather(mask[video]))
        return symmetric_contrastive(scores, self.towers.logit_scale)

    def _encoded(self, tower: Callable[..., Tensor], *parts: Tensor) -> Tensor:
        """Return a tower's embeddings, in micro-batches where asked to.

        A micro-batch leaves its embeddings alone. When their gradients have come back from the loss
        of the whole batch, it is encoded again, with the same dropout, and passes them on. So the
        gradient is that of the batch in one piece, and in one backward pass, as gathering between
        processes needs it: the two passes of GradCache, in torch's checkpointing.

        Source: GradCache (arXiv 2101.06983), section 3.2.
        """
        if self._micro_batch is None:
            return tower(*parts)
        encoded = []
        for micro_batch in zip(*(part.split(self._micro_batch) for part in parts), strict=True):
            # each casts the weights anew: of a shared bfloat16 copy, the micro-batches' gradients
            # would be summed in bfloat16
            torch.clear_autocast_cache()
            encoded.append(checkpoint(tower, *micro_batch, use_reentrant=False))
        return torch.cat(encoded)

    def groups(self, lr_encoder: float, lr_pooling: float) -> list[dict[str, object]]:
        """Parameter groups for the optimiser: the encoder's rate and the pooling's."""
        named: Sequence[tuple[nn.Module, float]] = (
            (self.towers, lr_encoder),
            (self.pooling, lr_pooling),
        )
        groups = [
            {"params": list(module.parameters()), "lr": rate, "full_rate": rate}
            for module, rate in named
        ]
        return [group for group in groups if group["params"]]


def _gather(local: Tensor) -> Tensor:
    """Rows of all processes, one after the other; gradients flow back to each row's owner."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return local
    if local.dtype == torch.bool:
        parts = [torch.empty_like(local) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, local)
        return torch.cat(parts)
    return torch.cat(torch.distributed.nn.all_gather(local))
