"""Compare two runs on the same queries: is the difference more than noise?

Each of A and B is a run's folder, a file of ranks, or a similarity matrix, also of another code
base; ``xpool.queries`` says what such a file holds. Differences are B minus A. One run each says
nothing about other seeds. ``docs/statistics.md`` explains every column.

Run: ``python -m xpool.compare A B``, e.g. with
``results/mini/similarity/mean_pool/msrvtt/0 results/mini/similarity/xpool/msrvtt/0``;
``--json`` prints all figures as JSON; ``--video-of-text FILE`` is the column of each text's video,
from 0, a line each, for a matrix that is not square
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpool.command import InputError, run

# What counts and draws is imported where it is used, so that --help answers at once.
if TYPE_CHECKING:
    from xpool.paired import Comparison
    from xpool.queries import Queries

DIRECTIONS = {"t2v": "Text to video", "v2t": "Video to text"}


def matched(first: "Queries", second: "Queries", names: tuple[str, str]) -> "Queries":
    """Return the second run's queries in the order of the first's.

    Args:
        first: queries of one direction.
        second: the same queries, in any order if both files name them.
        names: of the two files, for the error.

    Raises:
        InputError: other queries, other videos, or a gallery of another size.
    """
    import numpy as np

    if first.named != second.named:
        has, has_not = names if first.named else names[::-1]
        raise InputError(
            f"{has_not}: does not name its queries, and {has} does; save its ranks as a .csv with "
            "the same query_id to compare them"
        )
    if None not in (first.n_candidates, second.n_candidates) and (
        first.n_candidates != second.n_candidates
    ):
        raise InputError(
            f"{names[1]}: a gallery of {second.n_candidates}, but {names[0]} has "
            f"{first.n_candidates}; ranks among different numbers cannot be compared"
        )
    place = {name: row for row, name in enumerate(second.ids)}
    missing = [name for name in first.ids if name not in place]
    if missing or len(first.ids) != len(second.ids):
        known = set(first.ids)
        stray = [name for name in second.ids if name not in known]
        lost = f"query {missing[0]} is not in {names[1]}" if missing else ""
        more = f"query {stray[0]} is not in {names[0]}" if stray else ""
        raise InputError(
            f"{names[1]}: other queries than {names[0]} ({len(second.ids)} and "
            f"{len(first.ids)}): {' and '.join(filter(None, (lost, more)))}"
        )
    moved = second.take(np.array([place[name] for name in first.ids]))
    differ = np.flatnonzero(moved.video != first.video)
    if len(differ):
        row = differ[0]
        raise InputError(
            f"{names[1]}: query {first.ids[row]} belongs to video {moved.video[row]}, but in "
            f"{names[0]} to {first.video[row]}"
        )
    return moved


def compare(
    first: dict[str, "Queries"], second: dict[str, "Queries"], names: tuple[str, str]
) -> dict[str, dict[str, "Comparison"]]:
    """Return the comparison per direction and metric, in the directions that both have.

    Args:
        first: queries per direction, by :func:`xpool.queries.read`.
        second: the same of the other run.
        names: of the two files, for errors.

    Raises:
        InputError: as :func:`matched`, or no direction in common.
    """
    import numpy as np

    from xpool import paired
    from xpool.bootstrap import METRICS, per_query
    from xpool.seeds import seed_for

    common = [direction for direction in DIRECTIONS if direction in first and direction in second]
    if not common:
        raise InputError(f"{names[1]}: has {', '.join(second)}, and {names[0]} {', '.join(first)}")
    found: dict[str, dict[str, Comparison]] = {}
    for direction in common:
        before = first[direction]
        after = matched(before, second[direction], names)
        found[direction] = {
            metric: paired.compare(
                per_query(before.ranks, metric)[None],
                per_query(after.ranks, metric)[None],
                before.video,
                metric,
                np.random.default_rng(seed_for("compare", direction, metric)),
            )
            for metric in METRICS
        }
    return found


def as_json(
    found: dict[str, dict[str, "Comparison"]],
    first: dict[str, "Queries"],
    second: dict[str, "Queries"],
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return all figures per direction and metric.

    ``p_holm`` is adjusted for all lines; ``counted_twice`` is what the CLIP4Clip family's code
    prints for A and B, where a query ties and every video has one caption.
    """
    adjusted = iter(_holm(found))
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for direction, metrics in found.items():
        twice = _counted_twice(direction, first, second)
        table[direction] = {}
        for metric, one in metrics.items():
            line = {**asdict(one), "p_holm": next(adjusted)}
            if twice:
                line["counted_twice"] = [of_run[metric] for of_run in twice]
            table[direction][metric] = line
    return table


