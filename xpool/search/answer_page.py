"""The page of answers: one that needs no other file, or the one that the demo serves."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xpool.report.protocol import METHODS
from xpool.report.typesetting import data_url
from xpool.search.answers import Answer, Search
from xpool.search.clips import film, jpeg
from xpool.search.library import Library

FILES = Path(__file__).parent / "page"
Address = Callable[[Library, Answer], str]
Addresses = Callable[[Library, Answer], list[str]]


def column(
    search: Search,
    answers: Sequence[Answer],
    note: str,
    film_at: Address,
    frames_at: Addresses,
) -> dict[str, Any]:
    """Return a method's answers as the page's script takes them.

    Args:
        search: found them.
        answers: best first.
        note: what stands below the method's name.
        film_at: the address of a video.
        frames_at: the addresses of the pictures of its frames.
    """

    def drawn(answer: Answer) -> dict[str, Any]:
        library = search.libraries[answer.library]
        return {
            "rank": answer.rank,
            "score": answer.score,
            "name": answer.video_id,
            "right": answer.right,
            "best": answer.best,
            "film": film_at(library, answer),
            "frames": [
                {"src": address, "time_s": time_s, "weight": weight, "exists": exists}
                for address, time_s, weight, exists in zip(
                    frames_at(library, answer),
                    answer.times_s.tolist(),
                    answer.weights.tolist(),
                    library.mask[answer.video].tolist(),
                    strict=True,
                )
            ],
        }

    return {
        "method": METHODS.get(search.run.name, search.run.name),
        "weights_are": search.weights_are,
        "note": note,
        "answers": [drawn(answer) for answer in answers],
    }


def whole(search: Search, query: str, answers: Sequence[Answer], note: str) -> str:
    """Return a page with films and pictures in it, which opens without a network.

    Raises:
        InputError: a video cannot be read any more.
    """
    shown = column(
        search,
        answers,
        note,
        lambda library, answer: data_url(film(library.files[answer.video]), "video/webm"),
        lambda library, answer: [
            data_url(jpeg(picture), "image/jpeg") for picture in library.pictures(answer.video)
        ],
    )
    about = "; ".join(f"{library.title}, {len(library):,} videos" for library in search.libraries)
    content = json.dumps({"query": query, "about": about, "columns": [shown]})
    # "</" would end the script, whatever it stands in
    content = content.replace("</", "<\\/")
    script = f"<script>window.ANSWERS = {content};\n{(FILES / 'app.js').read_text()}</script>"
    style = f"<style>{(FILES / 'app.css').read_text()}</style>"
    return _filled(style, script)


def served() -> str:
    """Return the page that asks the server which served it."""
    return _filled('<link rel="stylesheet" href="app.css">', '<script src="app.js"></script>')


def _filled(style: str, script: str) -> str:
    text = (FILES / "page.html").read_text(encoding="utf-8")
    return text.replace("<!-- style -->", style).replace("<!-- script -->", script)
