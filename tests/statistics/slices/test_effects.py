"""Figures by slice: literal recomputation (oracle), planted effects and none, bins (property)."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpool.project.seeds import seed_for
from xpool.statistics.paired import compare, holm
from xpool.statistics.slices import effects
from xpool.statistics.slices.effects import (
    INTERACTIONS,
    SLICES,
    bins_of,
    contrast,
    interactions,
    slices,
)

N, SEEDS = 180, 3


def world(gain, seed=0, n_seeds=SEEDS):
    """Hits of two methods on 180 videos; X-Pool gains what ``gain`` says of each query's value."""
    rng = np.random.default_rng(seed)
    value = rng.integers(0, 9, N).astype(float)
    shared = rng.normal(size=N)
    values = {}
    for method, lead in (("mean_pool", 0.0), ("xpool", gain(value))):
        noise = 0.5 * rng.normal(size=N) + 0.3 * rng.normal(size=(n_seeds, N))
        values[method] = 100.0 * (shared + noise + lead > 0)
    return values, np.array([f"v{i}" for i in range(N)]), pd.DataFrame({"words": value})


def long_captions_only(value):
    return np.where(value > 6, 3.0, 0.0)


def test_a_bin_is_the_literal_mean_and_the_comparison_of_the_tables():
    """Oracle: loops over the queries of each bin, and the comparison itself."""
    values, video, attributes = world(long_captions_only)
    table = slices("msvd", values, video, attributes)
    assert tuple(table) == SLICES
    for row in table.rename(columns={"R@1": "r1"}).itertuples():
        here = [q for q in range(N) if row.low <= attributes["words"][q] <= row.high]
        means = {m: np.mean([[v[s][q] for q in here] for s in range(SEEDS)])
                 for m, v in values.items()}  # fmt: skip
        assert row.r1 == pytest.approx(means[row.method])
        assert (row.n_queries, row.n_videos, row.n_seeds) == (len(here), len(here), SEEDS)
        if row.method == "xpool":
            assert np.isnan([row.delta, row.ci_low, row.p_value, row.p_table]).all()
            continue
        rng = np.random.default_rng(
            seed_for("statistics", "slices", "msvd", "mean_pool", "words", str(row.bin))
        )
        found = compare(
            values["mean_pool"][:, here], values["xpool"][:, here], video[here], "R@1", rng,
            effects.REPLICATES,
        )  # fmt: skip
        assert row.delta == pytest.approx(means["xpool"] - means["mean_pool"])
        for name in ("delta", "ci_low", "ci_high", "p_value"):
            assert getattr(row, name) == pytest.approx(getattr(found, name)), name


def test_p_values_are_corrected_over_all_bins_of_each_method():
    values, video, attributes = world(long_captions_only)
    values["top_k"] = values["xpool"][::-1]
    attributes["other"] = np.arange(N) % 2 * 1.0
    table = slices("msvd", values, video, attributes)
    for method in ("mean_pool", "top_k"):
        of = table[table["method"] == method]
        assert len(of) == 5
        assert np.allclose(of["p_table"], holm(of["p_value"].to_numpy()))


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_a_planted_effect_is_found_where_it_is_and_its_difference_too(n_seeds):
    values, video, attributes = world(long_captions_only, n_seeds=n_seeds)
    attributes["unrelated"] = np.random.default_rng(9).integers(0, 9, N).astype(float)
    table = slices("msvd", values, video, attributes)
    rows = table[(table["method"] == "mean_pool") & (table["attribute"] == "words")]
    assert (rows["p_table"] < 0.05).tolist() == [False, False, True]
    asked = interactions("msvd", values, video, attributes).set_index("attribute")
    assert tuple(asked.reset_index()[list(INTERACTIONS)]) == INTERACTIONS
    assert asked.loc["words", "p_table"] < 0.05 < asked.loc["unrelated", "p_table"]
    assert asked.loc["words", "ci_low"] > 0
    lead = rows.set_index("bin")["delta"]
    assert asked.loc["words", "delta"] == pytest.approx(lead[3] - lead[1])
    assert (asked.loc["words", "bin"], asked.loc["words", "minus_bin"]) == (3, 1)


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_an_equal_gain_everywhere_is_seldom_called_a_difference(n_seeds):
    """40 worlds at 5 %: above 6 lie 0.3 % of healthy cases."""
    found = [
        interactions("msvd", *world(np.ones_like, seed, n_seeds))["p_value"].item() < 0.05
        for seed in range(40)
    ]
    assert sum(found) <= 6


