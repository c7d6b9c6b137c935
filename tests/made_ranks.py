"""Made-up ranks, looks and shot changes of every cell, as the pipeline leaves them."""

import itertools

import numpy as np
import pandas as pd

from xpool import looks, paths
from xpool.metrics import ranks
from xpool.ranks import rank_table

LOOKS = 6
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
        owners = np.sort(np.arange(n_text) % n_video)
        shared = rng.normal(size=(n_text, n_video))  # what makes a query hard for every run
        videos = pd.DataFrame({"video_id": [f"v{i}" for i in range(n_video)]})
        texts = pd.DataFrame({"caption_id": [f"c{i}" for i in range(n_text)]})
        texts["video_id"] = videos["video_id"].to_numpy()[owners]
        for method, seed in itertools.product(["xpool", *params["baselines"]], params["seeds"]):
            scores = shared + 0.5 * rng.normal(size=shared.shape)
            scores[np.arange(n_text), owners] += 1.5 + LEADS[method] + 0.1 * rng.normal()
            file = paths.ranks(here) / method / benchmark / f"{seed}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            rank_table(ranks(scores, owners), texts, videos).to_parquet(file, index=False)
            write_looks(paths.training(here, method, benchmark, seed), scores, owners, texts, rng)
        shots = paths.shots(here, benchmark)
        shots.parent.mkdir(parents=True, exist_ok=True)
        videos.assign(shot_changes=np.arange(n_video) % 4).to_csv(shots, index=False)


def write_looks(folder, scores, owners, texts, rng):
    """Write what six evaluations saw: the run's scores, each time with other noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, hits = [], texts[looks.QUERY]
    for step, split in itertools.product(range(4, 4 * LOOKS + 1, 4), looks.SPLITS):
        t2v = ranks(scores + 0.3 * rng.normal(size=scores.shape), owners)["t2v"]
        rows.append({"step": step, "split": split, **t2v.metrics()})
        if split == "test":
            hits = hits.assign(**{str(step): t2v.hits(1)})
    pd.DataFrame(rows).to_csv(folder / "looks.csv", index=False)
    hits.to_parquet(folder / "hits.parquet", index=False)
