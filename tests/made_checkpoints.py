"""Checkpoints in the formats of other code, random weights in them, and projects that take them."""

import json
from pathlib import Path

import numpy as np
import open_clip
import torch
import worlds
import yaml
from made_clip import spread, write_clip
from torchvision.transforms import v2
from transformers import CLIPConfig, CLIPModel

from xpool.data.frame_cache import FramesParams
from xpool.encoders.openclip import save
from xpool.project import paths
from xpool.project.params import read
from xpool.project.paths import TOP
from xpool.training.cell import read_cell
from xpool.training.data import FrameData

SMALL = {"width": 32, "heads": 4, "layers": 2, "size": 16, "patch": 8, "context": 12}
VIT_B_32 = {
    "width": 512, "heads": 8, "layers": 12, "size": 224, "patch": 32, "context": 77,
    "image_width": 768,
}  # fmt: skip
VOCABULARY = 49408
SHORT = {"xpool": "repeat_last", "mean_pool": "mask", "self_attention": "mask"}
"""What the code of each method does with videos that have too few frames."""


def transformers_clip(shape, seed=7):
    """A CLIP with transformers' names."""
    tower = {
        "hidden_size": shape["width"], "intermediate_size": 4 * shape["width"],
        "num_hidden_layers": shape["layers"], "num_attention_heads": shape["heads"],
        "projection_dim": shape["width"], "hidden_act": "quick_gelu",
    }  # fmt: skip
    wide = shape.get("image_width", shape["width"])
    image = tower | {"hidden_size": wide, "intermediate_size": 4 * wide}
    image |= {"num_attention_heads": wide // 64 if wide > 64 else shape["heads"]}
    image |= {"image_size": shape["size"], "patch_size": shape["patch"]}
    text = tower | {"max_position_embeddings": shape["context"], "vocab_size": VOCABULARY}
    torch.manual_seed(seed)
    config = CLIPConfig(text_config=text, vision_config=image, projection_dim=shape["width"])
    return spread(CLIPModel(config), seed) if shape is SMALL else CLIPModel(config).eval()


def open_clip_config(shape):
    wide = shape.get("image_width", shape["width"])
    return {
        "embed_dim": shape["width"], "quick_gelu": True,
        "vision_cfg": {
            "image_size": shape["size"], "layers": shape["layers"], "width": wide,
            "head_width": 64 if wide > 64 else wide // shape["heads"],
            "patch_size": shape["patch"],
        },
        "text_cfg": {
            "context_length": shape["context"], "vocab_size": VOCABULARY, "width": shape["width"],
            "heads": shape["heads"], "layers": shape["layers"],
        },
    }  # fmt: skip


def openai_clip(shape, seed=7):
    """A CLIP with OpenAI's names, which are open_clip's too."""
    torch.manual_seed(seed)
    model = open_clip.CLIP(**open_clip_config(shape))
    return spread(model, seed) if shape is SMALL else model.eval()


def embeddings(clip, benchmark_data):
    """Texts, frames and mask of the test split, through the file's own library."""
    texts = benchmark_data.texts
    texts = texts[texts["split"] == "test"]
    tokens = benchmark_data._encoder.tokenize(texts["caption"].tolist())
    size = benchmark_data._encoder.size_px
    mean, std = benchmark_data._encoder.mean, benchmark_data._encoder.std
    look = v2.Compose(
        [
            v2.Resize(size, v2.InterpolationMode.BICUBIC, antialias=True),
            v2.Lambda(lambda images: images.clamp(0, 1)),  # as PIL does; frames of 224 px stay
            v2.CenterCrop(size),
            v2.Normalize(mean, std),
        ]
    )
    frames, masks = [], []
    with torch.no_grad():
        for video_id in texts["video_id"]:
            pixels, mask = benchmark_data.read(video_id)
            levels = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
            images = look(levels)
            if isinstance(clip, CLIPModel):
                frames.append(clip.get_image_features(pixel_values=images).pooler_output)
            else:
                frames.append(clip.encode_image(images))
            masks.append(torch.from_numpy(mask))
        if isinstance(clip, CLIPModel):
            clip.config.text_config.eos_token_id = int(tokens.max())
            clip.text_model.eos_token_id = int(tokens.max())
            text = clip.get_text_features(input_ids=tokens).pooler_output
        else:
            text = clip.encode_text(tokens)
    return text.double(), torch.stack(frames).double(), torch.stack(masks)


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


def norm(x, weight, bias):
    return (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt() * weight + bias


def xpool_scores(text, frames, mask, weights):
    """The official X-Pool at inference, pair by pair; every frame counts."""
    assert mask.all()
    w = {name: value.double() for name, value in weights.items()}

    def linear(name, x):
        return w[f"{name}.weight"] @ x + w[f"{name}.bias"]

    def layer_norm(number, x):
        return norm(x, w[f"layer_norm{number}.weight"], w[f"layer_norm{number}.bias"])

    scores = np.empty((len(text), len(frames)))
    for i, of_text in enumerate(text):
        query = linear("cross_attn.q_proj", layer_norm(1, of_text))
        for j, of_video in enumerate(frames):
            seen = [layer_norm(1, frame) for frame in of_video]
            keys = [linear("cross_attn.k_proj", frame) for frame in seen]
            values = [linear("cross_attn.v_proj", frame) for frame in seen]
            logits = torch.stack([query @ key for key in keys]) / len(query) ** 0.5
            attention = torch.exp(logits - logits.max())
            attention = attention / attention.sum()
            attended = sum(a * value for a, value in zip(attention, values, strict=True))
            out = layer_norm(2, linear("cross_attn.out_proj", attended))
            pooled = layer_norm(3, out + linear("linear_proj", out))
            scores[i, j] = cosine(of_text, pooled)
    return scores


def write_project(library, shape=SMALL, method="xpool"):
    """Write a project here; its encoder has other weights than the checkpoint."""
    params = yaml.safe_load((TOP / "params.yaml").read_text())
    params |= {"benchmarks": ["msvd"], "baselines": ["mean_pool", "self_attention"], "seeds": [0]}
    params["train"] |= {"frames": worlds.FRAMES, "reads": "frames"}
    params["encoder"]["library"] = library
    params["frames"] |= {"counts": [worlds.FRAMES], "short_videos": SHORT[method]}
    layers, positions = min(shape["layers"], 4), shape["context"]
    pooling = {"heads": shape["heads"], "layers": layers, "positions": positions}
    params["recipes"]["self_attention"]["msvd"] = {
        "lr_encoder": 1e-6, "lr_pooling": 1e-4, "pooling": pooling,
    }  # fmt: skip
    Path("params.yaml").write_text(yaml.safe_dump(params))
    worlds.write_pixels("mini", "msvd")
    folder = paths.encoder("mini")
    for file in folder.iterdir():
        file.unlink()
    if library == "openclip":
        config = open_clip_config(shape)
        Path("made.json").write_text(json.dumps(config))
        open_clip.add_model_config("made.json")
        save(open_clip.create_model("made"), config, folder)
    else:
        folder.rmdir()
        write_clip(folder, width=32, heads=4, layers=2, size=16, context=12)
        transformers_clip(SMALL, seed=1).save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        tokens = json.loads((folder / "vocab.json").read_text())
        config["text_config"]["eos_token_id"] = tokens["<|endoftext|>"]
        (folder / "config.json").write_text(json.dumps(config))
    about = {"library": library, "model": "small", "pretrained": "none"}
    (folder / "encoder.json").write_text(json.dumps(about))


def run_of(method, seed=0):
    return paths.training("mini", method, "msvd", seed)


def frame_data(method):
    cell = read_cell("xpool.xpool", "msvd", 0)
    return FrameData("mini", "msvd", cell.train, read("frames", FramesParams))


def pool_frames(dim):
    """Weights of X-Pool's pooling under the official names."""
    rng = torch.Generator().manual_seed(3)
    names = [f"cross_attn.{part}_proj" for part in ("q", "k", "v", "out")]
    weights = {}
    for name in [*names, "linear_proj"]:
        weights[f"{name}.weight"] = torch.eye(dim) + torch.randn(dim, dim, generator=rng) / dim
        weights[f"{name}.bias"] = 0.1 * torch.randn(dim, generator=rng)
    for number in (1, 2, 3):
        weights[f"layer_norm{number}.weight"] = 1 + 0.1 * torch.randn(dim, generator=rng)
        weights[f"layer_norm{number}.bias"] = 0.1 * torch.randn(dim, generator=rng)
    return weights


def inside(clip):
    return {f"clip.{name}": value for name, value in clip.state_dict().items()}


def write_xpool(file, clip):
    """X-Pool's ``model_best.pth``, as its trainer saves it, with an optimiser's state."""
    pooling = pool_frames(dim_of(clip))
    state = inside(clip) | {f"pool_frames.{name}": value for name, value in pooling.items()}
    if isinstance(clip, CLIPModel):  # transformers before 4.31 stored them
        for tower in ("text", "vision"):
            state[f"clip.{tower}_model.embeddings.position_ids"] = torch.arange(12)[None]
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1}]}
    torch.save({"epoch": 5, "state_dict": state, "optimizer": optimizer}, file)
    return pooling


def dim_of(clip):
    return clip.config.projection_dim if isinstance(clip, CLIPModel) else len(clip.ln_final.weight)
