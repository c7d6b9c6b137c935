"""Curves and tables of studies against plain arithmetic, loops and SciPy."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import yaml
from made_results import PARAMS
from made_studies import every_table, write_studies
from scipy import stats

from xpool.project import paths
from xpool.project.errors import InputError
from xpool.report import typesetting
from xpool.report.protocol import read_protocols
from xpool.report.studies import curves
from xpool.report.studies.curves import best_so_far, curve, gain, pareto, query_errors, spreads


def trials(values, **columns):
    """One row a seed and point: ``values[x]`` are the figures of the seeds."""
    return pd.DataFrame(
        [
            {"x": x, "seed": seed, "R@1": value, **columns}
            for x, figures in values.items()
            for seed, value in enumerate(figures)
        ]
    )


def test_one_point_has_the_t_interval_of_its_seeds():
    figures = [30.0, 33.0, 31.5]
    (row,) = curve(trials({2: figures}, method="xpool"), "x", ["method"]).itertuples()
    low, high = stats.t.interval(0.95, 2, np.mean(figures), stats.sem(figures))
    assert (row.mean, row.n_seeds) == (np.mean(figures), 3)
    assert row.std == pytest.approx(np.std(figures, ddof=1))
    assert (row.low, row.high) == pytest.approx((low, high))


def test_bands_cover_the_true_mean_as_often_as_they_say_at_each_point():
    """Simulation: three seeds whose spread grows along the curve; 3 standard errors."""
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(500):
        values = {x: rng.normal(x, 0.5 + x, 3) for x in range(5)}
        found = curve(trials(values, m="a"), "x", ["m"])
        hits.append(((found["low"] <= found["x"]) & (found["x"] <= found["high"])).to_numpy())
    assert np.abs(np.mean(hits, axis=0) - 0.95).max() < 0.03


def test_a_single_seed_has_no_spread_and_no_band():
    found = curve(trials({1: [20.0], 2: [30.0]}, method="xpool"), "x", ["method"])
    assert found["mean"].tolist() == [20, 30]
    assert found[["std", "low", "high"]].isna().all(axis=None)


def test_gain_is_paired_by_seed():
    rows = pd.concat(
        [trials({1: [30, 35]}, method="xpool"), trials({1: [20, 30]}, method="mean_pool")]
    )
    found = gain(rows, ["x", "seed"])
    assert found["R@1"].tolist() == [10, 5]
    assert found["ratio"].tolist() == [30 / 20, 35 / 30]
    assert gain(rows[rows["method"] == "xpool"], ["x", "seed"]).empty


def test_pareto_front_is_what_nothing_beats():
    rng = np.random.default_rng(2)
    rows = [
        {"benchmark": b, "method": m, "sampling": "uniform", "frames": f, "seed": s,
         "R@1": rng.integers(0, 8), "cost_ms": rng.integers(1, 6)}
        for b, m, f, s in itertools.product("ab", ("mean_pool", "xpool"), (1, 2, 4), (0, 1))
    ]  # fmt: skip
    found = pareto(pd.DataFrame(rows))
    assert len(found) == 12
    for row in found.to_dict("records"):
        others = found[found["benchmark"] == row["benchmark"]].to_dict("records")
        beaten = any(
            o["R@1"] >= row["R@1"] and o["cost_ms"] <= row["cost_ms"]
            and (o["R@1"], o["cost_ms"]) != (row["R@1"], row["cost_ms"])
            for o in others
        )  # fmt: skip
        assert row["front"] is not beaten


def test_best_so_far_never_falls_and_skips_what_was_pruned():
    rows = pd.DataFrame(
        {
            "benchmark": "msrvtt", "method": ["a"] * 4 + ["b"], "state": ["complete"] * 5,
            "R@1": [3.0, 9.0, 5.0, 12.0, 1.0],
        }
    )  # fmt: skip
    rows.loc[1, "state"] = "pruned"
    found = best_so_far(rows)
    assert found[found["method"] == "a"]["mean"].tolist() == [3, 3, 5, 12]
    assert found["try"].tolist() == [1, 2, 3, 4, 1]


def test_spreads_are_those_of_each_source_alone():
    rng = np.random.default_rng(4)
    rows = pd.DataFrame(
        [
            {"benchmark": "msvd", "method": method, "source": source, "level": level,
             "R@1": rng.normal(40, 3), "query_error": 5.0 + level}
            for method, (source, levels) in itertools.product(
                ("mean_pool", "xpool"), {"seed": range(4), "threads": (1, 2)}.items()
            )
            for level in levels
        ]
    )  # fmt: skip
    found = spreads(rows)
    assert found["levels"].tolist() == [4, 2, 4, 2]
    for row in found.to_dict("records"):
        of = [
            r["R@1"]
            for r in rows.to_dict("records")
            if (r["method"], r["source"]) == (row["method"], row["source"])
        ]
        mean = sum(of) / len(of)
        variance = sum((value - mean) ** 2 for value in of) / (len(of) - 1)
        assert row["mean"] == pytest.approx(mean)
        assert row["std"] == pytest.approx(math.sqrt(variance))
        assert (row["low"], row["high"]) == (min(of), max(of))
    errors = query_errors(rows)
    assert errors["std"].tolist() == [6.5, 6.5]
    assert np.allclose(errors["high"] - errors["low"], 13)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_studies(PARAMS)


def test_trials_that_are_not_there_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS | {"studies": {"own": ["none"]}}))
    assert curves.listed() == ["none"]
    with pytest.raises(InputError, match=r"studies/none/trials.csv: not found; run 'dvc repro'"):
        curves.read_trials("none")


@pytest.mark.usefixtures("project")
def test_every_table_is_marked_and_prints_in_all_formats():
    for table in every_table(read_protocols()):
        assert "SYNTHETIC" in table.caption
        assert "validation split" in table.caption
        for written in typesetting.write(table, paths.ablations("mini")):
            text = written.read_text()
            assert "nan" not in text.lower().replace("finance", ""), written
        stored = pd.read_csv(paths.ablations("mini") / f"{table.name}.csv")
        assert stored["mean"].notna().all()
        assert (stored["setting"] == "mini").all()
        cells = [cell for group in table.groups for row in group.rows for cell in row.cells]
        assert len([cell for cell in cells if cell != "–"]) == len(stored)


@pytest.mark.usefixtures("project")
def test_best_of_a_column_is_bold_lowest_for_ranks():
    table = next(t for t in every_table(read_protocols()) if t.name == "distractors-mdr")
    for group in table.groups:
        figures = [[float(cell.split()[0]) for cell in row.cells] for row in group.rows]
        for row, of_row in zip(group.rows, figures, strict=True):
            for index, value in enumerate(of_row):
                assert row.bold[index] == (value == min(line[index] for line in figures))


@pytest.mark.usefixtures("project")
def test_the_winner_of_a_search_is_described_by_its_params():
    table = next(t for t in every_table(read_protocols()) if t.name == "search")
    found = curves.read_trials("search")
    best = found[(found["method"] == "xpool") & (found["state"] == "complete")]["R@1"].max()
    (row,) = [r for g in table.groups for r in g.rows if r.label == "X-Pool"]
    assert row.cells[0] == f"{best:.1f}"
    assert row.cells[2:] == ("6", "1")
    assert any("X-Pool: lr_encoder" in note and "heads" in note for note in table.notes)


@pytest.mark.usefixtures("project")
def test_the_error_of_the_queries_stands_below_the_spreads():
    table = next(t for t in every_table(read_protocols()) if t.name == "variance")
    assert [len(group.rows) for group in table.groups] == [4, 4]
    for group in table.groups:
        *sources, queries = group.rows
        assert [row.cells[0] for row in sources] == ["3", "2", "2"]
        assert queries.label == "The queries (standard error)"
        assert [index for index, cell in enumerate(queries.cells) if cell != "–"] == [1, 4]
        assert not any(any(row.bold) for row in group.rows)
    assert table.notes == (
        "Validation queries: Mini MSR-VTT 100 texts of 100 videos; "
        "Mini MSVD 100 texts of 100 videos.",
    )
