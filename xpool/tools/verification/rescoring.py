"""Check a run's similarity, ranks and figures against its checkpoint.

The test split is scored again on the recorded kind of device, with the recorded number of threads.
With the same device and versions, the similarity must be equal to the last bit. Otherwise the last
digits of float sums may differ: such a difference is reported without a verdict, and ranks and
figures, which are counts, are compared with those of the saved similarity.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from xpool.data.frame_cache import FramesParams
from xpool.encoders.base import best_device
from xpool.metrics import ranks
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.params import validate
from xpool.project.provenance import environment
from xpool.project.records import RECORD, differences
from xpool.statistics import ranks as ranking
from xpool.statistics.mixing import imported
from xpool.tools.verification.checks import Check, Run, compared
from xpool.training.cell import Cell
from xpool.training.data import open_data
from xpool.training.evaluate import score
from xpool.training.evaluations import Selection
from xpool.training.recipes import Recipe, TrainParams, import_path, wants_words

Scores = tuple[NDArray[Any], pd.DataFrame, pd.DataFrame]
"""Matrix ``(text, video)``, its rows and its columns."""


def check_results(
    run: Run, params: Mapping[str, Any], scored: Mapping[str, Any]
) -> Iterator[Check]:
    """Score a run again and check its similarity, its ranks and its figures.

    Args:
        run: the run.
        params: its params, from the record of its training.
        scored: the record of its evaluation.
    """
    saved, again, problems = None, None, []
    device = _device(scored["device"])
    torch.set_num_threads(scored["threads"])
    try:
        saved = ranking.read_similarity(run.scored)
    except (InputError, OSError, ValueError) as error:
        problems.append(f"cannot be read ({error})")
    try:
        cell, frames = _cell(run, params)
        words = wants_words(cell.method)
        data = open_data(run.setting, cell.benchmark, cell.train, frames, words)
        again = score(cell, data, device)
    except InputError as error:
        problems.append(f"cannot be scored again ({error})")
    what = f"{run.scored}, scored again"
    if problems:
        yield Check(what=what, verdict="DIFFERS", detail="; ".join(problems))
    elsewhere = _elsewhere(scored, environment(device))
    if saved and again:
        yield _similarity(what, again, saved, elsewhere)
    source = again if again and not elsewhere else saved
    if source:
        yield from _figures(run, str(params["selection"]), source)


def _device(recorded: str) -> torch.device:
    """Return a device of the recorded kind, or this machine's best if it has none."""
    kind = recorded.partition(" ")[0]
    best = best_device()
    return torch.device(kind) if kind in {"cpu", best.type} else best


