"""Train a cell: recipe to checkpoint, for every method and both regimes.

Each step is a function of the run's seed and its own number: order, augmentation and dropout are
drawn from seeds, not from a running state. A run that was killed and resumed therefore ends with
the same bits as one that was not.
"""

import gc
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import accelerate
import numpy as np
import pandas as pd
import torch
from torch import nn

from xpool.metrics import Ranks, ranks
from xpool.project.errors import InputError
from xpool.project.params import PARAMS_FILE
from xpool.project.progress import progress
from xpool.project.seeds import seed_for
from xpool.project.workspace import replacing, write_json
from xpool.similarity import similarity
from xpool.training import evaluations
from xpool.training.cell import Cell, new_model
from xpool.training.checkpoints.run_state import RunState, save_weights
from xpool.training.data import Batch, Data, rows_of
from xpool.training.loader import Order, batches
from xpool.training.model import RetrievalModel, total
from xpool.training.optimisation import set_rates
from xpool.training.recipes import TrainParams, short_name

log = logging.getLogger(__name__)
BETAS = (0.9, 0.999)
EPS = 1e-6
CUBLAS_WORKSPACE = ":4096:8"
"""Memory with which cuBLAS adds in the same order each time (torch's notes on randomness)."""
FINISHED = "finished"
"""Folder inside a run's work folder that holds the files of the finished run."""
TRAINED = ("checkpoint.safetensors", "curve.csv", "run.json", *evaluations.FILES)
"""Files of a finished run; its record has their digests."""
_START: dict[str, Any] = {"step": 0, "curve": [], "best": None, "seconds": 0.0}
"""Record of a run that has no state on disk yet; see :class:`RunState`."""
Report = Callable[[dict[str, Any]], None]
"""Receives each row of the curve; an exception that it raises ends the run."""


def new_accelerator(train: TrainParams) -> accelerate.Accelerator:
    """Return what runs a training, in the precision that section ``train`` asks for."""
    if train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
        torch.use_deterministic_algorithms(True)
    state = accelerate.PartialState()
    if state.num_processes == 1 and os.environ.get("MASTER_ADDR") and "RANK" not in os.environ:
        log.warning(
            "a launcher was asked for several processes and started one, which trains alone; on "
            "CPUs use torchrun --nproc-per-node, on GPUs accelerate launch --multi_gpu"
        )
    bf16 = computes_in_bf16(train, state.device)
    return accelerate.Accelerator(mixed_precision="bf16" if bf16 else "no")


def computes_in_bf16(train: TrainParams, device: torch.device) -> bool:
    """Whether a training on a device takes bf16 autocast.

    Raises:
        InputError: ``train.precision`` asks for it, and the GPU has none.
    """
    # emulated bf16, as on GPUs before Ampere, is slower than fp32 and less exact
    on_gpu = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if train.precision == "bf16" and device.type == "cuda" and not on_gpu:
        raise InputError(
            f"{PARAMS_FILE}: train.precision: this GPU ({torch.cuda.get_device_name(device)}) does "
            "not compute in bf16; write auto or fp32"
        )
    return train.precision == "bf16" or (train.precision == "auto" and on_gpu)


def new_optimizer(model: RetrievalModel, cell: Cell) -> torch.optim.Optimizer:
    """Return the optimiser of a cell's model."""
    return torch.optim.AdamW(
        model.groups(cell.recipe.lr_encoder, cell.recipe.lr_pooling),
        betas=BETAS,
        eps=EPS,
        weight_decay=cell.train.weight_decay,
        fused=True,  # one kernel instead of ten for each parameter
    )


def update(
    model: nn.Module,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    accelerator: accelerate.Accelerator,
    train: TrainParams,
) -> dict[str, torch.Tensor]:
    """Take one step and return the terms of its loss, by name.

    Nothing is read back from the device, which runs behind.

    Args:
        model: the :class:`RetrievalModel` as ``accelerator`` prepared it.
        batch: on the device.
        optimizer: of the model.
        accelerator: device, precision and processes.
        train: section ``train``.
    """
    with accelerator.autocast():
        terms: dict[str, torch.Tensor] = model(*batch)
    optimizer.zero_grad(set_to_none=True)
    accelerator.backward(total(terms))
    accelerator.clip_grad_norm_(model.parameters(), train.max_grad_norm)
    optimizer.step()
    if train.learn_contrastive_temperature:
        towers = accelerator.unwrap_model(model).towers
        with torch.no_grad():
            towers.logit_scale.clamp_(max=float(np.log(train.max_logit_scale)))
    return {name: term.detach() for name, term in terms.items()}


