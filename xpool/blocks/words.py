"""The words of texts: packed, weighed, and compared with frames."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xpool.pooling import masked_softmax, unit, without_padding


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
        rows, exists = self.rows(width)
        return self.values[rows], exists

    def rows(self, width: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the rows of :meth:`padded`, ``(text, width)``, and its mask."""
        number = torch.arange(
            int(self.count.max()) if width is None else width, device=self.count.device
        )
        exists = number < self.count[:, None]
        return self.start[:, None] + torch.where(exists, number, 0), exists


def nearest(
    words: Tensor, word_mask: Tensor, frames: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Return each word's nearest frame in each video, and each frame's nearest word in each text.

    All cosines come from one matrix product, with the videos last, so that both maxima run along
    contiguous numbers. Padding takes the place of a word or frame that exists, so that the maxima
    need no mask, which would read all cosines twice more.

    Args:
        words: ``(text, word, dim)``.
        word_mask: ``(text, word)`` bool, True where the word exists; at least one per text.
        frames: ``(video, frame, dim)``.
        mask: ``(video, frame)`` bool, True where the frame exists; at least one per video.

    Returns:
        ``(text, video, word)`` and ``(text, video, frame)``: the highest cosine; what padding has
        is that of another word or frame.
    """
    one, other = (unit_without_padding(*side) for side in ((words, word_mask), (frames, mask)))
    cosines = one.flatten(0, 1) @ other.movedim(1, 0).flatten(0, 1).mT
    cosines = cosines.view(*one.shape[:2], frames.shape[1], len(frames))
    # (text, word, frame, video)
    return cosines.amax(dim=2).movedim(1, 2), cosines.amax(dim=1).movedim(1, 2)


def interaction(
    words: tuple[Tensor, Tensor, Tensor], frames: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    """Return the weighted token-wise interaction of each text with each video.

    ``½ (sum_n a_n max_f w_n·c_f + sum_f b_f max_n w_n·c_f)`` with L2-normalised words and frames.

    Source: DRL (arXiv 2203.07111), section 3.3; foolwood/DRL@475f96c
    tvr/models/modeling.py:415-438. There a padded word or frame has the similarity 0, which a
    maximum below 0 loses to; here it takes no part.

    Args:
        words: ``(text, word, dim)``, the ``(text, word)`` mask, and the weights ``a``, of that
            shape, 0 at padding.
        frames: ``(video, frame, dim)``, the ``(video, frame)`` mask, and the weights ``b``.

    Returns:
        ``(text, video)``.
    """
    of_words, of_frames = nearest(*words[:2], *frames[:2])
    by_words = torch.einsum("tvw,tw->tv", of_words, words[2])
    by_frames = torch.einsum("tvf,vf->tv", of_frames, frames[2])
    return (by_words + by_frames) / 2


class TokenWeights(nn.Module):
    """Weights of words or frames: softmax over those that exist, of an MLP of each.

    Source: foolwood/DRL@475f96c tvr/models/modeling.py:97-116, 404-413. Its last layer has a bias,
    which the softmax cancels, so here it has none.
    """

    def __init__(self, dim: int, layers: int) -> None:
        """Draw the MLP as DRL does: normal weights of standard deviation 0.02, biases 0.

        Args:
            dim: width of the embeddings, and of the hidden layers.
            layers: number of linear layers, with ReLU between them.

        Raises:
            ValueError: ``layers`` is not 1, 2 or 3.
        """
        super().__init__()
        if layers not in (1, 2, 3):
            raise ValueError(f"layers must be 1, 2 or 3; got {layers}")
        hidden = [m for _ in range(layers - 1) for m in (nn.Linear(dim, dim), nn.ReLU())]
        self.mlp = nn.Sequential(*hidden, nn.Linear(dim, 1, bias=False))
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                nn.init.normal_(parameter, std=0.02)
            else:
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Weigh raw tokens ``(row, token, dim)``; returns ``(row, token)``, rows sum to 1."""
        return masked_softmax(self.logits(without_padding(tokens, mask)), mask)

    def logits(self, tokens: Tensor) -> Tensor:
        """Return what the softmax gets of raw tokens ``(..., dim)``."""
        logits: Tensor = self.mlp(tokens)
        return logits[..., 0]


def unit_without_padding(tokens: Tensor, mask: Tensor) -> Tensor:
    """Normalise tokens, and put each row's first one that exists in the place of padding."""
    number = torch.arange(tokens.shape[1], device=tokens.device)
    first = mask.int().argmax(dim=1, keepdim=True)
    index = torch.where(mask, number, first)
    return unit(tokens.gather(1, index[:, :, None].expand_as(tokens)))
