"""Rows of similarity matrices of other code, from :mod:`xpool.statistics.files.external`."""

import pandas as pd

from xpool.report.protocol import METRICS, Protocol

EXTERNAL = "Similarities of other code, not under this protocol"
"""Heading of the rows."""


def external_rows(protocol: Protocol, external: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a benchmark's table, labelled as external.

    Args:
        protocol: the benchmark.
        external: columns of :data:`xpool.statistics.files.external.COLUMNS`.
    """
    here = (external["benchmark"] == protocol.benchmark) & external["metric"].isin(METRICS)
    found = external[here]
    labels = found["label"].astype(str) + " (external)"
    return found.assign(kind="external", label=labels, method="")


def external_notes(rows: pd.DataFrame, measured: pd.DataFrame) -> list[str]:
    """Return a note for each matrix: its file, its source, and whether its test set is ours.

    Args:
        rows: from :func:`external_rows`.
        measured: metrics of our runs on the benchmark, with n_text and n_video.
    """
    ours = tuple(measured[["n_text", "n_video"]].iloc[0])
    notes = []
    for label, of_row in rows.groupby("label", sort=False):
        first = of_row.iloc[0]
        size = first["n_text"], first["n_video"]
        other = "" if size == ours else ", NOT THE TEST SET of the rows above"
        notes.append(
            f"{label}: {first['file']} (SHA-256 {str(first['sha256'])[:16]}), {first['source']}; "
            f"{size[0]:,} texts, {size[1]:,} videos{other}. One matrix: its intervals are over the "
            "test videos, and how it was trained and selected is not known here."
        )
    return notes
