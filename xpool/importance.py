"""How much each factor of an experiment decides of R@1: fANOVA, as the dashboard shows it."""

from typing import Any

import optuna
from optuna.trial import TrialState

from xpool.experiment import Experiment


def importances(experiment: Experiment, study: optuna.Study) -> list[dict[str, Any]]:
    """Return one row a factor; their importances sum to 1.

    Factors that take one value only are not among them; with fewer than four complete trials, or
    where all have the same R@1, there are no rows.

    Source: Hutter et al., "An efficient approach for assessing hyperparameter importance", ICML
    2014, as Optuna has it; the trees are seeded.
    """
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(done) < 4 or len({trial.values[0] for trial in done}) < 2:
        return []
    found = optuna.importance.get_param_importances(
        study,
        evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
        target=lambda trial: trial.values[0],
    )
    where = {
        "study": experiment.study,
        "benchmark": experiment.benchmark,
        "part": experiment.part,
    }
    return [where | {"factor": name, "importance": value} for name, value in found.items()]
