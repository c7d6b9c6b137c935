"""Compute intervals and comparisons: ``results/<setting>/statistics/``."""

import logging

log = logging.getLogger(__name__)


def main() -> None:
    """Compute intervals, comparisons, wins and slices.

    Matrices of other code that external/rows.csv lists get intervals too.

    Takes about 20 seconds for the mini benchmarks, which share the cores.

    Example: xpool statistics
    """
    import time
    from functools import partial

    import pandas as pd

    from xpool.project import paths
    from xpool.project.command import side_by_side
    from xpool.project.params import read, setting
    from xpool.project.workspace import replacing
    from xpool.statistics.files.external import external
    from xpool.statistics.post_processing.results import all_results_of
    from xpool.statistics.ranks import cells_of, ranked, scope
    from xpool.statistics.slices.attributes import SlicesParams

    began = time.monotonic()
    methods = ["xpool", *read("baselines", list[str])]
    wanted = cells_of(read("benchmarks", list[str]), methods, read("seeds", list[int]))
    there = scope(ranked(setting(), wanted))
    tables_of = partial(
        all_results_of,
        setting=setting(),
        there=there,
        slicing=read("slices", SlicesParams),
        post_processed=bool(read("post_processing.members", dict)),
    )
    parts = list(side_by_side(tables_of, list(there), "the statistics of a benchmark"))
    for part, benchmark in zip(parts, there, strict=True):
        part["external"] = external(benchmark)
    for name in parts[0]:
        with replacing(paths.statistics(setting()) / f"{name}.csv") as file:
            pd.concat([of_benchmark[name] for of_benchmark in parts]).to_csv(
                file, index=False, lineterminator="\n"
            )
    log.info("wrote %s in %.0f s", paths.statistics(setting()), time.monotonic() - began)
