"""Checkpoints of other code become runs, and score what that code's own formulas give.

The oracles below are the papers' and the official codes' formulas, written with loops, on the
embeddings of the library in which the checkpoint's names are. No weights of a release are needed:
random ones fill the official formats.
"""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from made_checkpoints import (
    SMALL,
    VIT_B_32,
    cosine,
    embeddings,
    frame_data,
    inside,
    norm,
    openai_clip,
    pool_frames,
    run_of,
    transformers_clip,
    write_project,
    write_xpool,
    xpool_scores,
)
from safetensors.torch import save_file

from xpool.project import paths
from xpool.project.digests import sha256
from xpool.project.errors import InputError
from xpool.project.records import RECORD, read_record
from xpool.stages import evaluate, ranks, train
from xpool.statistics.mixing import mixed
from xpool.tools import verify
from xpool.tools.checkpoints import import_checkpoint

# --- checkpoints in the formats of other code ---


def sequence_transformer(dim, layers, positions):
    """Weights of CLIP4Clip's seqTransf under the official names."""
    rng = torch.Generator().manual_seed(4)

    def draw(*shape):
        return torch.randn(*shape, generator=rng) / dim**0.5

    weights = {"frame_position_embeddings.weight": draw(positions, dim)}
    for number in range(layers):
        layer = {
            "ln_1.weight": 1 + draw(dim), "ln_1.bias": draw(dim),
            "attn.in_proj_weight": draw(3 * dim, dim), "attn.in_proj_bias": draw(3 * dim),
            "attn.out_proj.weight": draw(dim, dim), "attn.out_proj.bias": draw(dim),
            "ln_2.weight": 1 + draw(dim), "ln_2.bias": draw(dim),
            "mlp.c_fc.weight": draw(4 * dim, dim), "mlp.c_fc.bias": draw(4 * dim),
            "mlp.c_proj.weight": draw(dim, 4 * dim), "mlp.c_proj.bias": draw(dim),
        }  # fmt: skip
        weights |= {f"transformerClip.resblocks.{number}.{k}": v for k, v in layer.items()}
    return weights


def halved(clip):
    """CLIP4Clip holds the products' weights in half precision; the oracle has their values."""
    with torch.no_grad():
        for value in clip.parameters():
            value.copy_(value.half())
    return clip


# --- oracles ---


def mean_scores(text, frames, mask):
    """CLIP4Clip's meanP: frames of length 1, their mean over those that exist, cosine."""
    scores = np.empty((len(text), len(frames)))
    for j, of_video in enumerate(frames):
        kept = [f / f.norm() for f, there in zip(of_video, mask[j], strict=True) if there]
        scores[:, j] = [cosine(of_text, sum(kept) / len(kept)) for of_text in text]
    return scores


def sequence_scores(text, frames, mask, weights, heads):
    """CLIP4Clip's seqTransf: positions, pre-norm layers over the frames, residual, then meanP."""
    w = {name: value.double() for name, value in weights.items()}
    layers = 1 + max(int(name.split(".")[2]) for name in w if name.startswith("transformerClip"))
    mixed = torch.empty_like(frames)
    for j, of_video in enumerate(frames):
        x = of_video + w["frame_position_embeddings.weight"][: len(of_video)]
        for number in range(layers):
            p = {
                name.removeprefix(f"transformerClip.resblocks.{number}."): value
                for name, value in w.items()
            }
            seen = torch.stack([norm(row, p["ln_1.weight"], p["ln_1.bias"]) for row in x])
            q, k, v = (seen @ p["attn.in_proj_weight"].T + p["attn.in_proj_bias"]).chunk(3, dim=1)
            parts = []
            for q1, k1, v1 in zip(*(y.chunk(heads, dim=1) for y in (q, k, v)), strict=True):
                logits = q1 @ k1.T / q1.shape[1] ** 0.5
                logits = logits + (1.0 - mask[j].double()) * -1000000.0
                parts.append(logits.softmax(dim=1) @ v1)
            x = x + torch.cat(parts, 1) @ p["attn.out_proj.weight"].T + p["attn.out_proj.bias"]
            seen = torch.stack([norm(row, p["ln_2.weight"], p["ln_2.bias"]) for row in x])
            hidden = seen @ p["mlp.c_fc.weight"].T + p["mlp.c_fc.bias"]
            hidden = hidden * torch.sigmoid(1.702 * hidden)
            x = x + hidden @ p["mlp.c_proj.weight"].T + p["mlp.c_proj.bias"]
        mixed[j] = x + of_video
    return mean_scores(text, mixed, mask)


