"""[step 4] Train a method on a benchmark, with each seed: ``results/<setting>/train/...``.

All seeds in one process, as starting it takes as long as training on a small benchmark. A finished
run stays in the work folder too: DVC deletes a stage's outputs before it runs the stage, and what
is the same as before, as when a seed is added, is not trained again.

The same loop for every method and both regimes. A run is a function of its seed and step alone
(order, augmentation and dropout are drawn from seeds, not from a running state), so a run that was
killed and resumed ends with the same bits as one that was not.

Run: ``python -m xpool.train --method xpool.xpool --benchmark msrvtt``; on several GPUs
``accelerate launch -m xpool.train ...`` gives the same loss over the global batch.
"""

import argparse
import json
import logging
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import accelerate
import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from xpool import looks, paths, selection
from xpool.batches import Batch, Data, open_data, rows_of
from xpool.cell import Cell, coordinates, new_model, read_cell
from xpool.checkpoints import RunState, save_weights
from xpool.command import InputError, run
from xpool.frame_cache import FramesParams
from xpool.metrics import Ranks, ranks
from xpool.model import RetrievalModel
from xpool.order import Order
from xpool.params import read, setting
from xpool.prefetch import batches
from xpool.provenance import code, data_of, inputs_of, of_training
from xpool.recipes import TrainParams, short_name
from xpool.records import RECORD
from xpool.schedule import set_rates
from xpool.seeds import seed_for
from xpool.similarity import similarity
from xpool.workspace import (
    fingerprint,
    keep_only,
    publish,
    replacing,
    work_folder,
    work_path,
    write_json,
)

log = logging.getLogger(__name__)
BETAS = (0.9, 0.999)
EPS = 1e-6
FINISHED = "finished"
"""The folder, in a run's work folder, of what is published."""


def new_accelerator(train: TrainParams) -> accelerate.Accelerator:
    """Return what runs a training, in the precision that section ``train`` asks for."""
    bf16 = train.precision == "bf16" or (train.precision == "auto" and torch.cuda.is_available())
    return accelerate.Accelerator(mixed_precision="bf16" if bf16 else "no")


def new_optimizer(model: RetrievalModel, cell: Cell) -> torch.optim.Optimizer:
    """Return the optimiser of a cell's model."""
    return torch.optim.AdamW(
        model.groups(cell.recipe.lr_encoder, cell.recipe.lr_pooling),
        betas=BETAS,
        eps=EPS,
        weight_decay=cell.train.weight_decay,
        fused=True,  # one kernel in place of ten a parameter
    )


def update(
    model: nn.Module,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    accelerator: accelerate.Accelerator,
    train: TrainParams,
) -> torch.Tensor:
    """Take one step and return its loss; nothing is read back from the device, which runs behind.

    Args:
        model: the :class:`RetrievalModel` as ``accelerator`` prepared it.
        batch: on the device.
        optimizer: as ``accelerator`` prepared it.
        accelerator: device, precision and processes.
        train: section ``train``.
    """
    with accelerator.autocast():
        loss: torch.Tensor = model(*batch)
    optimizer.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(model.parameters(), train.max_grad_norm)
    optimizer.step()
    if train.learn_contrastive_temperature:
        towers = accelerator.unwrap_model(model).towers
        with torch.no_grad():
            towers.logit_scale.clamp_(max=float(np.log(train.max_logit_scale)))
    return loss.detach()


@torch.no_grad()
def look(model: RetrievalModel, data: Data, split: str) -> tuple[pd.DataFrame, Ranks]:
    """Return a split's texts, and their text-to-video ranks with the model as it is now."""
    model.eval()
    gallery = data.gallery(model.towers, split)
    scores = similarity(model.pooling, gallery.text, gallery.frames, gallery.mask)
    model.train()
    return gallery.texts, ranks(scores, gallery.video_of_text())["t2v"]


