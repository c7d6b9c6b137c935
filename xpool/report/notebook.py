"""Run a notebook and render it as a page.

The notebook runs in the project's top folder, and its file stays without outputs. The page opens
without a network, and the same results give the same bytes.
"""

import logging
import os
from pathlib import Path
from typing import Any

from xpool.project import snapshot
from xpool.project.errors import InputError
from xpool.report.site.shell import page

NOTEBOOKS = Path("notebooks")

# nbconvert's body without prompts; code is folded.
_TEMPLATE = """
{%- extends 'basic/index.html.j2' -%}
{%- block in_prompt -%}{%- endblock -%}
{%- block empty_in_prompt -%}{%- endblock -%}
{%- block output_area_prompt -%}{%- endblock -%}
{%- block input_group -%}
<details class="code"><summary>code</summary>
{{ super() }}
</details>
{%- endblock -%}
"""


def execute(path: Path) -> Any:
    """Run a notebook in the current folder and return it with its outputs.

    Raises:
        InputError: there is no such notebook, or one of its cells failed.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in path.parent.glob("*.ipynb")))
        raise InputError(f"{path}: no such notebook; there are: {known or 'none'}")
    notebook = nbformat.read(path, as_version=4)
    begun: list[tuple[int, Any]] = []
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        record_timing=False,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        resources={"metadata": {"path": str(Path.cwd())}},
        on_cell_start=lambda cell, cell_index: begun.append((cell_index + 1, cell.get("id"))),
    )
    quiet = os.environ | {"TQDM_DISABLE": "1"}  # the times on a progress bar differ each time
    try:
        client.execute(env=quiet)
    except CellExecutionError as error:
        reason = " ".join(f"{error.ename}: {error.evalue}".split())
        raise InputError(f"{path}: {_last(begun)}: {reason}") from error
    except DeadKernelError as error:
        raise InputError(
            f"{path}: {_last(begun)}: its Python ended without a word (out of memory?)"
        ) from error
    return notebook


def _last(begun: list[tuple[int, Any]]) -> str:
    """Name the last cell that was started."""
    return "cell {} ({})".format(*begun[-1]) if begun else "before its first cell"


def to_html(notebook: Any, name: str, setting: str) -> str:
    """Return an executed notebook as one page that needs no other file.

    Args:
        notebook: from :func:`execute`.
        name: name of the page.
        setting: the setting in force.
    """
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(raw_template=_TEMPLATE, exclude_anchor_links=True)
    body, _ = exporter.from_notebook_node(notebook)
    return page(name, str(body), setting)


def notebook_page(name: str, setting: str) -> str:
    """Run a notebook of ``notebooks/`` and return it as a page.

    Args:
        name: name of the notebook, e.g. ``results``.
        setting: the setting in force.

    Raises:
        InputError: there is no such notebook, or one of its cells failed.
    """
    logging.getLogger("traitlets").setLevel(logging.WARNING)
    path = NOTEBOOKS / f"{name}.ipynb"
    snapshot.use(f"notebooks.{name}")
    notebook = execute(path)
    snapshot.untouched()  # by the process that ran it
    return to_html(notebook, name, setting)
