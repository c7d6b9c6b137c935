"""The stage `statistics` on made-up ranks: the modules it calls (oracle), refusals, bytes."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from made_ranks import EVALUATIONS, write_ranks
from made_results import PARAMS

from xpool.metrics import GRADED, METRICS
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.seeds import seed_for
from xpool.stages import statistics
from xpool.statistics import results
from xpool.statistics.bootstrap import per_query
from xpool.statistics.files.queries import read
from xpool.statistics.paired import compare, holm
from xpool.statistics.results import WINS_COLUMNS, wins_by_shots
from xpool.statistics.selection_bias import RULES
from xpool.statistics.slices import effects

SMALL = {**PARAMS, "benchmarks": ["msrvtt", "msvd"]}
SIZES = {"msrvtt": (24, 24), "msvd": (60, 12)}


def few_replicates(patch):
    patch.setattr(results, "REPLICATES", 200)
    patch.setattr(results, "REPLICATES_PER_TEST", 1)
    patch.setattr(effects, "REPLICATES", 200)
    patch.setattr(effects, "REPLICATES_PER_TEST", 1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project in which the stage has run."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        few_replicates(patch)
        use(SMALL)
        statistics.main()
    return folder


@pytest.fixture
def project(finished, tmp_path, monkeypatch):
    """Work in a copy of it."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    few_replicates(monkeypatch)


def use(params):
    Path("params.yaml").write_text(yaml.safe_dump(params))
    write_ranks(params, {name: SIZES[name] for name in params["benchmarks"]})


def made():
    statistics.main()
    return tables()


def tables():
    names = ("cells", "comparisons", "wins", "selection", "slices", "interactions", "external")
    return {name: pd.read_csv(paths.statistics("mini") / f"{name}.csv") for name in names}


def rank_file(method, benchmark, seed):
    return paths.ranks("mini") / method / benchmark / f"{seed}.parquet"


@pytest.mark.usefixtures("project")
def test_each_rule_has_the_test_figure_of_the_step_that_it_selects():
    """Oracle: the evaluations themselves."""
    selection = tables()["selection"]
    assert len(selection) == 2 * 3 * 3 * len(RULES)
    for row in selection.rename(columns={"R@1": "r1"}).itertuples():
        folder = paths.training("mini", row.method, row.benchmark, row.seed)
        evaluations = pd.read_csv(folder / "evaluations.csv")
        test = evaluations[evaluations["split"] == "test"].set_index("step")
        assert row.r1 == pytest.approx(test["R@1"][row.step], abs=1e-9)
        assert row.n_looks == EVALUATIONS
        assert (row.chance > 0) == (row.rule == "test_window")
        assert row.rule != "last" or row.step == test.index.max()


@pytest.mark.usefixtures("project")
def test_a_run_without_evaluations_is_named():
    paths.training("mini", "xpool", "msvd", 1).joinpath("evaluations.csv").unlink()
    with pytest.raises(InputError, match=r"msvd/1/evaluations.csv: not found; run 'dvc repro'"):
        statistics.main()


@pytest.mark.usefixtures("project")
def test_cells_are_the_runs_own_metrics_inside_their_intervals():
    cells = tables()["cells"]
    assert len(cells) == 2 * 3 * 2 * len((*METRICS, *GRADED))
    for row in cells.itertuples():
        files = [rank_file(row.method, row.benchmark, seed) for seed in (0, 1, 2)]
        runs = [read(file, None)[row.direction].ranks.metrics()[row.metric] for file in files]
        assert row.mean == pytest.approx(np.mean(runs), abs=1e-9)
        assert row.std == pytest.approx(np.std(runs, ddof=1), abs=1e-9)
        assert row.ci_low <= row.mean <= row.ci_high
        assert row.n_seeds == 3
    recalls = cells[cells["metric"].str.startswith("R@")]
    assert (recalls["n_independent"] > 0).all()
    assert cells.loc[~cells["metric"].str.startswith("R@"), "n_independent"].isna().all()


