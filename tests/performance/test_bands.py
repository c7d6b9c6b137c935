"""Acceptance bands, by simulation: how often a healthy run of the pipeline falls out."""

import subprocess
import sys

import numpy as np
import pandas as pd

from performance.bands import LEVEL, bands
from xpool.project.paths import TOP

CENTRES = {"mean_pool": 15.0, "self_attention": 45.0, "xpool": 85.0}


def metrics(rng, spread):
    """One run of the pipeline: three seeds a cell, moved together by its encoder."""
    rows = []
    for benchmark in ("msrvtt", "msvd", "lsmdc"):
        for method, centre in CENTRES.items():
            moved = centre + spread * np.sqrt(centre * (100 - centre)) * rng.normal()
            for seed in range(3):
                for direction, value in (("t2v", moved), ("v2t", 0.0)):
                    rows.append(
                        {
                            "benchmark": benchmark, "method": method, "seed": seed,
                            "direction": direction, "metric": "R@1", "value": value,
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)


def test_a_healthy_run_falls_out_as_seldom_as_the_level_says():
    """Oracle: simulated runs of a known spread, 900 cells."""
    rng, out, cells = np.random.default_rng(0), 0, 0
    for _ in range(100):
        made = bands([metrics(rng, 0.04) for _ in range(3)])
        new = metrics(rng, 0.04)
        means = new[new["direction"] == "t2v"].groupby(["benchmark", "method"])["value"].mean()
        made = made.set_index(["benchmark", "method"])
        out += int(((means < made["low"]) | (means > made["high"])).sum())
        cells += len(made)
    assert out / cells < 3 * (1 - LEVEL)


def test_a_run_that_lost_a_fifth_of_its_recall_falls_out():
    rng = np.random.default_rng(1)
    made = bands([metrics(rng, 0.02) for _ in range(3)]).set_index(["benchmark", "method"])
    assert (0.8 * made["mean"] < made["low"]).all()


def test_one_file_makes_no_band(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "performance.bands", "one.csv"],
        cwd=TOP, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: one.csv: a band needs at least two runs; name more files\n"


def test_the_committed_bands_are_of_all_cells():
    made = pd.read_csv(TOP / "tests" / "bands.csv")
    assert len(made) == 9
    assert (made["low"] <= made["mean"]).all()
    assert (made["mean"] <= made["high"]).all()
    assert (made["high"] - made["low"] < 40).all(), "so wide a band finds nothing"
    assert made["mean"].between(1, 99).all()
