"""X-Pool with random weights, and random texts and videos of any shape."""

import torch
from hypothesis import strategies as st

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
