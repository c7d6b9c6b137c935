"""The real pipeline, killed with SIGKILL in the middle of frames and of training."""

import re

import pytest
from projects import Project

pytestmark = pytest.mark.slow

SLOWED = """

import time
_quick = {name}


def {name}(*arguments):
    time.sleep({seconds})
    return _quick(*arguments)
"""
"""Appended to a module of the copy: a fast machine must not finish before it is killed."""


def test_killed_in_frames_and_in_training_ends_the_same(tmp_path):
    small = {
        "benchmarks": ["msrvtt"],
        "baselines": ["mean_pool"],
        "generate__benchmarks": ["msrvtt"],
        "generate__msrvtt__videos": {"train": 150, "val": 0, "test": 30},
        "train__evaluations_per_epoch": 10,
    }
    stage = ["ranks"]
    whole = Project(tmp_path / "whole", **small)
    whole.repro(*stage)
    killed = Project(tmp_path / "killed", **small)
    for module, name, seconds in (("decode", "decode", 0.03), ("selection", "score", 0.2)):
        with (killed.folder / f"xpool/{module}.py").open("a") as code:
            code.write(SLOWED.format(name=name, seconds=seconds))
    work = killed.folder / ".work"

    def in_frames():
        return any(p.stat().st_size > 0 for p in work.glob("frames/*/journal.jsonl"))

    def in_training():
        return any(work.glob("train/*xpool*/step-*"))

    killed.repro_killed_when(in_frames, *stage)
    assert not (killed.folder / "data/mini/frames/msrvtt").exists()
    killed.repro_killed_when(in_training, *stage)
    assert "resuming: " in (killed.folder / "killed.log").read_text(), "frames did not resume"
    assert not list((killed.folder / "results").glob("mini/train/xpool/**/checkpoint.safetensors"))
    output = killed.repro(*stage)
    assert re.search(r"resuming at step \d+ of", output), "training did not resume"
    name = "results/mini/metrics.json"
    assert (killed.folder / name).read_bytes() == (whole.folder / name).read_bytes()
