"""Tables and figure of slices: the figures of the CSV by hand, marks, and what may be absent."""

from dataclasses import replace

import pandas as pd
import pytest
from made_results import PARAMS, write_results

from xpool.project import paths
from xpool.report.protocol import read_protocols
from xpool.report.results import inputs, slices
from xpool.report.results.inputs import read_statistics
from xpool.report.typesetting import to_html, to_latex, to_markdown


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def made(methods=None, **changes):
    write_results({**PARAMS, **changes}, curves=False)
    protocols = [replace(p, methods=methods or p.methods) for p in read_protocols()]
    found = [read_statistics(name, protocols) for name in ("slices", "interactions")]
    table = slices.slices_table(protocols[0], *found, inputs.read_metrics(protocols))
    figure = slices.forest(protocols, found[0], read_statistics("comparisons", protocols))
    return table, figure


def test_rows_are_the_bins_with_recalls_effect_and_mark():
    table, _ = made()
    words, topic = table.groups
    assert table.names == ("queries", "X-Pool", "Mean pooling", "X-Pool − Mean pooling")
    assert (words.heading, topic.heading) == ("Caption: words", "topic")
    assert [(row.label, *row.cells) for row in words.rows] == [
        ("3 to 5", "120", "27.0", "10.0", "+10.0 [−5.0, +25.0]"),
        ("6 to 12", "80", "27.0", "10.0", "+20.0‡ [+5.0, +35.0]"),
        ("(6 to 12) − (3 to 5)", "–", "–", "–", "+10.0‡ [+1.0, +19.0]"),
    ]
    assert [(row.label, *row.cells) for row in topic.rows] == [
        ("music", "195", "27.0", "10.0", "+10.0 [−5.0, +25.0]"),
        ("no value", "5", "27.0", "10.0", "+20.0"),
    ]


def test_all_formats_name_the_column_of_labels_and_mark_synthetic_data():
    table, _ = made()
    for text in (to_markdown(table), to_latex(table), to_html(table)):
        assert "SYNTHETIC" in text
        assert "Queries" in text
        assert "fewer than 10 videos" in text


def test_the_csv_has_every_method_and_kind():
    figures = made()[0].figures
    assert set(figures["method"]) == {"xpool", "mean_pool", "self_attention"}
    assert figures["kind"].value_counts().to_dict() == {"bin": 12, "interaction": 2}
    assert set(figures["benchmark"]) == {"msrvtt"}


def test_the_note_counts_shared_captions_and_gives_both_recalls():
    (note,) = made()[0].notes
    file = paths.metrics_table("mini")
    metrics = pd.read_csv(file)
    t2v = metrics[(metrics["benchmark"] == "msrvtt") & (metrics["direction"] == "t2v")]
    means = t2v.groupby(["metric", "method"])["value"].mean()
    assert "has to the letter: 8 of 200." in note
    for method, name in (("xpool", "X-Pool"), ("mean_pool", "Mean pooling")):
        both = means["R@1 dup", method], means["R@1", method]
        assert f"{name} {both[0]:.1f} (plain {both[1]:.1f})" in note
    metrics.loc[metrics["metric"] == "dup", "value"] = 0
    metrics.to_csv(file, index=False)
    protocols = read_protocols()
    found = [read_statistics(name, protocols) for name in ("slices", "interactions")]
    table = slices.slices_table(protocols[0], *found, inputs.read_metrics(protocols))
    assert table.notes == ("No two test videos have a caption in common, to the letter.",)


def test_without_mean_pooling_the_first_baseline_is_shown_and_alone_none():
    table, figure = made(baselines=["self_attention"])
    assert table.names[-1] == "X-Pool − Self-attention"
    assert "minus Self-attention" in figure.get_suptitle()
    table, figure = made(methods=("xpool",))
    assert table.names == ("queries", "X-Pool")
    assert [row.cells for row in table.groups[0].rows] == [("120", "27.0"), ("80", "27.0")]
    assert "nothing to compare" in figure.get_suptitle()
    assert "Holm" not in table.caption


def test_the_forest_has_a_line_a_bin_and_fills_what_is_marked():
    _, figure = made()
    panel = figure.axes[0]
    labels = [text.get_text() for text in panel.get_yticklabels()]
    assert labels == [
        "Caption: words", "3 to 5  (120)", "6 to 12  (80)", "topic", "music  (195)",
        "no value  (5)",
    ]  # fmt: skip
    dots = [line for line in panel.lines if line.get_marker() == "o"]
    drawn = [(int(dot.get_ydata()[0]), float(dot.get_xdata()[0])) for dot in dots]
    assert drawn == [(1, 10.0), (2, 20.0), (4, 10.0), (5, 20.0)]
    filled = [dot.get_markerfacecolor() != "white" for dot in dots]
    assert filled == [False, True, False, False]


def test_no_attribute_leaves_an_empty_table_and_figure():
    write_results(PARAMS, curves=False)
    protocols = read_protocols()
    found = [read_statistics(name, protocols).iloc[:0] for name in ("slices", "interactions")]
    table = slices.slices_table(protocols[0], *found, inputs.read_metrics(protocols))
    assert table.groups == ()
    to_latex(table)
    to_markdown(table)
    slices.forest(protocols, found[0], read_statistics("comparisons", protocols))
