"""Saved figures as a notebook and its page show them, each with its data to download."""

import html
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from xpool.report.typesetting import csv_link, data_url

Encoding = Mapping[str, Any]
DRAWING: Encoding = {"lossless": True, "method": 1}
"""WebP for drawings: exact, and smaller than a PNG file."""
PHOTOGRAPH: Encoding = {"quality": 80}
"""WebP for photographs: a fifth of a PNG file, and six times as fast as an exact one."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A saved figure as a notebook and its page show it, with its data to download."""

    picture: Path
    alt: str
    """Words that tell what the picture shows, for those who do not see it."""
    data: pd.DataFrame
    """The numbers that the picture draws, for download."""
    encoding: Encoding = field(default_factory=lambda: DRAWING)

    def _repr_html_(self) -> str:
        caption = csv_link(self.picture.stem, self.data)
        return figure_html(self.picture, self.alt, caption, self.encoding)


def figure_html(picture: Path, alt: str, caption: str, encoding: Encoding = DRAWING) -> str:
    """Return a picture for :mod:`xpool.report.site.shell`, on a light card in a dark page too.

    Args:
        picture: its file.
        alt: what it shows, for those who do not see it.
        caption: HTML below it.
        encoding: :data:`DRAWING` or :data:`PHOTOGRAPH`.
    """
    with Image.open(picture) as image:
        source = as_webp(image, encoding)
    alt = html.escape(alt)
    scroll = f'class="scroll" role="region" tabindex="0" aria-label="Figure {picture.stem}"'
    return (
        f"<figure><div {scroll}>"
        f'<img src="{source}" alt="{alt}" width="900" style="background:#fff"></div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def as_webp(image: Image.Image, encoding: Encoding) -> str:
    """Return a picture as the address of a WebP file, which a page can hold."""
    file = io.BytesIO()
    image.convert("RGB").save(file, "WEBP", **encoding)
    return data_url(file.getvalue(), "image/webp")
