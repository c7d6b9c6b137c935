"""Compare two runs, or several runs a method, on the same queries: more than noise?

Prints what ``xpool.statistics`` computes. Each run may come from any code base;
``xpool.statistics.files.queries`` lists the kinds of file. Differences are B minus A. One run each
says nothing about other seeds. ``docs/results/statistics.md`` explains every column.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xpool.project.errors import InputError

# The modules that compute are imported where they are used, so that --help answers at once.
if TYPE_CHECKING:
    from xpool.statistics.files.queries import Queries
    from xpool.statistics.paired import Comparison

VERSUS = "vs"
TITLES = {"t2v": "Text to video", "v2t": "Video to text"}


def main(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="Two runs; or several runs, the word vs, and several runs of another method.",
        ),
    ],
    video_of_text: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The column of each text's video, from 0, one a line; for matrices that are not "
            "square.",
        ),
    ] = None,
    qrels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="TREC qrels: the right video of each text. All runs are TREC runs."
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Videos that TREC runs list for each text, or fewer."
        ),
    ] = None,
    print_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
) -> None:
    """Compare two runs or methods on the same queries.

    Each file is a run's folder, a file of ranks (.parquet, .csv, .tsv) or a similarity matrix
    (.npy, .npz, .pt, .csv, .tsv; FILE.npz:NAME takes one of several arrays), or with --qrels and
    --depth a TREC run. Differences are B minus A.

    Example: xpool compare results/mini/similarity/mean_pool/msrvtt/0
    results/mini/similarity/xpool/msrvtt/0

    Example: xpool compare results/mini/ranks/mean_pool/msrvtt/* vs
    results/mini/ranks/xpool/msrvtt/*
    """
    from xpool.statistics.files.arrays import read_video_of_text
    from xpool.statistics.files.queries import compare, read, read_trec
    from xpool.statistics.files.rank_files import read_qrels

    names = _sides(files)
    if (qrels is None) != (depth is None):
        raise InputError("TREC runs need both --qrels FILE and --depth N")
    if qrels and video_of_text:
        raise InputError(f"{qrels}: names the video of each text itself; drop --video-of-text")
    columns = read_video_of_text(video_of_text) if video_of_text else None
    answers = read_qrels(qrels) if qrels else {}
    first, second = (
        [
            read_trec(Path(name), answers, depth) if depth else read(Path(name), columns)
            for name in side
        ]
        for side in names
    )
    found = compare(first, second, names)
    if print_json:
        print(json.dumps(as_json(found, first, second), indent=2, allow_nan=False))
        return
    for letter, side in zip("AB", names, strict=True):
        print(f"{letter}: {f'{chr(10)}   '.join(side)}")
    print(f"\n{as_text(found, first, second)}")


def _sides(files: list[str]) -> tuple[list[str], list[str]]:
    """Part the files of the command line at the word vs; two files need none.

    Raises:
        InputError: a side is empty or names a run twice, or the word is missing or repeated.
    """
    if VERSUS not in files and len(files) == 2:
        return files[:1], files[1:]
    if files.count(VERSUS) != 1:
        raise InputError(
            f"expected two runs, or A1 A2 ... {VERSUS} B1 B2 ...; got {' '.join(files)}"
        )
    at = files.index(VERSUS)
    sides = files[:at], files[at + 1 :]
    for side in sides:
        if not side:
            raise InputError(
                f"no run on one side of {VERSUS}; expected A1 A2 ... {VERSUS} B1 B2 ..."
            )
        resolved = [Path(name).resolve() for name in side]
        for number, name in enumerate(side):
            if resolved[number] in resolved[:number]:
                raise InputError(f"{name}: named twice on one side, and is one run; drop it")
    return sides


def as_json(
    found: dict[str, dict[str, "Comparison"]],
    first: list[dict[str, "Queries"]],
    second: list[dict[str, "Queries"]],
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return all figures per direction and metric.

    ``p_holm`` is adjusted for all lines; ``counted_twice`` is what the CLIP4Clip family's code
    prints for A and B, where a query ties and every video has one caption.
    """
    from xpool.statistics.files.double_counting import both_counted_twice

    adjusted = iter(_holm(found))
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for direction, metrics in found.items():
        twice = both_counted_twice(direction, first, second)
        table[direction] = {}
        for metric, one in metrics.items():
            line = {**asdict(one), "p_holm": next(adjusted)}
            if twice:
                line["counted_twice"] = [of_run[metric] for of_run in twice]
            table[direction][metric] = line
    return table


def as_text(
    found: dict[str, dict[str, "Comparison"]],
    first: list[dict[str, "Queries"]],
    second: list[dict[str, "Queries"]],
) -> str:
    """Return the comparison as it is printed."""
    adjusted = iter(_holm(found))
    lines: list[str] = []
    for direction, metrics in found.items():
        recall = metrics["R@1"]
        videos = f"{recall.n_queries:,} queries of {recall.n_videos:,} videos"
        lines += [f"{TITLES[direction]} ({direction}): {videos}", ""]
        rows = [("", "A", "B", "B - A", "95 % interval", "p", "p (Holm)", "won", "lost", "test")]
        rows += [
            (
                metric,
                f"{one.first:.2f}",
                f"{one.second:.2f}",
                f"{one.delta:+.2f}",
                f"[{one.ci_low:+.2f}, {one.ci_high:+.2f}]",
                _p(one.p_value),
                _p(next(adjusted)),
                str(one.won),
                str(one.lost),
                one.test,
            )
            for metric, one in metrics.items()
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines += [
            "  ".join(
                text.ljust(width) if column in (0, len(row) - 1) else text.rjust(width)
                for column, (text, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        lines += ["", _detectable(metrics)]
        lines += _ties(direction, first, second)
        lines.append("")
    lines += [
        *_depth(first, second),
        "B - A: in points of percent for R@K (more is better), in ranks for MdR and MnR (less is).",
        "won, lost: queries that B answers better, worse. p (Holm): adjusted for all lines above.",
        "One run each: nothing here says how far other seeds would lie apart."
        if len(first) == 1
        else f"A: mean of {len(first)} runs, B: of {len(second)}. Intervals are over videos and "
        "seeds.",
    ]
    return "\n".join(lines)


def _detectable(metrics: dict[str, "Comparison"]) -> str:
    """Say what such a comparison could have found; runs that are the same show nothing."""
    recall = metrics["R@1"]
    if all(one.won == one.lost == 0 for one in metrics.values()):
        return (
            "A and B rank the right answer of every query alike. Equal runs show no difference "
            "between methods, and no equality."
        )
    if recall.detectable is None:
        return "Queries of five videos or fewer show no difference in R@1, however large."
    return (
        f"A true difference in R@1 of {recall.detectable:.1f} points or more would be found in "
        "80 % of such comparisons (p < 0.05, before Holm's correction)."
    )


def _depth(first: list[dict[str, "Queries"]], second: list[dict[str, "Queries"]]) -> list[str]:
    """Say how deep lists go, where ranks beyond are unknown."""
    runs = (*first, *second)
    depths = [queries.depth for run in runs for queries in run.values() if queries.depth]
    if not depths:
        return []
    return [f"Ranks beyond {min(depths)} are unknown: metrics that need them are left out."]


def _ties(
    direction: str, first: list[dict[str, "Queries"]], second: list[dict[str, "Queries"]]
) -> list[str]:
    """Say what ties, and what code that counts tied queries twice would have printed."""
    from statistics import mean

    from xpool.metrics import REPORTED
    from xpool.statistics.files.double_counting import both_counted_twice

    shares = [mean(run[direction].ranks.tied() for run in runs) for runs in (first, second)]
    if not any(shares):
        return []
    lines = [
        f"Ties: the right answer ties in {shares[0]:.1f} % of A's queries and {shares[1]:.1f} % of "
        "B's; R@K is the expectation over their order."
    ]
    twice = both_counted_twice(direction, first, second)
    if not twice:
        return lines
    lines.append("CLIP4Clip's metric, and those copied from it, count tied queries twice and print")
    for name, of_run in zip("AB", twice, strict=True):
        figures = ", ".join(
            f"{metric} {of_run[metric]:.{3 if metric == 'MnR' else 1}f}" for metric in REPORTED
        )
        n = len(first[0][direction].ids)
        lines.append(f"  {name}: {figures}, over {of_run['entries']:.0f} entries for {n} queries")
    return lines


def _holm(found: dict[str, dict[str, "Comparison"]]) -> list[float]:
    import numpy as np

    from xpool.statistics.paired import holm

    p_values = [one.p_value for metrics in found.values() for one in metrics.values()]
    return [float(p_value) for p_value in holm(np.array(p_values))]


def _p(p_value: float) -> str:
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


if __name__ == "__main__":
    from xpool.project.command import run_alone

    run_alone(main)
