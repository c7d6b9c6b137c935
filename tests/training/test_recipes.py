"""Recipes against the constructors of the methods, and what comes of one that does not fit."""

from pathlib import Path

import pytest
import torch
import yaml

from xpool.project.errors import InputError
from xpool.training.recipes import Recipe, build_pooling, recipe_for, short_name
from xpool.xpool import XPool


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(method, pooling, **rates):
    recipe = {"lr_encoder": 1e-6, "lr_pooling": 1e-5, "pooling": pooling, **rates}
    Path("params.yaml").write_text(yaml.safe_dump({"recipes": {method: {"msvd": recipe}}}))


def recipe(**pooling):
    return Recipe(lr_encoder=0.0, lr_pooling=0.0, pooling=pooling)


@pytest.mark.parametrize(
    ("method", "name"), [("xpool.xpool", "xpool"), ("baselines.mean_pool", "mean_pool")]
)
def test_short_name_is_the_last_part(method, name):
    assert short_name(method) == name


def test_a_recipe_is_read_and_built():
    write("xpool", {"heads": 2, "dropout": 0.3, "temperature": 1})
    pooling = build_pooling("xpool.xpool", "msvd", recipe_for("xpool.xpool", "msvd"), 8)
    assert isinstance(pooling, XPool)
    assert pooling.cross_attn.heads == 2
    assert pooling.layer_norm1.normalized_shape == (8,)


def test_defaults_may_be_left_out():
    write("xpool", {})
    assert recipe_for("xpool.xpool", "msvd").pooling == {}


@pytest.mark.parametrize(
    ("method", "pooling", "said"),
    [
        ("xpool.xpool", {"dropuot": 0.1}, "dropuot: xpool.xpool takes no such argument; known: "),
        ("xpool.xpool", {"dim": 8}, "dim: xpool.xpool takes no such argument; known: heads, drop"),
        (
            "baselines.mean_pool",
            {"k": 1},
            "k: baselines.mean_pool takes no such argument; known: n",
        ),
        ("baselines.top_k", {}, "k is missing; baselines.top_k needs it"),
        ("baselines.top_k", {"k": "3"}, "k: Input should be a valid integer; got '3'"),
        ("xpool.xpool", {"heads": True}, "heads: Input should be a valid integer; got True"),
        ("xpool.xpool", {"dropout": None}, "dropout: Input should be a valid number; got None"),
        ("xpool.xpool", {"temperature": "1e-2"}, "temperature: Input should be a valid number; "),
        ("baselines.self_attention", {"activation": 1}, "activation: Input should be a valid str"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(method, pooling, said):
    write(short_name(method), pooling)
    with pytest.raises(InputError) as caught:
        recipe_for(method, "msvd")
    where = f"params.yaml: recipes.{short_name(method)}.msvd.pooling."
    assert str(caught.value).startswith(where + said)


def test_a_missing_recipe_lists_the_benchmarks_that_have_one():
    write("xpool", {})
    with pytest.raises(InputError, match=r"recipes\.xpool\.lsmdc is missing; known there: msvd$"):
        recipe_for("xpool.xpool", "lsmdc")


def test_a_negative_rate_is_refused():
    write("xpool", {}, lr_encoder=-1.0)
    with pytest.raises(InputError, match=r"recipes\.xpool\.msvd\.lr_encoder: .* got -1\.0"):
        recipe_for("xpool.xpool", "msvd")


def test_a_method_without_a_file_is_named():
    write("nothing", {})
    message = "^no file baselines/nothing.py for 'nothing'; there are: attention, "
    with pytest.raises(InputError, match=message):
        recipe_for("baselines.nothing", "msvd")


@pytest.mark.parametrize(
    ("method", "pooling", "said"),
    [
        ("xpool.xpool", {"heads": 3}, "heads must be a divisor of dim; got heads=3, dim=8"),
        ("xpool.xpool", {"heads": 0}, "heads must be a divisor of dim; got heads=0, dim=8"),
        ("xpool.xpool", {"dropout": 1.0}, "dropout must be at least 0 and below 1; got 1.0"),
        ("xpool.xpool", {"temperature": 0.0}, "temperature must be above 0; got 0.0"),
        ("baselines.self_attention", {"heads": 3}, "heads must be a divisor of dim; got heads=3"),
        ("baselines.top_k", {"k": 0}, "k must be at least 1; got 0"),
        ("baselines.attention", {"temperature": -1.0}, "temperature must be above 0; got -1.0"),
    ],
)
def test_a_value_out_of_range_is_an_input_error_with_its_key(method, pooling, said):
    with pytest.raises(InputError) as caught:
        build_pooling(method, "msvd", recipe(**pooling), 8)
    message = str(caught.value)
    assert message.startswith(f"params.yaml: recipes.{short_name(method)}.msvd.pooling: ")
    assert message.endswith(said) or said in message


def test_methods_without_a_width_are_built_for_any():
    pooling = build_pooling("baselines.top_k", "msvd", recipe(k=2), 8)
    assert pooling(torch.ones(3, 8), torch.ones(2, 4, 8), torch.ones(2, 4).bool()).shape == (
        3,
        2,
        8,
    )


def test_building_does_not_change_the_recipe():
    made = recipe(heads=1)
    build_pooling("xpool.xpool", "msvd", made, 8)
    assert made.pooling == {"heads": 1}
