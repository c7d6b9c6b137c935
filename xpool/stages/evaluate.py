"""Score the test splits with a method's checkpoints: ``results/<setting>/similarity/<method>/``.

And measure what the method costs: ``results/<setting>/cost/<method>.json``.

All benchmarks and seeds in one process, since starting it takes longer than scoring a small
benchmark. With a run in place of a method: that one alone, and its metrics are printed.
"""

import importlib
from pathlib import Path
from typing import Annotated

import typer


def main(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN]", help="One run, and no --method: its folder or checkpoint."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="All runs of a method: xpool, a name under baselines, a path."),
    ] = None,
) -> None:
    """Score the test splits with a method's checkpoints.

    Example: xpool evaluate --method xpool

    Example: xpool evaluate results/paper/train/xpool/msrvtt/0
    """
    from xpool.postprocessing.banks import BankParams
    from xpool.project import paths
    from xpool.project.errors import InputError
    from xpool.project.params import read, setting
    from xpool.project.workspace import write_json
    from xpool.training.cell import read_cell, run_at
    from xpool.training.cost import read_cost
    from xpool.training.evaluate import evaluate
    from xpool.training.recipes import import_path, short_name

    if (run is None) == (method is None):
        raise InputError("expected either a run or --method; see xpool evaluate --help")
    bank = read("post_processing.bank", BankParams | None)
    benchmarks, seeds, cost = read("benchmarks", list[str]), read("seeds", list[int]), {}
    if run is not None:
        name, benchmark, seed = run_at(run)
        benchmarks, seeds, cost = [benchmark], [seed], read_cost(setting(), name)
    path = import_path(method or name)
    for benchmark in benchmarks:
        cost[benchmark] = evaluate([read_cell(path, benchmark, seed) for seed in seeds], bank)
    write_json(paths.cost(setting(), short_name(path)), cost)
    if run is not None:
        # by name: what prints the scores decides none of them, and is no reason to score anew
        report = importlib.import_module("xpool.report.one_run")
        typer.echo(report.described(setting(), short_name(path), benchmarks[0], seeds[0]))
