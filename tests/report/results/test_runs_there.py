"""Tables of the runs that are there, and of runs that were imported: what is said of either."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from made_results import PARAMS, copy_notebook, write_results

from xpool.project import paths
from xpool.project.errors import InputError
from xpool.report.notebook import notebook_page
from xpool.report.protocol import read_protocols
from xpool.report.results import costs, inputs, macros, slices, tables
from xpool.report.results.published import judged, on_benchmark, read_published
from xpool.report.results.selection import selection_table

PAPER = {
    **PARAMS,
    "setting": "paper",
    "manifest": {
        "msrvtt": {"training_videos": "9k", "val_videos": 500, "allowed_missing": 0.0},
        "msvd": {"allowed_missing": 0.0},
        "lsmdc": {"test_clips": 999, "allowed_missing": 0.0},
    },
    "train": {"reads": "frames", "frames": 12, "epochs": 5},
}
LEFT = {"lsmdc": [0], "msvd": [0, 1, 2]}
"""Seeds of the runs that are there: none on MSR-VTT, one a method on LSMDC."""


@pytest.fixture(autouse=True)
def _project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def edit(path, change):
    change(pd.read_csv(path)).to_csv(path, index=False)


def write_part():
    """Leave out all of MSR-VTT, two seeds of LSMDC, and self-attention on MSVD."""
    write_results(PARAMS)

    def kept(table):
        rows = table["benchmark"].isin(LEFT)
        for column in {"method", "against"} & set(table):
            rows &= ~((table["benchmark"] == "msvd") & (table[column] == "self_attention"))
        if "seed" in table:
            rows &= ~((table["benchmark"] == "lsmdc") & (table["seed"] != 0))
        table = table[rows].copy()
        if "n_seeds" in table:
            table["n_seeds"] = table["benchmark"].map({k: len(v) for k, v in LEFT.items()})
        return table

    edit(paths.metrics_table("mini"), kept)
    for file in paths.statistics("mini").glob("*.csv"):
        edit(file, kept)


def read_all(protocols):
    names = ("cells", "comparisons", "selection")
    found = [inputs.read_statistics(name, protocols) for name in names]
    return inputs.read_metrics(protocols), *found


def others(protocols):
    return read_published(), inputs.read_statistics("external", protocols)


def test_tables_take_the_runs_that_are_there_and_say_which_lack():
    write_part()
    protocols = inputs.there(read_protocols())
    assert [p.benchmark for p in protocols] == ["msvd", "lsmdc"]
    metrics, cells, comparisons, selection = read_all(protocols)
    of = {
        p.benchmark: tables.benchmark_table(
            p, metrics, cells, comparisons, selection, *others(protocols)
        )
        for p in protocols
    }
    lost = "any run on Mini MSR-VTT"
    assert f"NOT THERE: Self-attention, {lost}." in of["msvd"].caption
    seeds = "seed 1 of every method, seed 2 of every method"
    assert f"NOT THERE: {seeds}, {lost}." in of["lsmdc"].caption
    assert "one run, seed 0" in of["lsmdc"].caption
    assert [row.label for row in of["msvd"].groups[0].rows] == ["Mean pooling", "X-Pool"]
    summary = tables.summary_table(protocols, metrics, cells, comparisons)
    assert "Mini MSVD: NOT THERE: Self-attention" in summary.caption
    assert "Mini MSVD: mean over seeds 0, 1, 2" in summary.caption
    assert "Mini LSMDC: one run, seed 0" in summary.caption
    rows = {row.label: row.cells for row in summary.groups[0].rows}
    assert rows["Self-attention"][0] == "–"
    assert rows["Self-attention"][1] != "–"
    found = costs.with_quality(costs.read_costs(protocols), cells)
    lines = {r.label: r.cells for g in costs.methods_table(protocols, found).groups for r in g.rows}
    assert lines["Self-attention"][0] == "–"
    assert lines["Self-attention"][1].count("/") == 2
    assert len(lines["X-Pool"]) == len(lines["Self-attention"])
    macros.write(protocols, list(of.values()), comparisons, paths.tables("mini"))
    text = (paths.tables("mini") / macros.FILE).read_text()
    assert r"{\syntheticSelfAttentionLsmdcRone}" in text
    assert "SelfAttentionMsvdRone" not in text
    assert len(selection_table(protocols, selection).groups[0].rows) == 2
    for protocol in protocols:
        sliced = [inputs.read_statistics(n, protocols) for n in ("slices", "interactions")]
        slices.slices_table(protocol, *sliced, metrics)


@pytest.mark.usefixtures("quick_kernels")
def test_the_page_of_a_part_is_made():
    write_part()
    copy_notebook("results")
    page = notebook_page("results", "mini")
    assert "NOT THERE: Self-attention" in page


def test_all_runs_lack_nothing():
    write_results(PARAMS)
    assert inputs.there(read_protocols()) == read_protocols()
    paths.metrics_table("mini").unlink()
    with pytest.raises(InputError, match=r"metrics\.csv: not found"):
        inputs.there(read_protocols())


@pytest.mark.usefixtures("quick_kernels")
def test_a_benchmark_without_x_pool_has_a_table():
    """Nothing is held against anything, and the rest is there."""
    write_results(PARAMS)
    edit(paths.metrics_table("mini"), lambda t: t[t["method"] != "xpool"])
    for name in ("cells", "comparisons", "wins", "selection", "slices", "interactions"):
        file = paths.statistics("mini") / f"{name}.csv"
        only = name in ("wins", "slices", "interactions")
        edit(file, lambda t, only=only: t[t["method"] != "xpool"] if "method" in t else t)
        if only:
            edit(file, lambda t: t.iloc[:0])
    copy_notebook("results")
    assert "NOT THERE: X-Pool" in notebook_page("results", "mini")


# --- imported runs ---


def write_imported(params=PAPER):
    """Let X-Pool's only run on MSR-VTT be an imported one that gives the published R@1."""
    write_results({**params, "seeds": [0]})
    here = params["setting"]
    xpool = "benchmark == 'msrvtt' and method == 'xpool'"

    def labelled(table):
        rows = table.query(xpool).index
        table["imported"] = table["imported"].astype(object)
        table.loc[rows, "imported"] = "model_best.pth"
        t2v = table.query(f"{xpool} and direction == 't2v' and metric == 'R@1'").index
        table.loc[t2v, "value"] = 46.9
        return table

    edit(paths.metrics_table(here), labelled)
    edit(paths.statistics(here) / "selection.csv", lambda t: t.drop(t.query(xpool).index))
    edit(paths.statistics(here) / "cells.csv", lambda t: t.assign(n_independent=1000.0))
    record = paths.training(here, "xpool", "msrvtt", 0) / "provenance.json"
    record.write_text(json.dumps({"imported": {"file": "model_best.pth", "sha256": "0" * 64}}))


