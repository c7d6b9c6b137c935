"""The lab of a worker: trains a cell with some params changed, and judges it.

Factors change params by their key: ``train.frames``, ``frames.sampling``, ``recipe.lr_pooling``,
``recipe.pooling.temperature``; ``seeds.order`` gives the order of the data a seed of its own
(:attr:`xpool.training.cell.Cell.seeds`). Every trial is judged on the validation split; none ever
sees the test split, whatever ``selection`` says.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xpool.data.frame_cache import FramesParams
from xpool.metrics import REPORTED, ranks, retrieval_metrics
from xpool.pooling import Method
from xpool.project import paths
from xpool.project.digests import content
from xpool.project.fingerprints import code_digests
from xpool.project.params import PARAMS_FILE, read, setting, validate
from xpool.project.records import deciding
from xpool.similarity import similarity
from xpool.training.cell import Cell, Purpose, new_model
from xpool.training.checkpoints.run_state import load_weights
from xpool.training.data import Data, EmbeddingData, Gallery, open_data
from xpool.training.fit import fit, new_accelerator
from xpool.training.recipes import (
    Recipe,
    TrainParams,
    checked,
    recipe_for,
    short_name,
    wants_words,
)

Scalar = bool | int | float | str
Point = Mapping[str, Scalar]
"""A value for each factor."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a trial."""

    figures: dict[str, float]
    """Columns of ``trials.csv``, the objectives among them."""
    artifacts: tuple[Path, ...] = ()
    """Files shown beside the trial; their folder is removed after the trial."""


T = TypeVar("T")
ATTENTION_ROWS = 12
"""Queries in a trial's attention map."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained pooling, and the validation gallery as its encoder embedded it.

    The encoder itself is not kept: it is large, and judging a pooling does not need it.
    """

    cell: Cell
    pooling: Method
    gallery: Gallery
    scores: Tensor
    """``(text, video)``"""

    def figures(self) -> dict[str, float]:
        """Return :data:`xpool.metrics.REPORTED` and the gallery's size."""
        return figures_of(self.scores, self.gallery.video_of_text())

    def write_ranks(self, path: Path) -> Path:
        """Write the rank of each query, worst first."""
        t2v = ranks(self.scores, self.gallery.video_of_text())["t2v"]
        table = self.gallery.texts.assign(rank=t2v.rank)
        table.sort_values(["rank", "caption_id"], ascending=[False, True]).to_csv(path, index=False)
        return path

    def draw_attention(self, path: Path) -> Path:
        """Draw the attention of the first query of each of the first videos on its own video."""
        chosen = self.gallery.texts.drop_duplicates("video_id").head(ATTENTION_ROWS)
        videos = self.gallery.video_of_text()[chosen.index]
        pooling = cast(Any, self.pooling)
        with torch.inference_mode():
            weights = [
                pooling.attention(
                    self.gallery.text[row : row + 1],
                    self.gallery.frames[video : video + 1],
                    self.gallery.mask[video : video + 1],
                ).mean(dim=2)[0, 0]
                for row, video in zip(chosen.index, videos, strict=True)
            ]
        return draw(torch.stack(weights).cpu().numpy(), list(chosen["caption_id"]), path)


