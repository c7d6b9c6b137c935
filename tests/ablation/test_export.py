"""Importance of factors: of the planned trials, whatever happened on the way (properties)."""

import random

import pytest

from xpool.ablation.experiment import Experiment, choice, grid, scale
from xpool.ablation.export import importances
from xpool.ablation.lab import Outcome
from xpool.ablation.queue import CELL, RETRIES, Queue
from xpool.ablation.storage import OptunaParams, claim_lock, open_storage

PARAMS = OptunaParams(
    storage="sqlite:///.optuna/studies.db", workers=0, heartbeat_s=60, retries=0
)  # fmt: skip
pytestmark = pytest.mark.usefixtures("in_empty_project")


def made(frames=(1, 2, 4, 8), part="xpool"):
    factors = {"frames": list(frames), "learnt": [True, False], "seed": [0]}
    space = {"frames": scale(frames, log=True), "learnt": choice(True, False), "seed": scale([0])}
    return Experiment(
        study="fake", benchmark="msvd", part=part,
        space=space, cells=grid(factors), objectives={"R@1": "maximize"},
        run=lambda point, lab: Outcome(figures={}),
    )  # fmt: skip


def run(experiment, value, order=None):
    """Plan an experiment and run all that waits, in a random order if one is given."""
    queue = Queue(experiment, open_storage(PARAMS), claim_lock(PARAMS))
    if order is not None:
        keys = list(experiment.planned())
        order.shuffle(keys)
        for key in keys:
            point = dict(experiment.planned()[key])
            queue.study.enqueue_trial(point, user_attrs={CELL: key, RETRIES: 0})
    queue.plan(0)
    while trial := queue.claim():
        queue.complete(trial, [value(queue.suggested(trial))])
    return queue


def by_frames(point):
    return 10.0 * point["frames"] + point["learnt"]


def test_the_factor_that_decides_has_nearly_all_of_it():
    rows = importances(run(made(), by_frames))
    assert {row["factor"] for row in rows} == {"frames", "learnt"}, "one value decides nothing"
    assert sum(row["importance"] for row in rows) == pytest.approx(1)
    assert (rows[0]["factor"], rows[0]["part"]) == ("frames", "xpool")
    assert rows[0]["importance"] > 0.9


def test_a_grid_that_grew_keeps_the_factor_that_grew():
    """Optuna's own leaves out a factor whose range differs between trials."""
    run(made(frames=(1, 2, 4)), by_frames)
    grown = made()
    rows = importances(run(grown, by_frames))
    other = made(part="other")
    at_once = importances(run(other, by_frames))
    assert [(r["factor"], r["importance"]) for r in rows] == [
        (r["factor"], r["importance"]) for r in at_once
    ]
    assert rows[0]["factor"] == "frames"


def test_the_order_in_which_trials_ran_does_not_matter():
    first, second = made(), made(part="other")
    rows = importances(run(first, by_frames))
    moved = importances(run(second, by_frames, order=random.Random(1)))
    assert [r["importance"] for r in moved] == [r["importance"] for r in rows]


@pytest.mark.parametrize(("frames", "value"), [((1,), by_frames), ((1, 2, 4), lambda point: 7.0)])
def test_too_few_trials_or_equal_ones_have_no_rows(frames, value):
    experiment = made(frames=frames)
    assert importances(run(experiment, value)) == []
