"""The stage `embeddings` encodes nothing that no run reads, and holds little of it in memory."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from performance.measure import peak_mib
from xpool.encoders import embed
from xpool.encoders.embed import embed_frames
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


class Numbers:
    """Stands for an encoder: a frame's embedding is the level of its first pixel, ``dim`` times."""

    size_px, dim, logit_scale = 8, 2048, torch.zeros(())
    normalise = staticmethod(lambda pixels: pixels)

    def encode_image(self, pixels):
        return (255 * pixels[:, 0, 0, :1]).round().expand(-1, self.dim)


def videos(counts):
    """Square videos; each frame has the number of its video everywhere."""
    for number, count in enumerate(counts):
        pixels = np.full((count, 8, 8, 3), number % 256, np.uint8)
        yield f"v{number}", pixels, np.arange(count, dtype=np.int32), count


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_frames_are_saved_batch_by_batch_as_numpy_saves_them(tmp_path, batch_size):
    counts = [5, 1, 12, 3, 3]
    assert embed_frames(Numbers(), videos(counts), batch_size, True, tmp_path) == len(counts)
    expected = np.repeat(np.arange(5, dtype=np.float32), counts)[:, None].repeat(2048, axis=1)
    np.save(tmp_path / "whole.npy", expected)
    assert (tmp_path / "frames.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    rows = pd.read_parquet(tmp_path / "videos.parquet")
    assert rows["start"].tolist() == [0, 5, 6, 18, 21]


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path):
    def embedded(n_video):
        embed_frames(Numbers(), videos([100] * n_video), 64, True, tmp_path)

    embedded(2)
    peaks = [peak_mib(lambda n=n: embedded(n), torch.device("cpu")) for n in (10, 150)]
    assert (tmp_path / "frames.npy").stat().st_size > 100 * 2**20
    assert peaks[1] < peaks[0] + 30


@pytest.mark.parametrize(("length", "warned"), [(1.0, True), (7.0, False)])
def test_features_of_other_code_are_stored_as_they_are_and_unit_lengths_remarked(
    length, warned, tmp_path, monkeypatch, caplog
):
    """The texts are embedded as for any cache, which the end-to-end test of features checks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(embed, "_complete", lambda *given: None)
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(count, Numbers.dim)).astype(np.float32) for count in (3, 1, 5)]
    arrays = [length * a / np.linalg.norm(a, axis=1, keepdims=True) for a in arrays]
    given = [(f"v{number}", array) for number, array in enumerate(arrays)]
    embed.embed_beside(Numbers(), None, given, None, Path("data/embeddings/msvd"))
    (folder,) = {path.parent for path in tmp_path.rglob("frames.npy")}
    np.testing.assert_array_equal(np.load(folder / "frames.npy"), np.concatenate(arrays))
    rows = pd.read_parquet(folder / "videos.parquet")
    assert rows["start"].tolist() == [0, 3, 4]
    assert [indices.tolist() for indices in rows["indices"]] == [[0, 1, 2], [0], [*range(5)]]
    assert ("all features have length 1" in caplog.text) == warned
