"""Experiments: grids, ranges, digests, and names that change with what decides a result (property).

Oracles: values counted by hand, and the names of two experiments that differ in one thing.
"""

import dataclasses
import itertools
import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from xpool.ablation import experiment as module
from xpool.ablation.experiment import (
    Experiment,
    check_unchanged,
    choice,
    grid,
    load_study,
    scale,
)
from xpool.ablation.lab import Outcome
from xpool.project import fingerprints
from xpool.project.errors import InputError


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A project whose study imports one module and whose method is another."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("setting: mini\n")
    for name, text in {
        "studies/__init__.py": "",
        "studies/fake.py": "from xpool.helper import value\n",
        "studies/other.py": "",
        "xpool/__init__.py": "",
        "xpool/helper.py": "value = 1\n",
        "baselines/__init__.py": "",
        "baselines/method.py": "METHOD = 1\n",
    }.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)
    monkeypatch.setattr(fingerprints, "TOP", tmp_path)
    return tmp_path


def made(**changes):
    known = {
        "study": "fake",
        "benchmark": "msvd",
        "part": "xpool",
        "space": {"frames": scale([1, 2], log=True), "seed": scale([0, 1])},
        "cells": grid({"frames": [1, 2], "seed": [0, 1]}),
        "objectives": {"R@1": "maximize"},
        "run": lambda point, lab: Outcome(figures={"R@1": 1.0}),
        "fixed": {"method": "xpool"},
        "modules": ("baselines.method",),
        "depends": ({"lr": 1e-3}, "digest of data"),
    }
    return Experiment(**known | changes)


def test_grid_has_each_combination_once_in_order():
    """Oracle: three nested loops."""
    factors = {"a": [1, 2, 1], "b": ["x", "y"], "c": [True]}
    expected = [{"a": a, "b": b, "c": True} for a in (1, 2) for b in ("x", "y")]
    assert list(grid(factors)) == expected


@pytest.mark.parametrize(
    ("values", "log", "kind"),
    [
        ([4, 1, 32], True, IntDistribution(1, 32, log=True)),
        ([0, 1], False, IntDistribution(0, 1)),
        ([0.1, 10.0, 3.0], True, FloatDistribution(0.1, 10.0, log=True)),
        ([1, 2.5], False, FloatDistribution(1.0, 2.5)),
        ([7], False, IntDistribution(7, 7)),
    ],
)
def test_scale_spans_the_values(values, log, kind):
    assert scale(values, log=log) == kind


def test_choice_keeps_its_values_and_their_types():
    assert choice(True, False) == CategoricalDistribution([True, False])


def test_a_range_may_grow_between_the_trials_of_one_study():
    """What lets a grid grow: Optuna takes another range of the same kind, not another choice."""
    study = optuna.create_study()
    for kind in (scale([1, 2], log=True), scale([1, 2, 32], log=True)):
        trial = optuna.create_trial(params={"f": 2}, distributions={"f": kind}, value=1.0)
        study.add_trial(trial)
    assert len(study.trials) == 2


def test_planned_keys_of_a_grid_name_the_cell_whatever_the_order_of_its_factors():
    one = made(cells=({"frames": 1, "seed": 0},)).planned()
    other = made(cells=({"seed": 0, "frames": 1},)).planned()
    assert list(one) == list(other) == ['{"frames": 1, "seed": 0}']


def test_planned_keys_tell_values_apart_that_are_equal_in_python():
    cells = ({"x": 1}, {"x": 1.0}, {"x": True}, {"x": "1"})
    assert len(made(cells=cells).planned()) == 4


def test_a_search_plans_numbered_tries_without_values():
    search = made(cells=({},) * 3)
    assert search.searches
    assert search.planned() == {"try 0000": {}, "try 0001": {}, "try 0002": {}}
    assert not made().searches


def test_name_has_the_coordinates_and_is_stable():
    assert made().name == made().name
    assert made().name.startswith("fake-msvd-xpool-")
    assert len(made().name.rpartition("-")[2]) == 8


