"""The table of selection: figures of the CSV, by hand."""

import pandas as pd
import pytest
from made_results import write_results

from xpool.report.protocol import read_protocols
from xpool.report.results.inputs import read_statistics
from xpool.report.results.selection import selection_table
from xpool.report.typesetting import to_latex, to_markdown


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_results(curves=False)
    protocols = read_protocols()
    return selection_table(protocols, read_statistics("selection", protocols))


def test_rows_are_means_over_seeds_of_each_rule(table):
    """The made-up window finds 1.5 points more, of which 0.4 are luck."""
    figures = table.figures
    for group, benchmark in zip(table.groups, ("msrvtt", "msvd", "lsmdc"), strict=True):
        for row, method in zip(group.rows, ("mean_pool", "self_attention", "xpool"), strict=True):
            of_run = figures[(figures["benchmark"] == benchmark) & (figures["method"] == method)]
            means = of_run.groupby("rule")["R@1"].mean()
            assert row.cells == (
                f"{means['val']:.1f}",
                f"{means['last']:.1f}",
                f"{means['test_window']:.1f}",
                "+1.5",
                "+0.4 (at most 1.2)",
            )


def test_caption_names_the_looks_and_the_synthetic_data(table):
    for text in (to_markdown(table), to_latex(table)):
        assert "SYNTHETIC" in text
        assert "luck among 10 looks" in text


def test_without_a_validation_split_there_is_no_difference(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_results(curves=False)
    protocols = read_protocols()
    selection = read_statistics("selection", protocols)
    table = selection_table(protocols, selection[selection["rule"] != "val"])
    assert table.groups[0].rows[0].cells[0] == "–"
    assert table.groups[0].rows[0].cells[3] == "–"


def test_nothing_trained_leaves_an_empty_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_results(curves=False)
    protocols = read_protocols()
    empty = pd.DataFrame(columns=read_statistics("selection", protocols).columns)
    table = selection_table(protocols, empty)
    assert [group.rows for group in table.groups] == [(), (), ()]
    assert "luck among no looks" in table.caption
    to_latex(table)
