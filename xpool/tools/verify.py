"""The command ``xpool verify``: verify results from what the runs left behind."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def main(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN]...", help="Folders of runs; default: all that params.yaml lists."
        ),
    ] = None,
) -> None:
    """Score saved runs again, and verify every figure.

    Figures and ranks must agree to the last digit.

    Prints a line for each check and writes nothing. Exit status: 0 if all is as recorded; 1 if
    something differs; 2 if nothing could be compared; 3 if only the new scores differ, on another
    device or with other versions than before.

    Example: xpool verify results/mini/train/xpool/msrvtt/0
    """
    from xpool.tools.verification.runs import all_runs, run_of, verify, worst_of

    verdicts = []
    for run in [run_of(folder) for folder in runs or ()] or all_runs():
        print(run.trained, flush=True)
        found = []
        for check in verify(run):
            print(f"  {check.verdict:10} {check.what}{check.detail and ': '}{check.detail}")
            found.append(check.verdict)
        verdicts.append(worst_of(found))
    count = {verdict: verdicts.count(verdict) for verdict in verdicts}
    print(f"{len(verdicts)} verified:", ", ".join(f"{n} {word}" for word, n in count.items()))
    sys.exit(1 if "DIFFERS" in count else 3 if "no verdict" in count else 0)
