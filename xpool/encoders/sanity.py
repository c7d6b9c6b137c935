"""Checks of an encoder before anything is computed with it.

Weights that load may still be wrong: without its vocabulary a tokenizer gives every text the same
tokens, and a damaged file holds NaN or zeros.
"""

import math

import torch
from torch import Tensor

from xpool.encoders.base import Encoder
from xpool.project.errors import InputError

TEXTS = ("a red ring", "a red star", "the red ring")
"""They differ in the last or the first word, so a tower that reads the wrong token shows."""
LEAST_DIFFERENCE = 1e-4
"""Least distance of two embeddings that differ, as a share of their norm; CLIP's are near 0.5."""


@torch.inference_mode()
def check_encoder(encoder: Encoder, name: str) -> None:
    """Check that an encoder tells texts and images apart.

    Args:
        encoder: the encoder, on the CPU.
        name: how it is called in errors.

    Raises:
        InputError: it does not; the message says which part is wrong.
    """
    where = f"encoder: {name}"
    sizes = encoder.vocabulary_sizes()
    if sizes is not None and sizes[0] != sizes[1]:
        raise InputError(
            f"{where}: the tokenizer has {sizes[0]} tokens, the text tower {sizes[1]}; tokenizer "
            "files are missing or belong to another model"
        )
    values = (*encoder.mean, *encoder.std)
    if len(values) != 6 or not all(map(math.isfinite, values)) or min(encoder.std) <= 0:
        raise InputError(
            f"{where}: expected three means and spreads of pixels, found {encoder.mean} and "
            f"{encoder.std}"
        )
    tokens = encoder.tokenize(TEXTS)
    if len({tuple(row) for row in tokens.tolist()}) < len(TEXTS):
        raise InputError(f"{where}: different texts get the same tokens; see its tokenizer files")
    _expect_difference(where, "different texts", encoder.encode_text(tokens))
    size = (1, 3, encoder.size_px, encoder.size_px)
    noise = torch.rand(size, generator=torch.Generator().manual_seed(0))
    images = encoder.normalise(torch.cat([torch.zeros(size), noise]))
    _expect_difference(where, "noise and a black image", encoder.encode_image(images))
    encoder.text_transformer()


def _expect_difference(where: str, what: str, embedded: Tensor) -> None:
    if not embedded.isfinite().all():
        raise InputError(f"{where}: {what} get embeddings with NaN or infinity; fetch the weights")
    distance = (embedded[1:] - embedded[0]).norm(dim=1)
    if (distance <= LEAST_DIFFERENCE * embedded.norm(dim=1).max()).any():
        raise InputError(
            f"{where}: {what} get the same embedding; the weights are damaged or of another model"
        )