@pytest.mark.usefixtures("project")
def test_comparisons_are_of_every_pair_and_adjusted_over_a_benchmark():
    table = tables()["comparisons"]
    pairs = {("self_attention", "mean_pool"), ("xpool", "mean_pool"), ("xpool", "self_attention")}
    assert set(zip(table["method"], table["against"], strict=True)) == pairs
    assert len(table) == 2 * 2 * 5 * 3
    for _, rows in table.groupby("benchmark"):
        assert np.allclose(rows["p_table"], holm(rows["p_value"].to_numpy()))
        for _, column in rows.groupby(["direction", "metric"]):
            assert np.allclose(column["p_column"], holm(column["p_value"].to_numpy()))
    row = table.query(
        "benchmark == 'msvd' and direction == 't2v' and metric == 'R@5' and method == 'xpool' "
        "and against == 'mean_pool'"
    ).iloc[0]
    values = []
    for method in ("mean_pool", "xpool"):
        queries = [read(rank_file(method, "msvd", seed), None)["t2v"] for seed in (0, 1, 2)]
        values.append(np.stack([per_query(of_seed.ranks, "R@5") for of_seed in queries]))
    seed = seed_for("statistics", "msvd", "xpool", "mean_pool", "t2v", "R@5")
    found = compare(*values, queries[0].video, "R@5", np.random.default_rng(seed), 200)
    assert row["n_videos"] == 12
    for column in ("delta", "ci_low", "ci_high", "p_value", "won", "lost", "detectable"):
        assert row[column] == pytest.approx(getattr(found, column), rel=1e-12), column


@pytest.mark.usefixtures("project")
def test_wins_of_all_bins_are_those_of_the_comparison():
    found = tables()
    lines = found["comparisons"].query(
        "method == 'xpool' and direction == 't2v' and metric == 'MnR'"
    )
    for (benchmark, against), bins in found["wins"].groupby(["benchmark", "against"]):
        whole = lines[(lines["benchmark"] == benchmark) & (lines["against"] == against)]
        for outcome in ("won", "lost"):
            counted = (bins[outcome] * bins["n_queries"] / 100).sum()
            assert counted == pytest.approx(whole[outcome].item())
        assert bins["n_queries"].sum() == whole["n_queries"].item()
        assert bins["shots_low"].tolist() == [0, 1, 2, 3]


@pytest.mark.usefixtures("project")
def test_slices_hold_every_query_once_an_attribute_and_add_up_to_the_cell():
    found = tables()
    cells = found["cells"].query("direction == 't2v' and metric == 'R@1'")
    means = cells.set_index(["benchmark", "method"])["mean"]
    attributes = PARAMS["slices"]["attributes"]
    for (benchmark, method, name), bins in found["slices"].groupby(
        ["benchmark", "method", "attribute"]
    ):
        assert name in attributes
        assert bins["n_queries"].sum() == SIZES[benchmark][0]
        whole = np.average(bins["R@1"], weights=bins["n_queries"])
        assert whole == pytest.approx(means[benchmark, method])
    assert found["slices"]["attribute"].nunique() == len(attributes)
    assert set(found["interactions"]["method"]) == {"mean_pool", "self_attention"}


@pytest.mark.usefixtures("project")
def test_a_file_of_the_users_own_makes_slices_of_its_benchmark_alone():
    """Oracle: the ranks of the captions that the file names."""
    use({**SMALL, "slices": {"attributes": ["shots"], "files": {"msvd": ["mine.csv"]}}})
    Path("attributes").mkdir()
    kinds = ["long" if i % 3 else "short" for i in range(60)]
    rows = "".join(f"c{i},{kind}\n" for i, kind in enumerate(kinds))
    Path("attributes/mine.csv").write_text(f"caption_id,kind\n{rows}")
    table = made()["slices"]
    assert set(table[table["benchmark"] == "msrvtt"]["attribute"]) == {"shots"}
    of_kind = table[table["attribute"] == "kind"]
    assert of_kind["category"].drop_duplicates().tolist() == ["long", "short"]
    for row in of_kind.rename(columns={"R@1": "r1"}).itertuples():
        hits = []
        for seed in (0, 1, 2):
            ranks = pd.read_parquet(rank_file(row.method, "msvd", seed))
            t2v = ranks[ranks["direction"] == "t2v"].set_index("query_id")
            hits += [100.0 * (t2v.loc[f"c{i}", "rank"] == 1) for i, kind in enumerate(kinds)
                     if kind == row.category]  # fmt: skip
        assert row.r1 == pytest.approx(np.mean(hits))
        assert row.n_queries == kinds.count(row.category)


@pytest.mark.usefixtures("project")
def test_runs_in_another_order_give_the_same_figures():
    before = tables()
    file = rank_file("xpool", "msvd", 1)
    pd.read_parquet(file).sample(frac=1, random_state=0).to_parquet(file, index=False)
    after = made()
    for name, table in before.items():
        pd.testing.assert_frame_equal(table, after[name])


