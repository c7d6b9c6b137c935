"""The tables in LaTeX compile and keep to the page (skipped where there is no LaTeX)."""

import shutil
import subprocess

import pandas as pd
import pytest
from made_results import PARAMS
from made_studies import every_table, write_studies

from xpool.report.protocol import read_protocols
from xpool.report.typesetting import Group, Row, Table, to_latex

PDFLATEX = shutil.which("pdflatex")
LABEL = "seqTransf (rerun, compressed)"
DOCUMENT = r"""\documentclass[twocolumn,10pt]{article}
\usepackage{booktabs}
\setlength{\textwidth}{6.875in}
\begin{document}
%s
\end{document}
"""


def widest():
    """Ten columns as wide as they come: marks, intervals up to 100, the longest published label."""
    recalls, ranks = ("100.0‡ [80.2, 100.0]",) * 3, ("17.2‡ [14.9, 19.6]",) * 2
    row = Row(label=LABEL, cells=(*recalls, *ranks) * 2, bold=(True,) * 10)
    small = Row(label=LABEL, cells=("<0.001", "–", "−1.0", "+1.0 [−2.0, +4.0]") + ("1.0",) * 6,
                bold=(False,) * 10)  # fmt: skip
    heads = tuple((way, m) for way in ("Text → video", "Video → text") for m in ("R@1 ↑",) * 5)
    return Table(
        name="widest", caption="A_b, 95 % & p < 0.05: † ‡ ± ×", columns=heads, names=("",) * 10,
        groups=(Group(heading="Published", rows=(row, small)),), notes=("A note, p < 0.05.",),
        figures=pd.DataFrame(),
    )  # fmt: skip


def compiled(text, folder):
    """Compile tables as a conference sets them; return what TeX says."""
    (folder / "table.tex").write_text(DOCUMENT % text, encoding="utf-8")
    done = subprocess.run(
        [PDFLATEX, "-interaction=nonstopmode", "-halt-on-error", "table.tex"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert (folder / "table.pdf").is_file()
    return done.stdout


@pytest.mark.skipif(PDFLATEX is None, reason="no pdflatex on this machine")
def test_widest_table_compiles_and_fits_the_page_of_a_conference(tmp_path):
    """CVPR's text is 6.875 inches wide; TeX reports every box that is wider."""
    assert "Overfull \\hbox" not in compiled(to_latex(widest()), tmp_path)


@pytest.mark.skipif(PDFLATEX is None, reason="no pdflatex on this machine")
def test_the_tables_of_the_studies_compile_and_fit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_studies(PARAMS)
    tables = every_table(read_protocols())
    assert "Overfull \\hbox" not in compiled("\n".join(map(to_latex, tables)), tmp_path)
