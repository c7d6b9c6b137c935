"""Official checkpoints to tables, page, film strips and comparison, by the commands of the docs."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from projects import Project
from safetensors.torch import load_file

pytestmark = pytest.mark.slow
WIDTH = 64


def official(folder):
    """Two checkpoints as X-Pool's and CLIP4Clip's code save them, near the project's encoder."""
    rng = torch.Generator().manual_seed(0)
    clip = load_file(folder / "data/mini/encoder/open_clip_model.safetensors")
    inside = {f"clip.{name}": value for name, value in clip.items()}
    pooling = {}
    for name in ("cross_attn.q_proj", "cross_attn.k_proj", "cross_attn.v_proj",
                 "cross_attn.out_proj", "linear_proj"):  # fmt: skip
        noise = 0.01 * torch.randn(WIDTH, WIDTH, generator=rng)
        pooling[f"pool_frames.{name}.weight"] = torch.eye(WIDTH) + noise
        pooling[f"pool_frames.{name}.bias"] = torch.zeros(WIDTH)
    for number in (1, 2, 3):
        pooling[f"pool_frames.layer_norm{number}.weight"] = torch.ones(WIDTH)
        pooling[f"pool_frames.layer_norm{number}.bias"] = torch.zeros(WIDTH)
    torch.save({"epoch": 5, "state_dict": inside | pooling}, folder / "model_best.pth")
    torch.save(inside, folder / "pytorch_model.bin.4")


def test_two_official_checkpoints_become_tables_without_training(tmp_path, commands):
    project = Project(
        tmp_path / "imported", commands,
        benchmarks=["msvd"], baselines=["mean_pool", "self_attention"], seeds=[0, 1],
        studies={"own_models": [], "trained_models": []},
        generate__benchmarks=["msvd"],
        generate__msvd__videos={"train": 6, "val": 4, "test": 12},
        train__reads="frames", train__frames=4, frames__counts=[4],
    )  # fmt: skip
    project.repro("frames", "weights", "shots")
    official(project.folder)
    runs = {name: f"results/mini/train/{name}/msvd/0" for name in ("xpool", "mean_pool")}
    for name, file in (("xpool", "model_best.pth"), ("mean_pool", "pytorch_model.bin.4")):
        said = project.run("xpool", "import-checkpoint", file, "--out", runs[name])
        assert "imported; `xpool evaluate" in said
        said = project.run("xpool", "evaluate", runs[name])
        assert f"seed 0, imported from {file}" in said
        assert "R@10" in said
    np.save(project.folder / "external/theirs.npy", np.eye(9))
    (project.folder / "external/rows.csv").write_text(
        "benchmark,label,file,rows,video_of_text,source\nmsvd,Theirs,theirs.npy,texts,,a test\n"
    )
    for command in ("ranks", "statistics", "report results", "summary", "report attention"):
        said = project.run("xpool", *command.split())
    table = (project.folder / "results/mini/tables/msvd.md").read_text()
    assert "X-Pool (imported)" in table
    [row] = [line for line in table.splitlines() if line.startswith("| Theirs (external)")]
    assert "100.0 [" in row
    assert "a test; 9 texts, 9 videos, NOT THE TEST SET of the rows above" in table
    assert "from model_best.pth; " in table or "from model_best.pth." in table
    assert "NOT THERE: Self-attention, seed 1 of every method." in table
    metrics = pd.read_csv(project.folder / "results/mini/metrics.csv")
    assert set(metrics["imported"]) == {"model_best.pth", "pytorch_model.bin.4"}
    assert set(metrics["seed"]) == {0}
    scored = [f"results/mini/similarity/{name}/msvd/0" for name in ("mean_pool", "xpool")]
    assert "B - A" in project.run("xpool", "compare", *scored)
    assert "1 verified: 1 ok" in project.run("xpool", "verify", runs["xpool"])
    assert list((project.folder / "results/mini/attention").glob("msvd-*"))
    project.change(seeds=[0])
    said = project.repro("train_xpool@msvd")
    assert "is imported from model_best.pth" in said
    record = json.loads((project.folder / runs["xpool"] / "provenance.json").read_text())
    assert record["imported"]["file"] == "model_best.pth"
