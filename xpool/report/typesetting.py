"""Print a table as Markdown, LaTeX (booktabs) and HTML, and its figures as a CSV file.

Headings of groups, intervals below their figures and marks look the same in all formats.
"""

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from xpool.project.workspace import replacing

FORMATS = ("csv", "md", "tex")
NO_FIGURE = "–"
"""Cell without a figure."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A printed row."""

    label: str
    cells: tuple[str, ...]
    bold: tuple[bool, ...]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows under a heading, which may be empty."""

    heading: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class Command:
    """How rows of a table are made again, for whoever reads it as HTML."""

    rows: str
    """Which rows, e.g. the label of one."""
    line: str
    """To be copied into a shell."""
    gives: str
    """Figure that should come out."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table as it is printed, and its figures as they are stored; a notebook shows it as HTML."""

    name: str
    """Name of its files, without suffix."""
    caption: str
    columns: tuple[tuple[str, str], ...]
    """Head and sub-head of each column; equal neighbouring heads are printed as one."""
    names: tuple[str, ...]
    """Name of each column for a format with a single row of heads."""
    groups: tuple[Group, ...]
    notes: tuple[str, ...]
    """Printed below the table."""
    figures: pd.DataFrame
    """Figures, one a row, unrounded."""
    label: str = "Method"
    """Head of the column of labels."""
    commands: tuple[Command, ...] = ()
    """How the rows are made again; in the HTML only."""

    def _repr_html_(self) -> str:
        return to_html(self)


def of_frame(name: str, caption: str, frame: pd.DataFrame, digits: int = 1) -> Table:
    """Return a data frame as a table: a group for each value of its first column.

    Args:
        name: of its files.
        caption: stands above it.
        frame: the headings of the groups, the labels of the rows, then cells: numbers or words.
        digits: of numbers that are not whole.
    """
    heading, label, *names = map(str, frame.columns)
    groups = [
        Group(
            heading=str(value),
            rows=tuple(_row(row[1:], digits) for row in rows.to_numpy().tolist()),
        )
        for value, rows in frame.astype(object).groupby(heading, sort=False)
    ]
    return Table(
        name=name,
        caption=caption,
        columns=tuple(("", one) for one in names),
        names=tuple(names),
        groups=tuple(groups),
        notes=(),
        figures=frame,
        label=label,
    )


def _row(values: Sequence[Any], digits: int) -> Row:
    label, *cells = (_cell(value, digits) for value in values)
    return Row(label=label, cells=tuple(cells), bold=(False,) * len(cells))


def _cell(value: Any, digits: int) -> str:
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return NO_FIGURE
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def write(table: Table, folder: Path) -> list[Path]:
    """Write ``<name>.csv``, ``.md`` and ``.tex``; the same table gives the same bytes."""
    texts = {
        "csv": table.figures.to_csv(index=False, lineterminator="\n"),
        "md": to_markdown(table),
        "tex": to_latex(table),
    }
    written = []
    for suffix in FORMATS:
        path = folder / f"{table.name}.{suffix}"
        with replacing(path) as file:
            file.write(texts[suffix])
        written.append(path)
    return written


def to_markdown(table: Table) -> str:
    """Return caption, table and notes, with bold cells between double asterisks."""
    lines = []
    for group in table.groups:
        if group.heading:
            lines.append([f"*{_plain(group.heading)}*", *("" for _ in table.columns)])
        for row in group.rows:
            cells = (f"**{c}**" if b else c for c, b in zip(row.cells, row.bold, strict=True))
            lines.append([_plain(row.label), *cells])
    text = pd.DataFrame(lines, columns=[table.label, *table.names]).to_markdown(
        index=False, disable_numparse=True, colalign=("left", *("right" for _ in table.names))
    )
    notes = "".join(f"- {_plain(note)}\n" for note in table.notes)
    return f"{_plain(table.caption)}\n\n{text}\n" + (f"\n{notes}" if notes else "")


def to_latex(table: Table) -> str:
    r"""Return a ``table*`` that needs only ``\usepackage{booktabs}``."""
    width = len(table.columns)
    heads, rules, column = [], [], 2
    for head, span in _heads(table):
        heads.append(rf"\multicolumn{{{span}}}{{c}}{{{tex(head)}}}")
        rules.append(rf"\cmidrule(lr){{{column}-{column + span - 1}}}")
        column += span
    subs = [tex(sub) for _, sub in table.columns]
    body = []
    for group in table.groups:
        body.append(r"\midrule")
        if group.heading:
            body.append(rf"\multicolumn{{{width + 1}}}{{l}}{{\emph{{{tex(group.heading)}}}}} \\")
        for row in group.rows:
            parts = [_interval_apart(cell) for cell in row.cells]
            cells = [
                rf"\textbf{{{tex(cell)}}}" if bold else tex(cell)
                for (cell, _), bold in zip(parts, row.bold, strict=True)
            ]
            body.append(" & ".join([tex(row.label), *cells]) + r" \\")
            if any(interval for _, interval in parts):
                small = [
                    rf"{{\tiny {tex(interval.replace(', ', ','))}}}" if interval else ""
                    for _, interval in parts
                ]
                body[-1] += "[-2pt]"
                body.append(" & ".join(["", *small]) + r" \\")
    notes = [rf"\par\smallskip\raggedright\scriptsize {tex(' '.join(table.notes))}"]
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{tex(table.caption)}}}",
        rf"\label{{tab:{table.name}}}",
        r"\par\smallskip",
        r"\footnotesize",
        r"\setlength{\tabcolsep}{1pt}",
        rf"\begin{{tabular}}{{l{'r' * width}}}",
        r"\toprule",
        " & ".join(["", *heads]) + r" \\",
        " ".join(rules),
        " & ".join([tex(table.label), *subs]) + r" \\",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        *(notes if table.notes else []),
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def to_html(table: Table) -> str:
    """Return a table for a page; :mod:`xpool.report.site.shell` gives it looks, and sorts it.

    Rows are sorted under their heading. A cell is sorted by the number that it begins with, one
    without a figure last.
    """
    spans = "".join(
        f'<th class="no-sort" scope="colgroup" colspan="{span}">{html.escape(head)}</th>'
        for head, span in _heads(table)
    )
    names = "".join(
        f'<th scope="col">{html.escape(name)}</th>'
        for name in (table.label, *(sub for _, sub in table.columns))
    )
    heads = f"<tr><td></td>{spans}</tr>\n" if any(head for head, _ in table.columns) else ""
    bodies = []
    for group in table.groups:
        if group.heading:
            bodies.append(
                f'<tbody class="heading"><tr><th colspan="{len(table.columns) + 1}" '
                f'scope="rowgroup">{html.escape(group.heading)}</th></tr></tbody>'
            )
        rows = "\n".join(map(_html_row, group.rows))
        bodies.append(f"<tbody>\n{rows}\n</tbody>")
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in table.notes)
    return (
        f'<div class="table">\n<p>{html.escape(table.caption)}</p>\n'
        f'<div class="scroll" role="region" tabindex="0" aria-label="Table {table.name}">\n'
        '<table class="sortable n-last">\n'
        f"<thead>\n{heads}<tr>{names}</tr>\n</thead>\n"
        + "\n".join(bodies)
        + "\n</table>\n</div>\n"
        + (f'<ul class="notes">{notes}</ul>\n' if notes else "")
        + _html_commands(table.commands)
        + f"<p>{csv_link(table.name, table.figures)}</p>\n</div>\n"
    )


