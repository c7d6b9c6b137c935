"""Made-up results of three benchmarks, methods and seeds, as the pipeline leaves them."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from xpool.project import paths
from xpool.project.paths import TOP
from xpool.statistics.files.external import COLUMNS as EXTERNAL
from xpool.statistics.slices.effects import INTERACTIONS, SLICES

PARAMS = {
    "setting": "mini",
    "benchmarks": ["msrvtt", "msvd", "lsmdc"],
    "baselines": ["self_attention", "mean_pool"],
    "seeds": [0, 1, 2],
    "selection": "val",
    "mixing": "refuse",
    "post_processing": {"members": {}, "bank": None},
    "slices": {
        "attributes": ["caption_words", "relation_words", "duplicates", "video_s", "shots"],
        "files": {},
    },
    "manifest": {
        "msrvtt": {"training_videos": "9k", "val_videos": 100, "allowed_missing": 0.0},
        "msvd": {"allowed_missing": 0.0},
        "lsmdc": {"test_clips": 999, "allowed_missing": 0.01},
    },
    "frames": {"sampling": "uniform", "short_videos": "mask", "short_side_px": 48},
    "encoder": {"model": "tiny", "pretrained": "mini_world"},
    "train": {"reads": "embeddings", "frames": 12, "epochs": 3},
}
OPENAI = ("a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",)
"""SHA-256 of the weights of openai/clip-vit-base-patch32, as other projects have recorded it."""
SIZES = {"msrvtt": (200, 200), "msvd": (1043, 100), "lsmdc": (199, 199)}
PUBLISHED_SIZES = {"msrvtt": (1000, 1000), "msvd": (27763, 670), "lsmdc": (999, 999)}
TRAINING = {"msrvtt": (9000, 180_000), "msvd": (1200, 48_774), "lsmdc": (101_046, 101_079)}
RECALLS = ("R@1", "R@5", "R@10")
LEVEL = {"mean_pool": 10.0, "self_attention": 11.5, "xpool": 27.0, "top_k": 20.0}


def sizes_of(params):
    """Texts and videos of each test split; those of the paper's setting are all there."""
    return SIZES if params["setting"] == "mini" else PUBLISHED_SIZES


def metrics_of(params, rng):
    """Rows as ``xpool.statistics.ranks`` writes them: recalls rise with K, ranks fall."""
    methods = sorted(["xpool", *params["baselines"]])
    for benchmark, method, seed in itertools.product(
        sorted(params["benchmarks"]), methods, sorted(params["seeds"])
    ):
        for direction in ("t2v", "v2t"):
            level = LEVEL.get(method, 15.0) + rng.normal()
            values = {f"R@{k}": level * (1 + 0.25 * i) for i, k in enumerate((1, 5, 10, 50))}
            values |= {"MdR": 200 / level, "MnR": 400 / level + rng.random()}
            values |= {"nDCG@10": level * 1.3, "MRR": level * 1.2, "tied": 0.5}
            if direction == "t2v":
                values |= {"R@1 dup": values["R@1"] + 2, "dup": 4.0}
            for metric, value in values.items():
                yield {
                    "benchmark": benchmark, "method": method, "seed": seed, "split": "test",
                    "selection": params["selection"], "direction": direction, "metric": metric,
                    "value": value, "mixed": "", "imported": "",
                    "n_text": sizes_of(params)[benchmark][0],
                    "n_video": sizes_of(params)[benchmark][1],
                }  # fmt: skip


