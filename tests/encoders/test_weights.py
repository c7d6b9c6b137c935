"""Weights that load and are wrong, or do not load: one line each, before anything is computed.

The oracle is the library itself, given the right config by hand.
"""

import json
import logging

import open_clip
import pytest
import torch
from made_clip import MEAN, spread, write_clip
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPTokenizerFast

from xpool.encoders.base import EncoderParams
from xpool.encoders.embed import count_cut, warn_of_small_frames
from xpool.encoders.huggingface import HuggingFace
from xpool.encoders.openclip import OpenClip
from xpool.encoders.sanity import check_encoder
from xpool.project.errors import InputError

SIZE, CONTEXT = 16, 12
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 1\n"


def prepared(library, folder, model, pretrained="hub", activation="auto"):
    """What the stage `weights` does with these params."""
    name = library.__module__.rpartition(".")[2]
    params = EncoderParams(
        library=name, model=str(model), pretrained=str(pretrained), activation=activation
    )
    folder.mkdir()
    library.prepare(params, folder)
    encoder = library.open(folder).eval()
    check_encoder(encoder, params.model)
    return encoder


def refused(*args, **kwargs):
    with pytest.raises(InputError) as caught:
        prepared(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# transformers


@pytest.fixture
def model(tmp_path):
    return write_clip(tmp_path / "model", width=32, heads=4, layers=2, size=SIZE, context=CONTEXT)


def edit_config(model, section=None, **values):
    config = json.loads((model / "config.json").read_text())
    (config[section] if section else config).update(values)
    (model / "config.json").write_text(json.dumps(config))


def edit_weights(model, change):
    file = model / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("without", "said"),
    [
        (["vocab.json", "merges.txt", "tokenizer_config.json"], "the tokenizer has 2 tokens, the"),
        (["vocab.json", "merges.txt"], "the tokenizer has 2 tokens, the text tower 82"),
        (["vocab.json"], "could not be loaded through transformers"),
        (["merges.txt"], "could not be loaded through transformers"),
        (["preprocessor_config.json"], "could not be loaded through transformers"),
        (["model.safetensors"], "no file named model.safetensors"),
    ],
)
def test_huggingface_folder_with_missing_files_is_refused(model, tmp_path, without, said):
    """Without its vocabulary, transformers gives every caption the same tokens."""
    for name in without:
        (model / name).unlink()
    assert said in refused(HuggingFace, tmp_path / "out", model)


FILES = ["config.json", "vocab.json", "merges.txt", "model.safetensors", "preprocessor_config.json"]


@pytest.mark.parametrize("name", FILES)
def test_huggingface_damaged_file_is_refused(model, tmp_path, name):
    content = (model / name).read_bytes()
    (model / name).write_bytes(LFS)
    said = refused(HuggingFace, tmp_path / "pointer", model)
    assert said.startswith(f"{model / name}: a Git LFS pointer in place of the file")
    for number, damaged in enumerate((b"", content[: len(content) // 2], b"\xff\xfe" + content)):
        (model / name).write_bytes(damaged)
        refused(HuggingFace, tmp_path / f"out{number}", model)
    (model / name).unlink()
    (model / name).mkdir()
    refused(HuggingFace, tmp_path / "folder", model)


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("text_config", {"vocab_size": 100}, "token_embedding.weight is (82, 32) in the weights"),
        ("text_config", {"max_position_embeddings": 20}, "position_embedding.weight is (12, 32)"),
        ("vision_config", {"image_size": 24}, "position_embedding.weight is (5, 32) in the"),
        ("vision_config", {"patch_size": 4}, "patch_embedding.weight is (32, 3, 8, 8) in the"),
        (None, {"projection_dim": 16}, "text_projection.weight is (32, 32) in the weights and (16"),
        ("text_config", {"num_hidden_layers": 3}, "no weights for text_model.encoder.layers.2"),
        ("text_config", {"num_hidden_layers": 1}, "no place for the weights text_model.encoder.l"),
        ("text_config", {"hidden_act": "relu"}, "text activation 'relu' is not CLIP's"),
        ("text_config", {"eos_token_id": 3}, "different texts get the same embedding"),
        (None, {"text_config": None}, "in the weights and (77, 512) by the config"),
        (None, {"text_config": [1]}, "could not be loaded through transformers"),
        ("vision_config", {"image_size": "16"}, "could not be loaded through transformers"),
        ("text_config", {"num_attention_heads": 5}, "could not be loaded through transformers"),
        (None, {"model_type": "siglip"}, "its config is of the type 'siglip'; expected clip"),
    ],
)
def test_huggingface_config_that_does_not_fit_is_refused(model, tmp_path, section, values, said):
    edit_config(model, section, **values)
    assert said in refused(HuggingFace, tmp_path / "out", model)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda name, v: v * float("nan") if name == "text_projection.weight" else v, "NaN"),
        (lambda name, v: v * 0 if name.startswith("text") else v, "different texts get the same"),
        (lambda name, v: v * 0 if name.startswith("vis") else v, "noise and a black image get the"),
    ],
)
def test_weights_that_tell_nothing_apart_are_refused(model, tmp_path, change, said):
    edit_weights(model, lambda state: {name: change(name, v) for name, v in state.items()})
    assert said in refused(HuggingFace, tmp_path / "out", model)


