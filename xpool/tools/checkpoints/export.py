"""The command ``xpool export``: a run as a folder that other code loads."""

from pathlib import Path
from typing import Annotated

import typer


def main(
    run: Annotated[Path, typer.Argument(help="A scored run: its folder or checkpoint.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder.")],
) -> None:
    """Write a run as a folder that other code loads.

    CLIP as open_clip or transformers loads it, the method's own weights, test embeddings,
    similarity, ranks, TREC files, and a README.md with figures, protocol and provenance.

    Example: xpool export results/mini/train/xpool/msvd/0 --out exported
    """
    from xpool.tools.checkpoints.exported import export
    from xpool.training.cell import read_cell, run_at
    from xpool.training.recipes import import_path

    method, benchmark, seed = run_at(run)
    export(read_cell(import_path(method), benchmark, seed), out)
    print(f"{out}: exported; its README.md says what each file is")
