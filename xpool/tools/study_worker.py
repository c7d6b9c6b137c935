"""Run trials of studies: as many processes, on as many machines, as share its storage."""

from typing import Annotated

import typer


def main(
    study: Annotated[list[str], typer.Option(help="A file of studies/; may be given again.")],
) -> None:
    """Run trials of studies beside other workers.

    The stage ablate@<study> plans the trials and starts some workers itself. More may join at any
    time, from any checkout with the same code, params, data and optuna.storage.

    Example: xpool study-worker --study temperature
    """
    from xpool.ablation.storage import OptunaParams
    from xpool.ablation.worker import join
    from xpool.project.params import read

    join(study, read("optuna", OptunaParams))
