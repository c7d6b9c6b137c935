"""Pictures of the errors page: a card for each missed query, and for each hub."""

import html
from collections.abc import Iterable
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from PIL import Image

from xpool.report.errors import hubs, misses
from xpool.report.errors.contents import Films, Hub, Miss
from xpool.report.protocol import Protocol, method_name, methods_of
from xpool.report.site.shown import PHOTOGRAPH, as_webp
from xpool.report.style import STYLE, colours, headline, legend, method_handles, panels

FRAMES, HEIGHT_PX = 6, 72
"""Frames of a strip, and their height."""
_LIKENESS = {
    misses.SAME: "The video found has the same caption: the miss is none.",
    misses.NEAR: "A caption of the video found differs in one word.",
}


@dataclass(frozen=True)
class Cards:
    """HTML of cards, as a notebook and its page show it."""

    content: str

    def _repr_html_(self) -> str:
        return f'<div class="cards">\n{self.content}\n</div>'


def miss_cards(found: Iterable[Miss], films: Films) -> Cards:
    """Return a card for each miss: the text, its video, the video found, the ranks."""
    cards = []
    for miss in found:
        ranks = ", ".join(f"{method_name(m)} {rank:.1f}" for m, rank in miss.ranks.items())
        likeness = _LIKENESS.get(miss.likeness, "")
        parts = [
            f"<h4>“{html.escape(miss.caption.strip())}”</h4>",
            f"<p>Rank of the right video: {html.escape(ranks)}. {likeness}</p>",
            _strip(films, miss.video_id, "right", "Right"),
        ]
        if miss.found_id != miss.video_id:
            parts.append(_strip(films, miss.found_id, "found", "Ranked first"))
        cards.append(f"<article>{''.join(parts)}</article>")
    return Cards("\n".join(cards))


def hub_cards(found: Iterable[Hub], films: Films) -> Cards:
    """Return a card for each hub: its frames, and how many texts find it."""
    cards = []
    for hub in found:
        caption = f", “{html.escape(hub.caption.strip())}”" if hub.caption else ""
        cards.append(
            f"<article><h4>Found for {hub.occurrences:.1f} texts</h4>"
            f"<p>Its own: {hub.texts}{caption}</p>"
            f"{_strip(films, hub.video_id, 'found', 'Hub')}</article>"
        )
    return Cards("\n".join(cards))


def _strip(films: Films, video_id: str, name: str, words: str) -> str:
    frames = [Image.fromarray(frame) for frame in films.frames(video_id, FRAMES)]
    width = round(HEIGHT_PX * frames[0].width / frames[0].height)
    whole = Image.new("RGB", ((width + 2) * len(frames) - 2, HEIGHT_PX), "white")
    for number, frame in enumerate(frames):
        small = frame.resize((width, HEIGHT_PX), Image.Resampling.BICUBIC)
        whole.paste(small, (number * (width + 2), 0))
    label, source = f"{words}: {html.escape(video_id)}", as_webp(whole, PHOTOGRAPH)
    return (
        f'<p class="strip {name}"><img src="{source}" alt="Frames of the video. {label}">'
        f"{label}</p>"
    )


def hub_figure(protocols: list[Protocol], table: pd.DataFrame) -> Figure:
    """Draw how N_k is distributed over the videos by each method.

    Args:
        protocols: one panel each.
        table: :meth:`xpool.report.errors.contents.Errors.occurrences` of all benchmarks.
    """
    with mpl.rc_context(STYLE):
        figure, (axes,) = panels(1, len(protocols), width=3.3, height=3.4)
        methods = methods_of(protocols)
        palette = colours(methods)
        for panel, protocol in zip(axes, protocols, strict=True):
            rows = table[table["benchmark"] == protocol.benchmark]
            bins = np.linspace(0, max(rows["occurrences"].max(), 1), 25)
            sns.histplot(
                rows, x="occurrences", hue="method", hue_order=methods, palette=palette,
                bins=bins, element="step", fill=False, stat="percent", common_norm=False,
                legend=False, ax=panel,
            )  # fmt: skip
            panel.set(title=protocol.title, xlabel=f"texts that find a video, N_{hubs.K}")
            panel.set(ylabel="")
        axes[0].set_ylabel("percent of the videos")
        legend(figure, method_handles(methods, linestyle=""), min(6, len(methods)))
        headline(figure, "How often a video is found", protocols[0].mark)
        return figure
