"""X-Pool with random weights, random texts and videos, and a watch over the tensors of a test."""

import numpy as np
import oracles
import torch
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from xpool.pooling import TextTransformer
from xpool.xpool import XPool

SHAPES = {
    "seed": st.integers(0, 2**31),
    "n_text": st.integers(1, 9),
    "n_video": st.integers(1, 9),
    "n_frame": st.integers(1, 13),
    "width": st.integers(1, 24),
    "heads": st.integers(1, 5),
    "temperature": st.sampled_from([1e-2, 0.3, 1.0, 7.0, 1e6]),
}


def made(seed, n_text, n_video, n_frame, dim, heads=1, temperature=1.0, noise=0.3):
    """A method with random weights, texts, frames and a mask, in float64."""
    generator = torch.Generator().manual_seed(seed)
    method = XPool(dim, heads=heads, temperature=temperature).double().eval()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter += noise * torch.randn(
                parameter.shape, generator=generator, dtype=torch.float64
            )
    text = torch.randn(n_text, dim, generator=generator, dtype=torch.float64)
    frames = torch.randn(n_video, n_frame, dim, generator=generator, dtype=torch.float64)
    count = torch.randint(1, n_frame + 1, (n_video, 1), generator=generator)
    return method, text, frames, torch.arange(n_frame) < count


def text_transformer(layers=2, positions=7, dim=8, heads=2, activation="quick_gelu", seed=0):
    """CLIP's text transformer with random weights, in float64."""
    rng = np.random.default_rng(seed)
    return TextTransformer(
        position=torch.tensor(rng.standard_normal((positions, dim))),
        layers=[
            {k: torch.tensor(v) for k, v in oracles.random_layer(rng, dim).items()}
            for _ in range(layers)
        ],
        heads=heads,
        activation=activation,
    )


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation returns, in elements and in bytes."""

    def __init__(self):
        super().__init__()
        self.numel = self.nbytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.numel = max(self.numel, leaf.numel())
                self.nbytes = max(self.nbytes, leaf.nbytes)
        return result
