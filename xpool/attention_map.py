"""A small picture of attention weights for the dashboard: one row a query, one column a frame."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray


def draw(weights: NDArray[Any], names: Sequence[str], path: Path) -> Path:
    """Write a PNG of weights ``(text, frame)``, each row summing to 1, and return its path."""
    from matplotlib.figure import Figure

    rows, frames = weights.shape
    figure = Figure(figsize=(2.5 + 0.28 * frames, 1.2 + 0.24 * rows), layout="constrained")
    panel = figure.subplots()
    picture = panel.imshow(weights, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    panel.set_yticks(range(rows), list(names), fontsize=6)
    panel.set(xlabel="frame", title="attention of each text over its own video")
    panel.title.set_fontsize(8)
    figure.colorbar(picture, ax=panel, label="weight")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path
