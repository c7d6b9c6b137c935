"""The authors' checkpoints, scored here, beside the figures that they published."""

from collections.abc import Sequence
from itertools import product

import pandas as pd

from xpool.metrics import REPORTED
from xpool.project import paths
from xpool.project.params import setting
from xpool.report.protocol import DIRECTIONS, METRICS, read_protocols
from xpool.report.results.published import (
    files_in_words,
    judged,
    on_benchmark,
    read_published,
)
from xpool.statistics.ranks import read_similarity
from xpool.statistics.results import intervals_of
from xpool.statistics.selection_bias import COLUMNS


def figures(name: str, benchmark: str, method: str, file: str) -> pd.DataFrame:
    """Return the metrics of an imported run beside the paper's figures, with a verdict on each.

    Args:
        name: of the checkpoint.
        benchmark: short name; the only one of the params in force.
        method: short name.
        file: name of the checkpoint's file.

    Returns:
        Columns checkpoint, direction, metric, mean, ci_low, ci_high (95 %, over the test videos),
        label, published (NaN where there is no figure), verdict (empty for ranks) and files (from
        which the figures come).
    """
    [protocol] = read_protocols()
    scored = paths.similarity(setting(), method, benchmark, 0)
    cells = intervals_of(benchmark, method, scored)
    matrix, *_ = read_similarity(scored)
    sizes = dict(zip(("n_text", "n_video"), matrix.shape, strict=True))
    metrics = cells.rename(columns={"mean": "value"}).assign(imported=file, **sizes)
    unlogged = pd.DataFrame(columns=["benchmark", "method", "seed", *COLUMNS])
    listed = on_benchmark(protocol, read_published())
    of_paper = listed[(listed["method"] == method) & (listed["kind"] == "paper")]
    theirs = judged(protocol, of_paper, metrics, cells, unlogged)
    theirs = theirs.rename(columns={"mean": "published"})
    columns = ["direction", "metric", "label", "published", "verdict"]
    ours = cells[cells["metric"].isin(REPORTED)]
    ours = ours[["direction", "metric", "mean", "ci_low", "ci_high"]]
    both = ours.merge(theirs[columns], how="left", on=["direction", "metric"])
    return both.assign(checkpoint=name, files=" ".join(files_in_words(protocol)))


def as_markdown(checked: Sequence[pd.DataFrame]) -> str:
    """Return the table of all checkpoints, three rows for each direction.

    Args:
        checked: from :func:`figures`.
    """
    lines = [
        f"| checkpoint | direction | | {' | '.join(METRICS.values())} |",
        f"|---|---|---|{'---|' * len(METRICS)}",
    ]
    notes = []
    for of_one, direction in product(checked, DIRECTIONS):
        name = of_one["checkpoint"].iloc[0]
        rows = of_one[of_one["direction"] == direction].set_index("metric").loc[list(METRICS)]
        bounds = zip(rows["mean"], rows["ci_low"], rows["ci_high"], strict=True)
        here = [f"{mean:.1f} [{low:.1f}, {high:.1f}]" for mean, low, high in bounds]
        paper = rows["published"].map(lambda value: "–" if pd.isna(value) else f"{value:.1f}")
        words = rows["verdict"].fillna("")
        short = words.str.partition(" (")[0]
        start = f"| {name} | {DIRECTIONS[direction]} |"
        for label, cells in (
            ("here, with 95 % interval", here), ("X-Pool (paper)", paper), ("verdict", short)
        ):  # fmt: skip
            lines.append(f"{start} {label} | {' | '.join(cells)} |")
        notes += [f"{name}: {word}." for word in words if "(" in word]
        notes += [f"{name}: {note}" for note in of_one["files"] if note]
    return "\n".join([*lines, *(f"\n{note}" for note in dict.fromkeys(notes)), ""])
