"""Pretrain the tiny CLIP on stills of the mini world, as an offline replacement for CLIP's weights.

It sees single images and captions without motion words, as CLIP saw photographs and alt texts, and
never a video of any benchmark. It knows the objects of the world and nothing about time.
"""

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from xpool.encoders.base import best_device
from xpool.mini import drawing, world
from xpool.project.params import Section, Seed
from xpool.project.progress import progress
from xpool.project.seeds import seed_for
from xpool.training.optimisation import set_rates, symmetric_contrastive

log = logging.getLogger(__name__)
CONFIG = Path(__file__).parents[1] / "encoders" / "tiny.json"
TOKENS, POSITIONS = "token_embedding.weight", "positional_embedding"
CYCLE = len(world.APPEARANCES)
"""Number of appearances; each is drawn once before any is drawn again."""


class PretrainParams(Section):
    """``encoder.pretraining`` in ``params.yaml``."""

    seed: Seed
    images: int = Field(ge=CYCLE)
    """Number of stills, each with a caption. They are rendered once, and every pass takes them in
    another order. Those beyond the last whole cycle of appearances are not used."""
    steps: int = Field(ge=1)
    batch_size: int = Field(ge=2, le=CYCLE)
    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    warmup: float = Field(ge=0, lt=1)
    """Share of the steps in which the learning rate rises linearly."""


def stills(count: int, size_px: int, seed: int) -> tuple[Tensor, list[str]]:
    """Render stills and their captions.

    Returns:
        ``(image, 3, size_px, size_px)`` uint8 pixels, and one caption an image.
    """
    rng = np.random.default_rng(seed_for("pretrain", "stills", seed))
    scenes = world.draw_scenes(count, rng)
    pixels = np.stack([drawing.still(scene, size_px, rng) for scene in progress(scenes, "stills")])
    captions = [world.caption(scene, rng, motion=False) for scene in scenes]
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), captions


def pretrain(params: PretrainParams, folder: Path) -> None:
    """Train with CLIP's symmetric contrastive loss and write an open_clip ``local-dir``.

    ``draw_scenes`` cycles through all appearances, so a batch cut from one cycle never holds two
    stills of the same appearance, which would be false negatives.
    """
    import open_clip  # slow to import, and the stage `check` imports this module for its params

    from xpool.encoders.openclip import save, without_warning

    config = json.loads(CONFIG.read_text(encoding="utf-8"))
    open_clip.add_model_config(CONFIG)
    torch.manual_seed(seed_for("pretrain", "init", params.seed))
    device = best_device()
    with without_warning():
        whole = open_clip.create_model(CONFIG.stem)
    pixels, captions = stills(params.images, config["vision_cfg"]["image_size"], params.seed)
    kept, tokens = _used_rows(open_clip.get_tokenizer(CONFIG.stem)(captions))
    model = _with_rows(whole, config, kept).to(device).train()
    preprocess = whole.visual.preprocess_cfg
    mean, std = (torch.tensor(preprocess[k]).reshape(3, 1, 1) for k in ("mean", "std"))
    normalised = pixels.float().div_(255).sub_(mean).div_(std)  # once: it is a tenth of a step
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": params.weight_decay, "full_rate": params.lr},
        {"params": others, "weight_decay": 0.0, "full_rate": params.lr},
    ]
    optimizer = torch.optim.AdamW(groups, lr=params.lr, betas=(0.9, 0.98), fused=True)
    # each tower on a core of its own: cores that share so small products wait for each other
    torch.set_num_threads(1)
    towers = model.encode_image, model.encode_text
    with (
        ThreadPoolExecutor(2) as cores,
        progress(_batches(params), "pretraining the tiny CLIP") as bar,
    ):
        for step, rows in enumerate(bar):
            set_rates(optimizer, step, params.steps, params.warmup)
            inputs = normalised[rows].to(device), tokens[rows].to(device)
            outputs = list(cores.map(lambda tower, batch: tower(batch), towers, inputs))
            image, text = leaves = [output.detach().requires_grad_() for output in outputs]
            cosines = functional.normalize(text, dim=-1) @ functional.normalize(image, dim=-1).T
            loss = symmetric_contrastive(cosines, model.logit_scale)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            list(cores.map(lambda output, leaf: output.backward(leaf.grad), outputs, leaves))
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                model.logit_scale.clamp_(max=np.log(100))
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    log.info("%d stills, %d steps, last loss %.3f", params.images, params.steps, loss.item())
    trained = model.cpu().state_dict()
    for name, table in whole.state_dict().items():  # the model's own tensors
        table[kept.get(name, ...)] = trained[name]
    save(whole, config, folder)


def _used_rows(tokens: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Return the rows of the tables of tokens and positions that captions use, and the captions.

    All other rows have no gradient. Without them a model computes the same in half the time.

    Args:
        tokens: ``(caption, context)`` from the tokenizer, padded with 0.

    Returns:
        Rows by the names of their tables; and ``(caption, longest caption)`` numbers of rows of the
        smaller table of tokens. The end of a caption stays the largest of them, as open_clip needs.
    """
    tokens = tokens[:, : int(tokens.count_nonzero(dim=1).max())]
    used, numbers = tokens.unique(return_inverse=True)
    return {TOKENS: used, POSITIONS: torch.arange(tokens.shape[1])}, numbers


def _with_rows(whole: nn.Module, config: dict[str, Any], kept: dict[str, Tensor]) -> Any:
    """Return a copy of an open_clip model with these rows of its tables alone.

    Args:
        whole: the model.
        config: its config.
        kept: see :func:`_used_rows`.
    """
    import open_clip

    sizes = {"vocab_size": len(kept[TOKENS]), "context_length": len(kept[POSITIONS])}
    model = open_clip.CLIP(**(config | {"text_cfg": config["text_cfg"] | sizes}))
    tables = whole.state_dict()
    model.load_state_dict({name: table[kept.get(name, ...)] for name, table in tables.items()})
    return model


def _batches(params: PretrainParams) -> list[Tensor]:
    """Cut passes over the stills into batches, in random order, one batch for each step."""
    rng = torch.Generator().manual_seed(seed_for("pretrain", "order", params.seed))
    batches: list[Tensor] = []
    while len(batches) < params.steps:
        for start in torch.randperm(params.images // CYCLE, generator=rng).tolist():
            rows = start * CYCLE + torch.randperm(CYCLE, generator=rng)
            batches += [b for b in rows.split(params.batch_size) if len(b) == params.batch_size]
    return batches[: params.steps]
