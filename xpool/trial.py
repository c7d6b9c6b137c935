"""What a trial does: train a cell with some params changed, and judge it on the validation split.

Factors change params by their place: ``train.frames``, ``frames.sampling``, ``recipe.lr_pooling``,
``recipe.pooling.temperature``; ``seeds.order`` gives the order of the data a seed of its own
(:attr:`xpool.cell.Cell.seeds`). No trial ever sees the test split, whatever ``selection`` says.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xpool import attention_map, paths
from xpool.batches import Data, EmbeddingData, Gallery, open_data
from xpool.cell import Cell, Purpose, new_model
from xpool.checkpoints import load_weights
from xpool.digests import content
from xpool.encoder import embed_images, open_encoder
from xpool.experiment import Outcome, Scalar
from xpool.frame_cache import FramesParams
from xpool.metrics import ranks, retrieval_metrics
from xpool.model import RetrievalModel
from xpool.params import PARAMS_FILE, read, setting, validate
from xpool.recipes import Recipe, TrainParams, checked, recipe_for, short_name
from xpool.similarity import similarity
from xpool.train import fit, new_accelerator

T = TypeVar("T")
FIGURES = ("R@1", "R@5", "R@10", "MdR", "MnR")
"""Of each trial: text to video, validation split."""
ATTENTION_ROWS = 12
"""Queries in a trial's attention map."""
TIMINGS = 3
"""Repeats of a measured time; the least of them counts, since others only add to it."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained model and the validation gallery as it sees it."""

    cell: Cell
    model: RetrievalModel
    gallery: Gallery
    scores: Tensor
    """``(text, video)``"""

    def figures(self) -> dict[str, float]:
        """Return :data:`FIGURES` and the gallery's size."""
        return figures_of(self.scores, self.gallery.video_of_text())

    def write_ranks(self, path: Path) -> Path:
        """Write the rank of each query, the worst first."""
        t2v = ranks(self.scores, self.gallery.video_of_text())["t2v"]
        table = self.gallery.texts.assign(rank=t2v.rank)
        table.sort_values(["rank", "caption_id"], ascending=[False, True]).to_csv(path, index=False)
        return path

    def draw_attention(self, path: Path) -> Path:
        """Draw where the first query of each of the first videos looks in its own video."""
        chosen = self.gallery.texts.drop_duplicates("video_id").head(ATTENTION_ROWS)
        videos = self.gallery.video_of_text()[chosen.index]
        pooling = cast(Any, self.model.pooling)
        with torch.inference_mode():
            weights = [
                pooling.attention(
                    self.gallery.text[row : row + 1],
                    self.gallery.frames[video : video + 1],
                    self.gallery.mask[video : video + 1],
                ).mean(dim=2)[0, 0]
                for row, video in zip(chosen.index, videos, strict=True)
            ]
        return attention_map.draw(
            torch.stack(weights).cpu().numpy(), list(chosen["caption_id"]), path
        )


class Lab:
    """What a worker keeps from trial to trial, and where the present one works.

    Attributes:
        folder: of the present trial; survives a kill, so that its training resumes.
        report: takes each evaluation's row; raises where the trial is to be pruned.
    """

    def __init__(self) -> None:
        self.accelerator = new_accelerator(read("train", TrainParams))
        self.folder = Path()
        self.report: Callable[[dict[str, Any]], None] = lambda row: None
        self._data: dict[Any, Data] = {}
        self._kept: dict[Any, Any] = {}

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """Make something at the first call with a key, and return the same at later ones."""
        if key not in self._kept:
            self._kept[key] = make()
        kept: T = self._kept[key]
        return kept

    def data(
        self, benchmark: str, train: TrainParams, frames: FramesParams, folder: Path | None = None
    ) -> Data:
        """Open a benchmark as these params read it; the last few stay open.

        Args:
            benchmark: its name.
            train: section ``train``.
            frames: section ``frames``.
            folder: cached embeddings to read in place of the benchmark's own.
        """
        read_by = train.model_dump_json(
            include={"reads", "frames", "batch_size", "workers", "compile"}
        )
        key = (benchmark, read_by, frames.model_dump_json(), folder)
        if key not in self._data:
            if len(self._data) >= 4:
                del self._data[next(iter(self._data))]
            if folder:
                self._data[key] = EmbeddingData(folder, train, frames)
            else:
                self._data[key] = open_data(setting(), benchmark, train, frames)
        return self._data[key]

    def train(
        self,
        benchmark: str,
        method: str,
        seed: int,
        epochs: int,
        changes: Mapping[str, Scalar],
        embeddings: Path | None = None,
    ) -> Trained:
        """Train one cell and score the validation split with the evaluation that ``val`` selects.

        Args:
            benchmark: which.
            method: import path.
            seed: of the run.
            epochs: its length.
            changes: params by their place, see the module's docstring.
            embeddings: cached embeddings to read in place of the benchmark's own.
        """
        cell, frames = changed_cell(benchmark, method, seed, epochs, changes)
        data = self.data(benchmark, cell.train, frames, embeddings)
        folder = self.folder / f"seed-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        finished = fit(cell, data, folder, self.accelerator, self.report)
        trained = self.scored(cell, data, finished / "checkpoint.safetensors")
        shutil.rmtree(folder)
        return trained

    def outcome(self, trained: Trained, keep: bool) -> Outcome:
        """Return a trial's figures; ``keep`` adds what people look at beside it.

        These are the rank of each query, and, of a method with attention, where a few of them look.
        """
        artifacts = []
        if keep:
            self.folder.mkdir(parents=True, exist_ok=True)
            artifacts.append(trained.write_ranks(self.folder / "ranks.csv"))
            if hasattr(trained.model.pooling, "attention"):
                artifacts.append(trained.draw_attention(self.folder / "attention.png"))
        return Outcome(figures=trained.figures(), artifacts=tuple(artifacts))

    def scored(self, cell: Cell, data: Data, checkpoint: Path) -> Trained:
        """Score the validation split with a checkpoint."""
        model = new_model(cell, data)
        load_weights(model, checkpoint)
        model = model.to(self.accelerator.device).eval()
        with torch.inference_mode():
            gallery = data.gallery(model.towers, "val")
            scores = similarity(model.pooling, gallery.text, gallery.frames, gallery.mask)
        return Trained(cell=cell, model=model, gallery=gallery, scores=scores)