@torch.inference_mode()
def test_huggingface_half_precision_is_read_as_transformers_reads_it(model, tmp_path):
    edit_weights(model, lambda state: {name: value.half() for name, value in state.items()})
    encoder = prepared(HuggingFace, tmp_path / "out", model)
    own = CLIPModel.from_pretrained(model, dtype=torch.float32).eval()
    tokens = encoder.tokenize(["a red ring"])
    features = own.get_text_features(input_ids=tokens)
    features = getattr(features, "pooler_output", features)
    torch.testing.assert_close(encoder.encode_text(tokens), features, rtol=0, atol=1e-5)


def test_huggingface_merges_cut_short_are_refused(model, tmp_path):
    """The vocabulary keeps its size, and other tokens are made of the same words."""
    merges = (model / "merges.txt").read_text().splitlines()
    (model / "merges.txt").write_text("\n".join(merges[:-3]) + "\n")
    said = refused(HuggingFace, tmp_path / "out", model)
    assert "its merges are incomplete: none makes the token 'th'" in said


def test_clips_own_vocabulary_is_whole(model, tmp_path):
    """Golden: open_clip's copy of OpenAI's vocabulary, 49,408 tokens, gives open_clip's tokens."""
    theirs = open_clip.tokenizer.SimpleTokenizer()
    merges = sorted(theirs.bpe_ranks, key=theirs.bpe_ranks.get)
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): row for token, row in theirs.encoder.items()}
    (model / "vocab.json").write_text(json.dumps(vocabulary))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (model / "merges.txt").write_text("\n".join(lines))
    rows = torch.randn(49408, 32, generator=torch.Generator().manual_seed(0))
    name = "text_model.embeddings.token_embedding.weight"
    edit_weights(model, lambda state: state | {name: rows})
    edit_config(model, "text_config", vocab_size=49408, eos_token_id=49407)
    encoder = prepared(HuggingFace, tmp_path / "out", model)
    text = "a man, tall, runs"
    expected = theirs([text])[0, :CONTEXT].tolist()
    assert (
        encoder.tokenize([text])[0].tolist()[: expected.index(49407) + 1]
        == (expected[: expected.index(49407) + 1])
    )
    assert encoder.vocabulary_sizes() == (49408, 49408)


@torch.inference_mode()
def test_huggingface_activation_is_the_configs_unless_params_name_another(model, tmp_path, caplog):
    quick = prepared(HuggingFace, tmp_path / "quick", model)
    assert quick.text_transformer().activation == "quick_gelu"
    gelu = prepared(HuggingFace, tmp_path / "gelu", model, activation="gelu")
    assert "encoder.activation is gelu, against quick_gelu in the config" in caplog.text
    edit_config(model, "text_config", hidden_act="gelu")
    edit_config(model, "vision_config", hidden_act="gelu")
    own = CLIPModel.from_pretrained(model).eval()
    pixels = torch.rand(2, 3, SIZE, SIZE)
    expected = own.get_image_features(pixel_values=pixels)
    expected = getattr(expected, "pooler_output", expected)
    assert torch.equal(gelu.encode_image(pixels), expected)
    assert not torch.allclose(quick.encode_image(pixels), expected)


def test_captions_over_the_context_are_counted(model, tmp_path, caplog):
    """By hand: each letter of a word that no merge joins is a token, beside start and end."""
    encoder = prepared(HuggingFace, tmp_path / "out", model)
    captions = ["b" * 10, "b" * 11, "b" * 11, "red " * 10, "red " * 11, "a red ring"]
    assert encoder.token_counts(captions) == [12, 13, 13, 12, 13, 5]
    assert count_cut(encoder, captions) == 3
    assert "3 of 6 captions are longer than the encoder's 12 tokens and are cut" in caplog.text
    caplog.clear()
    assert count_cut(encoder, captions[:1]) == count_cut(encoder, []) == 0
    assert not caplog.text


