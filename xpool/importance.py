"""How much each factor of an experiment decides of R@1, by fANOVA; the dashboard has PED-ANOVA."""

from typing import Any

import optuna
from optuna.trial import TrialState

from xpool.experiment import Experiment
from xpool.queue import attempts


def importances(experiment: Experiment, study: optuna.Study) -> list[dict[str, Any]]:
    """Return one row a factor; their importances sum to 1.

    Factors that take one value only are not among them; with fewer than four complete trials, or
    where all have the same R@1, there are no rows.

    Source: Hutter et al., "An efficient approach for assessing hyperparameter importance", ICML
    2014, as Optuna has it; the trees are seeded.
    """
    # as planned now: Optuna leaves out a factor whose range is not the same in all trials, as it is
    # not once a grid has grown, and the order of trials, which is that of chance, moves the trees
    planned = optuna.create_study(directions=study.directions)
    for trial in attempts(experiment, study).values():
        if trial.state == TrialState.COMPLETE:
            planned.add_trial(
                optuna.create_trial(
                    params=trial.params, distributions=experiment.space, values=trial.values
                )
            )
    done = planned.get_trials(deepcopy=False)
    if len(done) < 4 or len({trial.values[0] for trial in done}) < 2:
        return []  # with different results there are different points: some factor varied
    varied = [name for name in experiment.space if len({trial.params[name] for trial in done}) > 1]
    found = optuna.importance.get_param_importances(
        planned,
        params=varied,
        evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
        target=lambda trial: trial.values[0],
    )
    where = {
        "study": experiment.study,
        "benchmark": experiment.benchmark,
        "part": experiment.part,
    }
    return [where | {"factor": name, "importance": value} for name, value in found.items()]