# --- projects ---


def imported_scores(method, file):
    """Import and score by the ordinary commands."""
    import_checkpoint.main(file=Path(file), out=run_of(method))
    evaluate.main(method=method)
    return np.load(paths.similarity("mini", method, "msvd", 0) / "similarity.npy")


CLIPS = {"transformers": transformers_clip, "openai": openai_clip}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# --- each format, through the ordinary commands ---


@pytest.mark.parametrize("library", ["huggingface", "openclip"])
@pytest.mark.parametrize("names", CLIPS)
def test_xpools_checkpoint_scores_as_the_official_code_does(names, library):
    write_project(library)
    clip = CLIPS[names](SMALL)
    weights = write_xpool("model_best.pth", clip)
    found = imported_scores("xpool", "model_best.pth")
    expected = xpool_scores(*embeddings(clip, frame_data("xpool")), weights)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert expected.std() > 1e-3


@pytest.mark.parametrize("library", ["huggingface", "openclip"])
def test_clip4clips_mean_scores_as_the_official_code_does(library):
    """In half precision, as it holds CLIP."""
    write_project(library, method="mean_pool")
    clip = halved(openai_clip(SMALL))
    torch.save({k: v.half() for k, v in inside(clip).items()}, "pytorch_model.bin.4")
    found = imported_scores("mean_pool", "pytorch_model.bin.4")
    expected = mean_scores(*embeddings(clip, frame_data("mean_pool")))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("library", ["huggingface", "openclip"])
def test_clip4clips_transformer_scores_as_the_official_code_does(library):
    write_project(library, method="self_attention")
    clip, weights = openai_clip(SMALL), sequence_transformer(32, layers=2, positions=12)
    torch.save(inside(clip) | weights, "pytorch_model.bin.2")
    found = imported_scores("self_attention", "pytorch_model.bin.2")
    data = embeddings(clip, frame_data("self_attention"))
    assert not data[2].all()
    expected = sequence_scores(*data, weights, heads=4)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def write_parallel(clip, file):
    """As open_clip saves while it trains on several GPUs."""
    state = {f"module.{name}": value for name, value in clip.state_dict().items()}
    torch.save({"epoch": 3, "name": "run", "state_dict": state}, file)


def write_safetensors(clip, file):
    save_file({k: v.contiguous() for k, v in clip.state_dict().items()}, file)


@pytest.mark.parametrize(
    ("names", "file", "write"),
    [
        ("openai", "epoch_3.pt", write_parallel),
        ("transformers", "model.safetensors", write_safetensors),
        ("transformers", "pytorch_model.bin", lambda c, f: torch.save(c.state_dict(), f)),
    ],
)
def test_a_clip_alone_is_scored_with_a_method_without_weights(names, file, write):
    write_project("huggingface", method="mean_pool")
    clip = CLIPS[names](SMALL)
    write(clip, file)
    found = imported_scores("mean_pool", file)
    expected = mean_scores(*embeddings(clip, frame_data("mean_pool")))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_checkpoints_of_the_released_size_score_as_the_official_code_does():
    """ViT-B/32, in the formats of X-Pool's release and of CLIP4Clip with its transformer."""
    write_project("openclip", VIT_B_32)
    clip = transformers_clip(VIT_B_32)
    weights = write_xpool("model_best.pth", clip)
    found = imported_scores("xpool", "model_best.pth")
    expected = xpool_scores(*embeddings(clip, frame_data("xpool")), weights)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    clip, weights = halved(openai_clip(VIT_B_32)), sequence_transformer(512, 4, 77)
    halves = {name: value.half() for name, value in inside(clip).items()}
    torch.save(halves | weights, "pytorch_model.bin.4")
    found = imported_scores("self_attention", "pytorch_model.bin.4")
    expected = sequence_scores(*embeddings(clip, frame_data("xpool")), weights, heads=8)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


