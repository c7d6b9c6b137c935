"""A run's state on disk, as safetensors and JSON; each write is atomic."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from xpool.encoders.tensors import save_tensors
from xpool.project.errors import InputError
from xpool.project.workspace import replacing


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's tensors to one safetensors file, atomically."""
    save_tensors(model.state_dict(), path)


def load_weights(model: nn.Module, path: Path) -> None:
    """Read what :func:`save_weights` wrote.

    Raises:
        InputError: the file is missing, damaged, or belongs to another model.
    """
    try:
        model.load_state_dict(load_file(path))
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())[:300]}") from error
    except Exception as error:  # safetensors' own error derives directly from Exception
        raise InputError(f"{path}: damaged ({error}); delete it and run `dvc repro`") from error


class RunState:
    """The newest complete state of a run in its work folder.

    A state is a folder ``step-<n>`` that one rename creates, so a kill leaves the previous state.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def latest(self) -> Path | None:
        """Return the newest state's folder, or None before the first."""
        states = sorted(self._folder.glob("step-*"))
        return states[-1] if states else None

    def save(
        self, step: int, model: nn.Module, optimizer: Optimizer, record: dict[str, Any]
    ) -> None:
        """Write a new state and drop the older ones."""
        temporary = self._folder / f".step-{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_weights(model, temporary / "model.safetensors")
        moments = {
            f"{number}.{name}": value
            for number, state in optimizer.state_dict()["state"].items()
            for name, value in state.items()
        }
        save_tensors(moments, temporary / "optimizer.safetensors")
        with replacing(temporary / "state.json") as file:
            json.dump({"step": step, **record}, file)  # keeps the order of the curve's columns
        older = list(self._folder.glob("step-*"))
        temporary.replace(self._folder / f"step-{step:09d}")
        for state in older:
            shutil.rmtree(state)

    def record(self) -> dict[str, Any] | None:
        """Return the record saved with the newest state, or None before the first."""
        state = self.latest()
        if state is None:
            return None
        record: dict[str, Any] = json.loads((state / "state.json").read_text(encoding="utf-8"))
        return record

    def load(self, model: nn.Module, optimizer: Optimizer) -> dict[str, Any] | None:
        """Load the newest state into the model and the optimiser; return its record or None."""
        state = self.latest()
        if state is None:
            return None
        load_weights(model, state / "model.safetensors")
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in load_file(state / "optimizer.safetensors").items():
            number, _, rest = name.partition(".")
            moments.setdefault(int(number), {})[rest] = value
        current = optimizer.state_dict()
        optimizer.load_state_dict({"state": moments, "param_groups": current["param_groups"]})
        return self.record()
