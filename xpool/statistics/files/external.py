"""Similarities of other code: ``external/rows.csv`` lists matrices that tables show as rows.

``external/README.md`` says what the columns mean. Such a row has no seeds and enters no test.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from xpool.metrics import ranks
from xpool.project import paths
from xpool.project.digests import sha256
from xpool.project.errors import InputError
from xpool.statistics.files.arrays import read_scores, read_video_of_text, split_name
from xpool.statistics.results import cells

LISTED = ("benchmark", "label", "file", "rows", "video_of_text", "source")
ROWS = ("texts", "videos")
COLUMNS = (
    "benchmark", "label", "direction", "metric", "mean", "ci_low", "ci_high", "n_text", "n_video",
    "file", "sha256", "source",
)  # fmt: skip


def read_listed() -> pd.DataFrame:
    """Return what ``external/rows.csv`` lists; nothing where it is not there.

    Raises:
        InputError: a column or a value is missing, or a benchmark has a label twice.
    """
    path = paths.external("rows.csv")
    if not path.is_file():
        return pd.DataFrame(columns=list(LISTED))
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        raise InputError(f"{path}: not a csv table that pandas can read ({error})") from None
    if missing := [column for column in LISTED if column not in table]:
        raise InputError(f"{path}: no column {missing[0]}; expected {', '.join(LISTED)}")
    for number, row in enumerate(table.to_dict("records"), start=1):
        for column in ("benchmark", "label", "file", "source"):
            if not row[column].strip():
                raise InputError(f"{path} row {number}: {column} is empty")
        if row["rows"] not in ROWS:
            raise InputError(f"{path} row {number}: rows: {row['rows']!r}; write texts or videos")
    twice = table[table.duplicated(["benchmark", "label"])]
    if len(twice):
        raise InputError(f"{path}: {twice['label'].iloc[0]} is listed twice; name each once")
    return table


def external(benchmark: str) -> pd.DataFrame:
    """Return the metrics of a benchmark's listed matrices, with intervals over its test videos.

    Returns:
        Columns :data:`COLUMNS`; the interval is that of one run.

    Raises:
        InputError: as :func:`read_listed`; or a matrix cannot be read, or which video a text
            belongs to is not known.
    """
    listed = read_listed()
    parts = [pd.DataFrame(columns=list(COLUMNS))]
    for row in listed[listed["benchmark"] == benchmark].itertuples():
        beside = str(row.video_of_text)
        video_file = paths.external(beside) if beside else None
        file = paths.external(str(row.file))
        found = _figures(benchmark, str(row.label), file, str(row.rows), video_file)
        found = found.assign(file=str(row.file), source=str(row.source))
        parts.append(found.assign(sha256=sha256(split_name(file)[0]))[list(COLUMNS)])
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)


def _figures(
    benchmark: str, label: str, file: Path, rows: str, video_file: Path | None
) -> pd.DataFrame:
    scores = read_scores(file)
    video_of_text, matrix = scores.video_of_text, scores.matrix
    if video_of_text is not None and (rows == "videos" or video_file is not None):
        raise InputError(
            f"{file}: three axes name the video of each text; leave video_of_text empty"
        )
    matrix = matrix.T if rows == "videos" else matrix
    if video_file is not None:
        video_of_text = read_video_of_text(video_file)
    n_text, n_video = matrix.shape
    if video_of_text is None and n_text != n_video:
        raise InputError(
            f"{file}: {n_text} texts and {n_video} videos; name a file with the video of each text "
            f"in the column video_of_text of {paths.external('rows.csv')}, and check rows"
        )
    video_of_text = np.arange(n_text) if video_of_text is None else video_of_text
    if len(video_of_text) != n_text:
        raise InputError(f"{video_file}: {len(video_of_text)} lines, but {file} has {n_text} texts")
    try:
        both = ranks(matrix, video_of_text)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    videos = {"t2v": video_of_text, "v2t": both["v2t"].query}
    runs = {direction: {label: [one]} for direction, one in both.items()}
    found = cells(benchmark, runs, {name: ids.astype(str) for name, ids in videos.items()})
    return found.rename(columns={"method": "label"}).assign(n_text=n_text, n_video=n_video)