def statistics_of(params, metrics):
    """Tables of the stage ``statistics`` that fit the metrics.

    A lead in R@K is more than noise from 5 points with Holm's correction over the column, and from
    10 points over the table.
    """
    keys = ["benchmark", "method", "direction", "metric"]
    extra = ("tied", "R@1 dup", "dup")
    kept = metrics[~metrics["metric"].isin(extra)].groupby(keys, sort=False)["value"]
    cells = kept.agg(mean="mean", std="std", n_seeds="count").reset_index()
    cells = cells.assign(ci_low=cells["mean"] - 3, ci_high=cells["mean"] + 3, n_independent=150.0)
    means = cells.set_index(keys)["mean"]
    methods = sorted(["xpool", *params["baselines"]], key=lambda name: (name == "xpool", name))
    lines = []
    for benchmark, direction, metric, (against, method) in itertools.product(
        params["benchmarks"], ("t2v", "v2t"), ("R@1", "R@5", "R@10", "MdR", "MnR"),
        itertools.combinations(methods, 2),
    ):  # fmt: skip
        first, second = (means[benchmark, m, direction, metric] for m in (against, method))
        lead = abs(second - first) if metric.startswith("R@") else 0
        lines.append(
            {
                "benchmark": benchmark, "direction": direction, "metric": metric,
                "method": method, "against": against, "first": first, "second": second,
                "delta": second - first, "ci_low": second - first - 4,
                "ci_high": second - first + 4, "p_value": 0.02 if lead > 2 else 0.5,
                "test": "made-up test", "n_seeds": len(params["seeds"]), "detectable": 6.25,
                "p_column": 0.03 if lead > 5 else 0.6, "p_table": 0.0004 if lead > 10 else 0.7,
            }
        )  # fmt: skip
    wins = [
        {
            "benchmark": benchmark, "against": against, "shots_low": low, "shots_high": high,
            "n_queries": 50, "n_videos": 50, "won": 40.0 + low, "lost": 20.0, "net": 20.0 + low,
            "ci_low": 5.0, "ci_high": 35.0,
        }
        for benchmark in params["benchmarks"]
        for against in params["baselines"]
        for low, high in ((0, 0), (1, 3))
    ]  # fmt: skip
    selection = [
        {
            "benchmark": benchmark, "method": method, "seed": seed, "rule": rule, "step": 40,
            **{name: means[benchmark, method, "t2v", name] + more for name in RECALLS},
            "n_looks": 10,
            "chance": 0.4 if more else 0.0, "chance_high": 1.25 if more else 0.0,
        }
        for benchmark in params["benchmarks"]
        for method in methods
        for seed in params["seeds"]
        for rule, more in (("val", 0.0), ("last", 0.0), ("test_window", 1.5))
    ]  # fmt: skip
    slices, interactions = slices_of(params)
    tables = {
        "comparisons": lines, "wins": wins, "selection": selection, "slices": slices,
        "interactions": interactions,
    }  # fmt: skip
    found = {name: pd.DataFrame(rows) for name, rows in tables.items()}
    return {"cells": cells, "external": pd.DataFrame(columns=list(EXTERNAL))} | found


def slices_of(params):
    """Rows of two attributes: X-Pool's lead grows with the caption; one topic is too small."""
    slices, interactions = [], []
    bins = [
        ("caption_words", 1, 3.0, 5.0, "", 120), ("caption_words", 2, 6.0, 12.0, "", 80),
        ("topic", 1, np.nan, np.nan, "music", 195), ("topic", 2, np.nan, np.nan, "", 5),
    ]  # fmt: skip
    for benchmark in params["benchmarks"]:
        common = {"benchmark": benchmark, "n_seeds": len(params["seeds"])}
        for (name, number, low, high, category, n), method in itertools.product(
            bins, sorted(["xpool", *params["baselines"]])
        ):
            row = {
                "attribute": name, "bin": number, "low": low, "high": high, "category": category,
                "n_queries": n, "n_videos": n, "method": method, "R@1": LEVEL.get(method, 15.0),
                "delta": np.nan, "ci_low": np.nan, "ci_high": np.nan, "p_value": np.nan,
                "p_table": np.nan,
            }  # fmt: skip
            if method != "xpool":
                lead = 10.0 * number
                row["delta"] = lead
                if n >= 10:
                    row |= {"ci_low": lead - 15, "ci_high": lead + 15, "p_value": 0.1 / number**2}
                    row["p_table"] = 0.04 if number == 2 else 0.2
            slices.append(common | row)
        interactions += [
            {
                "benchmark": benchmark, "attribute": "caption_words", "method": method, "bin": 2,
                "minus_bin": 1, "delta": 10.0, "ci_low": 1.0, "ci_high": 19.0, "p_value": 0.03,
                "p_table": 0.03,
            }
            for method in params["baselines"]
        ]  # fmt: skip
    return pd.DataFrame(slices, columns=list(SLICES)), pd.DataFrame(
        interactions, columns=list(INTERACTIONS)
    )


