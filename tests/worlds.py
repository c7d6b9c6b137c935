"""Write made-up benchmarks, of embeddings on which a pooling can learn, and of pixels."""

import json
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from xpool.data.frame_cache import INDEX
from xpool.data.manifest import COLUMNS
from xpool.encoders.embedding_cache import WORDS
from xpool.encoders.text_transformer import write_text_transformer
from xpool.pooling import TextTransformer
from xpool.project import paths
from xpool.project.paths import TOP
from xpool.project.records import RECORD

DIM = 16
FRAMES = 6


def text_transformer(layers=2, heads=2):
    """Random layers under OpenAI's names."""
    import torch

    rng = torch.Generator().manual_seed(0)

    def draw(*shape):
        return 0.02 * torch.randn(*shape, generator=rng)

    layer = {
        "ln_1.weight": (DIM,), "ln_1.bias": (DIM,), "ln_2.weight": (DIM,), "ln_2.bias": (DIM,),
        "attn.in_proj_weight": (3 * DIM, DIM), "attn.in_proj_bias": (3 * DIM,),
        "attn.out_proj.weight": (DIM, DIM), "attn.out_proj.bias": (DIM,),
        "mlp.c_fc.weight": (4 * DIM, DIM), "mlp.c_fc.bias": (4 * DIM,),
        "mlp.c_proj.weight": (DIM, 4 * DIM), "mlp.c_proj.bias": (DIM,),
    }  # fmt: skip
    return TextTransformer(
        position=draw(32, DIM),
        layers=[{name: draw(*shape) for name, shape in layer.items()} for _ in range(layers)],
        heads=heads,
        activation="quick_gelu",
    )


