"""The two sets of names under which CLIP's weights are stored: OpenAI's and transformers'.

OpenAI's, which open_clip and CLIP4Clip have too, keep query, key and value of a layer in one weight
and the projections transposed. Either function takes any part of the weights that holds whole
layers, and passes on names that it does not know.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

OPENAI_TO_HUGGINGFACE = {
    "token_embedding.": "text_model.embeddings.token_embedding.",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "transformer.resblocks.": "text_model.encoder.layers.",
    "ln_final.": "text_model.final_layer_norm.",
    "text_projection": "text_projection.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.": "vision_model.embeddings.patch_embedding.",
    "visual.ln_pre.": "vision_model.pre_layrnorm.",
    "visual.transformer.resblocks.": "vision_model.encoder.layers.",
    "visual.ln_post.": "vision_model.post_layernorm.",
    "visual.proj": "visual_projection.weight",
}
"""Beginnings of names."""
IN_LAYERS = {
    ".attn.out_proj.": ".self_attn.out_proj.",
    ".ln_1.": ".layer_norm1.",
    ".ln_2.": ".layer_norm2.",
    ".mlp.c_fc.": ".mlp.fc1.",
    ".mlp.c_proj.": ".mlp.fc2.",
}
TRANSPOSED = ("text_projection", "visual.proj")
"""OpenAI's names of the projections, which transformers stores the other way round."""
JOINED = ".attn.in_proj_"
"""OpenAI's name of query, key and value, one above the other."""
APART = tuple(f".self_attn.{part}_proj." for part in "qkv")


def huggingface_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights under transformers' names; their names are OpenAI's."""
    renamed = {}
    for name, value in weights.items():
        theirs = _renamed(name, OPENAI_TO_HUGGINGFACE, IN_LAYERS)
        if JOINED in name:
            for part, own in zip(APART, value.chunk(3), strict=True):
                renamed[theirs.replace(JOINED, part)] = own
        else:
            renamed[theirs] = value.T if name in TRANSPOSED else value
    return renamed


def openai_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights under OpenAI's names; their names are transformers'."""
    prefixes = {theirs: ours for ours, theirs in OPENAI_TO_HUGGINGFACE.items()}
    parts = {theirs: ours for ours, theirs in IN_LAYERS.items()}
    renamed = {}
    for name, value in weights.items():
        ours = _renamed(name, prefixes, parts)
        query, key, content = APART
        if query in name:
            parts_of_layer = [weights[name.replace(query, part)] for part in APART]
            renamed[ours.replace(query, JOINED)] = torch.cat(parts_of_layer)
        elif key not in name and content not in name:
            renamed[ours] = value.T if ours in TRANSPOSED else value
    return renamed


def _renamed(name: str, prefixes: Mapping[str, str], parts: Mapping[str, str]) -> str:
    for old, new in prefixes.items():
        if name.startswith(old):
            name = new + name.removeprefix(old)
            break
    for old, new in parts.items():
        name = name.replace(old, new)
    return name
