"""Stand-ins of the official files: their names and formats, with a few small videos."""

import json
from dataclasses import dataclass

import numpy as np
import torch
from made_checkpoints import write_xpool
from made_clip import write_clip
from numbered_videos import write_video
from transformers import CLIPModel

from xpool.data.benchmark import SPLITS, load
from xpool.data.get.sources import items
from xpool.project.paths import TOP

WORDS = ("red", "ring", "the", "one", "thing", "on", "ten", "tin")


@dataclass(frozen=True)
class Video:
    """A video of a stand-in."""

    video_id: str
    split: str
    duration_s: float
    texts: tuple[str, ...]


def write_benchmark(name, folder, train=4, test=5, videos_of=("test",)):
    """Write a benchmark's annotation files, and videos of some splits; return the test's ids."""
    layout, rng = load(name).layout, np.random.default_rng(0)
    lengths = {"train": [1.0] * train, "val": [1.0] * 2 * layout.has_val, "test": [1.0] * test}
    named, listed = layout.name(lengths, rng), []
    for split in SPLITS:
        for number, video_id in enumerate(named[split]):
            text = f"{WORDS[number % len(WORDS)]} {split} {number}"
            listed.append(Video(video_id, split, 1.0, (text,)))
    folder.mkdir(parents=True)
    layout.write(listed, folder, rng)
    for split in videos_of:
        for number, video_id in enumerate(named[split]):
            write_video(folder / layout.path(video_id), 25 + number)
    return named["test"]


def write_clip_folder(folder):
    """Write a small CLIP for the place of openai/clip-vit-base-patch32; return it."""
    write_clip(folder, width=32, heads=4, layers=2, size=16, context=12)
    config = json.loads((folder / "config.json").read_text())
    tokens = json.loads((folder / "vocab.json").read_text())
    config["text_config"]["eos_token_id"] = tokens["<|endoftext|>"]
    (folder / "config.json").write_text(json.dumps(config))
    return CLIPModel.from_pretrained(folder)


def write_checkpoints(folder, clip):
    """Write the authors' four checkpoints, each with other random weights."""
    folder.mkdir(parents=True)
    for number, sources in enumerate(items()["xpool-checkpoints"].parts.values()):
        with torch.no_grad():
            clip.visual_projection.weight.mul_(1 + number / 9)
        write_xpool(folder / sources[0].files[0].file_name, clip)


def paper_text(clip):
    """Return the paper's setting, made for so small a CLIP and so few videos."""
    text = (TOP / "settings" / "paper.yaml").read_text()
    for old, new in {
        "model: openai/clip-vit-base-patch32": f"model: {clip}",
        "short_side_px: 224": "short_side_px: 24",
        "val_videos: 500": "val_videos: 2",
        "test_clips: 999": "test_clips: 1000",
        "allowed_missing: 0.0": "allowed_missing: 0.5",  # so few videos are no error then
    }.items():
        assert old in text
        text = text.replace(old, new)
    assert "  workers: 8\n" in text
    return text.replace("  workers: 8\n", "  workers: 0\n")