def write_embeddings(folder: Path, videos=(40, 60, 20), captions=3, seed=0):
    """Write what the stage embeddings writes: each video has two scenes, each caption means one."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    frames, texts, text, index = [], [], [], []
    start = 0
    for split, count in zip(("train", "val", "test"), videos, strict=True):
        for number in range(count):
            video_id = f"{split}{number}"
            scenes = rng.normal(size=(2, DIM)).astype(np.float32)
            length = FRAMES if number % 5 else FRAMES - 2  # some videos are short
            which = np.arange(length) * 2 // length
            frames.append(scenes[which] + 0.3 * rng.normal(size=(length, DIM)).astype(np.float32))
            index.append((video_id, start, length, np.arange(length, dtype=np.int32)))
            start += length
            for k in range(captions):
                texts.append((split, video_id, f"{video_id}#{k}", f"scene {k} of {video_id}"))
                noise = 0.9 * rng.normal(size=DIM).astype(np.float32)
                text.append(scenes[rng.integers(2)] + noise)
    np.save(folder / "frames.npy", np.concatenate(frames))
    np.save(folder / "text.npy", np.stack(text))
    columns = ["video_id", "start", "video_frames", "indices"]
    pd.DataFrame(index, columns=columns).to_parquet(folder / "videos.parquet")
    columns = ["split", "video_id", "caption_id", "caption"]
    drawn = np.random.default_rng([seed, 1])
    n_tokens = drawn.integers(3, 6, len(text))
    words = np.repeat(np.stack(text), n_tokens, axis=0)  # each means what its caption means
    words += 0.5 * drawn.normal(size=words.shape)
    words.astype(np.float32).tofile(folder / WORDS)
    table = pd.DataFrame(texts, columns=columns).assign(n_tokens=n_tokens)
    table.to_parquet(folder / "texts.parquet")
    write_text_transformer(text_transformer(), folder / "text_transformer.safetensors")
    summary = {"dim": DIM, "logit_scale": 2.0, "texts": len(text), "videos": len(index)}
    (folder / "summary.json").write_text(json.dumps(summary))


def write_encoder(folder: Path, seed=0):
    """Write an untrained CLIP, as the stage weights writes one."""
    import open_clip
    import torch

    from xpool.encoders.openclip import save

    config = {
        "embed_dim": DIM, "quick_gelu": True,
        "vision_cfg": {
            "image_size": 16, "layers": 1, "width": DIM, "head_width": 8, "patch_size": 8,
        },
        "text_cfg": {
            "context_length": 16, "vocab_size": 49408, "width": DIM, "heads": 2, "layers": 2,
        },
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "untrained.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / "untrained.json")
    torch.manual_seed(seed)
    save(open_clip.create_model("untrained"), config, folder)
    (folder / "encoder.json").write_text(json.dumps({"library": "openclip"}))


def write_pixels(setting: str, benchmark: str, videos=(16, 8, 4), captions=1, seed=0):
    """Write what fine-tuning reads, in the project of the current folder."""
    rng = np.random.default_rng(seed)
    write_encoder(paths.encoder(setting))
    folder = paths.frames(setting, benchmark)
    folder.mkdir(parents=True)
    rows, texts, offset = [], [], 0
    with (folder / "frames-000.bin").open("wb") as file:
        for split, count in zip(("train", "val", "test"), videos, strict=True):
            for number in range(count):
                video_id, length = f"{split}{number}", FRAMES - number % 3
                pixels = rng.integers(0, 256, (length, 20, 24, 3), np.uint8)
                file.write(pixels.data)
                indices, crc32 = list(range(length)), zlib.crc32(pixels.data)
                rows.append((video_id, 0, offset, 20, 24, length, indices, crc32))
                offset += pixels.nbytes
                for k in range(captions):
                    name = f"{video_id}#{k}"
                    texts.append((split, video_id, name, f"scene {k} of {number}", "x.avi"))
    columns = dict(zip(INDEX.names, map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns, schema=INDEX), folder / "index.parquet")
    manifest = paths.manifest(setting, benchmark)
    manifest.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(texts, columns=list(COLUMNS)).to_parquet(manifest)


def write_project(**train):
    """Write a project of one benchmark and two methods to the current folder, ready to train.

    Runs with a frozen encoder only take the encoder's digest, so any file can stand for it.
    """
    params = yaml.safe_load((TOP / "params.yaml").read_text())
    params |= {"benchmarks": ["msvd"], "baselines": ["mean_pool"], "seeds": [0]}
    params["train"] |= {"frames": FRAMES, "epochs": 1} | train
    params["frames"]["counts"] = [FRAMES]
    Path("params.yaml").write_text(yaml.safe_dump(params))
    write_embeddings(paths.embeddings("mini", "msvd"))
    texts = pd.read_parquet(paths.embeddings("mini", "msvd") / "texts.parquet")
    paths.manifest("mini", "msvd").parent.mkdir(parents=True)
    texts.assign(path="")[list(COLUMNS)].to_parquet(paths.manifest("mini", "msvd"))
    paths.encoder("mini").mkdir()
    (paths.encoder("mini") / "weights.safetensors").write_bytes(b"of the encoder")


def write_records(setting: str, cells, **changes):
    """Write the records of made-up runs, equal but for ``changes`` (``__`` in a key for a dot)."""
    for method, benchmark, seed in cells:
        record = {
            "encoder": "e" * 64, "precision": "fp32", "global_batch": 32, "decoder": "PyAV 14",
            "data": {"embeddings": f"{benchmark:0<64}"},
            "params": {
                "train": {"epochs": 3, "frames": 12}, "frames": {"sampling": "uniform"},
                "selection": "val",
                "manifest": {"training_videos": "9k", "allowed_missing": 0.0},
                "recipe": {"lr_pooling": 1e-3, "pooling": {"of": method}},
            },
            "files": {"checkpoint.safetensors": f"{method}{seed}"},
        }  # fmt: skip
        for key, value in changes.items():
            *parents, last = key.split("__")
            section = record
            for parent in parents:
                section = section[parent]
            section[last] = value
        scored = {"checkpoint": f"{method}{seed}", "precision": "fp32"}
        for folder, content in (
            (paths.training(setting, method, benchmark, seed), record),
            (paths.similarity(setting, method, benchmark, seed), scored),
        ):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / RECORD).write_text(json.dumps(content))


def mapped_kib(folder: Path) -> int:
    """Return how much of a folder's files this process has mapped into memory, in KiB."""
    maps = psutil.Process().memory_maps(grouped=False)
    return sum(m.rss for m in maps if Path(m.path).parent == folder.resolve()) // 1024
