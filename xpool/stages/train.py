"""Train a method on a benchmark: ``results/<setting>/train/<method>/<benchmark>/<seed>/``.

All seeds in one stage, since starting it takes as long as training on a small benchmark.
"""

from typing import Annotated

import typer


def main(
    method: Annotated[str, typer.Option(help="A method: xpool, a name under baselines, a path.")],
    benchmark: Annotated[str, typer.Option(help="A benchmark with recipes for this method.")],
) -> None:
    """Train a method on a benchmark, with each seed.

    A killed run continues where it was, and ends with the same bits. On several GPUs:
    accelerate launch -m xpool train --method xpool --benchmark msrvtt

    Example: xpool train --method xpool --benchmark msrvtt
    """
    from xpool.project.params import read
    from xpool.training.cell import read_cell
    from xpool.training.recipes import import_path
    from xpool.training.runs import train

    path = import_path(method)
    train([read_cell(path, benchmark, seed) for seed in read("seeds", list[int])])
