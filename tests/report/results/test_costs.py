"""Quality against cost: rows by family, the Pareto front by brute force, the two-stage curve."""

import numpy as np
import pytest
from made_results import PARAMS, write_results

from xpool.project import paths
from xpool.project.errors import InputError
from xpool.report.protocol import read_protocols
from xpool.report.results import costs
from xpool.report.results.inputs import read_statistics
from xpool.report.studies.curves import on_front
from xpool.report.typesetting import to_latex, to_markdown


@pytest.fixture
def protocols(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_results(curves=False)
    return read_protocols()


@pytest.fixture
def rows(protocols):
    return costs.with_quality(costs.read_costs(protocols), read_statistics("cells", protocols))


@pytest.mark.parametrize("seed", range(5))
def test_the_front_holds_what_no_other_point_beats(seed):
    rng = np.random.default_rng(seed)
    quality, cost = rng.integers(5, size=12), rng.integers(5, size=12)  # with ties
    for point, front in enumerate(on_front(quality, cost)):
        beaten = any(
            quality[other] >= quality[point]
            and cost[other] <= cost[point]
            and (quality[other], cost[other]) != (quality[point], cost[point])
            for other in range(12)
        )
        assert front == (not beaten)


def test_methods_stand_under_their_family_with_their_cost(protocols, rows):
    table = costs.methods_table(protocols, rows)
    agnostic, conditioned = table.groups
    assert agnostic.heading.startswith("Text-agnostic")
    assert [row.label for row in agnostic.rows] == ["Mean pooling", "Self-attention"]
    (xpool,) = conditioned.rows
    assert xpool.cells[3:] == ("21,184", "0.5", "3.07", "frames, two-stage")
    assert agnostic.rows[0].cells[3:] == ("0", "0.01", "0.256", "vectors, any index")
    cells = read_statistics("cells", protocols)
    for cell, protocol in zip(xpool.cells, protocols, strict=False):
        found = cells[
            (cells["benchmark"] == protocol.benchmark)
            & (cells["method"] == "xpool")
            & (cells["direction"] == "t2v")
        ].set_index("metric")["mean"]
        assert cell == " / ".join(f"{found[name]:.1f}" for name in ("R@1", "R@5", "R@10"))
    for text in (to_markdown(table), to_latex(table)):
        assert "SYNTHETIC" in text
        assert "cpu (made)" in text
    assert len(costs.pareto(protocols, rows).axes) == 3


def test_two_stages_are_shown_of_the_methods_that_need_frames(protocols, rows):
    table = costs.two_stage(protocols, rows)
    assert table.names == ("K = 1", "K = 10", "K = 99")
    for group in table.groups:
        (row,) = group.rows
        assert (row.label, row.cells) == ("X-Pool", ("7.0 (80)", "26.0 (99)", "27.0 (100)"))
    assert set(table.figures["ms_per_query"]) == {1, 10, 99}


def test_without_a_file_the_stage_is_named(protocols):
    paths.cost("mini", "xpool").unlink()
    with pytest.raises(InputError, match=r"cost/xpool.json: not found; run 'dvc repro'"):
        costs.read_costs(protocols)


def test_a_comparison_of_vectors_alone_has_no_two_stages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_results(PARAMS | {"baselines": ["mean_pool"]}, curves=False)
    protocols = read_protocols()
    rows = costs.read_costs(protocols)
    empty = costs.two_stage(protocols, rows[rows["method"] == "mean_pool"])
    assert empty.groups == ()
