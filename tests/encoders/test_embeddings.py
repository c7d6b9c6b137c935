"""The stage `embeddings` encodes nothing that no run reads."""

from pathlib import Path

import yaml

from xpool.project import paths
from xpool.stages import embeddings


def test_runs_that_read_frames_get_an_empty_folder(tmp_path, monkeypatch):
    """There is neither an encoder nor a cache of frames here; older embeddings do not stay."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(
        yaml.safe_dump({"setting": "paper", "train": {"reads": "frames"}})
    )
    folder = paths.embeddings("paper", "lsmdc")
    folder.mkdir(parents=True)
    (folder / "frames.npy").write_bytes(b"old")
    embeddings.main("lsmdc")
    assert folder.is_dir()
    assert not list(folder.iterdir())
