"""The page that links all others and says what each page and figure shows.

It opens without a network; links and pictures are relative to the page.
"""

import html
import os
from pathlib import Path

from xpool.project import paths
from xpool.project.made import made

PAGES = {
    "results": "Does X-Pool beat pooling that does not look at the text, and by how much? Tables "
    "of all methods with intervals and tests, beside what others published.",
    "attention": "Where X-Pool looks: film strips with the weight that a text gives to each frame, "
    "and what each method retrieves for it.",
    "ablations": "What the answer depends on: temperature, number of frames, number of scenes, and "
    "each method tuned equally hard.",
}
FIGURES = {
    "recall": "How often the right video is among the first 1, 5 and 10. A dot is a run, a dash "
    "the mean over the seeds.",
    "differences": "How far X-Pool is ahead of each baseline in R@1. Right of 0 X-Pool is better; "
    "a line that crosses 0 leaves it open; filled dots are more than noise.",
    "wins": "On which queries X-Pool does better (up) or worse (down) than a baseline, by how "
    "often the video cuts to another shot. The dot is the balance.",
    "training": "How each run learned. A curve that still rises at the end had too few epochs.",
}
_SYNTHETIC = (
    "SYNTHETIC: everything here comes from generated videos. It shows whether the pipeline works "
    "and says nothing about the real benchmarks."
)
_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "img{max-width:100%}figure{margin:2em 0}figcaption{color:#444}"
)


def index_page(setting: str) -> str:
    """Return the index page.

    Raises:
        InputError: a file that it links is missing.
    """
    folder = paths.report(setting, "index").parent
    title = f"X-Pool against text-agnostic pooling ({setting})"
    parts = [f"<h1>{html.escape(title)}</h1>"]
    if setting == "mini":
        parts.append(f"<p><strong>{html.escape(_SYNTHETIC)}</strong></p>")
    items = [
        f'<li><a href="{_link(paths.report(setting, name), folder)}">{name}</a>: '
        f"{html.escape(words)}</li>"
        for name, words in PAGES.items()
    ]
    parts += ["<ul>", *items, "</ul>"]
    for name, words in FIGURES.items():
        source = _link(paths.tables(setting) / f"{name}.svg", folder)
        caption = html.escape(words)
        parts.append(
            f'<figure><img src="{source}" alt="{caption}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    parts.append(
        f"<p>Tables as CSV, Markdown and LaTeX: <code>{paths.tables(setting)}</code>. How to read "
        "them: <code>docs/results/reading_the_tables.md</code>.</p>"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _link(file: Path, folder: Path) -> str:
    """Return the address of a file relative to the page's folder."""
    return Path(os.path.relpath(made(file), folder)).as_posix()
