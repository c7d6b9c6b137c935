"""Ranks after each listed post-processing, in files of their own beside the plain ones.

``ranks/<method>+<member>/<benchmark>/<seed>.parquet`` is a table as of a method. For a member that
needs all queries, ``<seed>.together.parquet`` has each text's hit at rank 1 for each number of
queries that arrive together: consecutive texts of the test split, post-processed on their own.
``ranks/post_processing.csv`` names the members. No plain figure depends on these files.
"""

import inspect
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xpool.metrics import Ranks, ranks
from xpool.postprocessing.banks import Banks, Scores, read_banks
from xpool.postprocessing.base import PostProcessing
from xpool.postprocessing.listed import PostProcessingParams, listed
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.params import PARAMS_FILE
from xpool.project.workspace import replacing
from xpool.statistics.ranks import Coordinates, rank_table, read_similarity, video_of_text

TOGETHER = (1, 4, 16, 64, 256)
"""Numbers of queries that arrive together, beside all of them."""


def rank_post_processed(
    setting: str, cells: Iterable[Coordinates], params: PostProcessingParams
) -> None:
    """Write the ranks of each cell after each listed post-processing.

    Args:
        setting: the setting in force.
        cells: of :func:`xpool.statistics.ranks.cells_of`.
        params: what is listed.

    Raises:
        InputError: a file is missing, or does not fit the others or the params.
    """
    members = listed(params)
    captions = params.bank.captions if params.bank else 0
    with replacing(paths.post_processing_labels(setting)) as file:
        labels(members, captions).to_csv(file, index=False, lineterminator="\n")
    for benchmark, method, seed in cells:
        folder = paths.similarity(setting, method, benchmark, seed)
        matrix, texts, videos = read_similarity(folder)
        banks = read_banks(folder, len(texts), len(videos), captions) if captions else None
        right = video_of_text(texts, videos)
        for name, member in members.items():
            try:
                both = ranks_after(member, matrix, right, banks)
            except ValueError as error:
                key = f"post_processing.members.{name}"
                raise InputError(f"{PARAMS_FILE}: {key}: {error} ({folder})") from error
            path = paths.rank_file(setting, paths.post_processed(method, name), benchmark, seed)
            with replacing(path, "wb") as file:
                rank_table(both, texts, videos).to_parquet(file, index=False)
            if member.needs_queries:
                found = pd.DataFrame({str(n): h for n, h in hits_together(member, matrix, right)})
                path = paths.together_file(setting, method, name, benchmark, seed)
                with replacing(path, "wb") as file:
                    texts[["caption_id", "video_id"]].join(found).to_parquet(file, index=False)


def labels(members: dict[str, PostProcessing], captions: int) -> pd.DataFrame:
    """Return a row a member: post_processing, label, needs_queries, arguments.

    The label says what the member needs beside a query and the gallery.

    Example:
        >>> from xpool.postprocessing.nnn import NNN
        >>> labels({"nnn": NNN()}, 1000)[["label", "arguments"]].to_numpy().tolist()
        [['NNN, bank of 1,000 training captions', 'k 128, alpha 0.75']]
    """
    rows = []
    for name, member in members.items():
        bank = f"bank of {captions:,} training captions"
        needed = bank if member.needs_bank else "all queries at once"
        values = [
            f"{argument} {getattr(member, argument):.6g}"
            for argument in inspect.signature(type(member)).parameters
            if hasattr(member, argument)
        ]
        rows.append(
            {
                "post_processing": name,
                "label": f"{member.title}, {needed}",
                "needs_queries": member.needs_queries,
                "arguments": ", ".join(values),
            }
        )
    return pd.DataFrame(rows)


def ranks_after(
    member: PostProcessing, matrix: Scores, right: NDArray[np.int64], banks: Banks | None
) -> dict[str, Ranks]:
    """Return the ranks of both directions, each post-processed for its own queries.

    Args:
        member: the post-processing.
        matrix: ``(text, video)`` similarity.
        right: ``(text,)`` column of each text's video.
        banks: of the run; None if no listed member needs one.
    """
    t2v = member.apply(matrix, banks.of("t2v") if banks else None)
    v2t = member.apply(matrix.T, banks.of("v2t") if banks else None).T
    return {"t2v": ranks(t2v, right)["t2v"], "v2t": ranks(v2t, right)["v2t"]}


def hits_together(
    member: PostProcessing, matrix: Scores, right: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield each number of texts that arrive together, and ``(text,)`` the hits at rank 1.

    Args:
        member: a post-processing that needs queries.
        matrix: ``(text, video)`` similarity.
        right: ``(text,)`` column of each text's video.
    """
    n_text = len(matrix)
    for count in (*(n for n in TOGETHER if n < n_text), n_text):
        parts = [member.apply(matrix[i : i + count]) for i in range(0, n_text, count)]
        yield count, ranks(np.concatenate(parts), right)["t2v"].hits(1)