@torch.no_grad()
def rank_split(model: RetrievalModel, data: Data, split: str) -> tuple[pd.DataFrame, Ranks]:
    """Return a split's texts, and their text-to-video ranks with the model as it is now.

    All processes must call it: each embeds its part of the split.
    """
    model.eval()
    gallery = data.gallery(model.towers, split)
    scores = similarity(model.pooling, *gallery.embeddings())
    model.train()
    return gallery.texts, ranks(scores, gallery.video_of_text())["t2v"]


def fit(
    cell: Cell,
    data: Data,
    folder: Path,
    accelerator: accelerate.Accelerator,
    report: Report | None = None,
) -> Path:
    """Train a cell in its work folder, and resume a run that was stopped there.

    Args:
        cell: what is trained, and how.
        data: the benchmark.
        folder: the work folder.
        accelerator: device, precision and processes.
        report: for trials of a study; replaces the progress bar and the evaluation log.

    Returns:
        A folder inside ``folder`` with ``checkpoint.safetensors`` (the selected weights),
        ``curve.csv`` (one row an evaluation), ``run.json`` (what was selected), and, without
        ``report``, what ``xpool.training.evaluations`` writes.

    Raises:
        InputError: the split that the selection rule needs is empty, or the loss is not finite.
    """
    try:
        return _fit(cell, data, folder, accelerator, report)
    finally:
        accelerator.free_memory()  # it keeps each model that it prepared
        if cell.train.reads == "frames":
            gc.collect()  # under autocast, or compiled, a model refers to itself


def _fit(
    cell: Cell,
    data: Data,
    folder: Path,
    accelerator: accelerate.Accelerator,
    report: Report | None,
) -> Path:
    order = _order(cell, data)
    model = new_model(cell, data).to(accelerator.device)
    optimizer = new_optimizer(model, cell)
    record = RunState(folder).load(model, optimizer) or _START
    if record["step"]:
        log.info("resuming at step %d of %d", record["step"], order.steps)
    if report:
        for row in record["curve"]:
            report(row)
    wrapped = accelerator.prepare(model)  # its optimisers look for further libraries in each step
    so_far = _Evaluations(cell, data, order, folder, accelerator, report, record)
    if not order.steps:
        so_far.keep_initial(model)
    bar = progress(
        batches(
            data, order, cell.seed_of("dropout"), record["step"], accelerator, cell.train.workers
        ),
        so_far.label,
        total=order.steps,
        initial=record["step"],
        disable=not so_far.logged,
    )
    due = order.evaluations()
    losses: list[dict[str, torch.Tensor]] = []
    model.train()
    for step, batch in enumerate(bar, start=record["step"]):
        # dropout draws from here; a resumed run draws the same
        _seed(accelerator.device, seed_for("step", cell.seed_of("dropout"), step))
        set_rates(optimizer, step, order.steps, cell.train.warmup)
        losses.append(update(wrapped, batch, optimizer, accelerator, cell.train))
        if step + 1 in due:
            mean = _means(losses)
            losses.clear()
            so_far.check_loss(mean["loss"], step + 1)
            row = so_far.evaluate(model, optimizer, step + 1, mean)
            bar.set_postfix(so_far.postfix(row), refresh=False)
            accelerator.wait_for_everyone()
    return so_far.finish()


def _means(losses: list[dict[str, torch.Tensor]]) -> dict[str, float]:
    """Return the mean ``loss`` of some steps, and each term's if a method has terms of its own."""
    means = {"loss": float(torch.stack([total(terms) for terms in losses]).mean())}
    if len(losses[0]) > 1:
        for name in losses[0]:
            means[f"loss_{name}"] = float(torch.stack([terms[name] for terms in losses]).mean())
    return means


def _order(cell: Cell, data: Data) -> Order:
    """Return the order of a cell's training pairs; check that each split it needs has rows."""
    train = cell.train
    if train.epochs and cell.rule != "last":
        rows_of(data.texts, evaluations.SPLIT[cell.rule])
    rows = rows_of(data.texts, "train").index.to_numpy() if train.epochs else np.empty(0, np.int64)
    return Order(
        rows=rows,
        epochs=train.epochs,
        batch_size=train.batch_size,
        evaluations_per_epoch=train.evaluations_per_epoch,
        seed=cell.seed_of("order"),
    )


