"""CLIP behind one interface, and the folder from which every stage opens it.

``data/<setting>/encoder/`` holds the library's own files (an open_clip ``local-dir`` or a
transformers model folder), and ``encoder.json``, which says where the weights came from. The stage
``weights`` writes it.
"""

import copy
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import field_validator
from torch import Tensor, nn

from xpool.pooling import TextTransformer
from xpool.project.errors import InputError
from xpool.project.params import Section
from xpool.project.plugins import load, members


def best_device() -> torch.device:
    """Return the first accelerator that torch can use here, or the CPU."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


Activation = Literal["auto", "gelu", "quick_gelu"]


class EncoderParams(Section):
    """``encoder`` in ``params.yaml``."""

    library: str
    """A file of ``xpool/encoders`` that ends in ``ENCODER``, e.g. openclip."""
    model: str
    """open_clip name (``ViT-B-32``), Hugging Face id or folder, or ``tiny``."""
    pretrained: str
    """open_clip tag (``openai``) or local weights file; ``mini_world`` for ``tiny``; ``hub`` for a
    Hugging Face model."""
    activation: Activation = "auto"
    """Activation of the hidden layers: ``quick_gelu`` (OpenAI's weights and some others), ``gelu``,
    or ``auto``: as the tag, the weights' own config, their name or the model says."""
    pretraining: dict[str, Any] | None = None
    """How ``mini_world`` is trained; see ``xpool.training.pretrain``."""

    @field_validator("library")
    @classmethod
    def _known(cls, library: str) -> str:
        if library not in (known := members("xpool.encoders", "ENCODER")):
            raise ValueError(f"no such library; there are: {', '.join(known)}")
        return library


class Encoder(nn.Module, ABC):
    """A CLIP: text and image towers that share a space of ``dim`` dimensions."""

    dim: int
    size_px: int
    """Side of the image tower's square input, in pixels."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    logit_scale: nn.Parameter
    """Logarithm of the contrastive scale, as CLIP stores it."""
    _tokenizer: Any = None
    """The library's tokenizer, if there is one; nothing changes it."""

    def copied(self) -> Self:
        """Return a copy with weights of its own.

        It shares the tokenizer, whose tables take longer to copy than a small model.
        """
        return copy.deepcopy(self, {id(self._tokenizer): self._tokenizer})

    @classmethod
    def problems(cls, params: EncoderParams) -> Iterable[str]:
        """Yield each reason why this library cannot provide such an encoder, as ``key: reason``."""
        return ()

    @classmethod
    def weights_digests(cls, params: EncoderParams) -> Iterable[str]:
        """Yield the SHA-256 of the files from which :meth:`prepare` takes the weights."""
        return ()

    def architecture(self) -> str:
        """Return the architecture by the config, as papers name it, e.g. ``ViT-B/32``."""
        return "unknown"

    @classmethod
    def width(cls, params: EncoderParams) -> int | None:
        """Return ``dim`` of an encoder whose weights are not there yet; None if it is not known."""
        return None

    @classmethod
    @abstractmethod
    def prepare(cls, params: EncoderParams, folder: Path) -> None:
        """Fetch the weights through the library and write them into ``folder``, without code."""

    @classmethod
    @abstractmethod
    def open(cls, folder: Path) -> Self:
        """Read a folder that :meth:`prepare` wrote."""

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Return ``(text, token)`` ids, padded to the encoder's context length."""

    @abstractmethod
    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text before it is cut to the context length."""

    def vocabulary_sizes(self) -> tuple[int, int] | None:
        """Return how many tokens the tokenizer and the text tower know; None if both are open."""
        return None

    @abstractmethod
    def encode_text(self, tokens: Tensor) -> Tensor:
        """``(text, token)`` ids to raw ``(text, dim)`` embeddings."""

    def encode_words(self, tokens: Tensor) -> Tensor:
        """``(text, token)`` ids to raw ``(text, token, dim)`` embeddings, one a token.

        They are the text tower's last states, each through the final norm and projection. The last
        token's is the text's own embedding.

        Raises:
            InputError: the library gives none.
        """
        raise InputError(
            f"encoder.library: {type(self).__name__} embeds no words; take another library, or "
            "leave out methods that compare words with frames (embeddings.words: false)"
        )

    @abstractmethod
    def word_counts(self, tokens: Tensor) -> Tensor:
        """Return the ``(text,)`` numbers of tokens from start to end, both included."""

    def encode_text_and_words(self, tokens: Tensor) -> Tensor:
        """Return ``(text, 1 + token, dim)``: :meth:`encode_text` before :meth:`encode_words`."""
        words = self.encode_words(tokens)
        end = self.word_counts(tokens) - 1
        own = words[torch.arange(len(words), device=words.device), end]
        return torch.cat([own[:, None], words], dim=1)

    @abstractmethod
    def encode_image(self, pixels: Tensor) -> Tensor:
        """Normalised ``(image, 3, size_px, size_px)`` pixels to raw ``(image, dim)`` embeddings."""

    @abstractmethod
    def text_transformer(self) -> TextTransformer:
        """Return the text tower's position table and layers."""

    def openai_weights(self) -> dict[str, Tensor]:
        """Return all weights under the names of OpenAI's CLIP.

        Raises:
            InputError: this library's encoders have no such names.
        """
        raise InputError(
            f"{type(self).__name__}: has no weights under the names of OpenAI's CLIP, so that "
            "checkpoints of other code do not fit; set encoder.library to openclip or huggingface"
        )

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Take other weights of this architecture, under the names of OpenAI's CLIP.

        Raises:
            InputError: see :meth:`openai_weights`.
            RuntimeError: a name or a shape is not that of :meth:`openai_weights`.
        """
        self.openai_weights()

    def write(self, folder: Path) -> None:
        """Write the weights as they are now over those in a copy of :meth:`prepare`'s folder.

        Raises:
            InputError: see :meth:`openai_weights`.
        """
        self.openai_weights()

    def normalise(self, pixels: Tensor) -> Tensor:
        """``(…, 3, height, width)`` in [0, 1] to the mean and spread that the weights expect."""
        # made on the device: a copy from the host would make the host wait in each training step
        mean, std = (
            torch.stack([pixels.new_full((1, 1), value) for value in values])
            for values in (self.mean, self.std)
        )
        return (pixels - mean) / std


def open_encoder(folder: Path) -> Encoder:
    """Return the encoder that the stage ``weights`` wrote into ``folder``.

    Raises:
        InputError: the stage has not run, or its files are damaged.
    """
    description = folder / "encoder.json"
    if not description.is_file():
        raise InputError(f"{description}: not found; run `dvc repro weights`")
    library = json.loads(description.read_text(encoding="utf-8"))["library"]
    opened: Encoder = load(f"xpool.encoders.{library}", "ENCODER").open(folder)
    return opened


_SIZES = {(768, 12): "B", (1024, 24): "L", (1280, 32): "H"}


def vit_name(width: int, layers: int, patch_px: int, size_px: int) -> str:
    """Return the name that papers give to an image tower.

    Example:
        >>> vit_name(768, 12, 32, 224), vit_name(1024, 24, 14, 336)
        ('ViT-B/32', 'ViT-L/14@336px')
    """
    size = _SIZES.get((width, layers), f"{width}x{layers}")
    return f"ViT-{size}/{patch_px}{'' if size_px == 224 else f'@{size_px}px'}"


def describe(encoder: Encoder, params: EncoderParams, folder: Path) -> dict[str, Any]:
    """Return an encoder's description: where it came from, its shape, and its files' digests.

    The stages that open the folder depend on this description alone, so it must list every file.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {
        "library": params.library,
        "model": params.model,
        "pretrained": params.pretrained,
        "dim": encoder.dim,
        "size_px": encoder.size_px,
        "architecture": encoder.architecture(),
        "weights": sorted(encoder.weights_digests(params)),
        "mean": list(encoder.mean),
        "std": list(encoder.std),
        "sha256": {
            str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
        },
    }
