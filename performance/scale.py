"""What each stage costs at the official numbers of videos and captions.

The annotation files have the official names and counts. The videos are links to 2,000 generated
ones (80 × 60 pixels, 2 to 3 s): what is measured grows with their number, not with their size. The
encoder is the tiny one of the mini setting, hardly trained. Each stage is a process of its own, as
in the pipeline; its peak of memory is that of its largest process.

Run: ``python -m performance.scale FOLDER msvd msrvtt lsmdc``
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
import yaml

from xpool.mini.generate import GenerateParams, layout_of, plan, write_videos
from xpool.project import paths
from xpool.project.command import run_alone
from xpool.project.paths import TOP

ENCODED = 2000
"""Videos that are encoded; a file system allows a limited number of links to one file."""
COUNTS: dict[str, dict[str, Any]] = {
    "msvd": {"videos": {"train": 1200, "val": 100, "test": 670}, "captions": [35, 47]},
    "msrvtt": {"videos": {"train": 9000, "val": 0, "test": 1000}, "captions": [20, 20]},
    "lsmdc": {"videos": {"train": 101_079, "val": 7408, "test": 1000}, "captions": [1, 1]},
}
SETTING = "mini"


class Cost(NamedTuple):
    """What a stage took."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    """Of its largest process."""


def measured(words: Iterable[str], folder: Path) -> Cost:
    """Run ``xpool`` with these words in a folder.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    command = [sys.executable, "-m", "xpool", *words]
    environment = os.environ | {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(TOP)}
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Cost(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def write_params(folder: Path, benchmarks: list[str]) -> None:
    """Write the mini setting's params, with the benchmarks at their official counts."""
    params = yaml.safe_load((TOP / "params.yaml").read_text(encoding="utf-8"))
    params |= {"benchmarks": benchmarks, "baselines": ["mean_pool"], "seeds": [0]}
    params["studies"] = {"own_models": [], "trained_models": []}
    params["generate"]["benchmarks"] = benchmarks
    params["frames"] |= {"counts": [12], "rules": ["uniform"]}
    params["encoder"]["pretraining"] |= {"images": 1024, "steps": 2}
    params["train"] |= {"epochs": 1, "evaluations_per_epoch": 1}
    for name in benchmarks:
        params["generate"][name] |= COUNTS[name] | {
            "scenes": [1, 1], "duration_s": [2.0, 3.0], "sizes": [[80, 60]],
        }  # fmt: skip
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def write_raw(folder: Path, benchmark: str) -> None:
    """Write the annotation files, 2,000 videos, and links to them under all other names."""
    text = (folder / "params.yaml").read_text(encoding="utf-8")
    params = GenerateParams.model_validate(yaml.safe_load(text)["generate"][benchmark])
    raw = folder / paths.raw(SETTING, benchmark)
    raw.mkdir(parents=True)
    videos = plan(benchmark, params, 0)
    layout_of(benchmark).write(videos, raw, np.random.default_rng(0))
    encoded = videos[:ENCODED]
    write_videos(encoded, raw, 0, benchmark)
    for number, video in enumerate(videos[ENCODED:]):
        path = raw / video.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(raw / encoded[number % ENCODED].path)


def stages(benchmark: str) -> Iterator[tuple[str, list[str], list[Path]]]:
    """Yield each stage of a benchmark: its name, the words of its command, and what it writes."""
    of = ["--benchmark", benchmark]
    manifest = paths.manifest(SETTING, benchmark)
    yield "files", ["manifest", *of, "--list-files"], [paths.files(SETTING, benchmark)]
    yield "manifest", ["manifest", *of], [manifest, paths.video_digests(SETTING, benchmark)]
    yield "manifest, again", ["manifest", *of], [manifest]
    yield "frames", ["frames", *of], [paths.frames(SETTING, benchmark)]
    yield "embeddings", ["embeddings", *of], [paths.embeddings(SETTING, benchmark)]
    for method in ("xpool", "mean_pool"):
        run = paths.training(SETTING, method, benchmark, 0)
        yield f"train {method}", ["train", "--method", method, *of], [run]


def together() -> Iterator[tuple[str, list[str], list[Path]]]:
    """Yield the stages of all benchmarks, as :func:`stages` does."""
    similarity = paths.similarity(SETTING, "xpool", "*", 0).parents[2]
    yield "evaluate xpool", ["evaluate", "--method", "xpool"], [similarity / "xpool"]
    yield "evaluate mean_pool", ["evaluate", "--method", "mean_pool"], [similarity / "mean_pool"]
    yield "ranks", ["ranks"], [paths.ranks(SETTING)]
    yield "shots", ["shots"], []
    yield "statistics", ["statistics"], [paths.statistics(SETTING)]


def size(folder: Path, made: Iterable[Path]) -> tuple[int, float]:
    """Return the number of files and the MB of what a stage made."""
    files = [
        file
        for path in made
        for file in ((folder / path).rglob("*") if (folder / path).is_dir() else [folder / path])
        if file.is_file()
    ]
    return len(files), sum(file.stat().st_size for file in files) / 1e6


def main(
    folder: Annotated[Path, typer.Argument(help="An empty folder for the stand-ins.")],
    benchmarks: Annotated[list[str], typer.Argument(help="Benchmarks, in this order.")],
) -> None:
    """Print a row of each stage as it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    write_params(folder, benchmarks)
    print(
        "| benchmark | stage | s | CPU-s | peak, MiB | files | MB |\n|---|---|--:|--:|--:|--:|--:|"
    )

    def row(benchmark: str, stage: str, words: list[str], made: list[Path]) -> None:
        cost = measured(words, folder)
        files, megabytes = size(folder, made)
        print(
            f"| {benchmark} | {stage} | {cost.wall_s:.0f} | {cost.cpu_s:.0f} | {cost.peak_mib:.0f} "
            f"| {files} | {megabytes:.1f} |",
            flush=True,
        )

    row("all", "weights", ["weights"], [paths.encoder(SETTING)])
    for benchmark in benchmarks:
        write_raw(folder, benchmark)
        for stage, words, made in stages(benchmark):
            row(benchmark, stage, words, made)
    for stage, words, made in together():
        row("all", stage, words, made)


if __name__ == "__main__":
    run_alone(main)
