"""The pipeline on real annotations and real videos, where they are available."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from projects import Project

SHARED = Path(__file__).resolve().parents[2] / "shared"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED.is_dir(), reason="the real files are not available"),
]

MODEL = "ViT-S-32-alt"
"""Small, at CLIP's real image size."""


@pytest.fixture(scope="module")
def project(tmp_path_factory, commands):
    """The paper's setting with a random encoder; missing videos are allowed, nothing is trained."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("real")
    torch.manual_seed(0)
    weights = folder / "random.safetensors"
    save_file(open_clip.create_model(MODEL).state_dict(), weights)
    made = Project(
        folder / "project",
        commands,
        setting="paper",
        benchmarks=["msrvtt", "msvd"],
        real=["msrvtt", "msvd"],
        baselines=["mean_pool"],
        encoder={"library": "openclip", "model": MODEL, "pretrained": str(weights)},
        manifest__msrvtt={"training_videos": "9k", "val_videos": 500, "allowed_missing": 1.0},
        manifest__msvd={"allowed_missing": 1.0},
        generate__benchmarks=[],
        studies={"own_models": [], "trained_models": []},  # no clip is in a validation split
        ablations__scene_diversity__scenes=[],
        frames__short_side_px=224,
        train__epochs=0,
    )  # fmt: skip
    raw = made.folder / "data" / "paper" / "raw"
    for name, videos in (("msrvtt", "videos/all"), ("msvd", "YouTubeClips")):
        shutil.copytree(SHARED / "annotations" / name, raw / name)
        shutil.copytree(SHARED / "clips" / name, raw / name / videos)
        # the originals may be read-only
        for path in (raw / name).rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
    with zipfile.ZipFile(raw / "msrvtt" / "MSRVTT_data.json.zip") as archive:
        archive.extractall(raw / "msrvtt")
    made.repro()
    return made


def test_manifest_reports_what_is_missing_by_name(project):
    folder = project.folder / "data/paper/manifest"
    report = json.loads((folder / "msvd.report.json").read_text())
    assert report["synthetic"] is False
    assert "videos_missing" in json.dumps(report)
    rows = pd.read_parquet(folder / "msvd.parquet")
    assert rows.groupby("split")["video_id"].nunique().to_dict() == {"test": 5, "train": 7}
    rows = pd.read_parquet(folder / "msrvtt.parquet")
    assert set(rows["caption"]) >= {
        "a person is connecting something to system",
        "a little girl does gymnastics",
    }


def test_frames_hold_all_clips_at_their_own_aspect(project):
    sizes = []
    for name, count in (("msrvtt", 3), ("msvd", 12)):
        index = pd.read_parquet(project.folder / f"data/paper/frames/{name}/index.parquet")
        assert len(index) == count
        assert (index[["height", "width"]].min(axis=1) == 224).all()
        sizes += index[["height", "width"]].to_numpy().tolist()
    assert len({tuple(size) for size in sizes}) > 1


@pytest.mark.parametrize("method", ["xpool", "mean_pool"])
def test_similarity_covers_the_real_captions(project, method):
    folder = project.folder / f"results/paper/similarity/{method}/msvd/0"
    matrix = np.load(folder / "similarity.npy")
    texts = pd.read_parquet(folder / "texts.parquet")
    captions = json.loads((SHARED / "annotations/msvd/captions_msvd.json").read_text())
    videos = pd.read_parquet(folder / "videos.parquet")["video_id"]
    assert matrix.shape == (sum(len(captions[video]) for video in videos), 5)
    assert list(texts["video_id"].unique()) == list(videos)
    assert np.isfinite(matrix).all()
    assert np.abs(matrix).max() <= 1 + 1e-5


def test_tables_of_real_data_are_not_called_synthetic(project):
    text = (project.folder / "results/paper/tables/msvd.md").read_text()
    assert "SYNTHETIC" not in text