@pytest.mark.usefixtures("project")
def test_the_same_ranks_give_the_same_bytes():
    def written():
        return {path.name: path.read_bytes() for path in paths.statistics("mini").iterdir()}

    first = written()
    assert set(first) == {f"{name}.csv" for name in tables()}
    shutil.rmtree(paths.statistics("mini"))
    statistics.main()
    assert written() == first


@pytest.mark.usefixtures("project")
def test_one_seed_is_tested_over_queries_alone():
    use({**SMALL, "seeds": [4]})
    found = made()
    assert found["cells"]["std"].isna().all()
    assert (found["cells"]["ci_low"] <= found["cells"]["mean"]).all()
    assert set(found["comparisons"]["test"]) <= {
        "exact McNemar", "sign-flip permutation over videos", "bootstrap over videos",
    }  # fmt: skip


@pytest.mark.usefixtures("project")
def test_one_method_and_one_seed_have_intervals_and_nothing_to_compare():
    use({**SMALL, "baselines": [], "seeds": [4]})
    found = made()
    assert found["cells"]["std"].isna().all()
    assert found["cells"]["ci_low"].notna().all()
    assert found["comparisons"].empty
    assert found["wins"].empty
    assert list(found["wins"].columns) == ["benchmark", "against", *WINS_COLUMNS]


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.unlink(), "2.parquet: not found; run 'dvc repro'"),
        (
            lambda file: pd.read_parquet(file).iloc[1:].to_parquet(file),
            "2.parquet: other queries than .*query c0 is not in",
        ),
        (
            lambda file: pd.read_parquet(file).query("direction == 't2v'").to_parquet(file),
            "2.parquet: no v2t",
        ),
    ],
)
def test_runs_that_do_not_fit_are_refused_by_name(spoil, message):
    spoil(rank_file("xpool", "msrvtt", 2))
    with pytest.raises(InputError, match=message):
        statistics.main()


def leave_out(*gone):
    """Let the stage before have ranked no run of these methods on the benchmarks."""
    file = paths.ranked_cells("mini")
    table = pd.read_csv(file)
    for benchmark, method in gone:
        table = table[(table["benchmark"] != benchmark) | (table["method"] != method)]
    table.to_csv(file, index=False)


@pytest.mark.usefixtures("project")
def test_a_method_that_is_not_there_changes_no_figure_of_the_others():
    before = made()
    leave_out(("msvd", "self_attention"), ("msrvtt", "mean_pool"))
    statistics.main()
    after = made()
    gone = {("msvd", "self_attention"), ("msrvtt", "mean_pool")}
    for name, keys in (("cells", ["method"]), ("wins", ["against"]), ("selection", ["method"])):
        kept = [
            not any((b, m) in gone for m in names)
            for b, *names in before[name][["benchmark", *keys]].itertuples(index=False)
        ]
        pd.testing.assert_frame_equal(
            after[name], before[name][kept].reset_index(drop=True), check_dtype=False
        )
    pairs = after["comparisons"][["benchmark", "method", "against"]].drop_duplicates()
    assert set(pairs.itertuples(index=False, name=None)) == {
        ("msvd", "xpool", "mean_pool"), ("msrvtt", "xpool", "self_attention"),
    }  # fmt: skip
    assert set(after["slices"].query("benchmark == 'msvd'")["method"]) == {"xpool", "mean_pool"}


@pytest.mark.usefixtures("project")
def test_without_x_pool_nothing_is_held_against_it():
    leave_out(("msvd", "xpool"), ("msrvtt", "xpool"))
    statistics.main()
    found = made()
    assert set(found["cells"]["method"]) == {"mean_pool", "self_attention"}
    assert set(found["comparisons"]["method"]) == {"self_attention"}
    for name in ("wins", "slices", "interactions"):
        assert found[name].empty


@pytest.mark.usefixtures("project")
def test_video_without_a_count_of_shots_is_refused_by_name():
    file = paths.shots("mini", "msvd")
    pd.read_csv(file).query("video_id != 'v3'").to_csv(file, index=False)
    with pytest.raises(InputError, match="video v3 of msvd has no count .*repro shots'"):
        statistics.main()


def test_bin_where_every_query_is_won_is_not_taken_for_sure():
    won = np.ones(10)
    table = wins_by_shots(won, np.arange(10), np.zeros(10, int), np.random.default_rng(0), 99)
    assert table["net"].item() == 100
    assert table["ci_low"].item() == pytest.approx(200 * 0.025**0.1 - 100)
