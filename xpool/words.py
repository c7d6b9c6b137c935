"""The words of texts: packed, and compared with frames."""

from dataclasses import dataclass

import torch
from torch import Tensor

from xpool.pooling import unit


@dataclass(frozen=True, kw_only=True)
class Words:
    """The word embeddings of texts, one text after the other."""

    values: Tensor
    """``(word of all texts, dim)`` raw embeddings."""
    start: Tensor
    """``(text,)`` row of each text's first word."""
    count: Tensor
    """``(text,)`` number of each text's words, at least 1."""

    @classmethod
    def of(cls, values: Tensor, count: Tensor) -> "Words":
        """Return the words of texts that lie in ``values`` in their order, ``count`` of each."""
        return cls(values=values, start=count.cumsum(0) - count, count=count)

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.count)

    def __getitem__(self, rows: Tensor) -> "Words":
        """Return some of the texts, with the values of all."""
        return Words(values=self.values, start=self.start[rows], count=self.count[rows])

    def alone(self) -> "Words":
        """Return these texts with their own values, in their order."""
        padded, exists = self.padded()
        return Words.of(padded[exists], self.count)

    def to(self, device: torch.device) -> "Words":
        """Copy to a device."""
        values, start, count = (part.to(device) for part in (self.values, self.start, self.count))
        return Words(values=values, start=start, count=count)

    def padded(self, width: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the words of all texts side by side.

        Args:
            width: number of words a text; None: the longest text's.

        Returns:
            ``(text, width, dim)``, where padding repeats the text's first word, and the
            ``(text, width)`` mask, True where the word exists.
        """
        number = torch.arange(
            int(self.count.max()) if width is None else width, device=self.count.device
        )
        exists = number < self.count[:, None]
        rows = self.start[:, None] + torch.where(exists, number, 0)
        return self.values[rows], exists


def nearest(
    words: Tensor, word_mask: Tensor, frames: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Return each word's nearest frame in each video, and each frame's nearest word in each text.

    All cosines come from one matrix product. Padding takes the place of a word or frame that
    exists, so that the maxima need no mask, which would read all cosines twice more.

    Args:
        words: ``(text, word, dim)``.
        word_mask: ``(text, word)`` bool, True where the word exists; at least one per text.
        frames: ``(video, frame, dim)``.
        mask: ``(video, frame)`` bool, True where the frame exists; at least one per video.

    Returns:
        ``(text, video, word)`` and ``(text, video, frame)``: the highest cosine; what padding has
        is that of another word or frame.
    """
    one, other = (_unit_without_padding(*side) for side in ((words, word_mask), (frames, mask)))
    cosines = one.flatten(0, 1) @ other.flatten(0, 1).mT
    cosines = cosines.view(*one.shape[:2], *other.shape[:2])  # (text, word, video, frame)
    return cosines.amax(dim=3).movedim(1, 2), cosines.amax(dim=1)


def _unit_without_padding(tokens: Tensor, mask: Tensor) -> Tensor:
    """Normalise tokens, and put each row's first one that exists in the place of padding."""
    number = torch.arange(tokens.shape[1], device=tokens.device)
    first = mask.int().argmax(dim=1, keepdim=True)
    index = torch.where(mask, number, first)
    return unit(tokens.gather(1, index[:, :, None].expand_as(tokens)))