def test_frames_smaller_than_the_encoders_input_are_said(model, tmp_path, caplog):
    encoder = prepared(HuggingFace, tmp_path / "out", model)
    warn_of_small_frames(encoder, SIZE)
    assert not caplog.text
    warn_of_small_frames(encoder, SIZE - 1)
    assert "stored at 15 pixels and enlarged to the encoder's 16" in caplog.text
    assert "raise frames.short_side_px in params.yaml to 16" in caplog.text


# open_clip


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """A model that open_clip has with either activation, and its relatives of other shapes."""
    folder = tmp_path_factory.mktemp("odd")
    variants = {
        "odd-test": {}, "odd-test-quickgelu": {"quick_gelu": True}, "odd-test-256": {"size": 24},
        "odd-test-context": {"context": 20}, "odd-test-words": {"words": 1000},
        "odd-test-wide": {"dim": 48},
    }  # fmt: skip
    for name, change in variants.items():
        config = {
            "embed_dim": change.get("dim", 32),
            "quick_gelu": change.get("quick_gelu", False),
            "vision_cfg": {
                "image_size": change.get("size", SIZE), "layers": 2, "width": 32, "head_width": 8,
                "patch_size": 8,
            },
            "text_cfg": {
                "context_length": change.get("context", CONTEXT),
                "vocab_size": change.get("words", 49408), "width": 32, "heads": 4, "layers": 2,
            },
        }  # fmt: skip
        (folder / f"{name}.json").write_text(json.dumps(config))
        open_clip.add_model_config(folder / f"{name}.json")
    tags = {"openai": {"file": "", "quick_gelu": True}, "laion2b_e16": {"file": ""}}
    open_clip.pretrained._PRETRAINED["odd-test"] = tags
    yield
    del open_clip.pretrained._PRETRAINED["odd-test"]


@pytest.fixture(scope="module")
def state(configs):
    return spread(open_clip.create_model("odd-test-quickgelu"), seed=0).state_dict()


@pytest.fixture(scope="module")
def right(state):
    """The images of two models with these weights, one with each activation."""
    pixels = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    made = {}
    for quick in (True, False):
        own = open_clip.create_model("odd-test", force_quick_gelu=quick).eval()
        own.load_state_dict(state)
        with torch.inference_mode():
            made[quick] = own.encode_image(pixels)
    assert not torch.allclose(made[True], made[False])
    return pixels, made


def runs_with_quick_gelu(encoder, right):
    pixels, made = right
    with torch.inference_mode():
        found = encoder.encode_image(pixels)
    return next(quick for quick, value in made.items() if torch.equal(found, value))


@pytest.mark.parametrize(
    ("file", "model", "activation", "quick"),
    [
        ("w.pt", "odd-test-quickgelu", "auto", True),
        ("w.pt", "odd-test", "quick_gelu", True),
        ("w.pt", "odd-test", "gelu", False),
        ("w.pt", "odd-test-quickgelu", "gelu", False),
        ("vit_openai.pt", "odd-test", "auto", True),
        ("OpenAI/w.pt", "odd-test", "auto", True),
        ("w-quickgelu.pt", "odd-test", "auto", True),
        ("vit-laion2B-e16.pt", "odd-test", "auto", False),
        ("vit_openai.pt", "odd-test", "gelu", False),
    ],
)
def test_activation_is_detected_said_and_decided(
    state, right, tmp_path, caplog, file, model, activation, quick
):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    torch.save(state, tmp_path / file)
    with caplog.at_level(logging.INFO):
        encoder = prepared(OpenClip, tmp_path / "out", model, tmp_path / file, activation)
    assert runs_with_quick_gelu(encoder, right) is quick
    assert f"activation: {'QuickGELU' if quick else 'GELU'}, by " in caplog.text
    assert "initialized randomly" not in caplog.text
    against = activation != "auto" and (quick is False)
    named = "openai" in file or model.endswith("quickgelu")
    assert ("encoder.activation is gelu, against" in caplog.text) is (against and named)


