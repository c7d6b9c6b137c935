"""The commands that make the rows of the tables again; a page lists them below each table."""

from collections.abc import Iterable

from xpool.project.params import read
from xpool.report.protocol import method_name
from xpool.report.typesetting import Command, Row

STAGES = {"own_models": "ablate", "trained_models": "ablate_trained"}
"""Stage of the studies in each list of ``studies`` in params.yaml."""


def of_methods(
    methods: Iterable[str], rows: Iterable[Row], benchmark: str = "", what: str = "t2v R@1"
) -> tuple[Command, ...]:
    """Return the commands of the methods' rows, each with the first figure of the row.

    Args:
        methods: short names.
        rows: their rows, found by the printed names; a method without a row is passed over.
        benchmark: short name of the benchmark whose figures the rows are; empty where each column
            is a benchmark.
        what: what the first figure is.
    """
    of_label = {row.label: row for row in rows}
    found = []
    for method in methods:
        if (row := of_label.get(method_name(method))) is None:
            continue
        figure = row.cells[0].translate({ord(mark): None for mark in "†‡"})
        line = f"dvc repro {' '.join(_stages(method, benchmark))} results && xpool summary"
        found.append(Command(rows=row.label, line=line, gives=f"{what} {figure}"))
    return tuple(found)


def of_stage(stage: str) -> tuple[Command, ...]:
    """Return the command that makes every row of a table of the results page by one stage."""
    line = f"dvc repro {stage} results && xpool summary"
    return (Command(rows="Every row", line=line, gives="the row as it is printed"),)


def _stages(method: str, benchmark: str) -> list[str]:
    """Return the stages of a method: its training on a benchmark, if one is named, and scoring."""
    if method == "xpool":
        training, scoring = f"train_xpool@{benchmark}", "evaluate_xpool"
    else:
        training = f"train_baselines@{method}-{benchmark}"
        scoring = f"evaluate_baselines@{method}"
    return [training, scoring] if benchmark else [scoring]


def of_study(study: str) -> tuple[Command, ...]:
    """Return the command that makes every row of a study's tables again."""
    lists = read("studies", dict[str, list[str]])
    stage = next(STAGES[name] for name, studies in lists.items() if study in studies)
    line = f"dvc repro {stage}@{study} ablations"
    return (Command(rows="Every row", line=line, gives="the row as it is printed"),)
