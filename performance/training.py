"""A fine-tuning step: that of ``xpool.training.fit`` against a plain loop in float32.

The plain loop does what the official code does: it crops and resizes each pair's frames by
themselves on the CPU, encodes a video once for each of its captions, updates parameter by parameter
and reads the loss at each step. The encoder is the mini setting's on a CPU, and ViT-B/32 on CUDA;
weights and frames are noise.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import accelerate
import numpy as np
import open_clip
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from performance.measure import Row, paired, peak_mib, seconds
from xpool.data import transforms
from xpool.data.frame_cache import FramesParams
from xpool.data.manifest import COLUMNS
from xpool.data.packing import Packer
from xpool.data.videos.decode import Decoded
from xpool.encoders import openclip
from xpool.project import paths
from xpool.similarity import pair_similarity
from xpool.training.cell import Cell, new_model
from xpool.training.data import FrameData
from xpool.training.fit import new_optimizer, update
from xpool.training.loader import Order, batches
from xpool.training.model import RetrievalModel, total
from xpool.training.optimisation import symmetric_contrastive
from xpool.training.pretrain import CONFIG
from xpool.training.recipes import Recipe, TrainParams
from xpool.training.towers import EncoderTowers

SETTING, BENCHMARK = "bench", "msrvtt"
COUNT = 12
EPOCH = 180_000
"""Pairs of the 9,000 training videos of MSR-VTT."""
POOLING = {"heads": 1, "dropout": 0.3, "temperature": 1.0}
REPEATS = 2


@dataclass(frozen=True, kw_only=True)
class Load:
    """The work of a step."""

    batch_size: int
    videos: int
    """Number of videos in the training split; the fewer, the more often a batch has one twice."""
    captions: int
    """Number of captions of each video."""
    size: tuple[int, int]
    """Height and width of the frames."""
    steps: int
    """Number of steps timed at once; on CUDA more than the workers keep ready."""
    workers: int
    compiled: bool


CPU = (
    Load(batch_size=32, videos=64, captions=1, size=(48, 64), steps=1, workers=0, compiled=False),
    Load(batch_size=32, videos=8, captions=20, size=(48, 64), steps=1, workers=0, compiled=False),
)
CUDA = tuple(
    Load(batch_size=n, videos=512, captions=1, size=(224, 298), steps=20, workers=8, compiled=True)
    for n in (32, 128)
)


def rows(device: torch.device) -> Iterator[Row]:
    """Yield all rows; takes a minute on two busy cores, four on a GPU."""
    on_cuda = device.type == "cuda"
    for load in CUDA if on_cuda else CPU:
        with world(load, on_cuda) as data:
            measured = step(data, load, device)
            yield measured
            if on_cuda:
                yield arithmetic(cast(float, measured.value), load, device)
            if load is CUDA[-1]:
                yield epoch(cast(float, measured.value))
                yield micro_batches(data, load, device)
    if not on_cuda:
        yield from unmeasured()


def step(data: FrameData, load: Load, device: torch.device) -> Row:
    """Time both loops in turns."""
    ours, plain = our_loop(data, load, device, None), plain_loop(data, load, device)
    next(ours), next(plain)  # workers start, libraries open, ours compiles

    def run(loop: Iterator[object]) -> None:
        for _ in range(load.steps):
            next(loop)

    fast, slow, ratio = paired(lambda: run(ours), lambda: run(plain), device, REPEATS)
    distinct = len(set(data.texts["video_id"].iloc[order_of(data, load).batch_rows(0)]))
    pairs = load.steps * load.batch_size
    precision = "bfloat16, compiled" if device.type == "cuda" else "float32"
    return Row(
        what=f"training, {load.batch_size} pairs of {distinct} videos",
        value=pairs / fast,
        unit="pairs/s",
        baseline=pairs / slow,
        ratio=ratio,
        note=f"{precision}, against a plain loop in float32",
    )


def arithmetic(pairs_per_s: float, load: Load, device: torch.device) -> Row:
    """Compare the step's arithmetic with the rate of plain matrix products in this run."""
    config = open_clip.get_model_config("ViT-B-32")
    reached = flops(config, COUNT) * pairs_per_s
    side, products = 8192, 20
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    left @ right
    taken = seconds(lambda: [left @ right for _ in range(products)], device)
    peak = products * 2 * side**3 / taken
    return Row(
        what=f"training, arithmetic of the encoder, {load.batch_size} pairs",
        value=100 * reached / peak,
        unit="%",
        note=f"of the {peak / 1e12:.0f} TFLOP/s of bfloat16 products of {side}²",
    )