def test_activation_that_nothing_tells_is_asked_for(state, tmp_path):
    torch.save(state, tmp_path / "w.pt")
    said = refused(OpenClip, tmp_path / "out", "odd-test", tmp_path / "w.pt")
    assert said.startswith("params.yaml: encoder.activation: auto cannot tell how ")
    assert "or name odd-test-quickgelu" in said


@pytest.mark.parametrize(
    ("name", "content", "quick"),
    [
        ("open_clip_config.json", {"model_cfg": {"quick_gelu": True}}, True),
        ("open_clip_config.json", {"model_cfg": {}}, False),
        ("config.json", {"text_config": {"hidden_act": "quick_gelu"}}, True),
        ("config.json", {"text_config": {"hidden_act": "gelu"}}, False),
        ("config.json", {"text_config": None}, None),
        ("config.json", {"model_cfg": [1]}, None),
        ("config.json", [1], "unread"),
    ],
)
def test_activation_is_read_from_a_config_beside_the_weights(
    state, right, tmp_path, name, content, quick
):
    torch.save(state, tmp_path / "w.bin")
    (tmp_path / name).write_text(json.dumps(content))
    if isinstance(quick, bool):
        encoder = prepared(OpenClip, tmp_path / "out", "odd-test", tmp_path / "w.bin")
        assert runs_with_quick_gelu(encoder, right) is quick
    else:
        said = refused(OpenClip, tmp_path / "out", "odd-test", tmp_path / "w.bin")
        assert ("not the config of a model" in said) is (quick is None)


def test_openais_own_files_are_known_by_their_digest(tmp_path, monkeypatch, state, right):
    """OpenAI's addresses hold the SHA-256 of the file; here one of our own stands for it."""
    from xpool.project.digests import sha256

    torch.save(state, tmp_path / "w.pt")
    url = f"https://example.org/models/{sha256(tmp_path / 'w.pt')}/model.pt"
    tags = {"plain": {"url": "https://example.org/x.pt"}, "made": {"url": url, "quick_gelu": True}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "odd-test", tags)
    encoder = prepared(OpenClip, tmp_path / "out", "odd-test", tmp_path / "w.pt")
    assert runs_with_quick_gelu(encoder, right)
    assert open_clip.get_pretrained_cfg("RN50", "openai")["url"].split("/")[-2].startswith("afeb0e")


