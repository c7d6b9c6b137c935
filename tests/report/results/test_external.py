"""Matrices of other code in a benchmark's table: rows of their own, labelled, outside all tests."""

import pandas as pd
from made_results import PARAMS, write_results

from xpool.project import paths
from xpool.report import typesetting
from xpool.report.protocol import read_protocols
from xpool.report.results import inputs, tables
from xpool.report.results.published import read_published
from xpool.statistics.files.external import COLUMNS


def made(name):
    protocols = inputs.there(read_protocols())
    found = [
        inputs.read_statistics(which, protocols)
        for which in ("cells", "comparisons", "selection", "external")
    ]
    *ours, external = found
    [protocol] = [one for one in protocols if one.benchmark == name]
    metrics = inputs.read_metrics(protocols)
    return tables.benchmark_table(protocol, metrics, *ours, read_published(), external), metrics


def row(metrics, label, direction, metric, mean, texts_more=0):
    size = metrics[metrics["benchmark"] == "msvd"].iloc[0]
    values = {
        "benchmark": "msvd", "label": label, "direction": direction, "metric": metric,
        "mean": mean, "ci_low": mean - 2, "ci_high": mean + 2,
        "n_text": size["n_text"] + texts_more, "n_video": size["n_video"], "file": "a.npy",
        "sha256": "ab" * 32, "source": "their page",
    }  # fmt: skip
    return [values[column] for column in COLUMNS]


def test_a_row_stands_under_its_own_heading_with_interval_and_note(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_results(PARAMS)
    before, metrics = made("msvd")
    rows = [
        row(metrics, "Theirs", "t2v", "R@1", 99.0),
        row(metrics, "Theirs", "t2v", "R@50", 99.5),
        row(metrics, "Other", "v2t", "MdR", 3.0, texts_more=5),
    ]
    file = paths.statistics("mini") / "external.csv"
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(file, index=False)
    table, _ = made("msvd")
    headings = [group.heading for group in table.groups]
    assert headings[1] == "Similarities of other code, not under this protocol"
    theirs, other = table.groups[1].rows
    assert (theirs.label, theirs.cells[0]) == ("Theirs (external)", "99.0 [97.0, 101.0]")
    assert not any(theirs.bold)  # the best figure of all, and in no comparison
    assert other.label == "Other (external)"
    assert table.groups[0] == before.groups[0]
    assert table.caption == before.caption
    notes = {note.partition(":")[0]: note for note in table.notes if "(external)" in note}
    assert "a.npy (SHA-256 abababababababab), their page" in notes["Theirs (external)"]
    assert "NOT THE TEST SET" not in notes["Theirs (external)"]
    assert "NOT THE TEST SET" in notes["Other (external)"]
    assert "Theirs (external)" in typesetting.to_markdown(table)
    lsmdc, _ = made("lsmdc")
    assert not [group for group in lsmdc.groups if "other code" in group.heading]