def fit(
    cell: Cell,
    data: Data,
    folder: Path,
    accelerator: accelerate.Accelerator,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Train a cell in its work folder, resuming what is there.

    Args:
        cell: what is trained, and how.
        data: the benchmark.
        folder: the work folder.
        accelerator: device, precision and processes.
        report: called with each row of the curve, in place of the progress bar, the DVCLive log
            and the looks; what it raises ends the run.

    Returns:
        A folder inside ``folder`` with ``checkpoint.safetensors`` (the selected weights),
        ``curve.csv`` (one row an evaluation), ``live/`` (the same through DVCLive), ``run.json``
        (what was selected), and what ``xpool.looks`` writes.

    Raises:
        InputError: the split that the selection rule needs is empty, or the loss is not finite.
    """
    train = cell.train
    split = selection.SPLIT[cell.rule]
    evaluated = cell.rule != "last" or bool((data.texts["split"] == split).any())
    if evaluated and train.epochs:
        rows_of(data.texts, split)
    rows = rows_of(data.texts, "train").index.to_numpy() if train.epochs else np.empty(0, np.int64)
    order = Order(
        rows=rows,
        epochs=train.epochs,
        batch_size=train.batch_size,
        evaluations_per_epoch=train.evaluations_per_epoch,
        seed=cell.seed_of("order"),
    )
    model = new_model(cell, data).to(accelerator.device)
    optimizer = new_optimizer(model, cell)
    state = RunState(folder)
    record = state.load(model, optimizer) or {"step": 0, "curve": [], "best": None, "seconds": 0.0}
    if record["step"]:
        log.info("resuming at step %d of %d", record["step"], order.steps)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    curve: list[dict[str, Any]] = record["curve"]
    best: dict[str, Any] | None = record["best"]
    if not order.steps and accelerator.is_main_process:
        best = {"step": 0, "file": "best-000000000.safetensors"}
        save_weights(model, folder / best["file"])
    logged = accelerator.is_main_process and report is None
    splits = set(data.texts["split"])
    # trials see nothing but what they are judged on
    seen = [name for name in looks.SPLITS if name in splits and (logged or name == split)]
    live = _live(folder / "live", curve) if logged else None
    if report:
        for row in curve:
            report(row)
    evaluations = order.evaluations()
    label = f"{short_name(cell.method)} {cell.benchmark} seed {cell.seed}"
    bar = tqdm(
        batches(data, order, cell.seed_of("dropout"), record["step"], accelerator, train.workers),
        label,
        total=order.steps,
        initial=record["step"],
        disable=not logged,
        mininterval=1.0,
    )
    model.train()
    losses: list[torch.Tensor] = []
    began = time.monotonic() - record["seconds"]
    for step, batch in enumerate(bar, start=record["step"]):
        # dropout draws from here; a resumed run draws the same
        _seed(accelerator.device, seed_for("step", cell.seed_of("dropout"), step))
        set_rates(optimizer, step, order.steps, train.warmup)
        losses.append(update(wrapped, batch, optimizer, accelerator, train))
        done = step + 1
        if done not in evaluations:
            continue
        mean_loss = float(torch.stack(losses).mean())
        losses.clear()
        if not np.isfinite(mean_loss):
            raise InputError(
                f"{label}: the loss is {mean_loss} at step {done}; lower "
                f"recipes.{short_name(cell.method)}.{cell.benchmark}.lr_pooling or lr_encoder"
            )
        if accelerator.is_main_process:
            row = {"step": done, "epoch": done / order.steps_per_epoch, "loss": mean_loss}
            for name in seen:
                texts, t2v = look(model, data, name)
                if logged:
                    looks.keep(folder, done, name, texts, t2v)
                if name == split:
                    row |= t2v.metrics()
            if evaluated:
                bar.set_postfix({"loss": f"{mean_loss:.3f}", f"{split} R@1": f"{row['R@1']:.1f}"})
            curve.append(row)
            score = list(selection.score(cell.rule, curve))
            if best is None or score > best["score"]:
                best = {"score": score, "step": done, "file": f"best-{done:09d}.safetensors"}
                save_weights(model, folder / best["file"])
            seconds = time.monotonic() - began
            state.save(done, model, optimizer, {"curve": curve, "best": best, "seconds": seconds})
            for older in folder.glob("best-*"):
                if older.name != best["file"]:
                    older.unlink()
            if report:
                report(row)
            else:
                _log_row(live, row)
        accelerator.wait_for_everyone()
    if logged:
        log.info("%s: %d steps in %.1f s", label, order.steps, time.monotonic() - began)
    if not accelerator.is_main_process:
        return folder / FINISHED
    return _finish(cell, folder, curve, cast(dict[str, Any], best), live)


def _seed(device: torch.device, seed: int) -> None:
    """Seed what dropout draws from; on a CPU without the walk over all GPUs, which takes 4 ms."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _live(folder: Path, curve: list[dict[str, Any]]) -> Any:
    """Open a DVCLive log and replay what a killed run had logged: no row twice, none lost."""
    import dvclive

    shutil.rmtree(folder, ignore_errors=True)
    live = dvclive.Live(
        str(folder), save_dvc_exp=False, dvcyaml=None, report=None, monitor_system=False
    )
    for row in curve:
        _log_row(live, row)
    return live


def _log_row(live: Any, row: dict[str, Any]) -> None:
    live.step = row["step"]
    for name, value in row.items():
        if name not in {"step"}:
            live.log_metric(name, value, timestamp=False)
    live.make_summary()


def _finish(
    cell: Cell,
    folder: Path,
    curve: list[dict[str, Any]],
    best: dict[str, Any],
    live: Any,
) -> Path:
    """Gather a finished run's outputs in one folder."""
    finished = folder / FINISHED
    shutil.rmtree(finished, ignore_errors=True)
    finished.mkdir()
    shutil.copy(folder / best["file"], finished / "checkpoint.safetensors")
    columns = list(curve[-1]) if curve else ["step", "epoch", "loss"]
    pd.DataFrame(curve, columns=columns).to_csv(finished / "curve.csv", index=False)
    if live is not None:
        live.end()
        (folder / "live").mkdir(exist_ok=True)  # DVCLive makes none for a run without steps
        shutil.copytree(folder / "live", finished / "live")
        looks.gather(folder, [row["step"] for row in curve], finished)
    write_json(
        finished / "run.json",
        {
            "method": short_name(cell.method),
            "benchmark": cell.benchmark,
            "seed": cell.seed,
            "reads": cell.train.reads,
            "selection": cell.rule,
            "selected_step": best["step"],
            "steps": curve[-1]["step"] if curve else 0,
        },
    )
    return finished


def ruling(cell: Cell, frames: FramesParams) -> dict[str, Any]:
    """Return the params that rule a run, as JSON holds them."""
    return {
        "train": json.loads(cell.train.model_dump_json()),
        "frames": json.loads(frames.model_dump_json()),
        "recipe": json.loads(cell.recipe.model_dump_json()),
        "selection": cell.rule,
        "manifest": read(f"manifest.{cell.benchmark}", dict[str, Any]),
    }


def _started(folder: Path) -> str:
    """Return when the work in a folder began, also after a kill."""
    path = folder / "started"
    if not path.exists():
        with replacing(path) as file:
            file.write(datetime.now(UTC).isoformat(timespec="seconds"))
    return path.read_text(encoding="utf-8")


def main() -> None:
    """Train all cells of the method and the benchmark that the flags name."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--method", required=True, help="import path, e.g. baselines.mean_pool")
    parser.add_argument("--benchmark", required=True)
    flags = parser.parse_args()
    benchmark = flags.benchmark
    cells = [read_cell(flags.method, benchmark, seed) for seed in read("seeds", list[int])]
    train = cells[0].train
    if train.reads == "embeddings":
        # batches of cached embeddings are too small to share between cores: more threads only wait
        # for each other (twenty times slower on a busy machine), and their number moves float sums
        torch.set_num_threads(1)
    accelerator = new_accelerator(train)
    frames = read("frames", FramesParams)
    data = open_data(setting(), benchmark, train, frames)
    origin = code() | inputs_of(setting(), benchmark, train.reads)
    sources = [*data_of(setting(), benchmark, train.reads).values(), paths.encoder(setting())]
    for cell in cells:
        params = ruling(cell, frames)
        digest = fingerprint([setting(), cell.method, cell.seed, params], sources)
        _train(cell, data, digest, {"params": params, "origin": origin}, accelerator)
        accelerator.free_memory()


def _train(
    cell: Cell,
    data: Data,
    digest: str,
    record: dict[str, Any],
    accelerator: accelerate.Accelerator,
) -> None:
    """Publish a cell's run, after training it where no finished one has its fingerprint."""
    name = short_name(cell.method)
    label = f"{setting()}-{name}-{cell.benchmark}-{cell.seed}"
    folder = work_path("train", label, digest)
    main_process = accelerator.is_main_process
    with work_folder("train", label, digest) if main_process else nullcontext():
        accelerator.wait_for_everyone()
        finished = folder / FINISHED
        if (finished / RECORD).is_file():  # is written last
            log.info("%s %s seed %d: has been trained", name, cell.benchmark, cell.seed)
        else:
            started = _started(folder) if main_process else ""
            fit(cell, data, folder, accelerator)
            if main_process:
                state = RunState(folder).record()  # none where nothing was to be trained
                made = of_training(
                    run=coordinates(cell),
                    folder=finished,
                    device=accelerator.device,
                    precision="bf16" if accelerator.mixed_precision == "bf16" else "fp32",
                    started=started,
                    seconds=state["seconds"] if state else 0.0,
                    processes=accelerator.num_processes,
                    **record,
                )
                write_json(finished / RECORD, made)
        if main_process:
            published = folder / "published"
            shutil.rmtree(published, ignore_errors=True)
            # DVCLive's log is the curve in ten more files, at which DVC would look for many stages
            shutil.copytree(finished, published, ignore=shutil.ignore_patterns("live"))
            publish(published, paths.training(setting(), name, cell.benchmark, cell.seed))
            keep_only(folder, finished)


if __name__ == "__main__":
    run(main)