class _Evaluations:
    """The evaluations of a run so far: its curve, its best checkpoint, and its state on disk.

    Attributes:
        label: names the run in messages.
        logged: whether this process shows the bar and keeps the evaluation log.
    """

    def __init__(
        self,
        cell: Cell,
        data: Data,
        order: Order,
        folder: Path,
        accelerator: accelerate.Accelerator,
        report: Report | None,
        record: dict[str, Any],
    ) -> None:
        self._cell, self._data, self._order = cell, data, order
        self._folder, self._report = folder, report
        self._split = evaluations.SPLIT[cell.rule]
        self._main = accelerator.is_main_process
        self._state = RunState(folder)
        self._curve: list[dict[str, Any]] = list(record["curve"])
        self._best: dict[str, Any] | None = record["best"]
        self.label = f"{short_name(cell.method)} {cell.benchmark} seed {cell.seed}"
        self.logged = self._main and report is None
        splits = set(data.texts["split"])
        # a trial sees nothing but the split that it is judged on
        self._seen = [
            name
            for name in evaluations.SPLITS
            if name in splits and (report is None or name == self._split)
        ]
        self._began = time.monotonic() - record["seconds"]

    def keep_initial(self, model: RetrievalModel) -> None:
        """Keep the model as it starts, for a run without steps (zero-shot)."""
        if self._main:
            self._best = {"step": 0, "file": "best-000000000.safetensors"}
            save_weights(model, self._folder / self._best["file"])

    def check_loss(self, loss: float, done: int) -> None:
        """Stop a run that diverged.

        Raises:
            InputError: the mean loss since the last evaluation is not finite.
        """
        if not np.isfinite(loss):
            recipe = f"recipes.{short_name(self._cell.method)}.{self._cell.benchmark}"
            raise InputError(
                f"{self.label}: the loss is {loss} at step {done}; lower {recipe}.lr_pooling or "
                "lr_encoder"
            )

    def evaluate(
        self,
        model: RetrievalModel,
        optimizer: torch.optim.Optimizer,
        done: int,
        loss: dict[str, float],
    ) -> dict[str, Any]:
        """Evaluate after ``done`` steps, and save state and best checkpoint; return the row.

        All processes embed and rank; the first one writes.
        """
        row = {"step": done, "epoch": done / self._order.steps_per_epoch} | loss
        for name in self._seen:
            texts, t2v = rank_split(model, self._data, name)
            if self.logged:
                evaluations.keep(self._folder, done, name, texts, t2v)
            if name == self._split:
                row |= t2v.metrics()
        self._curve.append(row)
        if not self._main:
            return row
        score = list(evaluations.score(self._cell.rule, self._curve))
        if self._best is None or score > self._best["score"]:
            self._best = {"score": score, "step": done, "file": f"best-{done:09d}.safetensors"}
            save_weights(model, self._folder / self._best["file"])
        seconds = time.monotonic() - self._began
        record = {"curve": self._curve, "best": self._best, "seconds": seconds}
        self._state.save(done, model, optimizer, record)
        for older in self._folder.glob("best-*"):
            if older.name != self._best["file"]:
                older.unlink()
        if self._report:
            self._report(row)
        else:
            self._write_curve(self._folder)  # `dvc plots show` draws it while the run goes on
        return row

    def postfix(self, row: dict[str, Any]) -> dict[str, str]:
        """Return what the progress bar shows of an evaluation."""
        shown = {"loss": f"{row['loss']:.3f}"}
        return shown | ({f"{self._split} R@1": f"{row['R@1']:.1f}"} if "R@1" in row else {})

    def finish(self) -> Path:
        """Gather a finished run's files in one folder, and return it."""
        cell, finished = self._cell, self._folder / FINISHED
        if not self._main:
            return finished
        if self.logged:
            seconds = time.monotonic() - self._began
            log.info("%s: %d steps in %.1f s", self.label, self._order.steps, seconds)
        best = cast(dict[str, Any], self._best)
        shutil.rmtree(finished, ignore_errors=True)
        finished.mkdir()
        shutil.copy(self._folder / best["file"], finished / "checkpoint.safetensors")
        self._write_curve(finished)
        if self.logged:
            evaluations.gather(self._folder, [row["step"] for row in self._curve], finished)
        about = {
            "method": short_name(cell.method),
            "benchmark": cell.benchmark,
            "seed": cell.seed,
            "reads": cell.train.reads,
            "selection": cell.rule,
            "selected_step": best["step"],
            "steps": self._curve[-1]["step"] if self._curve else 0,
        }
        write_json(finished / "run.json", about)
        return finished

    def _write_curve(self, folder: Path) -> None:
        columns = list(self._curve[-1]) if self._curve else ["step", "epoch", "loss"]
        with replacing(folder / "curve.csv") as file:
            pd.DataFrame(self._curve, columns=columns).to_csv(file, index=False)


def _seed(device: torch.device, seed: int) -> None:
    """Seed what dropout draws from; on a CPU without visiting all GPUs, which takes 4 ms."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
