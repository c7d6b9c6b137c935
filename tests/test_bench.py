"""The benchmarks run and report; none of their times is tested."""

import json
import sys

import pytest
import torch

from benchmarks import __main__ as bench
from benchmarks import scoring
from benchmarks.measure import Row, peak_mib
from xpool.command import InputError

CPU = torch.device("cpu")


def test_rows_of_scoring_small_shapes(monkeypatch):
    monkeypatch.setattr(scoring, "DIM", 32)
    rows = [*scoring.against_direct(CPU, 20), *scoring.growth(CPU, (4, 8))]
    values = {row.what: row.value for row in rows}
    assert values["ranks 20 x 20, that differ from the direct form's"] == 0
    assert all(value is not None for value in values.values())
    assert rows[0].ratio > 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's process status")
def test_peak_memory_counts_what_was_freed():
    def brief():
        return torch.ones(100 * 2**18).sum()

    assert 95 < peak_mib(brief, CPU) < 200


def test_table_marks_what_was_not_measured():
    rows = [
        Row(what="a", value=0.25, unit="s", baseline=5.0, ratio=20.0, note="n"),
        Row(what="b", value=None, unit="s"),
    ]
    assert bench.table(rows).splitlines() == [
        "what       value     baseline   ratio  note",
        "a           0.25  s         5  20.0 x  n",
        "b     unmeasured  s",
    ]


def test_results_are_written_with_the_machine(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scoring, "rows", lambda device: [Row(what="a", value=1.0, unit="s")])
    file = tmp_path / "results.json"
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--json", str(file), "scoring"])
    bench.main()
    assert "unit" not in capsys.readouterr().out
    record = json.loads(file.read_text())
    assert record["results"]["scoring"][0]["what"] == "a"
    assert {"date", "device", "torch", "python"} <= set(record["machine"])


def test_unknown_benchmark_is_named(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "sorcing"])
    with pytest.raises(InputError, match="'sorcing'; known: scoring"):
        bench.main()
