"""Run a study and export its trials: ``results/<setting>/studies/<study>/``.

The trials live in Optuna's storage (``optuna.storage``), outside DVC's outputs: a trial that is
done is never run again, and a killed study continues.
"""

from typing import Annotated

import typer


def main(
    study: Annotated[str, typer.Option(help="A file of studies/, e.g. temperature.")],
) -> None:
    """Run a study and export its trials.

    Plans the trials, and lets workers run them. Watch it with: xpool dashboard

    Example: xpool ablate --study temperature
    """
    from xpool.ablation.driver import run_study
    from xpool.ablation.storage import OptunaParams
    from xpool.project.params import read

    run_study(study, read("optuna", OptunaParams))
