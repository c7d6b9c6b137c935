"""X-Pool's checkpoints in the authors' format, with random weights."""

import torch
from transformers import CLIPModel


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
