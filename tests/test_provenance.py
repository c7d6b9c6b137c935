"""What a trial is recorded with: of the code that runs, and of the params as they are (oracle)."""

import hashlib
import subprocess
from pathlib import Path

import pytest
import torch

from xpool import provenance as module
from xpool.provenance import provenance

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch):
    """A folder that may become a git checkout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "TOP", tmp_path)
    Path("params.yaml").write_text("setting: mini\n")
    module._commit.cache_clear()
    yield
    module._commit.cache_clear()


def git(*words):
    flags = ["-c", "user.name=t", "-c", "user.email=t@t"]
    done = subprocess.run(["git", *flags, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def committed():
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "-m", "t")
    return git("rev-parse", "HEAD")


def test_commit_is_that_of_the_checkout():
    commit = committed()
    assert provenance(CPU)["commit"] == commit


def test_a_changed_file_is_marked_and_a_new_one_is_not():
    commit = committed()
    Path("notes.txt").touch()
    assert provenance(CPU)["commit"] == commit
    module._commit.cache_clear()
    Path("params.yaml").write_text("setting: paper\n")
    assert provenance(CPU)["commit"] == f"{commit}+"


def test_commit_is_the_one_that_the_process_began_with():
    commit = committed()
    assert provenance(CPU)["commit"] == commit
    Path("new.py").touch()
    assert committed() != commit
    assert provenance(CPU)["commit"] == commit


def test_no_checkout_is_said(monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(Path.cwd().parent))
    assert provenance(CPU)["commit"] == "not a git checkout"


def test_params_are_those_of_the_moment():
    for text in ("setting: mini\n", "setting: paper\n"):
        Path("params.yaml").write_text(text)
        expected = hashlib.sha256(text.encode()).hexdigest()[:16]
        assert provenance(CPU)["params"] == expected


def test_device_and_versions_are_named():
    found = provenance(CPU)
    assert found["device"].startswith("cpu (")
    assert torch.__version__ in found["versions"]
