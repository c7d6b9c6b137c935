"""Runs of a method side by side: the bytes of one after another; and a killed one is a line."""

import os
import signal
from pathlib import Path

import pytest
import worlds

from xpool.project import paths
from xpool.project.errors import InputError
from xpool.stages import train
from xpool.training import runs

METHOD = "baselines.mean_pool"


@pytest.fixture(autouse=True)
def _project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    worlds.write_project()
    params = Path("params.yaml")
    assert "seeds:\n- 0\n" in params.read_text()
    params.write_text(params.read_text().replace("seeds:\n- 0\n", "seeds:\n- 0\n- 1\n- 2\n"))


def checkpoints():
    found = paths.training("mini", "mean_pool", "msvd", 0).parent.glob("*/checkpoint.safetensors")
    return {path.parent.name: path.read_bytes() for path in found}


def test_runs_side_by_side_give_the_bytes_of_runs_one_after_another(monkeypatch):
    made = {}
    for cores in (1, 2):
        monkeypatch.setattr(runs, "available_cores", lambda cores=cores: cores)
        train.main(method=METHOD, benchmark="msvd")
        made[cores] = checkpoints()
        for folder in (Path("results"), Path(".work")):
            folder.rename(f"{folder}-{cores}")
    assert made[1].keys() == {"0", "1", "2"}
    assert made[1] == made[2]
    assert len(set(made[1].values())) == 3


def test_a_killed_run_is_one_line_and_the_finished_ones_are_kept(monkeypatch, caplog):
    fit, here = runs.fit, os.getpid()

    def killed(cell, *arguments):
        if cell.seed == 1 and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return fit(cell, *arguments)

    monkeypatch.setattr(runs, "available_cores", lambda: 2)
    monkeypatch.setattr(runs, "fit", killed)
    with pytest.raises(InputError, match=r"^mean_pool msvd: a training was killed.*run the same"):
        train.main(method=METHOD, benchmark="msvd")
    monkeypatch.setattr(runs, "fit", fit)
    train.main(method=METHOD, benchmark="msvd")
    assert checkpoints().keys() == {"0", "1", "2"}
