"""Weights that other code trained: read as tensors alone, and fitted onto a model by their names.

Files that fit are those of X-Pool's code and of CLIP4Clip's (a CLIP under ``clip.`` beside the
method's own weights, :attr:`xpool.pooling.Method.released_names`), and a CLIP alone as open_clip or
transformers save it. OpenAI's names and transformers' are told apart.
"""

import pickle
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from xpool.encoders.names import huggingface_names, openai_names
from xpool.pooling import Method
from xpool.project.digests import refuse_lfs_pointer
from xpool.project.errors import InputError
from xpool.training.model import RetrievalModel
from xpool.training.towers import EncoderTowers

INSIDE = "clip."
"""Beginning of an encoder's weights where they lie beside those of a method."""
COUNTED = ("position_ids", "input_resolution", "context_length", "vocab_size")
"""Endings of what some versions store beside the weights: counts, and the shape of the model."""
SHOWN = 3
"""Names of each kind that a message lists."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint, in float32.

    A pickle is read by torch's unpickler for tensors, which runs no code. Weights may lie under
    ``state_dict``, and behind the ``module.`` of torch's parallel wrappers.

    Args:
        path: .safetensors, or anything that ``torch.save`` wrote; or a folder of .safetensors, as
            ``xpool export`` writes it.

    Raises:
        InputError: the file is missing or damaged, holds more than tensors and plain values, or
            has a weight that is not finite; or two files of a folder have a weight of one name.
    """
    if path.is_dir():
        return _of_folder(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a checkpoint (.pth, .bin, .safetensors)")
    refuse_lfs_pointer(path)
    try:
        content: Any
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            with warnings.catch_warnings(action="ignore"):  # of other protocols of pickle
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own advice, to load it in the unsafe way, stands in the lines around the reason
        lines = [line for line in str(error).split("\n") if line.strip()]
        reason = next((line for line in lines if "nsupported" in line), "unknown content")
        raise InputError(
            f"{path}: refused, since it is no file of tensors and plain values alone "
            f"({reason.strip()[:200]}); save its state_dict anew with torch.save, where it came "
            "from"
        ) from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, SafetensorError) as error:
        raise InputError(f"{path}: not read: {' '.join(str(error).split())[:300]}") from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path}: expected weights by their names; found {type(content).__name__}")
    wrapped = all(str(name).startswith("module.") for name in content)
    weights = {}
    for name, value in content.items():
        own = str(name).removeprefix("module.") if wrapped else str(name)
        if own.endswith(COUNTED):
            continue
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise InputError(f"{path}: {name}: expected a tensor of floats")
        if not value.isfinite().all():
            raise InputError(f"{path}: {name} holds NaN or infinity; fetch the file again")
        weights[own] = value.float()
    return weights


def _of_folder(folder: Path) -> dict[str, Tensor]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError(f"{folder}: no .safetensors in it; name a checkpoint")
    weights: dict[str, Tensor] = {}
    for file in files:
        found = read_weights(file)
        if both := sorted(weights.keys() & found.keys()):
            raise InputError(f"{file}: {both[0]} is in another file of that folder too")
        weights |= found
    return weights


def released(method: Method) -> dict[str, Tensor]:
    """Return the weights of a method under the names of its authors' checkpoints."""
    return {
        _released(name, method.released_names): value for name, value in method.state_dict().items()
    }


def take(model: RetrievalModel, weights: Mapping[str, Tensor], path: Path) -> None:
    """Let a model take the weights of a checkpoint, each of them and no other.

    Args:
        model: a model whose towers hold the encoder.
        weights: from :func:`read_weights`.
        path: the checkpoint, for messages.

    Raises:
        InputError: a weight is missing, left over, or of another shape; or the encoder has another
            activation than the weights.
    """
    encoder, method = cast(EncoderTowers, model.towers).encoder, model.pooling
    inside = INSIDE if any(name.startswith(INSIDE) for name in weights) else ""
    if inside and encoder.text_transformer().activation != "quick_gelu":
        raise InputError(
            f"{path}: made from OpenAI's weights, which run with QuickGELU, but the encoder's "
            "activation is gelu; set encoder.activation: quick_gelu, and run `dvc repro weights`"
        )
    towers = ("text_model.", "vision_model.")
    huggingface = any(name.removeprefix(inside).startswith(towers) for name in weights)
    shapes = encoder.openai_weights()
    shapes = huggingface_names(shapes) if huggingface else shapes
    names = {_released(name, method.released_names): name for name in method.state_dict()}
    expected = {f"{inside}{name}": value.shape for name, value in shapes.items()}
    expected |= {theirs: method.state_dict()[name].shape for theirs, name in names.items()}
    scale = f"{inside}logit_scale"
    if scale in weights and weights[scale].numel() == 1:  # stored with and without an axis
        weights = {**weights, scale: weights[scale].reshape(expected[scale])}
    _expect_same(weights, expected, path, type(method).__name__)
    of_encoder = {name: weights[f"{inside}{name}"] for name in shapes}
    encoder.take(openai_names(of_encoder) if huggingface else of_encoder)
    method.load_state_dict({name: weights[theirs] for theirs, name in names.items()})


def _released(name: str, released_names: Mapping[str, str]) -> str:
    """Return what a method's weight is called in the authors' checkpoints."""
    for theirs, own in released_names.items():
        if name.startswith(own):
            return theirs + name.removeprefix(own)
    return name


def _expect_same(
    weights: Mapping[str, Tensor], expected: Mapping[str, torch.Size], path: Path, method: str
) -> None:
    both = weights.keys() & expected.keys()
    faults = {
        "not in the file": expected.keys() - weights.keys(),
        "no place for": weights.keys() - expected.keys(),
        "of another shape": {
            f"{name} {tuple(weights[name].shape)}, here {tuple(expected[name])}"
            for name in both
            if weights[name].shape != expected[name]
        },
    }
    said = [f"{what}: {_listed(names)}" for what, names in faults.items() if names]
    if said:
        raise InputError(
            f"{path}: does not fit {method} on the encoder of params.yaml; {'; '.join(said)}. Name "
            "the method, its recipe's pooling and the encoder of these weights"
        )


def _listed(names: Iterable[str]) -> str:
    """Return the first names, and how many more there are."""
    found = sorted(names)
    more = len(found) - SHOWN
    return ", ".join(found[:SHOWN]) + (f" and {more} more" if more > 0 else "")
