"""CLIP behind one interface, and the folder from which every step opens it.

``data/<setting>/encoder/`` is what the library itself reads (an open_clip ``local-dir`` or a
transformers model folder) plus ``encoder.json``, which says where the weights came from; the
``weights`` step fills it.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from tqdm import tqdm

from xpool.command import InputError
from xpool.interfaces import TextTransformer, load
from xpool.params import Section


class EncoderParams(Section):
    """``encoder`` in ``params.yaml``."""

    library: Literal["openclip", "huggingface"]
    model: str
    """open_clip name (``ViT-B-32``), Hugging Face id or folder, or ``tiny``."""
    pretrained: str
    """open_clip tag (``openai``) or local weights file; ``mini_world`` for ``tiny``; ``hub`` for a
    Hugging Face model."""
    pretraining: dict[str, Any] | None = None
    """How ``mini_world`` is trained; see ``xpool.pretrain``."""


class Encoder(nn.Module, ABC):
    """A CLIP: text and image towers that share a space of ``dim`` dimensions."""

    dim: int
    size_px: int
    """Side of the square images that the image tower takes."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    logit_scale: nn.Parameter
    """Logarithm of the contrastive scale, as CLIP stores it."""

    @classmethod
    @abstractmethod
    def prepare(cls, params: EncoderParams, folder: Path) -> None:
        """Fetch the weights through the library and write them into ``folder``, code-free."""

    @classmethod
    @abstractmethod
    def open(cls, folder: Path) -> Self:
        """Read a folder that :meth:`prepare` wrote."""

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Return ``(text, token)`` ids, padded to the encoder's context length."""

    @abstractmethod
    def encode_text(self, tokens: Tensor) -> Tensor:
        """``(text, token)`` ids to raw ``(text, dim)`` embeddings."""

    @abstractmethod
    def encode_image(self, pixels: Tensor) -> Tensor:
        """Normalised ``(image, 3, size_px, size_px)`` pixels to raw ``(image, dim)`` embeddings."""

    @abstractmethod
    def text_transformer(self) -> TextTransformer:
        """Return the text tower's position table and layers."""

    def normalise(self, pixels: Tensor) -> Tensor:
        """``(…, 3, height, width)`` in [0, 1] to the mean and spread that the weights expect."""
        # filled on the device: a copy from the host would make the host wait in each training step
        mean, std = (
            torch.stack([pixels.new_full((1, 1), value) for value in values])
            for values in (self.mean, self.std)
        )
        return (pixels - mean) / std


def open_encoder(folder: Path) -> Encoder:
    """Return the encoder that the weights step left in ``folder``.

    Raises:
        InputError: the step has not run, or its files are damaged.
    """
    description = folder / "encoder.json"
    if not description.is_file():
        raise InputError(f"{description}: not found; run `dvc repro weights`")
    library = json.loads(description.read_text(encoding="utf-8"))["library"]
    opened: Encoder = load(f"xpool.encoders.{library}", "ENCODER").open(folder)
    return opened


@torch.inference_mode()
def embed_texts(encoder: Encoder, captions: Sequence[str], batch_size: int) -> Tensor:
    """Return ``(text, dim)`` float32 raw embeddings; equal captions are encoded once."""
    device = encoder.logit_scale.device
    unique = sorted(set(captions), key=lambda caption: (len(caption), caption))
    rows = {caption: row for row, caption in enumerate(unique)}
    encoded = [
        encoder.encode_text(encoder.tokenize(unique[start : start + batch_size]).to(device))
        for start in tqdm(range(0, len(unique), batch_size), "texts", leave=False)
    ]
    return torch.cat(encoded).float().cpu()[[rows[caption] for caption in captions]]


@torch.inference_mode()
def embed_images(encoder: Encoder, videos: Iterator[Tensor], batch_size: int) -> Tensor:
    """Encode ``(frame, 3, size, size)`` pixels of many videos in full batches.

    Returns:
        ``(frame of all videos in order, dim)`` float32 raw embeddings.
    """
    device = encoder.logit_scale.device
    encoded: list[Tensor] = []
    waiting: list[Tensor] = []

    def flush(at_least: int) -> None:
        pixels = torch.cat(waiting)
        full = len(pixels) - len(pixels) % batch_size if at_least else len(pixels)
        for start in range(0, full, batch_size):
            batch = pixels[start : min(start + batch_size, full)].to(device)
            encoded.append(encoder.encode_image(encoder.normalise(batch)).float().cpu())
        waiting[:] = [pixels[full:]]

    held = 0
    for pixels in videos:
        waiting.append(pixels)
        held += len(pixels)
        if held >= batch_size:
            flush(at_least=batch_size)
            held = len(waiting[0])
    if held:
        flush(at_least=0)
    return torch.cat(encoded)