def test_the_interval_of_a_difference_of_effects_is_that_of_a_plain_bootstrap():
    """Oracle: one run; videos are drawn with all captions, and the two effects are computed."""
    rng = np.random.default_rng(3)
    n_video, n = 60, 240
    video = rng.integers(0, n_video, n)
    value = (np.arange(n) % 2).astype(float)  # videos have captions of both kinds
    hard = rng.normal(size=n_video)[video]
    values = {
        name: 100.0 * (hard + rng.normal(size=(1, n)) + lead * value > 0)
        for name, lead in (("mean_pool", 0.0), ("xpool", 0.8))
    }
    found = interactions("b", values, video.astype(str), pd.DataFrame({"a": value})).iloc[0]
    gain = (values["xpool"] - values["mean_pool"])[0]
    rows_of = [np.flatnonzero(video == v) for v in range(n_video)]
    draws = []
    for _ in range(1500):
        drawn = np.concatenate([rows_of[v] for v in rng.integers(0, n_video, n_video)])
        high = value[drawn] == 1
        draws.append(gain[drawn][high].mean() - gain[drawn][~high].mean())
    low, high = np.quantile(draws, [0.025, 0.975])
    assert found["delta"] == pytest.approx(gain[value == 1].mean() - gain[value == 0].mean())
    assert found["ci_low"] == pytest.approx(low, abs=0.2 * (high - low))
    assert found["ci_high"] == pytest.approx(high, abs=0.2 * (high - low))


def test_the_mean_of_a_contrast_is_the_difference_of_the_means():
    rng = np.random.default_rng(0)
    values, high = rng.normal(size=(3, 50)), np.arange(50) < 13
    expected = values[:, high].mean(axis=1) - values[:, ~high].mean(axis=1)
    assert contrast(values, high).mean(axis=1) == pytest.approx(expected)


@given(
    values=st.lists(
        st.one_of(st.just(float("nan")), st.integers(-3, 6).map(lambda n: n / 2)),
        min_size=1, max_size=60,
    ),
    categories=st.booleans(),
)  # fmt: skip
def test_bins_partition_the_queries_and_keep_equal_values_together(values, categories):
    column = pd.Series(values, dtype=float)
    if categories:
        column = column.map(lambda x: f"w{x}", na_action="ignore").astype(object)
    bins = bins_of(column, np.arange(len(column)))
    assert (np.sum([one.here for one in bins], axis=0) == 1).all()
    assert [one.number for one in bins] == list(range(1, len(bins) + 1))
    for value in column.dropna().unique():
        assert sum((column[one.here] == value).any() for one in bins) == 1
    assert sum(not one.valued for one in bins) == column.isna().any()
    if categories:
        sizes = [one.here.sum() for one in bins if one.valued]
        assert sizes == sorted(sizes, reverse=True)


def test_a_small_bin_is_shown_and_not_tested():
    values, video, _ = world(long_captions_only)
    small = pd.Series(["few"] * (effects.LEAST_VIDEOS - 1) + ["many"] * 120 + [None] * 51)
    table = slices("msvd", values, video, pd.DataFrame({"kind": small}))
    rows = table[table["method"] == "mean_pool"].fillna({"category": ""})
    assert rows["category"].tolist() == ["many", "few", ""]
    assert rows["delta"].notna().all()
    assert rows["p_value"].notna().tolist() == [True, False, True]
    assert rows["ci_low"].notna().tolist() == [True, False, True]
    assert interactions("msvd", values, video, pd.DataFrame({"kind": small})).empty


def test_the_two_largest_categories_are_asked():
    values, video, _ = world(long_captions_only)
    kind = pd.Series(["a"] * 30 + ["b"] * 90 + ["c"] * 60)
    found = interactions("msvd", values, video, pd.DataFrame({"kind": kind})).iloc[0]
    lead = (values["xpool"] - values["mean_pool"]).mean(axis=0)
    assert found["delta"] == pytest.approx(lead[120:].mean() - lead[30:120].mean())


def test_one_method_has_recalls_and_no_attribute_gives_no_rows():
    values, video, attributes = world(long_captions_only)
    alone = slices("msvd", {"xpool": values["xpool"]}, video, attributes)
    assert len(alone) == 3
    assert interactions("msvd", {"xpool": values["xpool"]}, video, attributes).empty
    assert tuple(slices("msvd", values, video, attributes[[]])) == SLICES
