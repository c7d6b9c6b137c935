"""Saved figures as a notebook and its page show them, each with its data to download."""

import base64
import html
import io
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image

from xpool.report.typesetting import csv_link

QUALITY = 80
"""Quality of photographs in a page, of 100."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A saved figure as a notebook and its page show it, with its data to download."""

    picture: Path
    alt: str
    """What it shows, for those who do not see it."""
    data: pd.DataFrame
    """What it draws."""

    def _repr_html_(self) -> str:
        return figure_html(self.picture, self.alt, csv_link(self.picture.stem, self.data))


def figure_html(picture: Path, alt: str, caption: str) -> str:
    """Return a picture for :mod:`xpool.report.shell`, on a light card in a dark page too.

    Args:
        picture: its file.
        alt: what it shows, for those who do not see it.
        caption: HTML below it.
    """
    with Image.open(picture) as image:
        source = as_webp(image)
    alt = html.escape(alt)
    scroll = f'class="scroll" role="region" tabindex="0" aria-label="Figure {picture.stem}"'
    return (
        f"<figure><div {scroll}>"
        f'<img src="{source}" alt="{alt}" width="900" style="background:#fff"></div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def as_webp(image: Image.Image) -> str:
    """Return a picture as the address of a WebP file, which a page can hold.

    Exact if that is smaller, as it is for drawings; else, as for photographs, of good quality.
    """
    files = []
    for options in ({"lossless": True}, {"quality": QUALITY}):
        file = io.BytesIO()
        image.convert("RGB").save(file, "WEBP", **options)
        files.append(file.getvalue())
    return f"data:image/webp;base64,{base64.b64encode(min(files, key=len)).decode()}"
