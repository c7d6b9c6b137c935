"""Both libraries behind the one interface, on tiny random models, without network.

The text transformer is checked against a plain implementation here; the hub against a server on
this machine that answers as the hub does.
"""

import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import yaml
from made_clip import MEAN, STD, spread, write_clip
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

from xpool.encoders.base import EncoderParams, open_encoder, vit_name
from xpool.encoders.embed import embed_images, embed_texts, embed_words
from xpool.encoders.huggingface import HuggingFace
from xpool.encoders.openclip import CONFIG, WEIGHTS, OpenClip
from xpool.project.errors import InputError
from xpool.settings import check

TOP = Path(__file__).resolve().parents[2]
WIDTH, HEADS, LAYERS, SIZE, CONTEXT = 32, 4, 2, 16, 12
TEXTS = ["a red ring", "two blue squares on the brick wall", "we see a star", "a red ring", "ring"]


def openclip_params(model, pretrained):
    return EncoderParams(library="openclip", model=model, pretrained=str(pretrained))


def hub_params(model):
    return EncoderParams(library="huggingface", model=str(model), pretrained="hub")


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """Two open_clip models of our own, one with each activation."""
    folder = tmp_path_factory.mktemp("configs")
    made = {}
    for name, quick in (("small-test-quick", True), ("small-test-gelu", False)):
        made[name] = {
            "embed_dim": WIDTH,
            "quick_gelu": quick,
            "vision_cfg": {
                "image_size": SIZE, "layers": LAYERS, "width": WIDTH, "head_width": 8,
                "patch_size": 8,
            },
            "text_cfg": {
                "context_length": CONTEXT, "vocab_size": 49408, "width": WIDTH, "heads": HEADS,
                "layers": LAYERS,
            },
        }  # fmt: skip
        path = folder / f"{name}.json"
        path.write_text(json.dumps(made[name]))
        open_clip.add_model_config(path)
    return made


@pytest.fixture(scope="module")
def weights(configs, tmp_path_factory):
    """The same random weights as .safetensors and as a plain state dict in a .pt."""
    folder = tmp_path_factory.mktemp("weights")
    state = spread(open_clip.create_model("small-test-quick"), seed=0).state_dict()
    files = {"safetensors": folder / "w.safetensors", "pt": folder / "w.pt"}
    save_file(state, files["safetensors"])
    torch.save(state, files["pt"])
    return files