# --- an ordinary run ---


def test_an_imported_run_is_labelled_and_found_by_the_stage_train(caplog):
    write_project("openclip")
    write_xpool("model_best.pth", transformers_clip(SMALL))
    import_checkpoint.main(file=Path("model_best.pth"), out=run_of("xpool"))
    record = read_record(run_of("xpool"))
    digest = sha256(Path("model_best.pth"))
    assert record["imported"] == {"file": "model_best.pth", "sha256": digest}
    before = (run_of("xpool") / "checkpoint.safetensors").read_bytes()
    with caplog.at_level("INFO"):
        train.main(method="xpool", benchmark="msvd")
    assert "is imported from model_best.pth; to train it, delete .work/train/mini-" in caplog.text
    assert (run_of("xpool") / "checkpoint.safetensors").read_bytes() == before
    assert read_record(run_of("xpool")) == record


def test_an_import_replaces_an_import_but_nothing_that_was_trained():
    write_project("openclip")
    for seed in (1, 2):
        write_xpool("model_best.pth", transformers_clip(SMALL, seed))
        import_checkpoint.main(file=Path("model_best.pth"), out=run_of("xpool"))
    digest = sha256(Path("model_best.pth"))
    assert read_record(run_of("xpool"))["imported"]["sha256"] == digest
    train.main(method="mean_pool", benchmark="msvd")
    trained = (run_of("mean_pool") / "checkpoint.safetensors").read_bytes()
    write_safetensors(transformers_clip(SMALL), "model.safetensors")
    with pytest.raises(InputError, match=f"^{run_of('mean_pool')}: holds a run that was trained"):
        import_checkpoint.main(file=Path("model.safetensors"), out=run_of("mean_pool"))
    assert (run_of("mean_pool") / "checkpoint.safetensors").read_bytes() == trained
    (run_of("mean_pool")).rename("elsewhere")  # the work folder has it still
    with pytest.raises(InputError, match=r"^\.work/train/.*: holds a run that was trained here"):
        import_checkpoint.main(file=Path("model.safetensors"), out=run_of("mean_pool"))


def test_an_imported_run_stands_beside_a_trained_one():
    """Nothing is known of its training, so it differs from no other run in that."""
    write_project("openclip")
    write_xpool("model_best.pth", transformers_clip(SMALL))
    import_checkpoint.main(file=Path("model_best.pth"), out=run_of("xpool"))
    train.main(method="mean_pool", benchmark="msvd")
    for method in ("mean_pool", "xpool"):
        evaluate.main(method=method)
    cells = [("msvd", "mean_pool", 0), ("msvd", "xpool", 0)]
    assert mixed("mini", cells) == mixed("mini", cells[::-1]) == {}
    record = read_record(run_of("xpool"))
    record["params"]["frames"]["seed"] = 7
    (run_of("xpool") / RECORD).write_text(json.dumps(record))
    assert "params.frames.seed is 0 in the one" in mixed("mini", cells)[cells[1]]


def test_an_imported_run_is_verified(capsys):
    write_project("openclip")
    write_xpool("model_best.pth", transformers_clip(SMALL))
    import_checkpoint.main(file=Path("model_best.pth"), out=run_of("xpool"))
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["baselines"] = []
    Path("params.yaml").write_text(yaml.safe_dump(params))
    evaluate.main(method="xpool")
    ranks.main()
    capsys.readouterr()
    with pytest.raises(SystemExit):
        verify.main(runs=[run_of("xpool")])
    lines = capsys.readouterr().out.splitlines()
    differ = [line for line in lines if "DIFFERS" in line or "no verdict" in line]
    assert not differ
    assert any("similarity" in line and line.strip().startswith("ok") for line in lines)


# --- what is refused ---


class _Hostile:
    def __reduce__(self):
        return os.system, ("touch ran",)


