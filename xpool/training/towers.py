"""The towers of a run: they turn its texts and frames into embeddings.

:class:`FrozenTowers` read cached embeddings, :class:`EncoderTowers` hold the encoder itself, and
:class:`Compiled` is a tower through ``torch.compile``.
"""

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from xpool.data import transforms
from xpool.encoders.base import Encoder
from xpool.training.recipes import TrainParams


class Towers(nn.Module, ABC):
    """Turns a batch's texts and frames into embeddings."""

    dim: int
    logit_scale: nn.Parameter
    """Logarithm of the contrastive scale."""

    @abstractmethod
    def text(self, text: Tensor) -> Tensor:
        """Return ``(text, dim)`` raw embeddings."""

    @abstractmethod
    def words(self, text: Tensor) -> Tensor:
        """Return ``(text, 1 + word, dim)`` raw embeddings: each text's own, then its words'."""

    @abstractmethod
    def frames(self, *parts: Tensor) -> Tensor:
        """Return ``(video, frame, dim)`` raw embeddings; each part has one row a video."""


class FrozenTowers(Towers):
    """Cached embeddings behind two learned maps that start as the identity.

    A linear map after a frozen tower is the tower with its final projection fine-tuned. Every
    method, mean pooling included, can therefore learn a part of the encoder.
    """

    def __init__(self, dim: int, logit_scale: float) -> None:
        super().__init__()
        self.dim = dim
        self.text_projection = nn.Parameter(torch.eye(dim))
        self.frame_projection = nn.Parameter(torch.eye(dim))
        self.logit_scale = nn.Parameter(torch.tensor(logit_scale))

    def text(self, text: Tensor) -> Tensor:
        """Map cached embeddings ``(text, dim)`` to the same shape."""
        return text @ self.text_projection

    def words(self, text: Tensor) -> Tensor:
        """Map cached embeddings ``(text, 1 + word, dim)`` to the same shape."""
        return text @ self.text_projection

    def frames(self, *parts: Tensor) -> Tensor:
        """Map cached embeddings ``(video, frame, dim)``, the only part, to the same shape."""
        (frames,) = parts
        return frames @ self.frame_projection


Tower = Callable[[Tensor], Tensor]


class EncoderTowers(Towers):
    """The encoder itself, all of it trained, behind the augmentation."""

    def __init__(self, encoder: Encoder, antialias: bool, train: TrainParams) -> None:
        super().__init__()
        self.encoder = encoder
        self.dim = encoder.dim
        self._antialias = antialias
        self._text: Tower = encoder.encode_text
        self._words: Tower = encoder.encode_text_and_words
        self._frames: Tower = self._embedded
        if train.compile:
            once = train.micro_batch is None  # else a step calls a tower for each micro-batch
            self._text, self._words = Compiled(self._text, once), Compiled(self._words, once)
            self._frames = Compiled(self._frames, once)

    @property
    def logit_scale(self) -> nn.Parameter:  # type: ignore[override]
        """CLIP's own parameter."""
        return self.encoder.logit_scale

    def text(self, text: Tensor) -> Tensor:
        """Encode ids ``(text, token)`` to ``(text, dim)``."""
        return self._text(text)

    def words(self, text: Tensor) -> Tensor:
        """Encode ids ``(text, token)`` to ``(text, 1 + token, dim)``."""
        return self._words(text)

    def frames(self, *parts: Tensor) -> Tensor:
        """Encode the output of :func:`xpool.data.transforms.cut` to ``(video, frame, dim)``."""
        pixels, shapes = parts
        on_cuda = pixels.device.type == "cuda"
        # under autocast too: bfloat16 cannot tell all levels of a pixel apart; float16 can, and
        # its error is smaller than that of the tower's rounding to bfloat16
        dtype = torch.float16 if on_cuda and torch.is_autocast_enabled("cuda") else torch.float32
        with torch.autocast(pixels.device.type, enabled=False):
            size_px = self.encoder.size_px
            levels = transforms.training(pixels, shapes, size_px, self._antialias, dtype)
        return self._frames(levels)

    def _embedded(self, levels: Tensor) -> Tensor:
        """Encode ``(video, frame, 3, size_px, size_px)``, 0 to 255, to ``(video, frame, dim)``."""
        images = self.encoder.normalise(levels.flatten(0, 1).float() / 255)
        return self.encoder.encode_image(images).reshape(*levels.shape[:2], -1)


def compiler() -> str | None:
    """Return the compiler that ``torch.compile`` calls here, C for a GPU and else C++, or None."""
    variable, names = ("CC", ("gcc", "clang")) if torch.cuda.is_available() else ("CXX", ("g++",))
    chosen = os.environ.get(variable)
    return next(filter(None, map(shutil.which, [chosen] if chosen else names)), None)


class Compiled:
    """A tower compiled for one number of rows; shorter inputs are padded, and the padding dropped.

    Code compiled for any number of rows is slower, and torch uses it for all inputs once it exists.
    All batches of a run have one size except the last of an epoch.

    Args:
        tower: ``(row, ...)`` to ``(row, ...)``.
        graphs: whether a GPU replays the tower's kernels as one CUDA graph, since a step of 32
            pairs is too short for the host to queue them one by one. The next call overwrites a
            call's result, so a tower may be called only once a step.
    """

    def __init__(self, tower: Tower, graphs: bool) -> None:
        mode = "reduce-overhead" if graphs else "default"
        self._tower = torch.compile(tower, dynamic=False, mode=mode)
        self._rows = 0

    def __call__(self, inputs: Tensor) -> Tensor:
        """Apply the tower to ``(row, ...)``; return its ``(row, ...)``."""
        count = len(inputs)
        self._rows = max(self._rows, count)
        if missing := self._rows - count:
            inputs = torch.cat([inputs, inputs[:1].expand(missing, *inputs.shape[1:])])
        return self._tower(inputs)[:count]