def as_text(
    found: dict[str, dict[str, "Comparison"]],
    first: dict[str, "Queries"],
    second: dict[str, "Queries"],
) -> str:
    """Return the comparison as it is printed."""
    adjusted = iter(_holm(found))
    lines: list[str] = []
    for direction, metrics in found.items():
        recall = metrics["R@1"]
        videos = f"{recall.n_queries:,} queries of {recall.n_videos:,} videos"
        lines += [f"{DIRECTIONS[direction]} ({direction}): {videos}", ""]
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
                cell.ljust(width) if place in (0, len(row) - 1) else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        lines += ["", f"A true difference in R@1 of {recall.detectable:.1f} points or more would"]
        lines[-1] += " be found in 80 % of such comparisons."
        lines += _ties(direction, first, second)
        lines.append("")
    lines += [
        "B - A: in points of percent for R@K (more is better), in ranks for MdR and MnR (less is).",
        "won, lost: queries that B answers better, worse. p (Holm): adjusted for all lines above.",
        "One run each: nothing here says how far other seeds would lie apart.",
    ]
    return "\n".join(lines)


def _ties(direction: str, first: dict[str, "Queries"], second: dict[str, "Queries"]) -> list[str]:
    """Say what ties, and what code that counts tied queries twice would have printed."""
    pair = (first[direction], second[direction])
    shares = [queries.ranks.tied() for queries in pair]
    if not any(shares):
        return []
    lines = [
        f"Ties: the right answer ties in {shares[0]:.1f} % of A's queries and {shares[1]:.1f} % of "
        "B's; R@K is the expectation over their order."
    ]
    twice = _counted_twice(direction, first, second)
    if not twice:
        return lines
    lines.append("CLIP4Clip's metric, and those copied from it, count tied queries twice and print")
    for name, queries, of_run in zip("AB", pair, twice, strict=True):
        figures = ", ".join(
            f"{metric} {of_run[metric]:.{3 if metric == 'MnR' else 1}f}"
            for metric in ("R@1", "R@5", "R@10", "MdR", "MnR")
        )
        n = len(queries.ids)
        lines.append(f"  {name}: {figures}, over {of_run['entries']:.0f} entries for {n} queries")
    return lines


def _counted_twice(
    direction: str, first: dict[str, "Queries"], second: dict[str, "Queries"]
) -> list[dict[str, float]]:
    """Both runs' figures by such code; empty where nothing ties, or it would use other code."""
    from xpool.ties import counted_twice

    pair = (first[direction], second[direction])
    square = all(
        len(set(queries.video)) == len(queries.ids)
        and queries.n_candidates in (None, len(queries.ids))
        for queries in first.values()
    )
    if not square or not any(queries.ranks.tied() for queries in pair):
        return []
    return [counted_twice(queries.ranks) for queries in pair]


def _holm(found: dict[str, dict[str, "Comparison"]]) -> list[float]:
    import numpy as np

    from xpool.paired import holm

    p_values = [one.p_value for metrics in found.values() for one in metrics.values()]
    return [float(p_value) for p_value in holm(np.array(p_values))]


def _p(p_value: float) -> str:
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def main() -> None:
    """Print the comparison of two runs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("a", type=Path, metavar="A", help="run's folder, ranks or matrix")
    parser.add_argument("b", type=Path, metavar="B", help="another one, on the same queries")
    parser.add_argument(
        "--video-of-text",
        type=Path,
        metavar="FILE",
        help="column of each text's video, a line each; for matrices that are not square",
    )
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    arguments = parser.parse_args()

    from xpool.queries import read, read_owners

    owners = read_owners(arguments.video_of_text) if arguments.video_of_text else None
    first, second = read(arguments.a, owners), read(arguments.b, owners)
    found = compare(first, second, (str(arguments.a), str(arguments.b)))
    if arguments.json:
        print(json.dumps(as_json(found, first, second), indent=2, allow_nan=False))
    else:
        print(f"A: {arguments.a}\nB: {arguments.b}\n\n{as_text(found, first, second)}")


if __name__ == "__main__":
    run(main)
