"""Shared by all tests: one thread a process, so that times and float sums do not depend on load."""

import gc
import os
import sys
from pathlib import Path

import pytest
from stage_server import serving

os.environ.setdefault("OMP_NUM_THREADS", "1")

TOP = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _thaw():
    yield
    gc.unfreeze()


@pytest.fixture(scope="module", autouse=True)
def _freeze(_thaw):
    """Spare the collector what has been imported: a pass over it takes up to half a second.

    Accelerate asks for one after each training.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def commands(tmp_path_factory):
    """Programs for projects whose stages start at once: :mod:`stage_server`."""
    with serving(tmp_path_factory.mktemp("server")) as folder:
        yield folder


@pytest.fixture
def quick_kernels(commands, monkeypatch):
    """Notebooks whose kernels start at once."""
    monkeypatch.setattr(sys, "executable", str(commands / "python"))


@pytest.fixture(autouse=True)
def _no_accelerator_is_left():
    """Accelerate keeps a process's device and precision, and refuses other ones later."""
    yield
    if "accelerate" in sys.modules:
        sys.modules["accelerate"].state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def top():
    """The project's top folder."""
    return TOP


LONGEST_FIRST = (
    "test_end_to_end",
    "test_paper_setting",
    "test_contributing",
    "test_driver",
    "test_fleet_nodes",
    "test_real_clips",
    "test_fine_tuning",
    "test_features_end_to_end",
    "test_documented_commands",
    "test_imported",
    "test_pipeline",
    "test_encoders",
    "test_processes",
)


def pytest_collection_modifyitems(items):
    """Start the longest files first, so that no core waits for the last of them."""
    items.sort(key=lambda item: item.path.stem not in LONGEST_FIRST)
