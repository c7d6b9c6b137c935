"""Run the measurements, print one table, and write it as JSON.

Run: ``make bench``, or ``python -m performance --json FILE --device cuda scoring``
"""

import json
import logging
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xpool.project.command import run_alone
from xpool.project.errors import InputError

if TYPE_CHECKING:
    from performance.measure import Row

# Each module has ``rows(device)``, which yields rows as they are measured.
MODULES = ("scoring", "words", "search", "decode", "training", "pipeline", "coverage", "power")
log = logging.getLogger(__name__)


def main(
    modules: Annotated[
        list[str] | None, typer.Argument(help=f"Any of {', '.join(MODULES)}; all by default.")
    ] = None,
    device_name: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
    file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the results there.")
    ] = None,
) -> None:
    """Run the named measurements, or all; print one table.

    Example: python -m performance --json results.json scoring
    """
    for name in modules or ():
        if name not in MODULES:
            raise InputError(f"no measurement {name!r}; known: {', '.join(MODULES)}")

    import torch  # takes seconds, and --help should not

    from performance.measure import machine

    device = torch.device(device_name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no CUDA device here")
    about = machine(device)
    results: dict[str, list[Row]] = {}
    for name in modules or MODULES:
        log.info("%s ...", name)
        results[name] = []
        for row in import_module(f"performance.{name}").rows(device):
            results[name].append(row)
            log.info("%s: %s %s", row.what, _number(row.value), row.unit)
            if file:  # after each row, so that a run that is stopped keeps what it has
                _write(file, about, results)
    print("\n".join(f"{key}: {value}" for key, value in about.items()) + "\n")
    print(table([row for rows in results.values() for row in rows]))


def _write(path: Path, about: dict[str, str], results: dict[str, list["Row"]]) -> None:
    record = {name: [asdict(row) for row in rows] for name, rows in results.items()}
    text = json.dumps({"machine": about, "results": record}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def table(rows: list["Row"]) -> str:
    """Return the rows as text, columns aligned."""
    lines = [("what", "value", "", "baseline", "ratio", "note")]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.1f} x"
        baseline = "" if row.baseline is None else _number(row.baseline)
        lines.append((row.what, _number(row.value), row.unit, baseline, ratio, row.note))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = (False, True, False, True, True, False)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def _number(value: float | None) -> str:
    if value is None:
        return "unmeasured"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


if __name__ == "__main__":
    run_alone(main)
