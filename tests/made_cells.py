"""Cells of made-up benchmarks, and params with which they train in a second."""

import accelerate
import worlds

from xpool.data.frame_cache import FramesParams
from xpool.training import fit
from xpool.training.cell import Cell
from xpool.training.data import EmbeddingData
from xpool.training.recipes import Recipe, TrainParams, wants_words

FRAMES = FramesParams(
    counts=[worlds.FRAMES], rules=["uniform"], sampling="uniform", seed=0, short_side_px=48,
    antialias=True, short_videos="mask", storage="raw", timeout_s=60.0, allowed_cut=0.0,
    allowed_unreadable=0.0,
)  # fmt: skip
TRAIN = {
    "reads": "embeddings", "frames": worlds.FRAMES, "epochs": 2, "batch_size": 16,
    "micro_batch": None, "warmup": 0.1, "weight_decay": 0.2, "max_grad_norm": 1.0,
    "max_logit_scale": 100.0,
    "contrastive_temperature": "encoder", "learn_contrastive_temperature": True,
    "evaluations_per_epoch": 2, "precision": "fp32",
    "evaluation_precision": "fp32", "deterministic": False,
    "compile": False, "workers": 0,
}  # fmt: skip
POOLINGS = {
    "xpool.xpool": {"heads": 1, "dropout": 0.3, "temperature": 1.0},
    "baselines.mean_pool": {},
    "baselines.token_max": {},
    "baselines.self_attention": {"heads": 2, "layers": 2, "positions": 8},
}


def cell(method="xpool.xpool", rule="val", **train):
    return Cell(
        method=method, benchmark="msvd", seed=0, rule=rule,
        train=TrainParams(**TRAIN | train),
        recipe=Recipe(lr_encoder=1e-3, lr_pooling=1e-3, pooling=POOLINGS[method]),
    )  # fmt: skip


def fitted(a_cell, embeddings, folder):
    """Train on cached embeddings in a work folder; return the folder of the finished run."""
    folder.mkdir(parents=True, exist_ok=True)
    data = EmbeddingData(embeddings, a_cell.train, FRAMES, wants_words(a_cell.method))
    return fit.fit(a_cell, data, folder, accelerate.Accelerator(cpu=True))
