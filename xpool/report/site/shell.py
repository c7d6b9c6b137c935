"""The parts that all pages of a report share: navigation, looks, tables that sort and filter.

A page opens without a network and needs no other file. Sorting is sortable-tablesort 4.1.7
(github.com/tofsjonas/sortable, Unlicense), which lies in ``page/`` as it was released.
"""

import html
from pathlib import Path

FILES = Path(__file__).parent / "page"
PAGES = {
    "results": "Does X-Pool beat pooling that does not look at the text, and by how much? Tables "
    "of all methods with intervals and tests, beside what others published.",
    "attention": "Where X-Pool looks: film strips with the weight that a text gives to each frame, "
    "and what each method retrieves for it.",
    "ablations": "What the answer depends on: temperature, number of frames, number of scenes, and "
    "each method tuned equally hard.",
    "errors": "Where X-Pool wins and loses, its worst queries with what it found instead, videos "
    "that turn up for many texts, and misses that are right for their caption.",
}
"""The pages that notebooks make, each with the question that it answers."""
_SYNTHETIC = (
    "SYNTHETIC: everything here comes from generated videos. It shows whether the pipeline works "
    "and says nothing about the real benchmarks."
)


def page(name: str, body: str, setting: str) -> str:
    """Return a page of the report.

    Args:
        name: ``index``, or one of :data:`PAGES`; a notebook of another name gets no entry in the
            navigation.
        body: HTML of what it says.
        setting: the setting in force.
    """
    links = [
        f'<a href="{other}.html"{" aria-current=page" if other == name else ""}>'
        f"{other.capitalize()}</a>"
        for other in ("index", *PAGES)
    ]
    if setting == "mini":
        body = f'<p class="synthetic">{_SYNTHETIC}</p>\n{body}'
    filled = {
        "title": html.escape(f"{name.capitalize()} · X-Pool harness ({setting})"),
        "site": html.escape(f"X-Pool harness · {setting}"),
        "pages": "".join(links),
        "foot": "How to read the tables: <code>docs/results/reading_the_tables.md</code>.",
        "style": _text("site.css"),
        "script": _text("sortable-4.1.7.min.js") + _text("site.js"),
        "body": body,
    }
    whole = _text("shell.html")
    for slot, content in filled.items():
        whole = whole.replace(f"<!-- {slot} -->", content)
    return whole


def _text(name: str) -> str:
    return (FILES / name).read_text(encoding="utf-8")
