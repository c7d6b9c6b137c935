"""Repositories of Hugging Face, by its own library, from a stand-in of its servers."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from get_inputs import MSVD_IDS, laid, msvd_annotations, msvd_videos, zipped

from xpool.data.get import hub
from xpool.data.get.sources import items

pytestmark = pytest.mark.usefixtures("project")
COMMIT = "a" * 40


@pytest.fixture
def repository(server):
    """Serve a repository of these files; returns a function."""

    def serve(kind, name, files):
        entries = []
        for path, content in files.items():
            digest = hashlib.sha256(content).hexdigest()
            place = f"/{kind}/{name}" if kind == "datasets" else f"/{name}"
            place += f"/resolve/{COMMIT}/{path}"
            server.files[place] = content
            server.headers[place] = {
                "X-Repo-Commit": COMMIT,
                "X-Linked-Size": str(len(content)),
                "X-Linked-Etag": f'"{digest}"',
            }
            lfs = {"oid": digest, "size": len(content), "pointerSize": 130}
            entry = {"type": "file", "path": path, "size": len(content), "oid": "b" * 40}
            entries.append(entry | {"lfs": lfs})
        info = {
            "id": name, "sha": COMMIT, "private": False, "gated": False, "downloads": 0,
            "likes": 0, "tags": [], "siblings": [{"rfilename": path} for path in files],
        }  # fmt: skip
        api = f"/api/{kind}/{name}"
        for revision in ("main", COMMIT):
            server.files[f"{api}/tree/{revision}"] = json.dumps(entries).encode()
            server.files[f"{api}/paths-info/{revision}"] = json.dumps(entries).encode()
            server.files[f"{api}/revision/{revision}"] = json.dumps(info).encode()
        server.files[api] = json.dumps(info).encode()

    return serve


@pytest.fixture
def run(server, tmp_path):
    """Call `xpool get` in a process of its own, which asks the stand-in."""

    def run(*words):
        top = str(Path(hub.__file__).parents[3])
        environment = os.environ | {
            "PYTHONPATH": top, "HF_ENDPOINT": server.url(""), "HF_HUB_CACHE": str(tmp_path / "hub"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }  # fmt: skip
        command = [sys.executable, "-m", "xpool", "get", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)

    return run


def videos():
    return {path.stem: path.read_bytes() for path in Path("data/paper/raw/msvd").rglob("*.avi")}


def test_archives_and_annotations_of_a_repository(repository, run, tmp_path):
    packed = zipped(tmp_path / "a.zip", msvd_videos())
    files = {f"raw_data/{name}": content for name, content in msvd_annotations().items()}
    repository("datasets", "someone/MSVD", files | {"MSVD_Videos.zip": packed, "a.md": b"x"})
    done = run("msvd", "--from", "hf:someone/MSVD")
    assert done.returncode == 0, done.stderr
    assert videos() == {Path(name).stem: data for name, data in msvd_videos().items()}
    assert not list(Path("data").rglob("a.md"))


def test_other_bytes_than_the_repository_states_are_refused(repository, run, server, tmp_path):
    laid(Path("data/paper/raw/msvd"), msvd_annotations())
    packed = zipped(tmp_path / "a.zip", msvd_videos())
    repository("datasets", "someone/MSVD", {"MSVD_Videos.zip": packed})
    place = next(path for path in server.files if "/resolve/" in path)
    wrong = bytearray(packed)
    wrong[60] ^= 1
    server.files[place] = bytes(wrong)
    done = run("msvd", "--from", "hf:someone/MSVD")
    assert done.returncode == 2
    digest = hashlib.sha256(packed).hexdigest()
    assert f"published is {digest}; the download was deleted" in done.stderr.splitlines()[-1]
    assert not videos()
    server.files[place] = packed
    assert run("msvd", "--from", "hf:someone/MSVD").returncode == 0
    assert set(videos()) == set(MSVD_IDS.values())


def test_no_such_repository_is_one_line(run):
    done = run("msvd", "--from", "hf:someone/nothing")
    assert done.returncode == 2
    assert done.stderr.startswith("error: hf:someone/nothing: ")
    assert done.stderr.count("\n") == 1


def test_clip_goes_into_the_cache_where_the_weights_are_looked_for(repository, run, tmp_path):
    source = items()["clip"].parts["weights"][0]
    files = {name: name.encode() * 9 for name in source.take}
    repository("models", source.hub, files | {"flax_model.msgpack": b"x"})
    done = run("clip")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("clip: complete\n")
    found = {p.name: p.read_bytes() for p in (tmp_path / "hub").rglob("snapshots/*/*")}
    assert found == files
    assert "missing: nothing" in run("clip", "--dry-run").stdout
