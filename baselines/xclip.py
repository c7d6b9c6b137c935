"""X-CLIP's four grains, each gathered by attention over the similarity matrix (AOSM)."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from xpool.pooling import Method, masked_mean, masked_softmax, unit, without_padding
from xpool.project.errors import InputError

RECIPE = "params.yaml recipes.xclip.<benchmark>.pooling"
SCORES_PER_COSINE = 8
"""Upper estimate of the arrays of the size of a pair's cosines that are held at once."""


class FourGrains(Method):
    """Mean of four scores: video-sentence, video-word, sentence-frame and frame-word.

    With L2-normalised text t, words w, frames c and their mean v, also normalised:
    ``s = ¼ (tᵀWv + A(w_n·v) + A(t·c_f) + ½ (A_f(A_n(S)) + A_n(A_f(S))))`` with ``S_nf = w_nᵀWc_f``
    and ``A(x) = sum_ij softmax(x / τ)_i W_ij x_j`` over the words or the frames. Each ``W`` is a
    matrix of its own and starts as the identity.

    Source: X-CLIP (arXiv 2207.07285); xuguohai/X-CLIP@6b5344f modules/modeling_xclip.py:127-142,
    310-346. How ours differs: there the matrices over words and frames have the size of a padded
    text and a padded video, and padding takes part in softmax and sum; here it takes none, and a
    shorter text or video uses the first rows and columns. The published runs put CLIP4Clip's
    seqTransf in front of ``v``, here it is the mean of the encoder's frames.
    """

    wants_words: ClassVar[bool] = True

    def __init__(
        self, dim: int, positions: int = 12, words: int = 77, temperature: float = 0.01
    ) -> None:
        """Make the matrices; nothing is random.

        Args:
            dim: width of the embeddings.
            positions: size of the matrices over frames, and the largest number of frames.
            words: size of the matrices over words, and the largest number of words.
            temperature: divisor τ of the cosines in the softmax.

        Raises:
            ValueError: a value is out of its range.
        """
        super().__init__()
        if positions < 1 or words < 1:
            raise ValueError(
                f"positions and words must be at least 1; got positions={positions}, words={words}"
            )
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0; got {temperature}")
        self.temperature = temperature
        self.video_sentence = nn.Parameter(torch.eye(dim))
        self.video_word = nn.Parameter(torch.eye(words))
        self.sentence_frame = nn.Parameter(torch.eye(positions))
        self.frame_word = nn.Parameter(torch.eye(dim))
        self.over_words = nn.Parameter(torch.eye(words))
        self.over_frames = nn.Parameter(torch.eye(positions))
        self.then_over_frames = nn.Parameter(torch.eye(positions))
        self.then_over_words = nn.Parameter(torch.eye(words))

    def similarity(
        self, text: Tensor, frames: Tensor, mask: Tensor, words: Tensor, word_mask: Tensor
    ) -> Tensor:
        """Score; returns ``(text, video)``.

        Raises:
            InputError: more frames than ``positions``, or more words than ``words``.
        """
        for key, count, most in (
            ("positions", frames.shape[1], len(self.over_frames)),
            ("words", words.shape[1], len(self.over_words)),
        ):
            if count > most:
                raise InputError(
                    f"{RECIPE}.{key}: {most}, but there are {count}; set it to at least {count}"
                )
        text = unit(text)
        words = unit(without_padding(words, word_mask))
        frames = unit(without_padding(frames, mask))
        video = unit(masked_mean(frames, mask))
        each_word, each_frame = word_mask[:, None, :], mask[None, :, :]

        whole = text @ self.video_sentence @ video.mT
        of_words = torch.einsum("twd,vd->tvw", words, video)
        of_frames = torch.einsum("td,vfd->tvf", text, frames)
        cosines = torch.einsum("twd,vfd->tvwf", words @ self.frame_word, frames)
        by_frame = self._gathered(cosines.mT, self.over_words, each_word[:, :, None, :])
        by_word = self._gathered(cosines, self.over_frames, each_frame[:, :, None, :])
        fine = self._gathered(by_frame, self.then_over_frames, each_frame)
        fine = fine + self._gathered(by_word, self.then_over_words, each_word)
        return (
            whole
            + self._gathered(of_words, self.video_word, each_word)
            + self._gathered(of_frames, self.sentence_frame, each_frame)
            + fine / 2
        ) / 4

    def _gathered(self, scores: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
        """Reduce scores ``(..., token)`` over the tokens that exist: ``A`` of the class."""
        n_token = scores.shape[-1]
        shares = masked_softmax(scores / self.temperature, mask)
        mixed = shares @ weight[:n_token, :n_token]
        return (mixed * scores.masked_fill(~mask, 0.0)).sum(dim=-1)

    def numbers_per_pair(self, n_word: int, n_frame: int, dim: int) -> int:
        """Return how many numbers a pair takes: its cosines, their shares, and products of both."""
        return SCORES_PER_COSINE * (n_word + 1) * (n_frame + 1)


METHOD = FourGrains
