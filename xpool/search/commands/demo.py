"""Serve the demo on this machine."""

from typing import Annotated

import typer

PORT = 8090


def main(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.", min=1, max=65535)] = PORT,
) -> None:
    """Serve a page to search with any run, until Ctrl-C.

    It shows two methods side by side.

    Example: xpool demo --port 8091
    """
    from xpool.search.server import serve

    serve(port)
