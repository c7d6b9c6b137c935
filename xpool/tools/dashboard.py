"""Serve Optuna's dashboard on this machine: all studies with their trials, plots and notes.

It listens on 127.0.0.1 alone, since whoever reaches it can change and delete studies. From another
machine, use a tunnel: ``ssh -L 8080:127.0.0.1:8080 <machine>``.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

PORT = 8080


def main(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.", min=1, max=65535)] = PORT,
) -> None:
    """Serve Optuna's dashboard until Ctrl-C.

    Start it before, during or after the studies; its pages follow them.

    Example: xpool dashboard --port 8081
    """
    from optuna_dashboard import run_server

    from xpool.ablation.storage import OptunaParams, address, artifact_store, open_storage
    from xpool.project.command import LOCALHOST, expect_free
    from xpool.project.params import read

    expect_free(port, "dashboard")
    params = read("optuna", OptunaParams)
    storage = open_storage(params)
    title = f"http://{LOCALHOST}:{port}/ shows {address(params)}; Ctrl-C ends it"
    print("\n".join([title, *studies_there(storage)]), flush=True)
    run_server(storage, host=LOCALHOST, port=port, artifact_store=artifact_store())


def studies_there(storage: "BaseStorage") -> Iterator[str]:
    """Yield a line for each study, or one that says how to run a study."""
    import optuna
    from optuna.trial import TrialState

    names = optuna.get_all_study_names(storage)
    if not names:
        yield "no study yet: run `dvc repro ablate@temperature`, and it appears here while it runs"
    for name in names:
        study = storage.get_study_id_from_name(name)
        done = storage.get_n_trials(study, TrialState.COMPLETE)
        yield f"  {name}: {done} of {storage.get_n_trials(study)} trials complete"