def _elsewhere(scored: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Say how this machine differs from that of the evaluation; empty if it does not."""
    found = [
        f"{name} {now!r} in place of {then!r}"
        for name, then, now in differences({key: scored[key] for key in here}, here)
    ]
    return ", ".join(found)


def _cell(run: Run, params: Mapping[str, Any]) -> tuple[Cell, FramesParams]:
    """Return the cell as its record has it, whatever params.yaml says now."""
    path = run.trained / RECORD
    cell = Cell(
        method=import_path(run.method),
        benchmark=run.benchmark,
        seed=run.seed,
        train=validate(params["train"], "params.train", TrainParams, path),
        recipe=validate(params["recipe"], "params.recipe", Recipe, path),
        rule=validate(params["selection"], "params.selection", Selection, path),
    )
    return cell, validate(params["frames"], "params.frames", FramesParams, path)


def _similarity(what: str, again: Scores, saved: Scores, elsewhere: str) -> Check:
    """Compare two matrices, and the texts and videos of their rows and columns."""
    tables = {"texts": (again[1], saved[1]), "videos": (again[2], saved[2])}
    for name, (table, saved_table) in tables.items():
        if problem := _first_difference(table, saved_table):
            return Check(what=what, verdict="DIFFERS", detail=f"{name}.parquet: {problem}")
    expected, found = again[0], saved[0]
    unequal = ~((expected == found) | (np.isnan(expected) & np.isnan(found)))
    if not unequal.any():
        return Check(what=what, verdict="ok", detail=f"all of {expected.shape} to the last digit")
    row, column = np.argwhere(unequal)[0]
    gap = np.abs(expected.astype(np.float64) - found)[unequal].max()
    detail = (
        f"similarity.npy: {unequal.sum()} of {unequal.size} differ, by {gap:.3g} at most; first: "
        f"text {saved[1]['caption_id'].iat[row]}, video {saved[2]['video_id'].iat[column]}: "
        f"expected {expected[row, column]!s}, found {found[row, column]!s}"
    )
    if elsewhere:
        detail += f"; no sign of tampering by itself, as this is {elsewhere}"
    return Check(what=what, verdict="no verdict" if elsewhere else "DIFFERS", detail=detail)


def _figures(run: Run, selection: str, source: Scores) -> Iterator[Check]:
    """Compare the ranks and the figures of a run with those that a matrix gives."""
    matrix, texts, videos = source
    both = ranks(matrix, ranking.video_of_text(texts, videos))
    where = (run.setting, run.method, run.benchmark, run.seed)
    path = paths.rank_file(*where)
    try:
        problem = _first_difference(ranking.rank_table(both, texts, videos), pd.read_parquet(path))
    except (OSError, ValueError) as error:
        problem = f"cannot be read ({error})"
    yield Check(what=str(path), verdict="DIFFERS" if problem else "ok", detail=problem)
    try:
        same = ranking.same_caption(run.setting, run.benchmark, texts, videos)
    except InputError as error:
        metrics = str(paths.metrics_table(run.setting))
        yield Check(what=metrics, verdict="DIFFERS", detail=f"cannot be computed ({error})")
        return
    values = ranking.metrics_of(both, matrix, same)
    named = {"benchmark": run.benchmark, "method": run.method, "seed": run.seed}
    rows = pd.DataFrame(ranking.metric_rows(named, selection, values, len(texts), len(videos)))
    cell = run.benchmark, run.method, run.seed
    origin = imported(run.setting, [cell]).get(cell, np.nan)  # as an empty field is read
    yield _table(paths.metrics_table(run.setting), rows.assign(imported=origin), named)
    yield _nested(paths.metrics(run.setting), run, values)


def _table(path: Path, expected: pd.DataFrame, named: Mapping[str, Any]) -> Check:
    try:
        table = pd.read_csv(path, float_precision="round_trip")
        of_run = (table[list(named)] == pd.Series(named)).all(axis=1)
        found = table[of_run].drop(columns="mixed").reset_index(drop=True)  # of all runs together
        problem = _first_difference(expected, found)
    except (OSError, ValueError, KeyError) as error:
        problem = f"cannot be read ({error})"
    return Check(what=str(path), verdict="DIFFERS" if problem else "ok", detail=problem)


def _nested(path: Path, run: Run, expected: Mapping[str, Any]) -> Check:
    try:
        nested = json.loads(path.read_text(encoding="utf-8"))
        found = nested[run.benchmark][run.method][str(run.seed)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Check(what=str(path), verdict="DIFFERS", detail=f"cannot be read ({error!r})")
    return compared(str(path), expected, found, "scored again", "file")


def _first_difference(expected: pd.DataFrame, found: pd.DataFrame) -> str:
    """Say how many rows of a table differ, and show the first; empty if the tables are equal."""
    if list(expected) != list(found) or len(expected) != len(found):
        return (
            f"expected {len(expected)} rows of {', '.join(map(str, expected))}; "
            f"found {len(found)} of {', '.join(map(str, found))}"
        )
    one, other = expected.astype(object), found.astype(object)
    unequal = (one.to_numpy() != other.to_numpy()) & ~(one.isna() & other.isna()).to_numpy()
    if not unequal.any():
        return ""
    row, column = (int(index) for index in np.argwhere(unequal)[0])
    names = [str(one.iat[row, i]) for i in range(column) if isinstance(one.iat[row, i], str)]
    return (
        f"{unequal.any(axis=1).sum()} of {len(expected)} rows differ; first: row {row + 1} "
        f"({' '.join(names)}), {expected.columns[column]}: "
        f"expected {one.iat[row, column]!s}, found {other.iat[row, column]!s}"
    )
