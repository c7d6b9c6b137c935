"""Compute intervals and comparisons: ``results/<setting>/statistics/``."""

import logging

log = logging.getLogger(__name__)


def main() -> None:
    """Compute intervals, compare methods, count wins, slice the queries.

    Takes about 20 seconds for the mini benchmarks.

    Example: xpool statistics
    """
    import time

    import pandas as pd

    from xpool.project import paths
    from xpool.project.params import read, setting
    from xpool.project.workspace import replacing
    from xpool.statistics.post_processing.results import post_results_of
    from xpool.statistics.results import results_of
    from xpool.statistics.slices.attributes import SlicesParams

    began = time.monotonic()
    methods = sorted(["xpool", *read("baselines", list[str])])
    seeds = sorted(read("seeds", list[int]))
    post_processed = read("post_processing.members", dict)
    slicing = read("slices", SlicesParams)
    parts = []
    for benchmark in sorted(read("benchmarks", list[str])):
        found = results_of(setting(), benchmark, methods, seeds, slicing)
        if post_processed:
            found |= post_results_of(setting(), benchmark, methods, seeds)
        parts.append(found)
    for name in parts[0]:
        with replacing(paths.statistics(setting()) / f"{name}.csv") as file:
            pd.concat([of_benchmark[name] for of_benchmark in parts]).to_csv(
                file, index=False, lineterminator="\n"
            )
    log.info("wrote %s in %.0f s", paths.statistics(setting()), time.monotonic() - began)
