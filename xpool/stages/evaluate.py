"""Score the test splits with a method's checkpoints: ``results/<setting>/similarity/<method>/``.

And measure what the method costs: ``results/<setting>/cost/<method>.json``.

All benchmarks and seeds in one process, since starting it takes longer than scoring a small
benchmark.
"""

from typing import Annotated

import typer


def main(
    method: Annotated[str, typer.Option(help="A method: xpool, a name under baselines, a path.")],
) -> None:
    """Score the test splits with a method's checkpoints.

    Example: xpool evaluate --method xpool
    """
    from xpool.postprocessing.banks import BankParams
    from xpool.project import paths
    from xpool.project.params import read, setting
    from xpool.project.workspace import write_json
    from xpool.training.cell import read_cell
    from xpool.training.evaluate import evaluate
    from xpool.training.recipes import import_path, short_name

    path = import_path(method)
    bank = read("post_processing.bank", BankParams | None)
    cost = {}
    for benchmark in read("benchmarks", list[str]):
        cells = [read_cell(path, benchmark, seed) for seed in read("seeds", list[int])]
        cost[benchmark] = evaluate(cells, bank)
    write_json(paths.cost(setting(), short_name(path)), cost)
