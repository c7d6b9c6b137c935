"""Read a benchmark's official files: ``data/<setting>/manifest/<benchmark>.*``."""

from typing import Annotated

import typer


def main(
    benchmark: Annotated[str, typer.Option(help="A file of xpool/data/benchmarks, e.g. msvd.")],
) -> None:
    """Read a benchmark's official files, and check them.

    Example: xpool manifest --benchmark msvd
    """
    from xpool.data.audit import write_manifest
    from xpool.data.benchmark import load

    write_manifest(load(benchmark))
