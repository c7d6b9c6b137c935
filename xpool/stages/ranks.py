"""Rank all queries of all runs: ``results/<setting>/ranks/``, ``metrics.csv``, ``metrics.json``."""

import logging

log = logging.getLogger(__name__)


def main() -> None:
    """Rank every query of every run; compute all metrics.

    Takes the runs that have been scored, and says which of the comparison are left out.
    Runs that do not belong in one table are refused, or, with mixing: allow, named in metrics.csv.
    Ranks after a listed post-processing have files of their own.

    Example: xpool ranks
    """
    from typing import Literal

    from xpool.postprocessing.listed import PostProcessingParams
    from xpool.project import paths
    from xpool.project.params import read, setting
    from xpool.project.workspace import replacing, write_json
    from xpool.statistics.mixing import imported, mixed, refuse
    from xpool.statistics.post_processing.ranks import rank_post_processed
    from xpool.statistics.ranks import cells_in, cells_of, rank_all, scope, scored

    methods = ["xpool", *read("baselines", list[str])]
    wanted = cells_of(read("benchmarks", list[str]), methods, read("seeds", list[int]))
    cells = cells_in(scope(scored(setting(), wanted)))
    for benchmark, method, seed in sorted(set(wanted) - set(cells)):
        log.warning("left out: %s on %s, seed %d", method, benchmark, seed)
    odd = mixed(setting(), cells)
    if read("mixing", Literal["refuse", "allow"]) == "refuse":
        refuse(odd)
    origins = imported(setting(), cells)
    table, nested = rank_all(setting(), cells, read("selection", str), odd, origins)
    with replacing(paths.metrics_table(setting())) as file:
        table.to_csv(file, index=False, lineterminator="\n")
    write_json(paths.metrics(setting()), nested)
    after = read("post_processing", PostProcessingParams)
    if after.members:
        rank_post_processed(setting(), cells, after)
    log.info("wrote %s and %s", paths.metrics_table(setting()), paths.metrics(setting()))