def changed_cell(
    benchmark: str,
    method: str,
    seed: int,
    epochs: int,
    changes: Mapping[str, Scalar],
    path: Path = PARAMS_FILE,
) -> tuple[Cell, FramesParams]:
    """Return a cell of the params file with some values changed, and the section ``frames``.

    Raises:
        InputError: a changed value is not allowed there.
    """
    sections: dict[str, dict[str, Any]] = {
        "train": read("train", TrainParams, path).model_dump() | {"epochs": epochs},
        "frames": read("frames", FramesParams, path).model_dump(),
        "recipe": recipe_for(method, benchmark, path).model_dump(),
        "seeds": {},
    }
    for key, value in changes.items():
        *parents, last = key.split(".")
        place: Any = sections
        for parent in parents:
            place = place[parent]
        place[last] = value
    key = f"recipes.{short_name(method)}.{benchmark}"
    recipe: Recipe = validate(sections["recipe"], key, Recipe, path)
    cell = Cell(
        method=method,
        benchmark=benchmark,
        seed=seed,
        train=validate(sections["train"], "train", TrainParams, path),
        recipe=checked(recipe, method, key, path),
        rule="val",
        seeds=validate(sections["seeds"], "seeds", dict[Purpose, int], path),
    )
    return cell, validate(sections["frames"], "frames", FramesParams, path)


def figures_of(scores: Tensor, video_of_text: NDArray[np.int64]) -> dict[str, float]:
    """Return :data:`FIGURES` and the numbers of texts and videos."""
    metrics = retrieval_metrics(scores, video_of_text)["t2v"]
    sizes = {"n_text": scores.shape[0], "n_video": scores.shape[1]}
    return {name: metrics[name] for name in FIGURES} | sizes


def decided_by(benchmark: str, methods: Sequence[str], epochs: int) -> tuple[Any, ...]:
    """Return what decides a trial's result beside its factors and code: params, and the data."""
    train = read("train", TrainParams)
    if train.reads == "embeddings":
        data = [paths.embeddings(setting(), benchmark)]
    else:
        data = [paths.frames(setting(), benchmark), paths.manifest(setting(), benchmark)]
        data.append(paths.encoder(setting()))
        # loaded by name, so that no import leads to it
        data += sorted((Path(__file__).parent / "encoders").glob("*.py"))
    return (
        train.model_dump(exclude={"epochs", "workers"}) | {"epochs": epochs},
        read("frames", FramesParams).model_dump(),
        [recipe_for(method, benchmark).model_dump() for method in methods],
        content(data),
    )


def gallery_cost_ms(trained: Trained, lab: Lab) -> float:
    """Milliseconds a gallery video: encode its frames, and score it against every text.

    The image tower is timed once a process on noise of the right shape, as its time does not depend
    on what it sees.
    """
    gallery, method = trained.gallery, trained.model.pooling
    frame_s = _encoding_s(setting(), str(lab.accelerator.device))

    def score() -> None:
        with torch.inference_mode():
            similarity(method, gallery.text, gallery.frames, gallery.mask)

    scoring_s = _least_time_s(score, lab.accelerator.device) / len(gallery.video_ids)
    return 1000 * (frame_s * gallery.frames.shape[1] + scoring_s)


@cache
def _encoding_s(here: str, device: str) -> float:
    """Seconds that the image tower takes for one frame, in batches of 64."""
    encoder = open_encoder(paths.encoder(here)).to(device).eval()
    size = encoder.size_px
    noise = torch.randint(0, 256, (64, 3, size, size), dtype=torch.uint8)
    return (
        _least_time_s(lambda: embed_images(encoder, iter([noise]), 64), torch.device(device)) / 64
    )


def _least_time_s(work: Callable[[], Any], device: torch.device) -> float:
    times = []
    for _ in range(TIMINGS):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times)
