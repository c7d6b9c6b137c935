"""CLIP's text transformer as a file, beside the cached embeddings."""

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from xpool.encoders.tensors import save_tensors
from xpool.pooling import TextTransformer


def write_text_transformer(transformer: TextTransformer, path: Path) -> None:
    """Save as safetensors, so that runs with a frozen encoder need not open the encoder."""
    tensors = {"position": transformer.position} | {
        f"{number}.{name}": value
        for number, layer in enumerate(transformer.layers)
        for name, value in layer.items()
    }
    about = json.dumps({"heads": transformer.heads, "activation": transformer.activation})
    save_tensors(tensors, path, {"about": about})


def read_text_transformer(path: Path) -> TextTransformer:
    """Read what :func:`write_text_transformer` wrote."""
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"])
    tensors = load_file(path)
    position = tensors.pop("position")
    layers: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, rest = name.partition(".")
        layers.setdefault(int(number), {})[rest] = value
    return TextTransformer(
        position=position,
        layers=[layers[number] for number in sorted(layers)],
        heads=about["heads"],
        activation=about["activation"],
    )
