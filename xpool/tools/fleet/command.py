"""The command ``xpool fleet``: train all missing cells and run all trials side by side."""

from contextlib import closing
from typing import Annotated

import typer


def main(
    gpus: Annotated[
        float | None, typer.Option(min=0, help="GPUs of a task; 1 where there are any, else 0.")
    ] = None,
    cores: Annotated[int, typer.Option(min=1, help="CPU cores of a task.")] = 1,
    retries: Annotated[int, typer.Option(min=0, help="Restarts of a task that is lost.")] = 3,
    studies: Annotated[bool, typer.Option(help="Run the trials of the listed studies too.")] = True,
    dry_run: Annotated[bool, typer.Option(help="Only print what would run, and where.")] = False,
) -> None:
    """Train all cells and run all trials side by side.

    Only what is missing is run, and `dvc repro` then finds it done. It runs on Ray: on the cluster
    that RAY_ADDRESS names, whose nodes share this folder, or else on this machine. After a kill it
    goes on where it was.

    Example: xpool fleet --dry-run
    """
    from xpool.ablation.storage import OptunaParams, is_file
    from xpool.project.errors import InputError
    from xpool.project.params import PARAMS_FILE, read
    from xpool.settings import Studies
    from xpool.tools.fleet.cluster import Cluster
    from xpool.tools.fleet.estimate import in_words
    from xpool.tools.fleet.plan import check_ready, listed_cells, missing_cells, trials_of
    from xpool.tools.fleet.run import run

    listed = read("studies", Studies).all() if studies else []
    check_ready(listed)
    params = read("optuna", OptunaParams)
    with closing(Cluster(gpus, cores, retries)) as cluster:
        if listed and is_file(params) and len(cluster.hosts) > 1:
            raise InputError(
                f"{PARAMS_FILE}: optuna.storage: a file serves one machine, and the cluster has "
                f"{len(cluster.hosts)}; name a server, or leave out the trials with --no-studies"
            )
        cells = cluster.ask(missing_cells)
        counted = [trials_of(name, params, trained=not cells) for name in listed]
        missing = [study for study in counted if study.planned is None or study.left]
        done = len(listed_cells()) - len(cells)
        print(f"{done} cells are trained, {len(cells)} are to be trained")
        if not cells and not missing:
            print("nothing is missing: `dvc repro` makes the tables")
            return
        for line in in_words(cells, missing, cluster.slots):
            print(line)
        hosts = ", ".join(f"{name} ({slots} at a time)" for name, slots in cluster.hosts.items())
        print(f"on {hosts}, with {cluster.share()} a task")
        if dry_run:
            return
        run(cluster, cells, missing, params)
    print("all is trained: `dvc repro` scores it and makes the tables")
