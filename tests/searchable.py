"""A small project whose runs can be searched: real video files, decoded and embedded as ever."""

import json
from pathlib import Path

import pandas as pd
import worlds
import yaml
from numbered_videos import write_video

from xpool.data.frame_cache import FrameCache, FramesParams
from xpool.data.manifest import COLUMNS
from xpool.data.packing import pack
from xpool.encoders.base import open_encoder
from xpool.encoders.embed import EmbeddingsParams, embed
from xpool.project import paths
from xpool.project.params import read
from xpool.project.paths import TOP
from xpool.training.cell import new_model, read_cell
from xpool.training.checkpoints.run_state import save_weights
from xpool.training.data import open_data
from xpool.training.recipes import short_name, wants_words

METHODS = ("xpool.xpool", "baselines.mean_pool", "baselines.wti")
TEST_VIDEOS = 7
FRAMES = 6
COLOURS = ("red", "blue", "green", "white", "black", "gray", "pink")


def write(folder: Path, **train) -> None:
    """Write the project to the current folder, ``folder``, with a run of each method.

    The runs have their initial weights, which rank nothing well and everything by the formulas.
    """
    params = yaml.safe_load((TOP / "params.yaml").read_text())
    params |= {"benchmarks": ["msvd"], "baselines": ["mean_pool", "wti"], "seeds": [0]}
    params["train"] |= {"frames": FRAMES, "workers": 0} | train
    params["frames"] |= {"counts": [FRAMES], "rules": ["uniform"], "short_side_px": 32}
    params["embeddings"]["words"] = True
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    raw = paths.raw("mini", "msvd")
    rows = []
    for split, count in (("train", 4), ("val", 2), ("test", TEST_VIDEOS)):
        for number in range(count):
            video_id = f"{split}{number}"
            write_video(raw / f"{video_id}.avi", 30 + 17 * number, rate=10)
            for k in range(2):
                caption = f"a {COLOURS[number]} thing {k}"
                rows.append((split, video_id, f"{video_id}#{k}", caption, f"{video_id}.avi"))
    manifest = paths.manifest("mini", "msvd")
    manifest.parent.mkdir(parents=True)
    texts = pd.DataFrame(rows, columns=list(COLUMNS))
    texts.to_parquet(manifest)
    worlds.write_encoder(paths.encoder("mini"))
    frames = read("frames", FramesParams)
    work = folder / "work"
    work.mkdir()
    videos = list(dict.fromkeys(zip(texts["video_id"], texts["path"], strict=True)))
    cache = pack(work, videos, raw, frames, 1)
    paths.frames("mini", "msvd").parent.mkdir(parents=True)
    cache.rename(paths.frames("mini", "msvd"))
    opened = FrameCache(paths.frames("mini", "msvd"))
    stored = ((video_id, *opened.stored(video_id)) for video_id in opened.video_ids)
    encoder = open_encoder(paths.encoder("mini")).eval()
    params = EmbeddingsParams(batch_size=16, words=True)
    embed(encoder, texts, stored, params, True, "PyAV", paths.embeddings("mini", "msvd"))
    write_runs()


def write_runs() -> None:
    """Write a run of each method, with its initial weights."""
    for method in METHODS:
        cell = read_cell(method, "msvd", 0)
        words = wants_words(method)
        data = open_data("mini", "msvd", cell.train, read("frames", FramesParams), words)
        run = paths.training("mini", short_name(method), "msvd", 0)
        run.mkdir(parents=True, exist_ok=True)
        save_weights(new_model(cell, data), run / "checkpoint.safetensors")
        (run / "provenance.json").write_text(json.dumps({}))
