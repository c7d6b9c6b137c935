"""LaTeX macros of the tables' figures: the values are the printed cells, and the names are safe."""

import contextlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from made_results import PARAMS, write_results

from xpool.project.errors import InputError
from xpool.report import typesetting
from xpool.report.protocol import METRICS, read_protocols
from xpool.report.results import inputs, macros, tables
from xpool.report.results.published import read_published

PDFLATEX = shutil.which("pdflatex")
SPELLED = {"R@1": "Rone", "R@5": "Rfive", "R@10": "Rten", "MdR": "MdR", "MnR": "MnR"}
METHODS = {"Mean pooling": "meanPool", "Self-attention": "selfAttention", "X-Pool": "xpool"}


def written(folder, **changes):
    """Write results and macros; return the tables, the comparisons and the macros by name."""
    folder.mkdir()
    with contextlib.chdir(folder):
        write_results(PARAMS | changes)
        protocols = read_protocols()
        metrics = inputs.read_metrics(protocols)
        cells, comparisons, selection = (
            inputs.read_statistics(name, protocols)
            for name in ("cells", "comparisons", "selection")
        )
        others = read_published(), inputs.read_statistics("external", protocols)
        found = [
            tables.benchmark_table(p, metrics, cells, comparisons, selection, *others)
            for p in protocols
        ]
        path = folder / macros.write(protocols, found, comparisons, Path())
    lines = [line for line in path.read_text().splitlines() if not line.startswith("%")]
    named = [
        re.fullmatch(r"\\newcommand\{\\([A-Za-z]+)\}\{(.*)\}", line).groups() for line in lines
    ]
    assert len(dict(named)) == len(named)
    return found, comparisons, dict(named), path


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    return written(tmp_path_factory.mktemp("macros") / "mini")


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    return written(tmp_path_factory.mktemp("macros") / "paper", setting="paper")


@pytest.mark.parametrize("setting", ["mini", "paper"])
def test_each_printed_figure_has_a_macro_that_says_the_same(setting, request):
    found, _, named, _ = request.getfixturevalue(setting)
    start = "synthetic" if setting == "mini" else ""
    columns = [(d, m) for d in ("", "VideoToText") for m in METRICS]
    for table in found:
        for row in table.groups[0].rows:
            for (direction, metric), cell in zip(columns, row.cells, strict=True):
                name = f"{start}{METHODS[row.label]}{table.name}{SPELLED[metric]}{direction}"
                value, low, high = re.fullmatch(r"([\d.]+)[†‡]? \[(.+), (.+)\]", cell).groups()
                (full,) = [one for one in named if one.lower() == name.lower()]
                assert named[full] == value
                assert named[f"{full}Low"] == typesetting.tex(low)
                assert named[f"{full}High"] == typesetting.tex(high)


def test_published_figures_have_macros_named_by_their_label(paper):
    found, _, named, _ = paper
    table = next(table for table in found if table.name == "msrvtt")
    row = next(r for g in table.groups for r in g.rows if r.label == "CLIP4Clip meanP (paper)")
    assert named["publishedCLIPfourClipMeanPPaperMsrvttRone"] == row.cells[0] == "43.1"
    printed = [c for t in found for g in t.groups[1:] for r in g.rows for c in r.cells if c != "–"]
    assert len([name for name in named if name.startswith("published")]) == len(printed)


@pytest.mark.parametrize("setting", ["mini", "paper"])
def test_differences_are_those_of_the_comparisons_with_their_sign(setting, request):
    _, comparisons, named, _ = request.getfixturevalue(setting)
    start = "syntheticXpool" if setting == "mini" else "xpool"
    row = comparisons.query(
        "benchmark == 'lsmdc' and direction == 'v2t' and metric == 'R@10' "
        "and method == 'xpool' and against == 'self_attention'"
    ).iloc[0]
    name = f"{start}MinusSelfAttentionLsmdcRtenVideoToText"
    assert named[name] == f"{row.delta:+.1f}".replace("-", "$-$")
    assert named[f"{name}Low"] == f"{row.ci_low:+.1f}".replace("-", "$-$")
    assert named[f"{name}High"] == f"{row.ci_high:+.1f}".replace("-", "$-$")
    differences = [one for one in named if "Minus" in one]
    assert len(differences) == 3 * 2 * 3 * 2 * len(METRICS)


def test_no_synthetic_figure_has_the_name_of_a_real_one(mini, paper):
    of_mini, of_paper = mini[2], paper[2]
    ours = {name for name in of_mini if not name.startswith("published")}
    assert all(name.startswith("synthetic") for name in ours)
    assert not any(name.startswith("synthetic") for name in of_paper)
    assert "% SYNTHETIC: generated videos; no evidence" in mini[3].read_text()
    assert "SYNTHETIC" not in paper[3].read_text()
    assert "xpoolMsrvttRone" in of_paper


def test_two_methods_whose_letters_are_alike_are_named(mini, tmp_path):
    found, comparisons, _, _ = mini
    twin = found[0].figures.assign(method=found[0].figures["method"].str.replace("_", "-"))
    twins = [*found, typesetting.Table(**{**vars(found[0]), "figures": twin})]
    protocol = type("Protocol", (), {"synthetic": True})
    with pytest.raises(InputError, match=r"the LaTeX name \\synthetic\w+; rename a method"):
        macros.write([protocol], twins, comparisons, tmp_path)


def test_the_same_tables_give_the_same_bytes(mini, tmp_path):
    assert written(tmp_path / "again")[3].read_bytes() == mini[3].read_bytes()


@pytest.mark.skipif(PDFLATEX is None, reason="no pdflatex on this machine")
@pytest.mark.parametrize("setting", ["mini", "paper"])
def test_a_document_that_uses_all_of_them_compiles(setting, request, tmp_path):
    _, _, named, path = request.getfixturevalue(setting)
    uses = "\n\n".join(rf"\{name}{{}} points" for name in named)
    shutil.copy(path, tmp_path)
    text = rf"\documentclass{{article}}\input{{macros}}\begin{{document}}{uses}\end{{document}}"
    (tmp_path / "prose.tex").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [PDFLATEX, "-interaction=nonstopmode", "-halt-on-error", "prose.tex"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "prose.pdf").is_file()
