"""Fine-tuning with compiled towers: the same loss and gradients, one shape for the compiler."""

import accelerate
import numpy as np
import pytest
import torch
import worlds
from made_cells import FRAMES, cell

from xpool.training.cell import new_model
from xpool.training.data import FrameData
from xpool.training.fit import new_optimizer, update
from xpool.training.model import total
from xpool.training.towers import Compiled


def test_fewer_rows_are_filled_up_and_dropped(monkeypatch):
    seen = []

    def tower(rows):
        seen.append(len(rows))
        return 2 * rows

    monkeypatch.setattr(torch, "compile", lambda tower, dynamic, mode: tower)
    compiled = Compiled(tower, graphs=True)
    for count in (5, 3, 5, 1):
        rows = torch.randn(count, 4, requires_grad=True)
        found = compiled(rows)
        assert torch.equal(found, 2 * rows)
        found.sum().backward()
        assert torch.equal(rows.grad, torch.full_like(rows, 2.0))
    assert seen == [5, 5, 5, 5]


@pytest.mark.slow
def test_steps_equal_those_of_the_towers_as_they_are(tmp_path, monkeypatch):
    """All but the code of the kernels, which takes a minute to make on a CPU."""
    real = torch.compile
    monkeypatch.setattr(
        torch,
        "compile",
        lambda tower, dynamic, mode: real(tower, dynamic=dynamic, backend="aot_eager"),
    )
    monkeypatch.chdir(tmp_path)
    worlds.write_pixels("mini", "msvd", videos=(4, 1, 1), captions=3)
    batches = [np.arange(8), np.arange(7, 12)]
    losses, weights = {}, {}
    for compiled in (False, True):
        a_cell = cell(reads="frames", compile=compiled)
        data = FrameData("mini", "msvd", a_cell.train, FRAMES)
        accelerator = accelerate.Accelerator(cpu=True)
        model, optimizer = accelerator.prepare(
            model := new_model(a_cell, data), new_optimizer(model, a_cell)
        )
        losses[compiled] = []
        for seed, rows in enumerate(batches):
            batch = data.batch(rows, seed)
            assert len(batch.mask) == (len(rows) if compiled else len(set(rows // 3)))
            torch.manual_seed(0)  # of dropout
            terms = update(model, batch, optimizer, accelerator, a_cell.train)
            losses[compiled].append(total(terms))
        weights[compiled] = model.state_dict()
    torch.testing.assert_close(losses[True], losses[False], rtol=0, atol=1e-5)
    assert weights[True].keys() == weights[False].keys()
    # Adam's steps are of one size, whatever the gradient's; only where that is nothing but
    # rounding can they point the other way
    lr = a_cell.recipe.lr_encoder
    for name, value in weights[False].items():
        apart = (weights[True][name] - value).abs() > lr / 10
        assert apart.float().mean() < 0.01, name
