"""Figures that others published on a benchmark, each with its source and our verdict on it.

Reads ``published.csv`` beside this file; :mod:`xpool.statistics.verdict` says when a figure counts
as reproduced.
"""

import json
from pathlib import Path

import pandas as pd

from xpool.data.benchmark import load
from xpool.project import paths
from xpool.project.made import made
from xpool.report.protocol import Protocol
from xpool.statistics.verdict import MARGIN, Conditions, obstacles, verdict

PUBLISHED = Path(__file__).with_name("published.csv")
NO_RUNS = "not comparable (no such method here)"
_SELECTED_ON = {"val": "val", "last": "nothing", "test_window": "test"}


def read_published() -> pd.DataFrame:
    """Return the published figures, one a row, each with its source."""
    return pd.read_csv(PUBLISHED, keep_default_na=False, dtype={"value": float})


def headings(protocol: Protocol) -> dict[str, str]:
    """Return the kinds of published figures that a table shows, and the heading of each.

    Reruns by others are shown only for real data.
    """
    if protocol.synthetic:
        return {"paper": "Published, other data: not comparable"}
    return {"paper": "Published", "reproduction": "Reruns by others"}


def on_benchmark(protocol: Protocol, published: pd.DataFrame) -> pd.DataFrame:
    """Return the figures on this benchmark that were made with the training list in force."""
    trained = str(protocol.options.get("training_videos", ""))
    fits = (published["benchmark"] == protocol.benchmark) & (
        published["training_videos"] == trained
    )
    kinds = published["kind"].isin(headings(protocol))
    return published[fits & kinds].rename(columns={"value": "mean"})


def judged(
    protocol: Protocol, published: pd.DataFrame, metrics: pd.DataFrame, cells: pd.DataFrame
) -> pd.DataFrame:
    """Return published figures with a column ``verdict``, which is empty for ranks.

    Args:
        protocol: how our runs were made.
        published: from :func:`on_benchmark`.
        metrics: our runs, one value a row, from
            :func:`xpool.report.results.inputs.read_metrics`.
        cells: as :mod:`xpool.statistics.results` writes them; has the number of independent
            queries.
    """
    keys = ["benchmark", "method", "direction", "metric"]
    runs = metrics.groupby(keys)["value"]
    sizes = cells.set_index(keys)["n_independent"]
    words = []
    for row in published.to_dict("records"):
        key = tuple(row[name] for name in keys)
        if not str(row["metric"]).startswith("R@"):
            words.append("")
        elif key not in runs.groups:
            words.append(NO_RUNS)
        else:
            reasons = _obstacles(protocol, row["backbone"], row["protocol"], row["selected_on"])
            ours, size = runs.get_group(key).to_numpy(), float(sizes[key])
            found = verdict(ours, row["mean"], size, obstacles=reasons)
            words.append(found.label)
    return published.assign(verdict=words)


def notes(figures: pd.DataFrame) -> list[str]:
    """Return a note for each row: protocol, selection, source of each figure, and the verdict.

    Args:
        figures: those of one kind, from :func:`judged`.
    """
    written = []
    for label, of_row in figures.groupby("label", sort=False):
        origins = [str(of_row["source"].iloc[0])]
        if of_row["source"].nunique() > 1:
            origins = _by(of_row, "source")
        first = of_row.iloc[0]
        selected = (
            f"selected on {first['selected_on']}"
            if first["selected_on"] != "unknown"
            else "selection rule unknown"
        )
        written.append(
            f"{label}: {first['protocol']}, {first['backbone']}, {selected}. "
            f"{'; '.join(origins)}. {_verdicts(of_row[of_row['verdict'] != ''])}".rstrip()
        )
    return written


def files_in_words(protocol: Protocol) -> list[str]:
    """Return from which files X-Pool's published figures and ours come; nothing for mini videos.

    Reads the manifest's report, of which ``xpool.data.inventory`` wrote the part.
    """
    if protocol.synthetic:
        return []
    report = made(paths.manifest_report(protocol.setting, protocol.benchmark))
    videos = json.loads(report.read_text(encoding="utf-8"))["videos"]
    theirs = "copies of 3 frames a second and a short side of 224 px (layer6ai-labs/xpool#12, #13)"
    if videos["like_published_copies"] == videos["count"]:
        return [f"X-Pool's published figures come from {theirs}, as ours do."]
    ours = " and ".join(
        f"{_between(videos[key])} {unit}"
        for key, unit in (("rate_fps", "frames a second"), ("short_side_px", "px"))
        if videos[key]
    )
    return [
        "Verdicts compare figures from different files: X-Pool's published ones come from "
        f"{theirs}, ours from videos of {ours or 'unknown rate and size'}."
    ]


def _between(values: dict[str, float]) -> str:
    least, greatest = values["least"], values["greatest"]
    return f"{least:g}" if least == greatest else f"{least:g} to {greatest:g}"


def _obstacles(protocol: Protocol, backbone: str, split: str, selected_on: str) -> tuple[str, ...]:
    ours = Conditions(
        synthetic=protocol.synthetic,
        backbone=protocol.backbone,
        split=load(protocol.benchmark).protocol.format(**protocol.options),
        selected_on=_SELECTED_ON.get(protocol.selection, protocol.selection),
    )
    theirs = Conditions(synthetic=False, backbone=backbone, split=split, selected_on=selected_on)
    return obstacles(ours, theirs)


def _verdicts(figures: pd.DataFrame) -> str:
    words = set(figures["verdict"])
    if not words:
        return ""
    if len(words) == 1 and words.copy().pop().startswith("not comparable"):
        return f"Verdict: {words.pop()}."
    return f"Verdict on our runs, margin {MARGIN:g} points: {'; '.join(_by(figures, 'verdict'))}."


def _by(figures: pd.DataFrame, column: str) -> list[str]:
    """List which figures share a value, e.g. ``t2v R@5, R@10: layer6ai-labs/xpool#13``."""
    parts = []
    for value, rows in figures.groupby(column, sort=False):
        by_direction = rows.groupby("direction", sort=False)["metric"].agg(", ".join)
        named = " and ".join(f"{direction} {names}" for direction, names in by_direction.items())
        parts.append(f"{named}: {value}")
    return parts
