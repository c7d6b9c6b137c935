"""What plugs in, and the one dynamic import that finds it: the folder is the registry.

A pooling, benchmark or encoder is one file whose last line names it: ``METHOD``, ``BENCHMARK`` or
``ENCODER``. :func:`load` takes the import path, so adding one touches no list in Python.
"""

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from xpool.command import InputError


@dataclass(frozen=True, kw_only=True)
class TextTransformer:
    """CLIP's text transformer, from which CLIP4Clip's seqTransf starts (modeling.py:105-121)."""

    position: Tensor
    """``(position, dim)`` learned position table."""
    layers: list[dict[str, Tensor]]
    """Per layer, under OpenAI's names: ``ln_1.weight`` … ``attn.in_proj_weight`` …
    ``mlp.c_fc.weight`` … ``mlp.c_proj.bias``."""
    heads: int
    activation: str
    """``quick_gelu`` (OpenAI's weights) or ``gelu``."""


class Pooling(nn.Module, ABC):
    """Turns the frames of each video into one embedding per query text.

    Text and frames arrive un-normalised, as the encoder gives them; each method normalises exactly
    where its source does. A pooling that ignores the text returns axis 0 of size 1; callers
    broadcast and never ask which kind it is.
    """

    @abstractmethod
    def forward(self, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Pool.

        Args:
            text: ``(text, dim)`` raw embeddings.
            frames: ``(video, frame, dim)`` raw embeddings; padded frames hold any finite value.
            mask: ``(video, frame)`` bool, True where the frame exists; at least one per video.

        Returns:
            ``(text | 1, video, dim)``, any norm.
        """

    def start_from(self, text_transformer: TextTransformer) -> None:
        """Take over weights of CLIP's text transformer; most methods have no use for them."""


def load(path: str, name: str) -> Any:
    """Return the named member of a set, e.g. ``load("baselines.mean_pool", "METHOD")``.

    Raises:
        InputError: no such module, or it does not end in that name.
    """
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name and not f"{path}.".startswith(f"{error.name}."):
            raise  # the module is there, and something that it imports is not
        raise InputError(
            f"{path}: no such module; expected the file {path.replace('.', '/')}.py"
        ) from error
    if not hasattr(module, name):
        raise InputError(f"{path}: the file must end in '{name} = ...'")
    return getattr(module, name)
