"""Train a method on a benchmark: ``results/<setting>/train/<method>/<benchmark>/<seed>/``.

All seeds in one stage, since starting it takes as long as training on a small benchmark;
``xpool fleet`` trains one seed a process.
"""

from typing import Annotated

import typer


def main(
    method: Annotated[str, typer.Option(help="A method: xpool, a name under baselines, a path.")],
    benchmark: Annotated[str, typer.Option(help="A benchmark with recipes for this method.")],
    seed: Annotated[int | None, typer.Option(help="One of the listed seeds.")] = None,
) -> None:
    """Train a method on a benchmark, with each seed.

    A killed run continues where it was, and ends with the same bits. On several GPUs:
    accelerate launch -m xpool train --method xpool --benchmark msrvtt

    Example: xpool train --method xpool --benchmark msrvtt
    """
    from xpool.project.errors import InputError
    from xpool.project.params import PARAMS_FILE, read
    from xpool.training.cell import read_cell
    from xpool.training.recipes import import_path
    from xpool.training.runs import train

    seeds = read("seeds", list[int])
    if seed is not None and seed not in seeds:
        raise InputError(f"{PARAMS_FILE}: seeds: no {seed} among {seeds}; add it, or name another")
    path = import_path(method)
    train([read_cell(path, benchmark, one) for one in (seeds if seed is None else [seed])])