@pytest.mark.parametrize(
    ("made", "into", "said"),
    [
        (
            "odd-test-256",
            "odd-test-quickgelu",
            "visual.positional_embedding is (10, 32) in the fil",
        ),
        (
            "odd-test-quickgelu",
            "odd-test-256",
            "visual.positional_embedding is (5, 32) in the file",
        ),
        ("odd-test-context", "odd-test-quickgelu", "positional_embedding is (20, 32) in the file"),
        ("odd-test-quickgelu", "odd-test-context", "positional_embedding is (12, 32) in the file"),
        (
            "odd-test-words",
            "odd-test-quickgelu",
            "token_embedding.weight is (1000, 32) in the file",
        ),
        ("odd-test-wide", "odd-test-quickgelu", "text_projection is (32, 48) in the file and (32,"),
        ("odd-test-words", "odd-test-words", "the tokenizer has 49408 tokens, the text tower 1000"),
    ],
)
@pytest.mark.usefixtures("configs")
def test_openclip_weights_of_another_shape_are_never_resized(tmp_path, made, into, said):
    """open_clip interpolates both tables of positions without a word."""
    torch.save(open_clip.create_model(made).state_dict(), tmp_path / "w.pt")
    assert said in refused(OpenClip, tmp_path / "out", into, tmp_path / "w.pt")


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: {}, "could not be loaded"),
        (lambda s: [1], "could not be loaded"),
        (lambda s: torch.ones(3), "could not be loaded"),
        (lambda s: {"state_dict": None}, "could not be loaded"),
        (lambda s: {1: torch.ones(2)}, "could not be loaded"),
        (lambda s: without(s, "visual.proj"), "visual.proj is not in the file"),
        (lambda s: {"conv1.weight": torch.ones(3, 3)}, "positional_embedding is not in the file"),
        (lambda s: s | {"logit_bias": torch.zeros(())}, "logit_bias has no place in the model"),
        (lambda s: {k: v.to(torch.int8) for k, v in s.items()}, "expected a tensor of floats"),
        (lambda s: s | {"visual.proj": 1.0}, "visual.proj: expected a tensor of floats"),
        (lambda s: {k: v * float("nan") for k, v in s.items()}, "NaN or infinity"),
        (lambda s: {k: v * 0 for k, v in s.items()}, "different texts get the same embedding"),
    ],
)
def test_openclip_file_that_holds_no_such_weights_is_refused(state, tmp_path, change, said):
    torch.save(change(dict(state)), tmp_path / "w.pt")
    assert said in refused(OpenClip, tmp_path / "out", "odd-test-quickgelu", tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_openclip_damaged_file_is_refused(state, tmp_path, name):
    path = tmp_path / name
    (save_file if name.endswith("s") else torch.save)(dict(state), path)
    whole = path.read_bytes()
    cuts = [whole[:size] for size in (0, 4, 100, len(whole) // 2, len(whole) - 1)]
    for number, content in enumerate([*cuts, b"<html>not found</html>", b"\0" * 1000]):
        path.write_bytes(content)
        refused(OpenClip, tmp_path / f"out{number}", "odd-test-quickgelu", path)
    path.write_bytes(LFS)
    said = refused(OpenClip, tmp_path / "pointer", "odd-test-quickgelu", path)
    assert said.startswith(f"{path}: a Git LFS pointer in place of the file")
    path.unlink()
    path.mkdir()
    said = refused(OpenClip, tmp_path / "folder", "odd-test-quickgelu", path)
    assert "is neither a file nor a tag of odd-test-quickgelu" in said


@pytest.mark.parametrize(
    "change",
    [
        lambda s: {"epoch": 1, "state_dict": {f"module.{k}": v for k, v in s.items()}},
        lambda s: {f"module.{k}": v.half().float() for k, v in s.items()},
        lambda s: {k: v.reshape(1) if k == "logit_scale" else v for k, v in s.items()},
        lambda s: s | {"input_resolution": torch.tensor(SIZE), "vocab_size": torch.tensor(1)},
        lambda s: {k: v.double() for k, v in s.items()},
    ],
)
@torch.inference_mode()
def test_openclip_weights_in_other_wrappings_embed_as_their_values(state, tmp_path, change):
    torch.save(change(dict(state)), tmp_path / "w.pt")
    encoder = prepared(OpenClip, tmp_path / "out", "odd-test-quickgelu", tmp_path / "w.pt")
    own = open_clip.create_model("odd-test", force_quick_gelu=True).eval()
    own.load_state_dict(open_clip.factory.load_state_dict(str(tmp_path / "w.pt")), strict=False)
    own.logit_scale.data = own.logit_scale.data.reshape(())
    tokens = encoder.tokenize(["a red ring"])
    assert torch.equal(encoder.encode_text(tokens), own.encode_text(tokens))


@torch.inference_mode()
def test_openclip_half_precision_under_module_is_the_upcast_model(state, tmp_path):
    halves = {f"module.{name}": value.half() for name, value in state.items()}
    torch.save({"state_dict": halves}, tmp_path / "w.pt")
    encoder = prepared(OpenClip, tmp_path / "out", "odd-test-quickgelu", tmp_path / "w.pt")
    own = open_clip.create_model("odd-test", force_quick_gelu=True).eval()
    own.load_state_dict({name: value.half().float() for name, value in state.items()})
    pixels = torch.rand(2, 3, SIZE, SIZE)
    assert torch.equal(encoder.encode_image(pixels), own.encode_image(pixels))


def test_a_tokenizer_whose_texts_are_equal_is_refused(model, tmp_path, monkeypatch):
    encoder = prepared(HuggingFace, tmp_path / "out", model)
    assert encoder.mean == pytest.approx(MEAN)
    monkeypatch.setattr(encoder, "tokenize", lambda texts: torch.zeros(len(texts), 3).long())
    with pytest.raises(InputError, match="different texts get the same tokens"):
        check_encoder(encoder, "model")


@pytest.mark.parametrize("std", [(0.2, 0.2), (0.2, 0.2, 0.0), (0.2, 0.2, float("nan"))])
def test_pixel_statistics_that_cannot_be_used_are_refused(model, tmp_path, std):
    encoder = prepared(HuggingFace, tmp_path / "out", model)
    encoder.std = std
    with pytest.raises(InputError, match="expected three means and spreads of pixels"):
        check_encoder(encoder, "model")


def test_transformers_really_gives_equal_tokens_without_a_vocabulary(model):
    """The library's behaviour that the checks are for; if it is gone, so may they."""
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (model / name).unlink()
    tokenizer = CLIPTokenizerFast.from_pretrained(model)
    assert tokenizer("red ring")["input_ids"] == tokenizer("cat nose")["input_ids"]