@pytest.fixture(scope="module")
def openclip_folder(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("openclip")
    OpenClip.prepare(openclip_params("small-test-quick", weights["safetensors"]), folder)
    return folder


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A transformers CLIP in the hub's file layout."""
    folder = tmp_path_factory.mktemp("hub") / "tiny"
    return write_clip(folder, width=WIDTH, heads=HEADS, layers=LAYERS, size=SIZE, context=CONTEXT)


@pytest.fixture(scope="module")
def hub_folder(model_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("huggingface")
    HuggingFace.prepare(hub_params(model_folder), folder)
    return folder


@pytest.fixture(scope="module")
def encoders(openclip_folder, hub_folder):
    return {
        "openclip": OpenClip.open(openclip_folder).eval(),
        "huggingface": HuggingFace.open(hub_folder).eval(),
    }


LIBRARIES = ("openclip", "huggingface")


@pytest.fixture(params=LIBRARIES)
def encoder(request, encoders):
    return encoders[request.param]


def images(count, seed=0):
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def refused(prepare, params, folder):
    folder.mkdir(exist_ok=True)
    with pytest.raises(InputError) as caught:
        prepare(params, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# open_clip


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
@torch.inference_mode()
def test_openclip_prepared_and_opened_embeds_as_open_clip_itself(weights, tmp_path, kind):
    OpenClip.prepare(openclip_params("small-test-quick", weights[kind]), tmp_path)
    encoder = OpenClip.open(tmp_path).eval()
    own = open_clip.create_model("small-test-quick", pretrained=str(weights[kind])).eval()
    tokens = open_clip.get_tokenizer("small-test-quick")(TEXTS)
    assert torch.equal(encoder.tokenize(TEXTS), tokens)
    assert torch.equal(encoder.encode_text(tokens), own.encode_text(tokens))
    assert torch.equal(encoder.encode_image(images(3)), own.encode_image(images(3)))
    assert torch.equal(encoder.logit_scale, own.logit_scale)
    assert (encoder.dim, encoder.size_px) == (WIDTH, SIZE)
    assert encoder.mean == pytest.approx(open_clip.OPENAI_DATASET_MEAN)
    assert encoder.std == pytest.approx(open_clip.OPENAI_DATASET_STD)


def test_openclip_writes_all_weights_as_safetensors(weights, openclip_folder):
    written, given = load_file(openclip_folder / WEIGHTS), load_file(weights["safetensors"])
    assert set(written) == set(given)
    assert all(torch.equal(written[name], given[name]) for name in given)
    assert {path.name for path in openclip_folder.iterdir()} == {CONFIG, WEIGHTS}


def activations(model):
    return {
        type(module).__name__ for module in model.modules()
        if type(module).__name__ in {"QuickGELU", "GELU"}
    }  # fmt: skip


def test_openclip_keeps_the_models_activation(weights, tmp_path):
    for model, quick in (("small-test-quick", True), ("small-test-gelu", False)):
        folder = tmp_path / model
        folder.mkdir()
        OpenClip.prepare(openclip_params(model, weights["pt"]), folder)
        assert json.loads((folder / CONFIG).read_text())["model_cfg"]["quick_gelu"] is quick
        opened = OpenClip.open(folder)
        assert activations(opened) == ({"QuickGELU"} if quick else {"GELU"})
        assert opened.text_transformer().activation == ("quick_gelu" if quick else "gelu")


@torch.inference_mode()
def test_openclip_takes_the_activation_that_the_tag_names(weights, tmp_path, monkeypatch):
    """OpenAI's weights under the plain name of the model: its config says GELU, their tag not."""
    tags = {"made": {"file": str(weights["pt"]), "quick_gelu": True}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "small-test-gelu", tags)
    OpenClip.prepare(openclip_params("small-test-gelu", "made"), tmp_path)
    encoder = OpenClip.open(tmp_path).eval()
    assert activations(encoder) == {"QuickGELU"}
    right = open_clip.create_model("small-test-quick", pretrained=str(weights["pt"])).eval()
    wrong = open_clip.create_model("small-test-gelu", pretrained=str(weights["pt"])).eval()
    assert torch.equal(encoder.encode_image(images(2)), right.encode_image(images(2)))
    assert not torch.allclose(encoder.encode_image(images(2)), wrong.encode_image(images(2)))


def test_openais_tags_name_quick_gelu():
    """The library's own table, on which the choice of activation rests."""
    for model in ("ViT-B-32", "ViT-B-16", "ViT-L-14"):
        assert open_clip.get_pretrained_cfg(model, "openai")["quick_gelu"]
        assert "openai" in open_clip.list_pretrained_tags_by_model(model)
    assert not open_clip.get_pretrained_cfg("ViT-B-32", "laion2b_s34b_b79k").get("quick_gelu")


class Malicious:
    """Touches a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (Path(self.mark),))


@pytest.mark.parametrize("name", ["w.pt", "w.bin", "w.safetensors", "w.npz"])
@pytest.mark.usefixtures("configs")
def test_openclip_never_runs_code_from_a_file(tmp_path, name):
    mark = tmp_path / "ran"
    torch.save({"weight": torch.ones(1), "payload": Malicious(mark)}, tmp_path / name)
    params = openclip_params("small-test-quick", tmp_path / name)
    message = refused(OpenClip.prepare, params, tmp_path / "out")
    assert message.startswith("encoder: small-test-quick with ")
    assert not mark.exists()
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.usefixtures("configs")
def test_openclip_refuses_a_torchscript_archive(tmp_path):
    script = torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2))
    script.save(str(tmp_path / "w.pt"))
    params = openclip_params("small-test-quick", tmp_path / "w.pt")
    message = refused(OpenClip.prepare, params, tmp_path / "out")
    assert "a TorchScript archive holds code and is refused" in message


@pytest.mark.usefixtures("configs")
def test_openclip_refuses_weights_of_another_model(tmp_path):
    save_file({"visual.proj": torch.ones(3, 3)}, tmp_path / "w.safetensors")
    params = openclip_params("small-test-quick", tmp_path / "w.safetensors")
    message = refused(OpenClip.prepare, params, tmp_path / "out")
    assert "positional_embedding is not in the file" in message


def test_openclip_unknown_model_lists_those_near_it(tmp_path):
    message = refused(OpenClip.prepare, openclip_params("ViT-B-33", "openai"), tmp_path)
    assert message.startswith("params.yaml: encoder.model: open_clip has no 'ViT-B-33'; near it: ")
    assert "ViT-B-32" in message
    assert "near it: " in refused(OpenClip.prepare, openclip_params("x", "openai"), tmp_path)


def test_openclip_unknown_tag_lists_the_known_ones(tmp_path):
    message = refused(OpenClip.prepare, openclip_params("ViT-B-32", "opanai"), tmp_path)
    assert message.startswith(
        "params.yaml: encoder.pretrained: 'opanai' is neither a file nor a tag of ViT-B-32; tags: "
    )
    assert "openai, " in message


def test_openclip_refuses_a_model_without_a_plain_text_tower(configs, tmp_path):
    config = configs["small-test-quick"]
    path = tmp_path / "small-test-custom.json"
    path.write_text(json.dumps({**config, "custom_text": True}))
    open_clip.add_model_config(path)
    state = open_clip.create_model("small-test-custom").state_dict()
    save_file(state, tmp_path / "w.safetensors")
    params = openclip_params("small-test-custom", tmp_path / "w.safetensors")
    message = refused(OpenClip.prepare, params, tmp_path / "out")
    assert "only open_clip models with a plain CLIP text tower" in message


def test_openclip_folder_without_weights_names_the_stage(tmp_path):
    with pytest.raises(InputError, match="open_clip_model.safetensors: not found; run `dvc repro"):
        OpenClip.open(tmp_path)


# transformers


@torch.inference_mode()
def test_huggingface_prepared_and_opened_embeds_as_transformers_itself(model_folder, encoders):
    encoder = encoders["huggingface"]
    own = CLIPModel.from_pretrained(model_folder).eval()
    tokenizer = CLIPTokenizerFast.from_pretrained(model_folder)
    tokens = tokenizer(  # with its mask, unlike ours
        TEXTS, padding=True, truncation=True, max_length=CONTEXT, return_tensors="pt"
    )
    text = own.get_text_features(**tokens)
    image = own.get_image_features(pixel_values=images(3))
    text, image = (getattr(value, "pooler_output", value) for value in (text, image))
    ours = encoder.encode_text(encoder.tokenize(TEXTS))
    torch.testing.assert_close(ours, text, rtol=0, atol=1e-5)
    assert torch.equal(encoder.encode_image(images(3)), image)
    assert torch.equal(encoder.logit_scale, own.logit_scale)
    assert (encoder.dim, encoder.size_px) == (WIDTH, SIZE)
    assert encoder.mean == pytest.approx(MEAN)
    assert encoder.std == pytest.approx(STD)


def test_huggingface_tokens_are_the_pairs_of_the_merges(encoders, model_folder):
    """Golden: "a red ring" by the merges above is three words, each one token."""
    vocabulary = json.loads((model_folder / "vocab.json").read_text())
    words = ["<|startoftext|>", "a</w>", "red</w>", "ring</w>", "<|endoftext|>"]
    expected = [vocabulary[word] for word in words]
    tokens = encoders["huggingface"].tokenize(["a red ring"])
    assert tokens.shape == (1, CONTEXT)
    assert tokens[0, : len(words)].tolist() == expected


def test_huggingface_folder_holds_no_pickle(hub_folder):
    names = {path.name for path in hub_folder.rglob("*")}
    assert "model.safetensors" in names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".py"))]


def copied(model_folder, folder, leave_out):
    folder.mkdir()
    for path in model_folder.iterdir():
        if path.name not in leave_out:
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


@torch.inference_mode()
def test_huggingface_reads_plain_pickled_weights(model_folder, tmp_path, encoders):
    folder = copied(model_folder, tmp_path / "model", ["model.safetensors"])
    torch.save(load_file(model_folder / "model.safetensors"), folder / "pytorch_model.bin")
    out = tmp_path / "out"
    out.mkdir()
    HuggingFace.prepare(hub_params(folder), out)
    opened = HuggingFace.open(out).eval()
    expected = encoders["huggingface"].encode_image(images(2))
    assert torch.equal(opened.encode_image(images(2)), expected)


def test_huggingface_never_runs_code_from_a_file(model_folder, tmp_path):
    folder = copied(model_folder, tmp_path / "model", ["model.safetensors"])
    mark = tmp_path / "ran"
    torch.save({"logit_scale": torch.ones(()), "p": Malicious(mark)}, folder / "pytorch_model.bin")
    message = refused(HuggingFace.prepare, hub_params(folder), tmp_path / "out")
    assert message.startswith("params.yaml: encoder.model: ")
    assert not mark.exists()


def test_huggingface_refuses_a_model_whose_weights_are_missing(model_folder, tmp_path):
    """transformers itself would draw them at random and go on."""
    folder = copied(model_folder, tmp_path / "model", ["model.safetensors"])
    state = load_file(model_folder / "model.safetensors")
    del state["visual_projection.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    message = refused(HuggingFace.prepare, hub_params(folder), tmp_path / "out")
    assert "no weights for visual_projection.weight" in message


def test_huggingface_folder_without_weights_names_the_stage(tmp_path):
    with pytest.raises(InputError, match="model.safetensors: not found; run `dvc repro weights`"):
        HuggingFace.open(tmp_path)


# the text transformer


def layer_norm(x, weight, bias):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight + bias


def plain_layer(x, layer, heads, activation):
    """One pre-norm layer with a causal mask on ``(token, dim)``, by loops over tokens and heads."""
    dim = x.shape[-1]
    size = dim // heads
    normed = layer_norm(x, layer["ln_1.weight"], layer["ln_1.bias"])
    joined = normed @ layer["attn.in_proj_weight"].T + layer["attn.in_proj_bias"]
    query, key, value = joined.split(dim, dim=-1)
    attended = torch.zeros_like(x)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for token in range(len(x)):
            logits = key[: token + 1, part] @ query[token, part] / size**0.5
            weights = logits.exp() / logits.exp().sum()
            attended[token, part] = weights @ value[: token + 1, part]
    x = x + attended @ layer["attn.out_proj.weight"].T + layer["attn.out_proj.bias"]
    normed = layer_norm(x, layer["ln_2.weight"], layer["ln_2.bias"])
    hidden = normed @ layer["mlp.c_fc.weight"].T + layer["mlp.c_fc.bias"]
    if activation == "quick_gelu":
        hidden = hidden / (1 + (-1.702 * hidden).exp())
    else:
        hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
    return x + hidden @ layer["mlp.c_proj.weight"].T + layer["mlp.c_proj.bias"]


def hidden_states(encoder, tokens):
    """The library's own states: after the positions, and after each layer; ``(token, dim)``."""
    if isinstance(encoder, HuggingFace):
        states = encoder.model.text_model(tokens, output_hidden_states=True).hidden_states
        embedded = encoder.model.text_model.embeddings.token_embedding(tokens)
        return embedded[0], [state[0] for state in states]
    states, hooks = [], []
    for number, block in enumerate(encoder.model.transformer.resblocks):
        if number == 0:
            hooks.append(block.register_forward_pre_hook(lambda _, i: states.append(i[0][0])))
        hooks.append(block.register_forward_hook(lambda _, __, out: states.append(out[0])))
    encoder.encode_text(tokens)
    for hook in hooks:
        hook.remove()
    return encoder.model.token_embedding(tokens)[0], states


def compare_states(encoder, text):
    tokens = encoder.tokenize([text])
    with torch.no_grad():
        embedded, expected = hidden_states(encoder, tokens)
    transformer = encoder.text_transformer()
    assert transformer.position.shape == (CONTEXT, WIDTH)
    assert len(transformer.layers) == LAYERS == len(expected) - 1
    x = embedded.double() + transformer.position.double()
    torch.testing.assert_close(x, expected[0].double(), rtol=0, atol=1e-6)
    for layer, state in zip(transformer.layers, expected[1:], strict=True):
        layer = {name: value.double() for name, value in layer.items()}
        x = plain_layer(x, layer, transformer.heads, transformer.activation)
        torch.testing.assert_close(x, state.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("text", TEXTS[:2])
def test_text_transformer_run_plainly_gives_the_librarys_states(encoder, text):
    compare_states(encoder, text)


def test_text_transformer_with_gelu_gives_the_librarys_states(weights, tmp_path):
    OpenClip.prepare(openclip_params("small-test-gelu", weights["pt"]), tmp_path)
    encoder = OpenClip.open(tmp_path).eval()
    assert encoder.text_transformer().activation == "gelu"
    compare_states(encoder, TEXTS[1])


def test_text_transformer_has_the_same_names_in_both_libraries(encoders):
    shapes = [
        {name: tuple(value.shape) for name, value in encoder.text_transformer().layers[0].items()}
        for encoder in encoders.values()
    ]
    assert shapes[0] == shapes[1]
    assert shapes[0]["attn.in_proj_weight"] == (3 * WIDTH, WIDTH)


def test_text_transformer_is_a_copy(encoder):
    transformer = encoder.text_transformer()
    transformer.position.zero_()
    transformer.layers[0]["ln_1.weight"].zero_()
    assert encoder.text_transformer().position.abs().sum() > 0
    assert encoder.text_transformer().layers[0]["ln_1.weight"].abs().sum() > 0


def test_text_transformer_of_another_activation_is_refused(encoders, monkeypatch):
    encoder = encoders["huggingface"]
    monkeypatch.setattr(encoder.model.config.text_config, "hidden_act", "relu")
    with pytest.raises(InputError, match="'relu' is not CLIP's"):
        encoder.text_transformer()


@torch.inference_mode()
def test_equal_weights_give_equal_embeddings_in_both_libraries(encoders, configs, tmp_path):
    """transformers' weights under open_clip's names, renamed here independently of the project."""
    source = {k: v.clone() for k, v in encoders["huggingface"].model.state_dict().items()}
    theirs = "text_model", "vision_model"
    state = {
        "logit_scale": source["logit_scale"],
        "text_projection": source["text_projection.weight"].T,
        "token_embedding.weight": source["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": source["text_model.embeddings.position_embedding.weight"],
        "visual.proj": source["visual_projection.weight"].T,
        "visual.class_embedding": source["vision_model.embeddings.class_embedding"],
        "visual.positional_embedding": source["vision_model.embeddings.position_embedding.weight"],
        "visual.conv1.weight": source["vision_model.embeddings.patch_embedding.weight"],
    }
    for kind in ("weight", "bias"):
        state[f"ln_final.{kind}"] = source[f"text_model.final_layer_norm.{kind}"]
        state[f"visual.ln_pre.{kind}"] = source[f"vision_model.pre_layrnorm.{kind}"]
        state[f"visual.ln_post.{kind}"] = source[f"vision_model.post_layernorm.{kind}"]
        for tower, ours in zip(theirs, ("transformer", "visual.transformer"), strict=True):
            for number in range(LAYERS):
                there, here = f"{tower}.encoder.layers.{number}", f"{ours}.resblocks.{number}"
                state[f"{here}.attn.in_proj_{kind}"] = torch.cat(
                    [source[f"{there}.self_attn.{p}_proj.{kind}"] for p in ("q", "k", "v")]
                )
                for a, b in (
                    ("attn.out_proj", "self_attn.out_proj"), ("ln_1", "layer_norm1"),
                    ("ln_2", "layer_norm2"), ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2"),
                ):  # fmt: skip
                    state[f"{here}.{a}.{kind}"] = source[f"{there}.{b}.{kind}"]
    config = json.loads(json.dumps(configs["small-test-quick"]))
    config["text_cfg"]["vocab_size"] = len(state["token_embedding.weight"])
    path = tmp_path / "small-test-renamed.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "w.safetensors")
    out = tmp_path / "out"
    out.mkdir()
    OpenClip.prepare(openclip_params("small-test-renamed", tmp_path / "w.safetensors"), out)
    renamed, original = OpenClip.open(out).eval(), encoders["huggingface"]
    tokens = original.tokenize(TEXTS)  # open_clip's words are not in this vocabulary
    for ours, other in (
        (renamed.encode_text(tokens), original.encode_text(tokens)),
        (renamed.encode_image(images(4)), original.encode_image(images(4))),
    ):
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-5)


# the interface


def test_normalise_is_minus_mean_by_spread(encoder):
    pixels = images(2)
    expected = (pixels.numpy() - np.reshape(encoder.mean, (3, 1, 1))) / np.reshape(
        encoder.std, (3, 1, 1)
    )
    np.testing.assert_allclose(encoder.normalise(pixels).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_tokens_are_padded_to_the_context_and_long_texts_cut(encoder):
    tokens = encoder.tokenize(["ring", "ring " * 100])
    assert tokens.shape == (2, CONTEXT)
    assert tokens[0].tolist() != tokens[1].tolist()


def test_batch_mates_and_padding_do_not_change_a_text(encoder):
    with torch.inference_mode():
        together = encoder.encode_text(encoder.tokenize(TEXTS))
        for row, text in enumerate(TEXTS):
            alone = encoder.encode_text(encoder.tokenize([text]))
            torch.testing.assert_close(together[row], alone[0], rtol=1e-5, atol=1e-5)


def test_a_copy_has_weights_of_its_own_and_the_same_tokens(encoder):
    copied = encoder.copied()
    pairs = list(zip(encoder.parameters(), copied.parameters(), strict=True))
    assert pairs
    for weight, other in pairs:
        assert torch.equal(weight, other)
        assert weight.data_ptr() != other.data_ptr()
    assert copied.logit_scale is copied.model.logit_scale
    assert torch.equal(copied.tokenize(TEXTS), encoder.tokenize(TEXTS))


def test_logit_scale_is_the_models_own_parameter(encoder):
    assert encoder.logit_scale is encoder.model.logit_scale
    assert any(value is encoder.logit_scale for value in encoder.parameters())


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 100])
def test_embed_texts_equals_one_by_one(encoder, batch_size):
    found = embed_texts(encoder, TEXTS, batch_size)
    with torch.inference_mode():
        expected = [encoder.encode_text(encoder.tokenize([text]))[0] for text in TEXTS]
    assert found.shape == (len(TEXTS), WIDTH)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_words_are_the_towers_tokens_and_the_last_is_the_text(encoder):
    tokens = encoder.tokenize(TEXTS)
    counts = encoder.word_counts(tokens)
    assert counts.tolist() == [min(n, CONTEXT) for n in encoder.token_counts(TEXTS)]
    both = encoder.encode_text_and_words(tokens)
    torch.testing.assert_close(both[:, 0], encoder.encode_text(tokens), rtol=1e-5, atol=1e-5)
    # attention is causal: a token's state is the last one of the text that ends with it
    end = int(tokens[1, counts[1] - 1])
    cut = tokens[1].clone()
    assert counts[1] > 3
    for position in range(1, int(counts[1]) - 1):
        shorter = torch.full_like(cut, 0)
        shorter[: position + 1] = cut[: position + 1]
        whole = encoder.encode_words(shorter[None])[0, position]
        torch.testing.assert_close(both[1, 1 + position], whole, rtol=1e-5, atol=1e-5)
    assert torch.equal(both[1, int(counts[1])], both[1, 0]), end


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_embed_words_equals_one_by_one(encoder, batch_size):
    texts = [*TEXTS, TEXTS[0]]
    found = embed_words(encoder, texts, batch_size)
    assert found.values.dtype == torch.float32
    values, exists = found.padded()
    with torch.inference_mode():
        for row, text in enumerate(texts):
            tokens = encoder.tokenize([text])
            count = int(encoder.word_counts(tokens))
            assert exists[row].sum() == count
            expected = encoder.encode_words(tokens)[0, :count]
            torch.testing.assert_close(values[row, :count], expected, rtol=1e-5, atol=1e-5)


def test_embed_texts_encodes_equal_captions_once(encoder, monkeypatch):
    encoded = []
    encode = encoder.encode_text
    monkeypatch.setattr(encoder, "encode_text", lambda t: encoded.append(len(t)) or encode(t))
    found = embed_texts(encoder, TEXTS * 3, 2)
    assert sum(encoded) == len(set(TEXTS))
    assert torch.equal(found[0], found[3])
    assert torch.equal(found[:5], found[5:10])


@pytest.mark.parametrize("lengths", [[1], [4], [3, 1, 4, 2], [8, 8], [2, 2, 2], [9, 1], [1] * 9])
@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
def test_embed_images_equals_one_by_one(encoder, lengths, batch_size):
    pixels = images(sum(lengths))
    found = embed_images(encoder, iter(pixels.split(lengths)), batch_size)
    with torch.inference_mode():
        expected = [encoder.encode_image(encoder.normalise(p[None]))[0] for p in pixels]
    assert found.shape == (len(pixels), WIDTH)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_embed_images_fills_its_batches(encoder, monkeypatch):
    encoded = []
    encode = encoder.encode_image
    monkeypatch.setattr(encoder, "encode_image", lambda p: encoded.append(len(p)) or encode(p))
    embed_images(encoder, iter(images(23).split([5, 1, 9, 2, 6])), 4)
    assert encoded == [4, 4, 4, 4, 4, 3]


@pytest.mark.parametrize(
    ("library", "model", "pretrained", "said"),
    [
        ("clip", "ViT-B-32", "openai", "no such library; there are: huggingface, openclip"),
        ("base", "ViT-B-32", "openai", "no such library; there are: huggingface, openclip"),
        ("openclip", "ViT-B-32", "mini_world", "got model ViT-B-32, pretrained mini_world"),
        ("openclip", "tiny", "openai", "got model tiny, pretrained openai"),
        ("openclip", "ViT-B-32", "hub", "pretrained: hub is for library huggingface"),
        ("huggingface", "openai/clip-vit-base-patch32", "openai", "pretrained: must be hub"),
        ("huggingface", "tiny", "mini_world", "pretrained: must be hub"),
    ],
)
def test_an_encoder_that_a_library_cannot_provide_is_one_line(
    library, model, pretrained, said, tmp_path
):
    """As the stage `check` says it, from the project's own params.yaml with another encoder."""
    params = yaml.safe_load((TOP / "params.yaml").read_text())
    params["encoder"] |= {"library": library, "model": model, "pretrained": pretrained}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    with pytest.raises(InputError, match=rf"params\.yaml: encoder.*{said}") as caught:
        check(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "model", "pretrained"),
    [
        (OpenClip, "ViT-B-32", "openai"),
        (OpenClip, "tiny", "mini_world"),
        (HuggingFace, "openai/clip-vit-base-patch32", "hub"),
    ],
)
def test_an_encoder_that_a_library_provides_has_no_problems(kind, model, pretrained):
    library = kind.__module__.rpartition(".")[2]
    params = EncoderParams(library=library, model=model, pretrained=pretrained)
    assert list(kind.problems(params)) == []


def test_importing_a_module_that_check_needs_imports_no_library():
    """open_clip and transformers take seconds to import; `xpool check` runs in each `dvc repro`."""
    code = """
import importlib, sys
for module in ("xpool.encoders.openclip", "xpool.encoders.huggingface", "xpool.settings"):
    importlib.import_module(module)
    print(module, {"open_clip", "transformers"} & sys.modules.keys())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, check=True
    )
    assert re.findall(" (.*)\n", done.stdout) == ["set()"] * 3, done.stdout


def test_open_encoder_finds_the_library_by_the_description(openclip_folder, hub_folder):
    for folder, kind in ((openclip_folder, OpenClip), (hub_folder, HuggingFace)):
        description = folder / "encoder.json"
        description.write_text(json.dumps({"library": kind.__module__.rpartition(".")[2]}))
        assert type(open_encoder(folder)) is kind
        description.unlink()


def test_open_encoder_without_the_stage_names_it(tmp_path):
    with pytest.raises(InputError, match=r"encoder\.json: not found; run `dvc repro weights`"):
        open_encoder(tmp_path)


# the stage `weights`, and the hub


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers the routes by which a model's files are fetched, and keeps a list of requests."""

    protocol_version = "HTTP/1.1"
    commit = "0123456789abcdef0123456789abcdef01234567"

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        self.server.requests.append(f"{self.command} {self.path}")
        parts = self.path.split("?")[0].strip("/").split("/")
        data, status = b"{}", 404
        if parts[:1] != ["api"] and parts[2:3] == ["resolve"]:
            file = self.server.repository / "/".join(parts[4:])
            if "/".join(parts[:2]) == "someone/tiny" and file.is_file():
                data, status = file.read_bytes(), 200
        elif parts[:4] == ["api", "models", "someone", "tiny"] and "tree" not in parts:
            files = [{"rfilename": path.name} for path in self.server.repository.iterdir()]
            data = json.dumps(
                {"id": "someone/tiny", "sha": self.commit, "private": False, "siblings": files}
            ).encode()
            status = 200
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("ETag", f'"{hash(data) & 0xFFFFFFFF:x}"')
        if status == 404:
            known = "/someone/tiny/" in self.path
            self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.requests = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


IMPATIENT = (
    "import runpy, time\ntime.sleep = lambda _: None  # the library waits between its attempts\n"
    "runpy.run_module('xpool', run_name='__main__')\n"
)


def weights_stage(tmp_path, model, endpoint, command=("-m", "xpool")):
    """Run the stage as the pipeline does, in a folder of its own, with no token and no cache."""
    encoder = {"library": "huggingface", "model": model, "pretrained": "hub"}
    (tmp_path / "params.yaml").write_text(json.dumps({"setting": "paper", "encoder": encoder}))
    environment = {
        name: value for name, value in os.environ.items()
        if not name.upper().startswith(("HF_", "HUGGING", "TRANSFORMERS_"))
        and not name.lower().endswith("_proxy")
    }  # fmt: skip
    environment |= {
        "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(TOP),
        "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_ETAG_TIMEOUT": "2", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, *command, "weights"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.slow
@torch.inference_mode()
def test_weights_stage_fetches_a_model_by_name_from_the_hub(hub, model_folder, tmp_path, encoders):
    """From a repository with pickled weights only, as openai/clip-vit-base-patch32 has them."""
    hub.repository = copied(model_folder, tmp_path / "repository", ["model.safetensors"])
    state = load_file(model_folder / "model.safetensors")
    torch.save(state, hub.repository / "pytorch_model.bin")
    done = weights_stage(tmp_path, "someone/tiny", f"http://127.0.0.1:{hub.server_port}")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "data" / "paper" / "encoder"
    opened = open_encoder(folder).eval()
    expected = encoders["huggingface"].encode_image(images(2))
    assert torch.equal(opened.encode_image(images(2)), expected)
    assert torch.equal(opened.tokenize(TEXTS), encoders["huggingface"].tokenize(TEXTS))
    assert opened.mean == pytest.approx(MEAN)
    description = json.loads((folder / "encoder.json").read_text())
    assert (description["model"], description["dim"]) == ("someone/tiny", WIDTH)
    assert set(description["sha256"]) >= {"model.safetensors", "config.json", "tokenizer.json"}
    files = {path.name for path in folder.iterdir()}
    assert set(description["sha256"]) == files - {"encoder.json"}, "the stages depend on it alone"
    assert not [line for line in hub.requests if not line.startswith(("GET", "HEAD"))]
    assert not [line for line in hub.requests if "discussions" in line or "convert" in line]


@pytest.mark.slow
def test_weights_stage_with_an_unknown_name_is_one_line(hub, model_folder, tmp_path):
    hub.repository = model_folder
    done = weights_stage(tmp_path, "someone/else", f"http://127.0.0.1:{hub.server_port}")
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: params.yaml: encoder.model: 'someone/else' could not be")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_weights_stage_without_a_hub_is_one_line(tmp_path):
    done = weights_stage(tmp_path, "someone/tiny", "http://127.0.0.1:9", ("-c", IMPATIENT))
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: params.yaml: encoder.model: 'someone/tiny' could not be")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


# --- what an encoder is, whatever it is called ---


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_weights_are_known_by_the_digest_of_their_file(weights, model_folder, tmp_path):
    digests = OpenClip.weights_digests(openclip_params("small-test-quick", weights["safetensors"]))
    assert list(digests) == [sha256(weights["safetensors"])]
    digests = HuggingFace.weights_digests(hub_params(model_folder))
    assert list(digests) == [sha256(model_folder / "model.safetensors")]


def test_openais_tag_is_known_by_the_digest_in_its_address():
    """The one that OpenAI's own package checks."""
    (digest,) = OpenClip.weights_digests(openclip_params("ViT-B-32", "openai"))
    assert digest == "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
    assert not list(OpenClip.weights_digests(openclip_params("ViT-B-32", "laion400m_e32")))


def test_the_architecture_is_that_of_the_config(encoders):
    """Oracle: the names of CLIP's own models, by the shapes that its paper states."""
    assert {encoder.architecture() for encoder in encoders.values()} == {"ViT-32x2/8@16px"}
    with torch.device("meta"):
        model = CLIPModel(CLIPConfig())  # transformers' default is ViT-B/32
    found = HuggingFace(model, None, CLIPImageProcessor())
    assert found.architecture() == "ViT-B/32"
    assert vit_name(768, 12, 16, 224) == "ViT-B/16"
    assert vit_name(1024, 24, 14, 336) == "ViT-L/14@336px"
