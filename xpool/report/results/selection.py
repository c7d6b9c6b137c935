"""The table of what each selection rule gives, and how much luck selecting on test adds.

:mod:`xpool.statistics.results` wrote the figures.
"""

from collections.abc import Sequence

import pandas as pd

from xpool.report.commands import of_methods
from xpool.report.protocol import Protocol, method_name
from xpool.report.typesetting import NO_FIGURE, Command, Group, Row, Table
from xpool.statistics.selection_bias import CHOSEN_ON_TEST, RULES

HONEST = "val"
NAMES = {"val": "val", "last": "last", "test_window": "test window"}


def selection_table(protocols: Sequence[Protocol], selection: pd.DataFrame) -> Table:
    """Return test R@1 of the same runs under each rule, with a group for each benchmark.

    Args:
        protocols: what is compared.
        selection: columns benchmark, method, seed, and those of
            :mod:`xpool.statistics.selection_bias`.
    """
    first = protocols[0]
    lead = f"{NAMES[CHOSEN_ON_TEST]} − {NAMES[HONEST]}"
    heads = [*NAMES.values(), lead, "by chance"]
    groups: list[Group] = []
    commands: list[Command] = []
    for protocol in protocols:
        of_benchmark = selection[selection["benchmark"] == protocol.benchmark]
        rows = [
            _row(method, of_benchmark[of_benchmark["method"] == method])
            for method in protocol.methods
            if (of_benchmark["method"] == method).any()
        ]
        groups.append(Group(heading=protocol.title, rows=tuple(rows)))
        what = f"on {protocol.title} {heads[0]}"
        commands += of_methods(protocol.methods, rows, protocol.benchmark, what)
    evaluations = sorted(set(selection["n_looks"]))
    return Table(
        name="selection",
        caption=(
            f"{first.heading('Selection')} Text-to-video R@1 of the test split, in percent, of the "
            "evaluation that each rule selects from the same runs, mean over seeds. val: the best "
            "of the validation split; last: the end of training; test window: the official "
            "code's, the best mean of five evaluations of the test split itself. The difference is "
            "what reporting the figure that was selected on test adds; by chance is what it would "
            "add, over an evaluation taken without a look at the test split, if all evaluations "
            "were equally good (in brackets the 97.5 % quantile of the mean over these runs): "
            f"luck among {' or '.join(map(str, evaluations)) or 'no'} looks."
        ),
        columns=tuple(("Selected by", head) for head in heads[:3])
        + tuple(("What selecting on test adds", head) for head in heads[3:]),
        names=tuple(heads),
        groups=tuple(groups),
        notes=(),
        figures=selection.assign(setting=first.setting),
        commands=tuple(commands),
    )


def _row(method: str, runs: pd.DataFrame) -> Row:
    """Return the row of a method: means over its runs."""
    figures = runs.pivot(index="seed", columns="rule", values="R@1").reindex(columns=RULES)
    cells = [NO_FIGURE if pd.isna(mean) else f"{mean:.1f}" for mean in figures.mean()]
    added = (figures[CHOSEN_ON_TEST] - figures[HONEST]).mean()
    luck = runs[runs["rule"] == CHOSEN_ON_TEST]
    cells.append(NO_FIGURE if pd.isna(added) else f"{added:+z.1f}".replace("-", "−"))
    cells.append(f"+{luck['chance'].mean():.1f} (at most {luck['chance_high'].mean():.1f})")
    return Row(label=method_name(method), cells=tuple(cells), bold=(False,) * len(cells))