VIDEOS = {
    "count": 1970,
    "header_unreadable": 0,
    "like_published_copies": 0,
    "rate_fps": {"least": 14.98, "median": 29.97, "greatest": 30.0},
    "short_side_px": {"least": 240, "median": 240, "greatest": 240},
}
"""What the manifest's report says of the videos."""


def write_encoder(params, architecture="ViT-B/32", weights=OPENAI):
    """Write the description of an encoder, by default of the one of the published figures."""
    folder = paths.encoder(params["setting"])
    folder.mkdir(parents=True, exist_ok=True)
    about = params["encoder"] | {"architecture": architecture, "weights": list(weights)}
    (folder / "encoder.json").write_text(json.dumps(about))


def cost_of(method):
    """X-Pool is the slowest and needs frames; its shortlist of 10 is nearly exact."""
    xpool = method == "xpool"
    curve = [
        {
            "k": k,
            "R@1": 27.0 - miss,
            "same_first": 100.0 - miss,
            "same_ten": 90.0,
            "ms_per_query": k,
        }
        for k, miss in ((1, 20.0), (10, 1.0), (99, 0.0))
    ]
    return {
        "family": "text-conditioned" if xpool else "text-agnostic", "parameters": 21_184 * xpool,
        "bytes_per_video": 256 * (12 if xpool else 1), "ms_per_query": 0.5 if xpool else 0.01,
        "device": "cpu (made)", "two_stage": curve if xpool else [],
    }  # fmt: skip


def write_results(params=PARAMS, curves=True):
    """Write params.yaml, the metrics, the statistics and the curves under the current folder."""
    Path("params.yaml").write_text(yaml.safe_dump(params))
    write_encoder(params)
    rng = np.random.default_rng(7)
    table = paths.metrics_table(params["setting"])
    table.parent.mkdir(parents=True, exist_ok=True)
    metrics = pd.DataFrame(metrics_of(params, rng))
    metrics.to_csv(table, index=False)
    folder = paths.statistics(params["setting"])
    folder.mkdir(exist_ok=True)
    for name, frame in statistics_of(params, metrics).items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    for method in ["xpool", *params["baselines"]]:
        file = paths.cost(params["setting"], method)
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({name: cost_of(method) for name in params["benchmarks"]}))
    for benchmark in params["benchmarks"]:
        report = paths.manifest_report(params["setting"], benchmark)
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(json.dumps({"videos": VIDEOS}))
    for benchmark, method, seed in itertools.product(
        params["benchmarks"], ["xpool", *params["baselines"]], params["seeds"] if curves else []
    ):
        curve = pd.DataFrame({"step": np.arange(40, 401, 40)})
        curve["epoch"] = curve["step"] / 80
        curve["loss"] = 3 * np.exp(-curve["epoch"]) + 0.05 * rng.random(10)
        if benchmark != "msvd":  # as a run by the rule "last" without a validation split
            curve["R@1"] = LEVEL.get(method, 15.0) * (1 - np.exp(-curve["epoch"]))
        folder = paths.training(params["setting"], method, benchmark, seed)
        folder.mkdir(parents=True, exist_ok=True)
        curve.to_csv(folder / "curve.csv", index=False)
        videos, captions = TRAINING[benchmark]
        kept = params["manifest"][benchmark].get("val_videos", 0)
        record = {"training_videos": videos - kept, "training_captions": captions - 20 * kept}
        (folder / "provenance.json").write_text(json.dumps(record))


def copy_notebook(name):
    """Put one of the project's notebooks under the current folder."""
    Path("notebooks").mkdir(exist_ok=True)
    shutil.copy(TOP / "notebooks" / f"{name}.ipynb", "notebooks")