class Lab:
    """The tools of a worker, kept from trial to trial.

    Attributes:
        folder: work folder of the present trial; survives a kill, so that its training resumes.
        report: receives each evaluation's row; raises if the trial is to be pruned.
    """

    def __init__(self) -> None:
        self.accelerator = new_accelerator(read("train", TrainParams))
        self.folder = Path()
        self.report: Callable[[dict[str, Any]], None] = lambda row: None
        self._data: dict[Any, Data] = {}
        self._kept: dict[Any, Any] = {}

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """Return what ``make`` returned at the first call with this key."""
        if key not in self._kept:
            self._kept[key] = make()
        kept: T = self._kept[key]
        return kept

    def data(
        self,
        benchmark: str,
        train: TrainParams,
        frames: FramesParams,
        words: bool = False,
        folder: Path | None = None,
    ) -> Data:
        """Open a benchmark as these params read it; the last four stay open.

        Args:
            benchmark: its name.
            train: section ``train``.
            frames: section ``frames``.
            words: whether the method wants the words of texts.
            folder: cached embeddings to read in place of the benchmark's own.
        """
        read_by = train.model_dump_json(
            include={"reads", "frames", "batch_size", "workers", "compile"}
        )
        key = (benchmark, read_by, frames.model_dump_json(), words, folder)
        if key not in self._data:
            if len(self._data) >= 4:
                del self._data[next(iter(self._data))]
            if folder:
                self._data[key] = EmbeddingData(folder, train, frames, words)
            else:
                self._data[key] = open_data(setting(), benchmark, train, frames, words)
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
        """Train one cell, and score the validation split with the checkpoint that ``val`` selects.

        Args:
            benchmark: its name.
            method: its import path.
            seed: seed of the run.
            epochs: length of the run.
            changes: changed params by their key; see the module's docstring.
            embeddings: cached embeddings to read in place of the benchmark's own.
        """
        cell, frames = changed_cell(benchmark, method, seed, epochs, changes)
        data = self.data(benchmark, cell.train, frames, wants_words(method), embeddings)
        folder = self.folder / f"seed-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        finished = fit(cell, data, folder, self.accelerator, self.report)
        trained = self.scored(cell, data, finished / "checkpoint.safetensors")
        shutil.rmtree(folder)
        return trained

    def outcome(self, trained: Trained, keep: bool) -> Outcome:
        """Return a trial's figures; ``keep`` adds its artifacts.

        Artifacts are the rank of each query and, if the method has attention, a picture of it.
        """
        artifacts = []
        if keep:
            self.folder.mkdir(parents=True, exist_ok=True)
            artifacts.append(trained.write_ranks(self.folder / "ranks.csv"))
            if hasattr(trained.pooling, "attention"):
                artifacts.append(trained.draw_attention(self.folder / "attention.png"))
        return Outcome(figures=trained.figures(), artifacts=tuple(artifacts))

    def scored(self, cell: Cell, data: Data, checkpoint: Path) -> Trained:
        """Score the validation split with a checkpoint."""
        model = new_model(cell, data)
        load_weights(model, checkpoint)
        model = model.to(self.accelerator.device).eval()
        with torch.inference_mode():
            gallery = data.gallery(model.towers, "val")
            scores = similarity(model.pooling, *gallery.embeddings())
        return Trained(cell=cell, pooling=model.pooling, gallery=gallery, scores=scores)


def changed_cell(
    benchmark: str,
    method: str,
    seed: int,
    epochs: int,
    changes: Mapping[str, Scalar],
    path: Path = PARAMS_FILE,
) -> tuple[Cell, FramesParams]:
    """Return a cell of the params file with some values changed, and its section ``frames``.

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
        section: Any = sections
        for parent in parents:
            section = section[parent]
        section[last] = value
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
    """Return :data:`xpool.metrics.REPORTED`, t2v, and the numbers of texts and videos."""
    metrics = retrieval_metrics(scores, video_of_text)["t2v"]
    sizes = {"n_text": scores.shape[0], "n_video": scores.shape[1]}
    return {name: metrics[name] for name in REPORTED} | sizes


def decided_by(benchmark: str, methods: Sequence[str], epochs: int) -> tuple[Any, ...]:
    """Return what decides a trial's result besides its factors and its code: params and data."""
    train = read("train", TrainParams)
    code: dict[str, str] = {}
    if train.reads == "embeddings":
        data = [paths.embeddings(setting(), benchmark)]
    else:
        data = [paths.frames(setting(), benchmark), paths.manifest(setting(), benchmark)]
        data.append(paths.encoder(setting()))
        # loaded by its name, so that no import leads to it
        code = code_digests(f"xpool.encoders.{read('encoder.library', str)}")
    params = deciding(
        {"train": train.model_dump(), "frames": read("frames", FramesParams).model_dump()}
    )
    return (
        # as it is asked for: workers on other machines have to find the same trials
        params["train"] | {"epochs": epochs, "precision": train.precision},
        params["frames"],
        [recipe_for(method, benchmark).model_dump() for method in methods],
        code,
        content(data),
    )


def draw(weights: NDArray[Any], names: Sequence[str], path: Path) -> Path:
    """Draw weights ``(text, frame)`` as a PNG, a row for each text; return its path."""
    from matplotlib.figure import Figure

    rows, frames = weights.shape
    figure = Figure(figsize=(2.5 + 0.28 * frames, 1.2 + 0.24 * rows), layout="constrained")
    panel = figure.subplots()
    picture = panel.imshow(weights, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    panel.set_yticks(range(rows), list(names), fontsize=6)
    panel.set(xlabel="frame", title="attention of each text over its own video")
    panel.title.set_fontsize(8)
    figure.colorbar(picture, ax=panel, label="weight")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path