def refusal(file, method="xpool"):
    """The message, which is one line."""
    with pytest.raises(InputError) as refused:
        import_checkpoint.main(file=Path(file), out=run_of(method))
    message = str(refused.value)
    assert "\n" not in message
    assert len(message) < 600
    assert not run_of(method).exists()
    return message


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(zipped):
    write_project("openclip")
    state = {"state_dict": inside(openai_clip(SMALL)), "config": _Hostile()}
    torch.save(state, "hostile.pth", _use_new_zipfile_serialization=zipped)
    message = refusal("hostile.pth")
    assert "refused, since it is no file of tensors and plain values alone" in message
    assert "unsupported GLOBAL posix.system" in message
    Path("bare.pth").write_bytes(pickle.dumps(_Hostile()))
    assert refusal("bare.pth").startswith("bare.pth: ")
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not read"),
        (b"<!doctype html>", "bare.pth: "),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(content, words):
    write_project("openclip")
    Path("bare.pth").write_bytes(content)
    assert words in refusal("bare.pth")
    assert "no such file" in refusal("nowhere.pth")


def test_a_cut_file_is_refused():
    write_project("openclip")
    write_xpool("model_best.pth", openai_clip(SMALL))
    whole = Path("model_best.pth").read_bytes()
    Path("cut.pth").write_bytes(whole[: len(whole) // 2])
    assert refusal("cut.pth").startswith("cut.pth: not read: ")
    write_safetensors(openai_clip(SMALL), "model.safetensors")
    whole = Path("model.safetensors").read_bytes()
    Path("cut.safetensors").write_bytes(whole[: len(whole) // 2])
    assert refusal("cut.safetensors").startswith("cut.safetensors: not read: ")


def test_what_does_not_fit_is_named():
    write_project("openclip")
    state = inside(openai_clip(SMALL))
    weights = sequence_transformer(32, layers=2, positions=12)
    torch.save(state | weights, "pytorch_model.bin.2")
    message = refusal("pytorch_model.bin.2", "xpool")
    assert "does not fit XPool" in message
    missing = "not in the file: pool_frames.cross_attn.k_proj.bias, "
    assert missing in message
    assert "and 13 more" in message
    assert "no place for: frame_position_embeddings.weight, transformerClip." in message
    assert "and 22 more" in message
    pooling = {f"pool_frames.{name}": value for name, value in pool_frames(32).items()}
    pooling["pool_frames.linear_proj.bias"] = torch.zeros(33)
    state["clip.visual.conv2.weight"] = torch.zeros(1)
    del state["clip.ln_final.bias"]
    torch.save(state | pooling, "other.pth")
    message = refusal("other.pth")
    assert "not in the file: clip.ln_final.bias;" in message
    assert "no place for: clip.visual.conv2.weight;" in message
    assert "of another shape: pool_frames.linear_proj.bias (33,), here (32,)." in message


def test_weights_that_are_not_finite_or_no_floats_are_refused():
    write_project("openclip")
    for value, words in (
        (torch.tensor([float("nan")]), "holds NaN or infinity"),
        (torch.tensor([1]), "expected a tensor of floats"),
        ("text", "expected a tensor of floats"),
    ):
        torch.save(inside(openai_clip(SMALL)) | {"clip.ln_final.bias": value}, "bad.pth")
        assert f"clip.ln_final.bias{':' * ('floats' in words)} {words}" in refusal("bad.pth")


def test_openais_weights_are_refused_on_an_encoder_with_gelu():
    write_project("openclip")
    config = paths.encoder("mini") / "open_clip_config.json"
    config.write_text(config.read_text().replace('"quick_gelu": true', '"quick_gelu": false'))
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["recipes"]["self_attention"]["msvd"]["pooling"]["activation"] = "gelu"
    Path("params.yaml").write_text(yaml.safe_dump(params))
    write_xpool("model_best.pth", openai_clip(SMALL))
    assert "encoder.activation: quick_gelu" in refusal("model_best.pth")


def test_frozen_towers_and_other_folders_are_refused(tmp_path):
    write_project("openclip")
    write_xpool("model_best.pth", openai_clip(SMALL))
    with pytest.raises(InputError, match="not a run of the setting mini; expected, e.g., results/"):
        import_checkpoint.main(file=Path("model_best.pth"), out=tmp_path / "elsewhere")
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["train"]["reads"] = "embeddings"
    Path("params.yaml").write_text(yaml.safe_dump(params))
    assert "set train.reads: frames" in refusal("model_best.pth")
