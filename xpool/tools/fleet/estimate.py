"""Hours and disk that the missing cells and trials take, as far as they are known."""

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from xpool.data.manifest import read_manifest
from xpool.project import paths
from xpool.project.params import read, setting
from xpool.project.records import RECORD
from xpool.project.workspace import WORK
from xpool.tools.disk import CHECKPOINT_GB, COPIES
from xpool.tools.fleet.plan import Cell, Trials
from xpool.training.fit import FINISHED
from xpool.training.recipes import TrainParams

HOUR_S = 3600.0
PAIRS_PER_S, START_S = 947.0, 60.0
"""Training on frames on an H200, and the time to compile before it (docs/running/cost.md)."""
VIDEO_FLOP, TEXT_FLOP, FLOP_PER_S, CROP_S = 106e9, 6e9, 36e12, 0.009
"""An evaluation: arithmetic of a video's 12 frames and of a text, its rate, and cropping on a core
(docs/running/cost.md)."""


def in_words(cells: Sequence[Cell], studies: Sequence[Trials], slots: int) -> Iterator[str]:
    """Yield lines on what is to be run, and last what all of it takes.

    Args:
        cells: those to train.
        studies: the trials of each study.
        slots: how many tasks run at a time.
    """
    hours: list[float | None] = []
    disk: list[float | None] = []
    seeds: dict[tuple[str, str], list[int]] = defaultdict(list)
    for method, benchmark, seed in cells:
        seeds[method, benchmark].append(seed)
    for (method, benchmark), listed in seeds.items():
        each, gb = hours_of(method, benchmark), gb_of(method, benchmark)
        hours += [each] * len(listed)
        disk += [gb] * len(listed)
        which = ", ".join(map(str, listed))
        yield f"train {method} on {benchmark}, seeds {which}: {_time(each)} and {_gb(gb)} each"
    for study in studies:
        if study.planned is None:
            yield f"study {study.study}: its trials show when all cells are trained"
            hours.append(None)
        elif study.left:
            each = None if study.seconds is None else study.seconds / HOUR_S
            hours += [each] * study.left
            yield f"study {study.study}: {study.left} of {study.planned} trials, {_time(each)} each"
    known = [each for each in hours if each is not None]
    sizes = [gb for gb in disk if gb is not None]
    total = max(sum(known) / slots, *known) if known else None
    more = ", beside what is unknown" if known and None in [*hours, *disk] else ""
    free = shutil.disk_usage(".").free / 1e9
    yield (
        f"in all {_time(total)} and {_gb(sum(sizes) if sizes else None)}{more}; "
        f"{_gb(free)} of the disk are free"
    )


def _time(hours: float | None) -> str:
    if hours is None:
        return "unknown time"
    return f"{hours:.1f} h" if hours >= 0.1 else f"{hours * HOUR_S:.0f} s"


def _gb(gb: float | None) -> str:
    if gb is None:
        return "unknown disk"
    return f"{gb:,.1f} GB" if gb >= 0.1 else f"{1000 * gb:.1f} MB"


def hours_of(method: str, benchmark: str) -> float | None:
    """Return the hours of one run: the median of earlier ones, else those of docs/running/cost.md.

    Earlier runs count if they read the same and took as many epochs. None if nothing is known.
    """
    train = read("train", TrainParams)
    seconds: list[float] = []
    for folder in _earlier(method, benchmark):
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        had = record["params"]["train"]
        if (had["reads"], had["epochs"]) == (train.reads, train.epochs):
            seconds.append(record["seconds"])
    if seconds:
        return median(seconds) / HOUR_S
    return _computed_s(benchmark, train) / HOUR_S if train.reads == "frames" else None


def _computed_s(benchmark: str, train: TrainParams) -> float:
    """Return the seconds of a run on frames on one H200, as docs/running/cost.md computes them."""
    table = read_manifest(paths.manifest(setting(), benchmark))
    scored = table[table["split"] != "train"]
    pairs, texts, videos = len(table) - len(scored), len(scored), scored["video_id"].nunique()
    encoding = (videos * VIDEO_FLOP + texts * TEXT_FLOP) / FLOP_PER_S
    evaluation = encoding + videos * CROP_S / max(1, train.workers)
    evaluations = train.epochs * train.evaluations_per_epoch
    return train.epochs * pairs / PAIRS_PER_S + evaluations * evaluation + START_S


def gb_of(method: str, benchmark: str) -> float | None:
    """Return the GB (10^9 bytes) that one run leaves on disk; None if nothing is known."""
    sizes = [
        sum(file.stat().st_size for file in folder.iterdir())
        for folder in _earlier(method, benchmark)
    ]
    if sizes:
        return COPIES * median(sizes) / 1e9
    return COPIES * CHECKPOINT_GB if read("train.reads", str) == "frames" else None


def _earlier(method: str, benchmark: str) -> Iterator[Path]:
    """Yield the folders of finished runs of a method on a benchmark, of any seed and params."""
    for record in (WORK / "train").glob(
        f"{setting()}-{method}-{benchmark}-*@*/{FINISHED}/{RECORD}"
    ):
        yield record.parent
