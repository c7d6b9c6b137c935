"""The commands below the tables: each names stages of the pipeline, and the figure of its row."""

import re
import shlex
from html.parser import HTMLParser

import pytest
from dvc.repo import Repo
from made_results import PARAMS, write_results
from made_studies import every_table, write_studies

from xpool.__main__ import TOOLS
from xpool.project.paths import TOP
from xpool.report import typesetting
from xpool.report.protocol import read_protocols
from xpool.report.results import costs, inputs, slices
from xpool.report.results.published import read_published
from xpool.report.results.selection import selection_table
from xpool.report.results.tables import benchmark_table, summary_table


@pytest.fixture(scope="module")
def stages():
    """The stages that DVC finds in the project, for the methods and studies of params.yaml."""
    return {stage.addressing for stage in Repo(str(TOP)).index.stages}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """The tables of the results page."""
    monkeypatch.chdir(tmp_path)
    write_results()
    protocols = read_protocols()
    metrics = inputs.read_metrics(protocols)
    cells, comparisons, selection = (
        inputs.read_statistics(name, protocols) for name in ("cells", "comparisons", "selection")
    )
    arguments = metrics, cells, comparisons
    others = read_published(), inputs.read_statistics("external", protocols)
    return [
        summary_table(protocols, *arguments),
        *(benchmark_table(p, *arguments, selection, *others) for p in protocols),
        selection_table(protocols, selection),
    ]


@pytest.fixture
def studies(tmp_path, monkeypatch):
    """The tables of the page of the studies."""
    monkeypatch.chdir(tmp_path)
    write_studies(PARAMS)
    return list(every_table(read_protocols()))


class Codes(HTMLParser):
    """The commands of a page, as a browser shows them."""

    def __init__(self, text):
        super().__init__()
        self.found, self.inside = [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.inside = tag == "code"

    def handle_data(self, data):
        self.found += [data] if self.inside else []
        self.inside = False


def parsed(line, stages):
    """Check a command line; return the targets that DVC is asked for."""
    words = shlex.split(line)
    first, rest = (words[: words.index("&&")], words[words.index("&&") + 1 :]) if (
        "&&" in words
    ) else (words, [])  # fmt: skip
    assert first[:2] == ["dvc", "repro"]
    assert first[2:]
    assert set(first[2:]) <= stages
    assert rest in ([], ["xpool", "summary"])
    assert "summary" in TOOLS
    return first[2:]


def test_each_row_of_the_results_has_a_command_of_existing_stages(results, stages):
    summary, *benchmarks, selection = results
    methods = {"Mean pooling": "mean_pool", "Self-attention": "self_attention", "X-Pool": "xpool"}
    for table in benchmarks:
        assert [one.rows for one in table.commands] == [r.label for r in table.groups[0].rows]
        for one in table.commands:
            targets, method = parsed(one.line, stages), methods[one.rows]
            name = "train_xpool@" if method == "xpool" else f"train_baselines@{method}-"
            assert targets[0] == f"{name}{table.name}"
            assert targets[1].startswith("evaluate_")
            assert targets[1].endswith(method)
            assert targets[2] == "results"
    assert len(summary.commands) == 3
    assert len(selection.commands) == 3 * 3
    for one in (*summary.commands, *selection.commands):
        parsed(one.line, stages)


def test_a_command_gives_the_first_figure_of_its_row(results):
    for table in results[:-1]:
        for one, row in zip(table.commands, table.groups[0].rows, strict=True):
            figure = re.sub("[†‡]", "", row.cells[0])
            assert one.gives.endswith(f" {figure}")
            assert one.gives.startswith("on Mini MSR-VTT" if table.name == "summary" else "t2v R@1")
    rows = [row for group in results[-1].groups for row in group.rows]
    for one, row in zip(results[-1].commands, rows, strict=True):
        assert one.rows == row.label
        assert one.gives.endswith(f" val {row.cells[0]}")


def test_each_table_of_the_studies_names_the_stage_of_its_study(studies, stages):
    named = {table.name: parsed(table.commands[0].line, stages) for table in studies}
    assert named["temperature"] == ["ablate@temperature", "ablations"]
    assert named["frames"] == ["ablate@frame_count", "ablations"]
    assert named["shots"] == named["distractors-r1"] == [
        "ablate_trained@scene_diversity", "ablations",
    ]  # fmt: skip
    assert named["variance"] == ["ablate@variance", "ablations"]
    assert all(len(table.commands) == 1 for table in studies)


def test_commands_can_be_copied_from_the_page_and_are_on_no_paper(results, studies):
    for table in (*results, *studies):
        text = typesetting.to_html(table)
        assert Codes(text).found == [one.line for one in table.commands]
        assert "<details" in text
        for other in (typesetting.to_latex(table), typesetting.to_markdown(table)):
            assert "dvc repro" not in other


def test_the_other_tables_of_the_results_name_stages_too(tmp_path, monkeypatch, stages):
    monkeypatch.chdir(tmp_path)
    write_results()
    protocols = read_protocols()
    cells, sliced, effects = (
        inputs.read_statistics(name, protocols) for name in ("cells", "slices", "interactions")
    )
    costed = costs.with_quality(costs.read_costs(protocols), cells)
    methods, two_stage = costs.methods_table(protocols, costed), costs.two_stage(protocols, costed)
    assert [one.rows for one in methods.commands] == ["Mean pooling", "Self-attention", "X-Pool"]
    assert [one.rows for one in two_stage.commands] == ["X-Pool"]
    assert two_stage.commands[0].gives == "on Mini MSR-VTT, K = 1, 7.0 (80)"
    metrics = inputs.read_metrics(protocols)
    of_queries = [slices.slices_table(p, sliced, effects, metrics) for p in protocols]
    for table in (methods, two_stage, *of_queries):
        assert table.commands
        for one in table.commands:
            assert parsed(one.line, stages)[-1] == "results"
