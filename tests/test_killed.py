"""The real pipeline, killed with SIGKILL in the middle of frames and of training."""

import re
import shutil

import pytest
from projects import Project

pytestmark = pytest.mark.slow

HELD = """

import sys
import time
from pathlib import Path
_free, _calls = {name}, 0


def {name}(*arguments):
    global _calls
    _calls += 1
    while _calls > {calls} and {word!r} in " ".join(sys.orig_argv) and Path("hold-{name}").exists():
        time.sleep(0.01)
    return _free(*arguments)
"""
"""Appended to a module of the copy: its step cannot end before it is killed, however fast."""


def test_killed_in_frames_and_in_training_ends_the_same(tmp_path):
    small = {
        "benchmarks": ["msrvtt"],
        "baselines": ["mean_pool"],
        "generate__benchmarks": ["msrvtt"],
        "train__evaluations_per_epoch": 10,
    }
    stage = ["ranks"]
    killed = Project(tmp_path / "killed", **small)
    for module, name, word in (("decode", "decode", ""), ("selection", "score", "xpool.xpool")):
        with (killed.folder / f"xpool/{module}.py").open("a") as code:
            code.write(HELD.format(name=name, calls=5, word=word))
        (killed.folder / f"hold-{name}").touch()
    work = killed.folder / ".work"

    def in_frames():
        return any(p.stat().st_size > 0 for p in work.glob("frames/*/journal.jsonl"))

    def in_training():
        return any(work.glob("train/*xpool*/step-*"))

    killed.repro_killed_when(in_frames, *stage)
    assert not (killed.folder / "data/mini/frames/msrvtt").exists()
    (killed.folder / "hold-decode").unlink()
    killed.repro_killed_when(in_training, *stage)
    assert "resuming: " in (killed.folder / "killed.log").read_text(), "frames did not resume"
    assert not list((killed.folder / "results").glob("mini/train/xpool/**/checkpoint.safetensors"))
    (killed.folder / "hold-score").unlink()
    output = killed.repro(*stage)
    assert re.search(r"resuming at step \d+ of", output), "training did not resume"
    metrics = killed.folder / "results/mini/metrics.json"
    before = metrics.read_bytes()
    metrics.unlink()
    cells = ("train_xpool@msrvtt", "train_baselines@mean_pool-msrvtt")
    evaluations = ("evaluate_xpool", "evaluate_baselines@mean_pool")
    # the same again, uninterrupted; finished runs would not be trained again
    shutil.rmtree(work / "train")
    again = killed.repro(
        "--force", "--single-item", "frames@msrvtt", "embeddings@msrvtt", *cells, *evaluations,
        *stage,
    )  # fmt: skip
    assert again.count("Running stage") == 7
    assert "resuming" not in again
    assert metrics.read_bytes() == before
