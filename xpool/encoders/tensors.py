"""Write named tensors to a file that others may read."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from xpool.project.workspace import replacing


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write named tensors to one safetensors file, atomically.

    ``save_file`` would leave a file that only its owner may read.

    Args:
        tensors: on any device, with or without gradient.
        path: the file.
        metadata: strings in the file's header; one at most, as their order is not fixed.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path, "wb") as file:
        file.write(save(plain, metadata=metadata))
