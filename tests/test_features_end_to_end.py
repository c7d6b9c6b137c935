"""Features of other code in place of videos, to the tables.

Oracle: the same benchmark with its videos. Its embeddings of the sampled frames, written as one
array a video, must give the same figures to the last digit.
"""

import numpy as np
import pandas as pd
from projects import Project

FRAMES = 4
METHODS = ("xpool", "mean_pool")


def run(project, *words):
    return project.run("python", "-m", "xpool", *words)


def scored(project):
    """Embed, train and score, and return all metrics."""
    for stage in ("manifest", "frames", "embeddings"):
        run(project, stage, "--benchmark", "msvd")
    for method in METHODS:
        run(project, "train", "--method", method, "--benchmark", "msvd")
        run(project, "evaluate", "--method", method)
    run(project, "ranks")
    return pd.read_csv(project.folder / "results/mini/metrics.csv")


def test_features_equal_to_our_embeddings_give_the_same_figures(tmp_path, commands):
    project = Project(
        tmp_path / "copy",
        commands,
        benchmarks=["msvd"],
        generate__benchmarks=["msvd"],
        baselines=["mean_pool"],
        seeds=[0],
        studies={"own_models": [], "trained_models": []},
        frames__counts=[FRAMES],
        frames__rules=["uniform"],
        train__frames=FRAMES,
    )
    for words in (["check"], ["generate", "--benchmark", "msvd"], ["weights"]):
        run(project, *words)
    expected = scored(project)
    cache = project.folder / "data/mini/embeddings/msvd"
    frames = np.load(cache / "frames.npy")
    arrays = project.folder / "data/mini/raw/msvd/clip-features"
    arrays.mkdir()
    for row in pd.read_parquet(cache / "videos.parquet").itertuples():
        np.save(arrays / f"{row.video_id}.npy", frames[row.start : row.start + len(row.indices)])
    for video in (project.folder / "data/mini/raw/msvd/YouTubeClips").iterdir():
        video.unlink()  # nothing reads them any more

    project.change(manifest__msvd={"allowed_missing": 0.0, "features": "CLIP, 1 frame a second"})
    run(project, "check")
    found = scored(project)
    np.testing.assert_array_equal(np.load(cache / "frames.npy"), frames)
    pd.testing.assert_frame_equal(found, expected)
    for words in (["shots"], ["statistics"], ["report", "results"]):
        run(project, *words)
    table = (project.folder / "results/mini/tables/msvd.md").read_text()
    assert "FEATURES OF OTHER CODE (CLIP, 1 frame a second) in place of videos" in table
    assert pd.read_csv(project.folder / "results/mini/statistics/wins.csv").empty
    said = project.run("python", "-m", "xpool", "report", "attention", fails=True)
    assert "no frames to show, because features of other code" in said
