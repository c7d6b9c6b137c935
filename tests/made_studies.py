"""Made-up trials of all studies, as the stages export them."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from xpool.project import paths
from xpool.report.studies import curves, tables

LEVEL = {"mean_pool": 12.0, "self_attention": 13.0, "attention": 20.0, "top_k": 18.0, "xpool": 30.0}
SIZES = {"n_text": 100, "n_video": 100}


def figures(level, rng):
    r1 = float(np.clip(level + rng.normal(), 0, 100))
    rank = 400 / (r1 + 1)
    return {"R@1": r1, "R@5": 2 * r1, "R@10": 2.5 * r1, "MdR": rank / 2, "MnR": rank} | SIZES


def temperature(benchmarks, rng):
    temperatures = {"xpool": (0.1, 1.0, 10.0), "attention": (0.01, 1.0), "mean_pool": (None,),
                    "top_k": (None,)}  # fmt: skip
    for benchmark, method in itertools.product(benchmarks, temperatures):
        for t, c, learnt, seed in itertools.product(
            temperatures[method], (0.05, 0.01), (True, False), range(3)
        ):
            yield {
                "study": "temperature", "benchmark": benchmark, "part": method,
                "state": "complete", "method": method, "attention_temperature": t,
                "contrastive_temperature": c, "learnt": learnt, "seed": seed,
                **figures(LEVEL[method] - (t or 0), rng),
            }  # fmt: skip


def frame_count(benchmarks, rng):
    for benchmark, frames, seed in itertools.product(benchmarks, (1, 2, 12), range(2)):
        for method, rule in itertools.product(("mean_pool", "xpool"), ("uniform", "rand")):
            yield {
                "study": "frame_count", "benchmark": benchmark, "part": "methods",
                "state": "complete", "method": method, "frames": frames, "sampling": rule,
                "seed": seed, "cost_ms": frames * (1 + 0.1 * rng.random()),
                **figures(LEVEL[method] + frames, rng),
            }  # fmt: skip
        for t in (0.1, 1.0):
            yield {
                "study": "frame_count", "benchmark": benchmark, "part": "surface",
                "state": "complete", "method": "xpool", "frames": frames,
                "attention_temperature": t, "seed": seed, **figures(30 + frames - t, rng),
            }  # fmt: skip


def scene_diversity(benchmarks, rng):
    benchmark = benchmarks[0]
    for method, seed in itertools.product(("mean_pool", "self_attention", "xpool"), range(3)):
        base = {"study": "scene_diversity", "benchmark": benchmark, "state": "complete",
                "method": method, "seed": seed}  # fmt: skip
        for k in (1, 2, 4):
            yield base | {"part": "scenes", "scenes": k} | figures(LEVEL[method] / k, rng)
        for k, draw in itertools.product((0, 1, 4), range(2)):
            lost = {"part": "distractors", "distractors": k, "draw": draw}
            yield base | lost | figures(LEVEL[method] / (k + 1), rng)
        for index, (low, high) in enumerate(((0, 1), (2, 3))):
            of_bin = {"part": "shots", "shots": index, "shots_low": low, "shots_high": high}
            yield base | of_bin | figures(LEVEL[method], rng)


def search(benchmarks, rng):
    for method, number in itertools.product(("mean_pool", "xpool"), range(6)):
        found = figures(LEVEL[method] + number % 4, rng)
        pruned = number == 2
        row = {
            "study": "search", "benchmark": benchmarks[0], "part": method,
            "state": "pruned" if pruned else "complete", "method": method,
            "lr_encoder": 10.0 ** rng.uniform(-4, -2),
        }  # fmt: skip
        if method == "xpool":
            row["heads"] = int(rng.integers(1, 3))
        yield row if pruned else row | found


def variance(benchmarks, rng):
    levels = {"seed": (0, 1, 2), "frame_sampling": ("uniform", "rand"), "threads": (1, 2)}
    for benchmark, source, method in itertools.product(
        benchmarks[:2], levels, ("mean_pool", "xpool")
    ):
        for level in levels[source]:
            yield {
                "study": "variance", "benchmark": benchmark, "part": source, "state": "complete",
                "source": source, "method": method, "level": level, "seed": 0,
                "query_error": 4.0 + rng.random(), **figures(LEVEL[method], rng),
            }  # fmt: skip


STUDIES = {
    "temperature": temperature, "frame_count": frame_count, "scene_diversity": scene_diversity,
    "search": search, "variance": variance,
}  # fmt: skip


def write_studies(params):
    """Write params.yaml, and the export of every study, under the current folder."""
    studies = {"own_models": ["temperature", "frame_count", "search", "variance"],
               "trained_models": ["scene_diversity"]}  # fmt: skip
    block = {"contrastive_temperature": [0.05, 0.01], "learnt": [True, False]}
    whole = params | {"studies": studies, "ablations": {"temperature": block}}
    Path("params.yaml").write_text(yaml.safe_dump(whole))
    rng = np.random.default_rng(3)
    for name, rows in STUDIES.items():
        folder = paths.studies(params["setting"], name)
        folder.mkdir(parents=True)
        pd.DataFrame(rows(params["benchmarks"], rng)).to_csv(folder / "trials.csv", index=False)
        factors = ("attention_temperature", "contrastive_temperature", "learnt", "seed")
        importance = [
            {"study": name, "benchmark": benchmark, "part": part, "factor": factor,
             "importance": 0.4 - 0.1 * index}
            for benchmark, part in itertools.product(params["benchmarks"], ("xpool", "attention"))
            for index, factor in enumerate(factors)
        ]  # fmt: skip
        pd.DataFrame(importance).to_csv(folder / "importance.csv", index=False)


def every_table(protocols):
    """Every table of the studies that :func:`write_studies` wrote."""
    read = curves.read_trials
    diversity = read("scene_diversity")
    part = {name: diversity[diversity["part"] == name] for name in set(diversity["part"])}
    counts = read("frame_count")
    yield tables.temperatures(read("temperature"), protocols)
    yield tables.frame_counts(counts[counts["part"] == "methods"], protocols)
    yield tables.scenes(part["scenes"], protocols)
    for metric in ("R@1", "MdR", "MnR"):
        yield tables.distractors(part["distractors"], protocols, metric)
    yield tables.shots(part["shots"], protocols)
    yield tables.search(read("search"), protocols)
    yield tables.variance(read("variance"), protocols)