def flops(config: dict[str, Any], frames: int) -> float:
    """Return the operations of the encoder for a pair, forwards and backwards.

    A layer has 12 width² multiply-adds a token, and 2 tokens² width of attention; the backward pass
    costs twice the forward pass.
    """
    vision, text = config["vision_cfg"], config["text_cfg"]
    patches = (vision["image_size"] // vision["patch_size"]) ** 2

    def layers(tokens: int, width: int, count: int) -> int:
        return count * (12 * tokens * width**2 + 2 * tokens**2 * width)

    frame = layers(patches + 1, vision["width"], vision["layers"])
    frame += patches * 3 * vision["patch_size"] ** 2 * vision["width"]
    caption = layers(text["context_length"], text["width"], text["layers"])
    return float(3 * 2 * (frames * frame + caption))


def epoch(pairs_per_s: float) -> Row:
    """Derive the time of an epoch of MSR-VTT."""
    return Row(
        what=f"training, an epoch of {EPOCH:,} pairs",
        value=EPOCH / pairs_per_s / 60,
        unit="min",
        note="derived from the rate above; evaluations come on top",
    )


def micro_batches(data: FrameData, load: Load, device: torch.device) -> Row:
    """Compare the memory of a step with and without ``train.micro_batch``."""
    size = load.batch_size // 8

    def peak(micro_batch: int | None) -> float:
        loop = our_loop(data, load, device, micro_batch)
        next(loop)
        return cast(float, peak_mib(lambda: next(loop), device))

    parts, whole = peak(size), peak(None)
    return Row(
        what=f"training, memory with micro_batch {size}",
        value=parts,
        unit="MiB",
        baseline=whole,
        ratio=whole / parts,
        note="above weights and optimiser; against the batch in one piece",
    )


def unmeasured() -> list[Row]:
    """Return rows for what a run on a CPU cannot measure."""
    what = [(f"training ViT-B/32, {load.batch_size} pairs", "pairs/s") for load in CUDA]
    what += [
        (f"training, arithmetic of the encoder, {load.batch_size} pairs", "%") for load in CUDA
    ]
    what += [
        (f"training, an epoch of {EPOCH:,} pairs", "min"),
        ("training, memory with micro_batch", "MiB"),
    ]
    note = "make bench DEVICE=cuda"
    return [Row(what=name, value=None, unit=unit, note=note) for name, unit in what]


def our_loop(
    data: FrameData, load: Load, device: torch.device, micro_batch: int | None
) -> Iterator[Tensor]:
    """Yield the losses of the steps of ``xpool.training.fit``."""
    cell = cell_of(load, micro_batch)
    precision = "bf16" if device.type == "cuda" else "no"
    accelerator = accelerate.Accelerator(cpu=device.type == "cpu", mixed_precision=precision)
    model = new_model(cell, data).to(device)
    wrapped, optimizer = accelerator.prepare(model), new_optimizer(model, cell)
    for batch in batches(data, order_of(data, load), 0, 0, accelerator, load.workers):
        yield total(update(wrapped, batch, optimizer, accelerator, cell.train))


def plain_loop(data: FrameData, load: Load, device: torch.device) -> Iterator[float]:
    """Yield the losses of the steps of the plain loop."""
    cell, order = cell_of(load, None), order_of(data, load)
    model = new_model(cell, data).to(device)
    optimizer = torch.optim.AdamW(
        model.groups(cell.recipe.lr_encoder, cell.recipe.lr_pooling),
        weight_decay=cell.train.weight_decay,
        foreach=False,
    )
    rows = (order.batch_rows(step).tolist() for step in range(order.steps))
    loader = DataLoader(
        _Samples(data, model),
        batch_sampler=cast(Any, rows),
        num_workers=load.workers,
        prefetch_factor=1 if load.workers else None,  # a batch of floats has up to a gigabyte
    )
    for batch in loader:
        text, pixels, mask = (part.to(device) for part in batch)
        encoder = cast(EncoderTowers, model.towers).encoder
        frames = encoder.encode_image(pixels.flatten(0, 1)).reshape(*mask.shape, -1)
        scores = pair_similarity(model.pooling, encoder.encode_text(text), frames, mask)
        loss = symmetric_contrastive(scores, encoder.logit_scale)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), cell.train.max_grad_norm)
        optimizer.step()
        yield loss.item()