def test_name_is_the_same_in_another_process(project):
    """A digest of anything hashed with Python's per-process seed would differ."""
    code = (
        "import sys, runpy; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from xpool.project import fingerprints\n"
        "fingerprints.TOP = Path.cwd()\n"
        "print(runpy.run_path(sys.argv[2])['made']().name)"
    )
    here = Path(__file__).resolve()
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(here.parents[2]), str(here)],
        capture_output=True, text=True, check=True, cwd=project,
        env=os.environ | {"PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert done.stdout.strip() == made().name


@pytest.mark.parametrize(
    "changes",
    [
        {"benchmark": "msrvtt"},
        {"part": "other"},
        {"depends": ({"lr": 2e-3}, "digest of data")},
        {"depends": ({"lr": 1e-3}, "other data")},
        {"objectives": {"R@1": "maximize", "cost_ms": "minimize"}},
        {"fixed": {"method": "mean_pool"}},
        {"study": "other"},
        {"modules": ()},
    ],
)
def test_name_changes_with_what_decides_the_result(changes):
    assert made(**changes).name != made().name


def test_name_changes_with_the_setting():
    before = made().name
    Path("params.yaml").write_text("setting: paper\n")
    assert made().name != before


@pytest.mark.parametrize("file", ["studies/fake.py", "xpool/helper.py", "baselines/method.py"])
def test_name_changes_with_the_code_that_is_used(file):
    before = made().name
    Path(file).write_text(Path(file).read_text() + "# changed\n")
    assert made().name == before, "a comment changes nothing"
    Path(file).write_text(Path(file).read_text() + "changed = True\n")
    assert made().name != before


@pytest.mark.parametrize("file", ["studies/other.py", "baselines/unused.py"])
def test_name_ignores_other_code(file):
    before = made().name
    Path(file).write_text("changed = True\n")
    assert made().name == before


def test_name_ignores_params_that_decide_nothing():
    before = made().name
    Path("params.yaml").write_text("setting: mini\noptuna: {workers: 7}\n")
    assert made().name == before


@pytest.mark.parametrize(
    "changes",
    [
        {
            "cells": grid({"frames": [1, 2, 64], "seed": [0, 1, 2]}),
            "space": {"frames": scale([1, 64], log=True), "seed": scale([0, 2])},
        },
        {"cells": ({"frames": 1, "seed": 0},)},
    ],
)
def test_a_grid_that_grows_or_shrinks_keeps_its_name_and_its_keys(changes):
    """Else trials that are done would be run again."""
    before, after = made(), made(**changes)
    assert after.name == before.name
    shared = set(before.planned()) & set(after.planned())
    assert shared in (set(before.planned()), set(after.planned()))


def test_the_name_of_a_search_changes_with_its_space_and_not_with_its_length():
    space = {"lr": FloatDistribution(1e-4, 1e-2, log=True)}
    short, long = made(cells=({},) * 3, space=space), made(cells=({},) * 9, space=space)
    assert short.name == long.name
    assert set(short.planned()) < set(long.planned())
    wider = made(cells=({},) * 3, space={"lr": FloatDistribution(1e-5, 1e-2, log=True)})
    assert wider.name != short.name


def test_a_study_that_is_not_there_is_named():
    with pytest.raises(InputError, match=r"no file studies/nonsense.py for 'nonsense'"):
        load_study("nonsense")


def test_data_that_were_changed_meanwhile_are_noticed(monkeypatch):
    planned = [made(depends=("digest of data",)).name]
    monkeypatch.setattr(module, "experiments_of", lambda name: [made(depends=("digest of data",))])
    check_unchanged("fake", planned)
    monkeypatch.setattr(module, "experiments_of", lambda name: [made(depends=("another",))])
    with pytest.raises(InputError, match=r"fake: its data were changed while it ran.*kept"):
        check_unchanged("fake", planned)


def test_experiments_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        made().part = "other"


def test_names_of_all_parts_differ():
    names = [
        made(benchmark=benchmark, part=part).name
        for benchmark, part in itertools.product(["msvd", "msrvtt"], ["xpool", "mean_pool"])
    ]
    assert len(set(names)) == 4
