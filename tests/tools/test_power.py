"""The command that says what a comparison can find: its figures, its pilots and its refusals."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from made_ranks import write_ranks
from made_results import PARAMS
from typer.testing import CliRunner

from xpool.__main__ import app
from xpool.project.errors import InputError
from xpool.statistics.bootstrap import per_query
from xpool.statistics.power import Pilot, pilot_of, power, seeds_needed
from xpool.statistics.results import read_runs

SIZES = {"msrvtt": (120, 120), "msvd": (300, 60), "lsmdc": (60, 60)}
BY_HAND = ("--queries", 1000, "--discordance", 14, "--within", 10, "--seed-spread", 0.9)


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def results():
    """Results of three seeds."""
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS))
    write_ranks(PARAMS, SIZES)


def said(*words, difference=2.0, seeds=3):
    """What `xpool power` prints."""
    words = ["power", "--method-difference", difference, "--seeds", seeds, *words]
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False).stdout


def share(text):
    """The power that is printed, in percent."""
    return int(re.search(r"is found in (\d+) % of comparisons", text)[1])


def test_values_by_hand_need_no_project():
    text = said(*BY_HAND)
    pilot = Pilot(queries=1000, discordance=0.14, within=0.1, spread=0.9)
    assert share(text) == round(100 * power(pilot, 2.0, 3))
    assert f"80 % take {seeds_needed(pilot, 2.0)} runs each." in text
    assert "Level: 5 % two-sided, for one comparison that is declared beforehand." in text
    assert "within" in text
    assert "--within" not in text


def test_holm_over_a_column_is_the_level_of_its_first_step():
    text = said(*BY_HAND, "--holm", 3, difference=4.0)
    pilot = Pilot(queries=1000, discordance=0.14, within=0.1, spread=0.9)
    assert (
        share(text)
        == round(100 * power(pilot, 4.0, 3, 0.05 / 3))
        < share(said(*BY_HAND, difference=4.0))
    )
    assert "over 3 comparisons with Holm's correction, whose first step asks for p < 0.017." in text


def test_what_the_seeds_of_single_runs_do_is_said():
    text = said(*BY_HAND, seeds=1)
    equal = 2 * power(Pilot(queries=1000, discordance=0.14, within=0.1, spread=0.9), 0.0, 1)
    assert f"Of equal methods, {100 * equal:.0f} % are found to differ." in text


def test_where_no_number_of_seeds_is_enough_it_says_so_and_names_the_queries():
    text = said(*BY_HAND, difference=1.0)
    assert re.search(
        r"No number of seeds gives 80 %: these queries allow \d+ %, and 80 % take more "
        r"than [\d,]+ such queries\.", text,
    )  # fmt: skip


def test_without_within_the_seeds_are_taken_to_answer_alike():
    text = said("--queries", 1000, "--discordance", 14, "--seed-spread", 0.9)
    assert "Without --within, two seeds are taken to answer the same queries." in text
    assert share(text) <= share(said(*BY_HAND))


@pytest.mark.usefixtures("results")
def test_the_pilot_is_x_pool_and_mean_pooling_of_the_results_in_force():
    text = said("--benchmark", "msrvtt", difference=10)
    runs, queries = read_runs("mini", "msrvtt", ["mean_pool", "xpool"], [0, 1, 2])
    first, second = (
        np.stack([per_query(one, "R@1") for one in runs["t2v"][name]])
        for name in ("mean_pool", "xpool")
    )
    pilot = pilot_of(first, second, queries["t2v"].video)
    assert share(text) == round(100 * power(pilot, 10, 3))
    assert text.startswith("SYNTHETIC: generated videos. Pilot on msrvtt, 3 runs each: X-Pool")
    for name, value in (
        ("queries", "120"), ("discordance", f"{100 * pilot.discordance:.1f} %"),
        ("within", f"{100 * pilot.within:.1f} %"), ("seed spread", f"{pilot.spread:.2f}"),
    ):  # fmt: skip
        assert re.search(rf"^  {name} +{re.escape(value)} ", text, re.M), name
    assert "3 runs each show the spread only roughly" in text


@pytest.mark.usefixtures("results")
def test_other_pilots_and_values_by_hand_in_place_of_the_pilots():
    one = said("--benchmark", "msvd", "--pilot", "self_attention")
    assert "Self-attention with t2v R@1" in one
    assert "Mean pooling with" in one
    assert re.search(r"^  seed spread +2\.50 ", said("--benchmark", "msvd", "--seed-spread", 2.5),
                     re.M)  # fmt: skip
    assert "only roughly" not in said("--benchmark", "msvd", "--seed-spread", 2.5)


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--benchmark names the pilot's; without a pilot, give --queries, --discordance and "),
        (["--queries", 1000], "--benchmark names the pilot's"),
        (["--benchmark", "msrvt"], "--benchmark msrvt: not in params.yaml, which lists msrvtt, "),
        (["--benchmark", "msvd", "--pilot", "top_k"], "--pilot top_k: not in params.yaml"),
        (["--benchmark", "msvd", "--against", "xpool"], "--against xpool: the same as --pilot"),
    ],
)
def test_a_pilot_that_is_not_there_is_one_line(words, message):
    with pytest.raises(InputError, match=re.escape(message)) as error:
        said(*words)
    assert "\n" not in str(error.value)


def test_without_results_it_says_how_to_do_without():
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS))
    with pytest.raises(InputError, match=r"0\.parquet: not found; .*, or give --queries, "):
        said("--benchmark", "msrvtt")


def test_one_seed_shows_no_spread():
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS | {"seeds": [0]}))
    write_ranks(PARAMS | {"seeds": [0]}, SIZES)
    with pytest.raises(InputError, match=r"seeds: one seed shows no spread; .*--seed-spread"):
        said("--benchmark", "msrvtt")
    text = said("--benchmark", "msrvtt", "--seed-spread", 1.0)
    assert share(text) > 0
    assert "Without --within" in text
    assert "Without --within" not in said(
        "--benchmark", "msrvtt", "--seed-spread", 1.0, "--within", 5
    )
