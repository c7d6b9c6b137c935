"""Frames stored once: what docs/running/cost.md says of DVC's links, on two stages."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

TOP = Path(__file__).resolve().parents[2]
STAGES = {
    "frames": {
        "cmd": "mkdir -p data/frames && printf pixels > data/frames/frames-000.bin",
        "outs": ["data/frames"],
    },
    "ranks": {
        "cmd": "mkdir -p results && wc -c data/frames/frames-000.bin > results/ranks.txt",
        "deps": ["data/frames"],
        "outs": ["results"],
    },
}


@pytest.mark.slow
def test_frames_can_be_linked_while_results_are_copies(tmp_path):
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
    }

    def run(*command):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    run("git", "init", "--quiet")
    run("dvc", "init", "--quiet")
    shutil.copy(TOP / ".dvc/config", tmp_path / ".dvc/config")
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    pixels, ranks = tmp_path / "data/frames/frames-000.bin", tmp_path / "results/ranks.txt"

    lines = (TOP / "docs/running/cost.md").read_text().splitlines()
    commands = [line.split("#")[0].split() for line in lines if line.startswith("dvc ")]
    assert [command[1] for command in commands] == ["config", "repro", "config"]
    for command in commands:
        run(*command)
    run("dvc", "repro")
    run("dvc", "checkout")
    assert pixels.stat().st_nlink == 2
    assert not pixels.stat().st_mode & 0o222, "nobody may write"
    assert ranks.stat().st_nlink == 1
    assert "up to date" in run("dvc", "status")
