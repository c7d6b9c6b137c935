"""How much disk each benchmark takes, stage by stage, before anything is made."""

from collections.abc import Mapping

from xpool.data.benchmark import load
from xpool.data.frame_cache import FramesParams
from xpool.data.sampling import cached_indices
from xpool.project.params import read
from xpool.training.recipes import TrainParams

VIDEO_FRAMES = 400
"""Length of a video, for the number of frames that several counts share; MSR-VTT's median."""
ASPECTS = (4 / 3, 16 / 9)
"""Narrow and wide pictures, the bounds of an estimate."""
JPEG_SHARE = 1 / 6.8
"""Bytes of a stored frame as JPEG, as a share of its pixels (performance/results/storage.md)."""
CHECKPOINT_GB, WIDTH = 0.6, 512
"""ViT-B/32: weights in float32, and numbers of an embedding."""
COPIES = 2
"""Copies of a run's checkpoint: in ``results``, and in ``.work``, where further seeds find it."""


def needed_gb(benchmark: str) -> Mapping[str, tuple[float, float]]:
    """Return the least and the most GB (10^9 bytes) that each stage writes.

    Without DVC's cache, which holds all of it once more unless the file system can share blocks.
    """
    frames, train = read("frames", FramesParams), read("train", TrainParams)
    options = read(f"manifest.{benchmark}", load(benchmark).Options)
    counts = load(benchmark).published_counts(options).values()
    videos = sum(split.videos or split.captions or 0 for split in counts)
    texts = sum(split.captions or split.videos or 0 for split in counts)
    stored = len(cached_indices(VIDEO_FRAMES, frames.counts, frames.rules, frames.seed, benchmark))
    share = JPEG_SHARE if frames.storage == "jpeg" else 1.0
    pixels = [frames.short_side_px**2 * aspect * 3 * share for aspect in ASPECTS]
    needs = {"frames": (videos * stored * pixels[0] / 1e9, videos * stored * pixels[1] / 1e9)}
    if train.reads == "embeddings":
        embedded = (videos * stored + texts) * 4 * WIDTH / 1e9
        needs["embeddings"] = (embedded, embedded)
    else:
        runs = (1 + len(read("baselines", list[str]))) * len(read("seeds", list[int]))
        needs["train"] = (runs * COPIES * CHECKPOINT_GB,) * 2
    return needs


def in_words(benchmark: str) -> str:
    """Return the needs of a benchmark, e.g. ``msvd: frames 4 to 5 GB, train 11 GB``."""
    parts = []
    for stage, (least, most) in needed_gb(benchmark).items():
        low, high = f"{least:.0f}", f"{most:.0f}"
        parts.append(f"{stage} {low if low == high else f'{low} to {high}'} GB")
    return f"{benchmark}: {', '.join(parts)}"
