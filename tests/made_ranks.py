"""Made-up ranks, evaluations, captions and shot changes, as the pipeline leaves them."""

import itertools

import numpy as np
import pandas as pd

from xpool.data.manifest import COLUMNS
from xpool.metrics import ranks
from xpool.project import paths
from xpool.statistics.ranks import rank_table
from xpool.training import evaluations

EVALUATIONS = 6
LEADS = {"mean_pool": 0.0, "self_attention": 0.3, "xpool": 1.5}
"""How far a method lifts the right video above the others, in deviations of the noise."""


def write_ranks(params, sizes):
    """Write the ranks of every cell, and the shot changes of every video.

    Args:
        params: as in ``made_results``.
        sizes: texts and videos of each benchmark; a video has its share of the texts.
    """
    here = params["setting"]
    for benchmark, (n_text, n_video) in sizes.items():
        rng = np.random.default_rng(n_text)
        video_of_text = np.sort(np.arange(n_text) % n_video)
        shared = rng.normal(size=(n_text, n_video))  # the difficulty that all runs share
        videos = pd.DataFrame({"video_id": [f"v{i}" for i in range(n_video)]})
        texts = pd.DataFrame({"caption_id": [f"c{i}" for i in range(n_text)]})
        texts["video_id"] = videos["video_id"].to_numpy()[video_of_text]
        for method, seed in itertools.product(["xpool", *params["baselines"]], params["seeds"]):
            scores = shared + 0.5 * rng.normal(size=shared.shape)
            scores[np.arange(n_text), video_of_text] += 1.5 + LEADS[method] + 0.1 * rng.normal()
            file = paths.ranks(here) / method / benchmark / f"{seed}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            table = rank_table(ranks(scores, video_of_text), texts, videos)
            table.to_parquet(file, index=False)
            folder = paths.training(here, method, benchmark, seed)
            write_evaluations(folder, scores, video_of_text, texts, rng)
        write_videos(here, benchmark, texts, videos["video_id"])
    methods = ["xpool", *params["baselines"]]
    cells = list(itertools.product(sizes, methods, params["seeds"]))
    columns = ["benchmark", "method", "seed"]
    pd.DataFrame(cells, columns=columns).to_csv(paths.ranked_cells(here), index=False)


def write_videos(setting, benchmark, texts, videos):
    """Write the manifest of the texts, and rate, length and shot changes of the videos.

    The caption of text i has 2 + i % 5 words; every seventh is that of another video too. Video i
    lasts i + 1 seconds, at 5 frames a second, and has i % 4 shot changes.
    """
    numbers = np.arange(len(texts))
    words = [" ".join(["A", *["very"] * (i % 5), f"thing{i}."]) for i in numbers]
    manifest = texts.assign(
        split="test",
        caption=["The same thing" if i % 7 == 0 else text for i, text in enumerate(words)],
        path=[f"{video}.mp4" for video in texts["video_id"]],
    )
    file = paths.manifest(setting, benchmark)
    file.parent.mkdir(parents=True, exist_ok=True)
    manifest[list(COLUMNS)].to_parquet(file, index=False)
    rates = pd.DataFrame({"path": [f"{video}.mp4" for video in videos], "rate_fps": 5.0})
    rates.to_csv(paths.video_digests(setting, benchmark), index=False)
    shots = paths.shots(setting, benchmark)
    shots.parent.mkdir(parents=True, exist_ok=True)
    numbers = np.arange(len(videos))
    counts = {"shot_changes": numbers % 4, "video_frames": 5 * (numbers + 1)}
    pd.DataFrame({"video_id": videos, **counts}).to_csv(shots, index=False)


def write_evaluations(folder, scores, video_of_text, texts, rng):
    """Write what six evaluations found: the run's scores, each time with other noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, hits = [], texts[evaluations.QUERY]
    for step, split in itertools.product(range(4, 4 * EVALUATIONS + 1, 4), evaluations.SPLITS):
        t2v = ranks(scores + 0.3 * rng.normal(size=scores.shape), video_of_text)["t2v"]
        rows.append({"step": step, "split": split, **t2v.metrics()})
        if split == "test":
            hits = hits.assign(**{str(step): t2v.hits(1)})
    pd.DataFrame(rows).to_csv(folder / "evaluations.csv", index=False)
    hits.to_parquet(folder / "hits.parquet", index=False)
