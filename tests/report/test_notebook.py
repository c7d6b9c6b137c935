"""Notebooks: stored clean, run for real on made-up results, rendered to an offline page."""

import ast
import base64
import json
import re
from pathlib import Path

import pytest
from made_results import copy_notebook, write_results

from xpool.project import digests, paths
from xpool.project.errors import InputError
from xpool.project.paths import TOP
from xpool.report import notebook, typesetting
from xpool.report.site import shell
from xpool.stages import report
from xpool.tools import summary

STORED = sorted((TOP / "notebooks").glob("*.ipynb"))


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_results()


def write_notebook(name, *sources):
    cells = [
        {
            "cell_type": "code", "execution_count": None, "id": f"cell-{index}", "metadata": {},
            "outputs": [], "source": source,
        }
        for index, source in enumerate(sources)
    ]  # fmt: skip
    Path("notebooks").mkdir()
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4}
    path = Path("notebooks", f"{name}.ipynb")
    path.write_text(json.dumps(content | {"nbformat_minor": 5}))
    return path


# --- as stored ---


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_notebook_is_stored_without_outputs_and_readable_in_a_diff(path):
    text = path.read_text(encoding="utf-8")
    content = json.loads(text)
    assert text == json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    assert set(content["metadata"]) == {"kernelspec"}
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    for cell in content["cells"]:
        assert re.fullmatch(r"[a-z0-9-]{3,}", cell["id"]), "a name of its own, fixed"
        if cell["cell_type"] == "code":
            assert not cell["outputs"]
            assert cell["execution_count"] is None
    first = content["cells"][0]
    assert first["cell_type"] == "markdown"
    assert "stage" in "".join(first["source"]), "the first cell says which stages it reads"


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_notebook_defines_nothing_longer_than_three_lines(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            for node in ast.walk(ast.parse("".join(cell["source"]))):
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    assert node.end_lineno - node.lineno < 3, node.name


# --- run ---


@pytest.mark.usefixtures("project", "quick_kernels")
def test_results_notebook_writes_tables_figures_and_an_offline_page(capsys):
    copy_notebook("results")
    stored = Path("notebooks/results.ipynb").read_bytes()

    def run():
        report.main("results")
        files = [*paths.tables("mini").iterdir(), paths.report("mini", "results")]
        return {path.name: path.read_bytes() for path in files}

    first = run()
    names = ["summary", "msrvtt", "msvd", "lsmdc", "selection", "methods", "two-stage"]
    slices = [f"slices-{benchmark}" for benchmark in ("msrvtt", "msvd", "lsmdc")]
    pictures = ("recall", "differences", "pareto", "wins", "slices", "training")
    assert set(first) == {
        "results.html",
        "macros.tex",
        *(f"{name}.{end}" for name in names + slices for end in typesetting.FORMATS),
        *(f"{name}.{end}" for name in pictures for end in ("svg", "png")),
    }
    assert run() == first, "the same results give the same bytes"
    assert Path("notebooks/results.ipynb").read_bytes() == stored

    page = first["results.html"].decode()
    assert "PosixPath(" not in page, "a cell shows what it returned"
    links = re.findall(r"""(?:src|href)=["']?([^"'\s>]+)""", page)
    others = {"index.html", *(f"{name}.html" for name in shell.PAGES)}
    assert {link for link in links if not link.startswith(("#", "data:"))} == others
    assert not re.findall(r"<script[^>]|@import|url\(\s*['\"]?https?:", page)
    assert re.findall(r'<img [^>]*alt="([^"]*)"', page) == [
        "Recall of each method on each benchmark",
        "X-Pool minus each baseline in R@1 with intervals",
        "R@1 of each method against the time of a query",
        "Queries won and lost by shot changes of the video",
        "X-Pool minus a baseline in R@1 in bins of the queries",
        "Training loss and R@1 of each run",
    ]
    data = dict(re.findall(r'download="([^"]+)" href="data:text/csv;base64,([^"]+)"', page))
    assert set(data) == {f"{name}.csv" for name in (*names, *slices, *pictures)}
    assert base64.b64decode(data["summary.csv"]) == first["summary.csv"]
    assert len(page) < 3_000_000
    for words in ("MSR-VTT, SYNTHETIC", "LSMDC, SYNTHETIC", "X-Pool − Mean pooling", "999-clip"):
        assert words in page
    assert str(Path.cwd()) not in page, "no path of this machine"
    assert 'data-mime-type="application/vnd.jupyter.stderr"' not in page

    summary.main()
    told = capsys.readouterr().out
    assert (paths.tables("mini") / "summary.md").read_text() in told
    assert "results/mini/tables/{summary,msrvtt,msvd,lsmdc,selection}.{csv,md,tex}" in told
    assert "reports/mini/results.html" in told


@pytest.mark.usefixtures("project", "quick_kernels")
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("raise ValueError('two\\nlines')", r"cell 2 \(cell-1\): ValueError: two lines"),
        ("import os; os._exit(9)", r"cell 2 \(cell-1\): its Python ended without a word"),
    ],
)
def test_failing_cell_is_named_in_one_line(bad, reason):
    path = write_notebook("broken", "1 + 1", bad, "2 + 2")
    before = path.read_bytes()
    with pytest.raises(InputError, match=f"^{path}: {reason}") as caught:
        notebook.execute(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.usefixtures("project")
def test_unknown_notebook_names_those_that_are_there():
    write_notebook("here", "1")
    with pytest.raises(InputError, match=r"elsewhere.ipynb: no such notebook; there are: here"):
        report.main("elsewhere")
    assert not Path("reports").exists()


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["notebooks", "."])
def test_notebook_runs_in_jupyter_and_is_saved_as_it_was(tmp_path, monkeypatch, folder):
    """In a real kernel, whose folder is the notebook's own, and saved with outputs and notes."""
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.chdir(tmp_path)
    write_results()
    Path("dvc.yaml").touch()
    copy_notebook("results")
    path = Path("notebooks/results.ipynb")
    stored, digest = path.read_bytes(), digests.without_outputs(path.read_bytes())
    opened = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(tmp_path / folder)}}
    NotebookClient(opened, timeout=300, kernel_name="python3", resources=resources).execute()
    opened.metadata["vscode"] = {"interpreter": "mine"}
    nbformat.write(opened, path)
    assert path.read_bytes() != stored
    assert digests.without_outputs(path.read_bytes()) == digest == stored
    assert (paths.tables("mini") / "summary.csv").is_file()
    assert not Path("notebooks/results").exists()
