"""The command ``xpool check-paper``: the authors' checkpoints against the published figures."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def main(
    origin: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FOLDER",
            help="Has a folder for each: msrvtt, msvd, lsmdc, xpool-checkpoints.",
        ),
    ] = None,
) -> None:
    """Hold the authors' checkpoints against their figures.

    Nothing is trained. For each checkpoint: gets what is missing (xpool get), decodes the test
    videos, imports the weights, scores them. A step that is done is not done again, and params.yaml
    and its results stay as they are. Ends with a table, which is also in results/check-paper.md.

    Exit status: 1 if a checkpoint could not be scored; the last lines say what mends it.

    Example: xpool check-paper

    Example: xpool check-paper --from /disk/official
    """
    from xpool.project import paths
    from xpool.project.errors import InputError
    from xpool.project.workspace import replacing
    from xpool.report.check_paper import as_markdown
    from xpool.tools.checkpoints.released import check, released

    if origin is not None and not origin.expanduser().is_dir():
        raise InputError(f"{origin}: no such folder; name one that has the official files")
    found, lacking = [], []
    for one in released():
        try:
            found.append(check(one, origin and origin.expanduser()))
        except InputError as error:
            lacking.append(f"{one.part}: not scored: {' '.join(str(error).split())}")
    if found:
        table = as_markdown(found)
        with replacing(paths.check_paper()) as file:
            file.write(table)
        print(f"\n{table}\n{paths.check_paper()} has this table")
    for line in lacking:
        print(line)
    sys.exit(1 if lacking else 0)
