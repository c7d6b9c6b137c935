"""Print a table as Markdown, LaTeX (booktabs) and HTML, and its figures as a CSV file.

Headings of groups, intervals below their figures and marks look the same in all formats.
"""

import html
import re
from dataclasses import dataclass
from pathlib import Path

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
    """Return a table with inline styles, so that a page needs no style sheet."""
    pad = "padding:2px 9px;border:0"
    number = f"{pad};text-align:right;white-space:nowrap"
    label = f"{pad};text-align:left;white-space:nowrap"
    rule = "border-top:1px solid #888"
    first = [f'<th style="{label}"></th>'] + [
        f'<th colspan="{span}" style="{pad};text-align:center">{html.escape(head)}</th>'
        for head, span in _heads(table)
    ]
    second = [f'<th style="{label}">{html.escape(table.label)}</th>'] + [
        f'<th style="{number}">{html.escape(sub)}</th>' for _, sub in table.columns
    ]
    rows = [_html_row(first, "border-top:2px solid #000"), _html_row(second)]
    for group in table.groups:
        style = rule
        if group.heading:
            cell = (
                f'<td colspan="{len(table.columns) + 1}" style="{label};font-style:italic">'
                f"{html.escape(group.heading)}</td>"
            )
            rows.append(_html_row([cell], style))
            style = ""
        for row in group.rows:
            cells = [f'<td style="{label}">{html.escape(row.label)}</td>']
            for text, bold in zip(row.cells, row.bold, strict=True):
                weight = ";font-weight:bold" if bold else ""
                figure, interval = map(html.escape, _interval_apart(text))
                small = f'<br><span style="{_SMALL}">{interval}</span>' if interval else ""
                cells.append(f'<td style="{number}{weight}">{figure}{small}</td>')
            rows.append(_html_row(cells, style))
            style = ""
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in table.notes)
    return (
        '<div style="overflow-x:auto">\n'
        f'<p style="font-size:13px;max-width:75em">{html.escape(table.caption)}</p>\n'
        '<table style="border-collapse:collapse;font-size:13px;border-bottom:2px solid #000">\n'
        + "\n".join(rows)
        + "\n</table>\n"
        + (f'<ul style="font-size:11px;max-width:80em">{notes}</ul>\n' if notes else "")
        + _html_commands(table.commands)
        + "</div>\n"
    )


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
        '<details style="font-size:11px;max-width:80em"><summary>Commands that make these rows '
        f"again</summary>\n<p>{html.escape(AGAIN)}</p>\n<ul>{items}</ul>\n</details>\n"
    )


_SMALL = "font-size:10px;font-weight:normal;color:#555"


def _interval_apart(cell: str) -> tuple[str, str]:
    """Split ``46.9† [44.0, 50.0]`` before its interval, which is printed below the figure.

    With intervals beside the figures, ten columns would be wider than a page.
    """
    figure, bracket, rest = cell.partition(" [")
    return figure, f"[{rest}" if bracket else ""


def _html_row(cells: list[str], style: str = "") -> str:
    return f'<tr style="background:none;{style}">{"".join(cells)}</tr>'


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
