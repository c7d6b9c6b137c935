"""Index one's own videos for a run."""

from pathlib import Path
from typing import Annotated

import typer


def main(
    videos: Annotated[list[Path], typer.Argument(help="Video files, and folders of some.")],
    run: Annotated[Path, typer.Option(help="A run that will search: results/.../train/...")],
    out: Annotated[Path, typer.Option(help="The folder of the index.")],
) -> None:
    """Index your own videos for `xpool search`.

    A killed command goes on where it was. Videos that cannot be read are named and left out. The
    index serves all runs that share the run's frozen encoder.

    Example: xpool index holidays --run results/mini/train/xpool/msrvtt/0 --out my.index
    """
    from xpool.search.index import build
    from xpool.search.trained import Trained

    there = build(videos, Trained.open(run), out)
    print(f"{out}: {there} videos; search them with: xpool search {run} TEXT --index {out}")
