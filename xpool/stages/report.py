"""Make a page of the report: ``reports/<setting>/<page>.html``."""

import logging
from typing import Annotated

import typer

log = logging.getLogger(__name__)


def main(
    page: Annotated[str, typer.Argument(help="index, or a notebook: results, attention, ...")],
) -> None:
    """Render a notebook as a page, or make the index page.

    Pages open without a network, and the same results give the same bytes.

    Example: xpool report results
    """
    from xpool.project import paths
    from xpool.project.params import setting
    from xpool.project.workspace import replacing
    from xpool.report.notebook import notebook_page
    from xpool.report.site.index import index_page

    html = index_page(setting()) if page == "index" else notebook_page(page, setting())
    destination = paths.report(setting(), page)
    with replacing(destination) as file:
        file.write(html)
    log.info("wrote %s", destination)
