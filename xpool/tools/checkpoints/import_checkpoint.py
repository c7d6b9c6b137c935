"""The command ``xpool import-checkpoint``: weights of other code as a run of ours."""

from pathlib import Path
from typing import Annotated

import typer


def main(
    file: Annotated[
        Path, typer.Argument(help="A checkpoint (.pth, .pt, .bin, .safetensors), or an export.")
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="RUN", help="The run that it stands for, by method, benchmark, seed."),
    ],
) -> None:
    """Make a run of a checkpoint that other code trained.

    Takes what X-Pool's and CLIP4Clip's code save, and a CLIP alone as open_clip or transformers
    save it. The method's recipe and the encoder are those of params.yaml; tensors are read, and no
    code is run. What does not fit is named. Needs the benchmark's frames.

    Example: xpool import-checkpoint model_best.pth --out results/paper/train/xpool/msrvtt/0
    """
    from xpool.training.cell import read_cell, run_at
    from xpool.training.checkpoints.imported import import_checkpoint
    from xpool.training.recipes import import_path

    method, benchmark, seed = run_at(out)
    run = import_checkpoint(file, read_cell(import_path(method), benchmark, seed))
    print(f"{run}: imported; `xpool evaluate {run}` scores it")
