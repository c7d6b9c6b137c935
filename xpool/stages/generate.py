"""Generate a mini benchmark: ``data/mini/raw/<benchmark>/``, ``data/mini/truth/<benchmark>/``."""

from typing import Annotated

import typer


def main(
    benchmark: Annotated[str, typer.Option(help="A benchmark of generate.benchmarks.")],
) -> None:
    """Generate a mini benchmark in the official layout.

    The videos are real, encoded files. Takes under half a minute for each of the three on 2 cores.

    Example: xpool generate --benchmark msrvtt
    """
    import shutil

    from xpool.data.inventory import write_listing
    from xpool.mini.generate import GenerateParams, write_benchmark
    from xpool.project import paths, snapshot
    from xpool.project.fingerprints import fingerprint
    from xpool.project.params import read
    from xpool.project.workspace import publish, work_folder

    seed = read("generate.seed", int)
    params = read(f"generate.{benchmark}", GenerateParams)
    digest = fingerprint([benchmark, seed, params.model_dump()], code=["xpool.mini.generate"])
    with work_folder("generate", benchmark, digest) as work:
        for left_over in work.iterdir():  # of a killed run; it takes seconds to start anew
            shutil.rmtree(left_over)
        write_benchmark(benchmark, params, seed, work / "raw", work / "truth")
        listing = paths.files("mini", benchmark)
        write_listing(work / "raw", benchmark, listing, by_content=True)
        snapshot.untouched()  # by the processes that drew and encoded
        publish(work / "truth", paths.truth("mini", benchmark))
        publish(work / "raw", paths.raw("mini", benchmark))
