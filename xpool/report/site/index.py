"""The page that links all others and says what each page and figure shows."""

import html

from xpool.project import paths
from xpool.project.made import made
from xpool.report.site.shell import PAGES, page
from xpool.report.site.shown import figure_html

FIGURES = {
    "recall": "How often the right video is among the first 1, 5 and 10. A dot is a run, a dash "
    "the mean over the seeds.",
    "differences": "How far X-Pool is ahead of each baseline in R@1. Right of 0 X-Pool is better; "
    "a line that crosses 0 leaves it open; filled dots are more than noise.",
    "wins": "On which queries X-Pool does better (up) or worse (down) than a baseline, by how "
    "often the video cuts to another shot. The dot is the balance.",
    "training": "How each run learned. A curve that still rises at the end had too few epochs.",
}
"""Figures of the results page, where their data can be downloaded."""


def index_page(setting: str) -> str:
    """Return the index page.

    Raises:
        InputError: a file that it links or shows is missing.
    """
    items = [
        f'<li><a href="{made(paths.report(setting, name)).name}">{name.capitalize()}</a>: '
        f"{html.escape(words)}</li>"
        for name, words in PAGES.items()
    ]
    parts = ["<h1>X-Pool against text-agnostic pooling</h1>", "<ul>", *items, "</ul>"]
    for name, words in FIGURES.items():
        picture = made(paths.tables(setting) / f"{name}.png")
        data = 'Its data: <a href="results.html">Results</a>.'
        parts.append(figure_html(picture, words, f"{html.escape(words)} {data}"))
    parts.append(f"<p>Tables as CSV, Markdown and LaTeX: <code>{paths.tables(setting)}</code>.</p>")
    return page("index", "\n".join(parts), setting)
