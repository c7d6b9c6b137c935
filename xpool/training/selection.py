"""Three rules that decide which evaluation of a run gives the checkpoint that is tested.

``val``: the best evaluation on the validation split (the honest rule, and the default).
``last``: the end of training, whatever the evaluations say.
``test_window``: the official code's rule, the best five-evaluation mean of R@1 *on the test split*.
It selects on the test split, and every table that uses it says so.
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
        rule: the rule to apply.
        curve: one row for each evaluation so far, with ``R@1``, ``MnR`` (t2v) and ``step``.

    Source: ``test_window`` follows the official trainer (layer6ai-labs/xpool, trainer.py), which
    averages over at most the last five evaluations.
    """
    if rule == "last":
        return (float(curve[-1]["step"]),)
    if rule == "test_window":
        return (mean(row["R@1"] for row in curve[-WINDOW:]),)
    # R@1 ties often on a small validation split; then the mean rank decides
    return (curve[-1]["R@1"], -curve[-1]["MnR"])
