"""Figures that others published on a benchmark, each with its source and our verdict on it.

Reads ``published.csv`` beside this file; :mod:`xpool.statistics.verdict` says when a figure counts
as reproduced.
"""

import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd

from xpool.data.benchmark import load
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.made import made
from xpool.project.records import RECORD, read_record
from xpool.report.protocol import Protocol
from xpool.statistics.selection_bias import CHOSEN_ON_TEST
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


def on_benchmark(
    protocol: Protocol, published: pd.DataFrame, post_processed: bool = False
) -> pd.DataFrame:
    """Return the figures on this benchmark that were made with the training list in force.

    Args:
        protocol: the benchmark.
        published: from :func:`read_published`.
        post_processed: whether to return those of post-processed similarities, or the plain ones.
    """
    trained = str(protocol.options.get("training_videos", ""))
    fits = (published["benchmark"] == protocol.benchmark) & (
        published["training_videos"] == trained
    )
    kinds = published["kind"].isin(headings(protocol))
    plain = published["post_processing"] == "none"
    return published[fits & kinds & (plain != post_processed)].rename(columns={"value": "mean"})


def judged(
    protocol: Protocol,
    published: pd.DataFrame,
    metrics: pd.DataFrame,
    cells: pd.DataFrame,
    selection: pd.DataFrame,
) -> pd.DataFrame:
    """Return published figures with a column ``verdict``, which is empty for ranks.

    A figure that was selected on test is held against what the official rule gives from the same
    runs, whatever rule the table follows: they logged that in text to video.

    Args:
        protocol: how our runs were made.
        published: from :func:`on_benchmark`.
        metrics: our runs, one value a row, from
            :func:`xpool.report.results.inputs.read_metrics`.
        cells: as :mod:`xpool.statistics.results` writes them; has the number of independent
            queries.
        selection: what each rule gives, from the same module.
    """
    keys = ["benchmark", "method", "direction", "metric"]
    runs = metrics.groupby(keys)["value"]
    sizes = cells.set_index(keys)["n_independent"]
    foreign = set(metrics[metrics["imported"].notna()].groupby(keys[:2]).groups)
    on_test = selection[selection["rule"] == CHOSEN_ON_TEST].groupby(keys[:2])
    missing = cache(partial(_missing, protocol))  # reads the records of all runs of a method
    words = []
    for record in published.to_dict("records"):
        row = {str(name): value for name, value in record.items()}
        key = tuple(row[name] for name in keys)
        if not str(row["metric"]).startswith("R@"):
            words.append("")
            continue
        if key not in runs.groups:
            words.append(NO_RUNS)
            continue
        ours, rule = runs.get_group(key).to_numpy(), _SELECTED_ON[protocol.selection]
        rule = "unknown" if key[:2] in foreign else rule
        logged = row["direction"] == "t2v" and key[:2] in on_test.groups
        if row["selected_on"] == "test" and rule != "test" and logged:
            ours, rule = on_test.get_group(key[:2])[row["metric"]].to_numpy(), "test"
        reasons = _obstacles(protocol, metrics, row, rule, missing)
        found = verdict(ours, row["mean"], float(sizes[key]), obstacles=reasons)
        chosen = rule == "test" and _SELECTED_ON[protocol.selection] != "test" and not reasons
        words.append(found.label + (f" (ours selected on test too: {ours.mean():.1f})" * chosen))
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


def _obstacles(
    protocol: Protocol,
    metrics: pd.DataFrame,
    row: dict[str, Any],
    selected_on: str,
    missing: Callable[[str], int],
) -> tuple[str, ...]:
    """Return why our runs of a method cannot be compared with a published figure of it."""
    if protocol.synthetic:
        return ("synthetic data",)
    benchmark = load(protocol.benchmark)
    options = benchmark.Options(**protocol.options)
    carved = benchmark.validation_option
    size = benchmark.published_counts(options)["test"]
    theirs = Conditions(
        synthetic=False,
        backbone=row["backbone"],
        split=row["protocol"],
        selected_on=row["selected_on"],
        test_size=(size.captions, size.videos),
        post_processing=row["post_processing"],
    )
    runs = metrics[
        (metrics["benchmark"] == protocol.benchmark) & (metrics["method"] == row["method"])
    ]
    ours = Conditions(
        synthetic=False,
        backbone=protocol.backbone,
        split=benchmark.protocol.format(**protocol.options),
        selected_on=selected_on,
        test_size=(int(runs["n_text"].iloc[0]), int(runs["n_video"].iloc[0])),
        held_out=int(protocol.options[carved]) if carved and selected_on != "unknown" else 0,
        missing=missing(str(row["method"])),
    )
    return obstacles(ours, theirs)


def _missing(protocol: Protocol, method: str) -> int:
    """Return how many training videos the runs of a method lacked, at most.

    In captions where no source gives the number of videos.
    """
    benchmark = load(protocol.benchmark)
    options = benchmark.Options(**protocol.options)
    listed = benchmark.published_counts(options)["train"]
    most = 0
    for seed in protocol.seeds:
        folder = paths.training(protocol.setting, method, protocol.benchmark, seed)
        record = read_record(folder)
        if "imported" in record:  # trained on what its authors say
            continue
        for name in ("training_videos", "training_captions"):
            if name not in record:
                raise InputError(f"{folder / RECORD}: no {name}; run 'dvc repro' to make it again")
        if listed.videos is not None:
            most = max(most, abs(listed.videos - record["training_videos"]))
        elif listed.captions is not None:
            most = max(most, abs(listed.captions - record["training_captions"]))
    return most


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