class _Samples(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Pairs one by one, each ready for the encoder."""

    def __init__(self, data: FrameData, model: RetrievalModel) -> None:
        encoder = cast(EncoderTowers, model.towers).encoder
        self._data = data
        self._tokens = encoder.tokenize(data.texts["caption"].tolist())
        self._size_px = encoder.size_px
        self._mean, self._std = (
            torch.tensor(values)[:, None, None] for values in (encoder.mean, encoder.std)
        )

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor, Tensor]:
        frames, mask = self._data.read(str(self._data.texts["video_id"].iat[row]))
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
        height, width = pixels.shape[-2:]
        crop = transforms.draw_crop(height, width, torch.default_generator)
        pixels = pixels[..., crop.top :, crop.left :][..., : crop.height, : crop.width]
        pixels = functional.interpolate(
            pixels, (self._size_px, self._size_px), mode="bilinear", antialias=True
        )
        pixels = pixels.flip(-1) if crop.mirrored else pixels
        return self._tokens[row], (pixels - self._mean) / self._std, torch.from_numpy(mask)


def order_of(data: FrameData, load: Load) -> Order:
    """Return an order of the pairs that is longer than any measurement."""
    return Order(
        rows=np.arange(len(data.texts)),
        epochs=10_000,
        batch_size=load.batch_size,
        evaluations_per_epoch=1,
        seed=0,
    )


def cell_of(load: Load, micro_batch: int | None) -> Cell:
    """Return X-Pool as the paper trains it."""
    train = TrainParams(
        reads="frames",
        frames=COUNT,
        epochs=1,
        batch_size=load.batch_size,
        micro_batch=micro_batch,
        warmup=0.1,
        weight_decay=0.2,
        max_grad_norm=1.0,
        max_logit_scale=100.0,
        contrastive_temperature="encoder",
        learn_contrastive_temperature=True,
        evaluations_per_epoch=1,
        precision="auto",
        evaluation_precision="fp32",
        deterministic=False,
        compile=load.compiled,
        workers=load.workers,
    )
    recipe = Recipe(lr_encoder=1e-6, lr_pooling=3e-5, pooling=POOLING)
    method = "xpool.xpool"
    return Cell(method=method, benchmark=BENCHMARK, seed=0, train=train, recipe=recipe, rule="last")


@contextlib.contextmanager
def world(load: Load, vit_b_32: bool) -> Iterator[FrameData]:
    """Open made-up data, as the pipeline would write it, in a temporary project."""
    with TemporaryDirectory() as folder, contextlib.chdir(folder):
        write_encoder(vit_b_32)
        frames = write_frames(load)
        yield FrameData(SETTING, BENCHMARK, cell_of(load, None).train, frames)


def write_encoder(vit_b_32: bool) -> None:
    """Write a CLIP with random weights."""
    folder = paths.encoder(SETTING)
    folder.mkdir(parents=True)
    if not vit_b_32:
        open_clip.add_model_config(CONFIG)
    name = "ViT-B-32-quickgelu" if vit_b_32 else CONFIG.stem
    openclip.save(open_clip.create_model(name), open_clip.get_model_config(name), folder)
    (folder / "encoder.json").write_text(json.dumps({"library": "openclip"}), encoding="utf-8")


def write_frames(load: Load) -> FramesParams:
    """Write frames and captions; return how the frames are sampled."""
    rng = np.random.default_rng(0)
    work = Path("work")
    work.mkdir()
    packer, texts = Packer(work), []
    for number in range(load.videos):
        video_id = f"video{number}"
        pixels: NDArray[np.uint8] = rng.integers(0, 256, (COUNT, *load.size, 3), np.uint8)
        packer.add((video_id, ""), Decoded(pixels, np.arange(COUNT), COUNT))
        texts += [
            ("train", video_id, f"{video_id}#{k}", f"{k} of {number}", "")
            for k in range(load.captions)
        ]
    packer.finish({})
    paths.frames(SETTING, BENCHMARK).parent.mkdir(parents=True)
    packer.cache.rename(paths.frames(SETTING, BENCHMARK))
    paths.manifest(SETTING, BENCHMARK).parent.mkdir(parents=True)
    pd.DataFrame(texts, columns=list(COLUMNS)).to_parquet(paths.manifest(SETTING, BENCHMARK))
    return FramesParams(
        counts=[COUNT],
        rules=["uniform"],
        sampling="uniform",
        seed=0,
        short_side_px=min(load.size),
        antialias=True,
        short_videos="mask",
        storage="raw",
        timeout_s=60.0,
        allowed_cut=0.0,
        allowed_unreadable=0.0,
    )
