"""Which of a run's evaluations gives the checkpoint that is tested: three named rules.

``val``: the best of the validation split (the honest rule, and the default).
``last``: the end of training, whatever the evaluations say.
``test_window``: the official code's rule, the best five-evaluation mean of R@1 *on the test split*.
It is selected on test, and every table that uses it says so.
"""

from statistics import mean
from typing import Any, Literal

Selection = Literal["val", "last", "test_window"]

WINDOW = 5

SPLIT: dict[str, str] = {"val": "val", "last": "val", "test_window": "test"}
"""The split that is evaluated during training under each rule."""


def score(rule: Selection, curve: list[dict[str, Any]]) -> tuple[float, ...]:
    """Return the newest evaluation's score; the first strictly highest one is selected.

    Args:
        rule: the rule in force.
        curve: one row an evaluation so far, each with ``R@1``, ``MnR`` (t2v) and ``step``.

    Source: ``test_window`` as in the official trainer (layer6ai-labs/xpool, trainer.py): the mean
    over the last at most five evaluations.
    """
    if rule == "last":
        return (float(curve[-1]["step"]),)
    if rule == "test_window":
        return (mean(row["R@1"] for row in curve[-WINDOW:]),)
    # R@1 of a small validation split ties often; the mean rank decides between equals
    return (curve[-1]["R@1"], -curve[-1]["MnR"])