def csv_link(name: str, figures: pd.DataFrame) -> str:
    """Return a link by which a page hands out figures, unrounded, as ``<name>.csv``."""
    content = figures.to_csv(index=False, lineterminator="\n").encode()
    address = data_url(content, "text/csv")
    return f'<a download="{name}.csv" href="{address}">Data: {name}.csv</a>'


def data_url(content: bytes, kind: str) -> str:
    """Return the content of a file as an address, for a page that needs no other file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


AGAIN = (
    "Run from the project's top folder. A command makes whatever it needs and is missing: in a "
    "fresh checkout, all methods of the table. The same commit on the same machine gives the same "
    "bytes (on a GPU with train.deterministic: true). On another machine floats are summed in "
    "another order, and a figure moves as with other seeds: expect it within the interval or the "
    "spread that stands beside it."
)


def _html_commands(commands: tuple[Command, ...]) -> str:
    """Return a list that opens on a click; empty without commands."""
    if not commands:
        return ""
    items = "".join(
        f"<li>{html.escape(one.rows)}: <code>{html.escape(one.line)}</code> gives "
        f"{html.escape(one.gives)}</li>\n"
        for one in commands
    )
    return (
        "<details><summary>Commands that make these rows "
        f"again</summary>\n<p>{html.escape(AGAIN)}</p>\n<ul>{items}</ul>\n</details>\n"
    )


_NUMBER = re.compile(r"[<>≈]?([+−-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)")


def _sorted_by(text: str) -> str:
    """Return what a cell is sorted by: the number that it begins with, or all of it.

    Example:
        >>> [_sorted_by(text) for text in ("−1.5‡ [−3.0, 0.1]", "1,043", "–", "3 to 5", "flat")]
        ['-1.5', '1043', '', '3', 'flat']
    """
    number = _NUMBER.match(text)
    if number:
        return number[1].replace("−", "-").replace(",", "")
    return "" if text == NO_FIGURE else text


def _html_row(row: Row) -> str:
    cells = [f'<td data-sort="{html.escape(_sorted_by(row.label))}">{html.escape(row.label)}</td>']
    for text, bold in zip(row.cells, row.bold, strict=True):
        figure, interval = map(html.escape, _interval_apart(text))
        small = f'<span class="interval">{interval}</span>' if interval else ""
        best = ' class="best"' if bold else ""
        key = html.escape(_sorted_by(text))
        cells.append(f'<td data-sort="{key}"{best}>{figure}{small}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _interval_apart(cell: str) -> tuple[str, str]:
    """Split ``46.9† [44.0, 50.0]`` before its interval, which is printed below the figure.

    With intervals beside the figures, ten columns would be wider than a page.
    """
    figure, bracket, rest = cell.partition(" [")
    return figure, f"[{rest}" if bracket else ""


def _heads(table: Table) -> list[tuple[str, int]]:
    """Return each head with the number of columns under it."""
    heads: list[tuple[str, int]] = []
    for head, _ in table.columns:
        if heads and heads[-1][0] == head:
            heads[-1] = (head, heads[-1][1] + 1)
        else:
            heads.append((head, 1))
    return heads


def _plain(text: str) -> str:
    """Escape the characters that mean something in Markdown."""
    return re.sub(r"([\\|*`<])", r"\\\1", text)


_TEX = {
    "\\": r"\textbackslash{}",
    **{mark: rf"\{mark}" for mark in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "→": r"$\rightarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "−": r"$-$",
    "–": "--",
    "×": r"$\times$",
    "±": r"$\pm$",
    "<": "$<$",
    ">": "$>$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
}


def tex(text: str) -> str:
    """Escape for LaTeX; the spread in a cell is set small and close to its mean."""
    spread = re.fullmatch(r"(\S+) ± (\S+)", text)
    if spread:
        return rf"{tex(spread[1])}{{\tiny\,$\pm$\,{tex(spread[2])}}}"
    return "".join(_TEX.get(mark, mark) for mark in text)
