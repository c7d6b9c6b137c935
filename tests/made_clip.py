"""A small transformers CLIP with random weights, in the hub's file layout."""

import json

import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def spread(model, seed):
    """Random weights large enough that every one of them shows in the embeddings."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "logit_scale" not in name:
                value.add_(0.1 * torch.randn(value.shape, generator=rng))
    return model.eval()


def write_clip(folder, *, width, heads, layers, size, context):
    """Write the model, and a byte-pair vocabulary made by hand."""
    folder.mkdir()
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    merges = ["r e", "re d</w>", "i n", "in g</w>", "r ing</w>", "t h", "th e</w>", "o n</w>"]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += [merge.replace(" ", "") for merge in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "CLIPTokenizer", "model_max_length": context,
                "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>",
                "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
            }
        )
    )  # fmt: skip
    end = len(tokens) - 1
    tower = {
        "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers,
        "num_attention_heads": heads, "projection_dim": width, "hidden_act": "quick_gelu",
    }  # fmt: skip
    config = CLIPConfig(
        text_config={
            **tower, "vocab_size": len(tokens), "max_position_embeddings": context,
            "bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end,
        },
        vision_config={**tower, "image_size": size, "patch_size": 8},
        projection_dim=width,
    )  # fmt: skip
    torch.manual_seed(0)
    spread(CLIPModel(config), seed=1).save_pretrained(folder)
    CLIPImageProcessor(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size},
        image_mean=list(MEAN), image_std=list(STD),
    ).save_pretrained(folder)  # fmt: skip
    return folder