def test_an_imported_row_is_labelled_wherever_it_stands():
    write_imported()
    protocols = inputs.there(read_protocols())
    metrics, cells, comparisons, selection = read_all(protocols)
    table = tables.benchmark_table(
        protocols[0], metrics, cells, comparisons, selection, *others(protocols)
    )
    said = "IMPORTED, trained and selected by other code, not under this budget: X-Pool on msrvtt, "
    assert f"{said}seed 0, from model_best.pth." in table.caption
    labels = [row.label for row in table.groups[0].rows]
    assert "X-Pool (imported)" in labels
    assert "X-Pool" not in labels
    assert not [command for command in table.commands if "train_xpool" in command.line]
    summary = tables.summary_table(protocols, metrics, cells, comparisons)
    rows = {row.label: row.cells for row in summary.groups[0].rows}
    assert rows["X-Pool (imported)"][0] != "–"
    assert rows["X-Pool (imported)"][1] == rows["X-Pool"][0] == "–"
    other = tables.benchmark_table(
        protocols[1], metrics, cells, comparisons, selection, *others(protocols)
    )
    assert "IMPORTED" not in other.caption
    assert "X-Pool" in [row.label for row in other.groups[0].rows]


def test_an_imported_run_has_a_verdict_on_the_published_figure():
    """What our own runs hold out or select on says nothing about weights of other code."""
    write_imported()
    protocols = inputs.there(read_protocols())
    metrics, cells, _, selection = read_all(protocols)
    found = judged(
        protocols[0], on_benchmark(protocols[0], read_published()), metrics, cells, selection
    ).query("kind == 'paper' and direction == 't2v' and metric == 'R@1'")
    words = found.set_index("method")["verdict"]
    assert words["xpool"] == "not distinguishable"
    assert words["mean_pool"].startswith("not comparable (500 training videos held out")


def test_params_say_the_seeds_of_the_runs_that_are_there():
    write_part()
    params = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump({**params, "seeds": [0]}))
    protocols = inputs.there(read_protocols())
    with pytest.raises(InputError, match="of 3 seeds, and params.yaml lists 1"):
        inputs.read_statistics("cells", protocols)
