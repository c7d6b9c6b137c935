"""Read a benchmark's official files: ``data/<setting>/manifest/<benchmark>.*``."""

from typing import Annotated

import typer


def main(
    benchmark: Annotated[str, typer.Option(help="A file of xpool/data/benchmarks, e.g. msvd.")],
    list_files: Annotated[
        bool, typer.Option("--list-files", help="Only list sizes and times, for DVC to compare.")
    ] = False,
) -> None:
    """Read a benchmark's official files, and check them.

    Example: xpool manifest --benchmark msvd
    """
    from xpool.data.audit import write_manifest
    from xpool.data.benchmark import load
    from xpool.data.inventory import write_listing
    from xpool.project import paths
    from xpool.project.params import setting

    if list_files:
        raw, destination = paths.raw(setting(), benchmark), paths.files(setting(), benchmark)
        write_listing(raw, benchmark, destination, by_content=False)
    else:
        write_manifest(load(benchmark))
