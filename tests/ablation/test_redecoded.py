"""Videos decoded by another decoder and embedded: oracles: PyAV and the pipeline's steps."""

import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import worlds
import yaml

from xpool.ablation import redecoded
from xpool.data.frame_cache import FrameCache, FramesParams
from xpool.data.manifest import COLUMNS, read_videos
from xpool.data.packing import pack
from xpool.data.videos import decode_decord
from xpool.data.videos.decode import decode
from xpool.data.videos.video_file import DecodeError
from xpool.encoders import embed
from xpool.encoders.base import open_encoder
from xpool.encoders.embedding_cache import EmbeddingCache
from xpool.mini.generate import write_video
from xpool.project import paths
from xpool.project.params import read
from xpool.project.paths import TOP

SPLITS = {"train": 5, "val": 3, "test": 2}


def draw(path, seed, frames=20):
    """Write blocks of saturated colours, on which colour conversions differ."""
    blocks = np.random.default_rng(seed).choice(np.array([0, 255], np.uint8), (frames, 6, 8, 3))
    write_video(path, blocks.repeat(8, axis=1).repeat(8, axis=2), 64, 48, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project with videos, and with what the steps up to the embeddings make of them."""
    folder = tmp_path_factory.mktemp("project")
    params = yaml.safe_load((TOP / "params.yaml").read_text())
    params["train"]["frames"], params["frames"]["counts"] = 4, [2, 4]
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        worlds.write_encoder(paths.encoder("mini"))
        rows = []
        for split, count in SPLITS.items():
            for number in range(count):
                name = f"{split}{number}"
                draw(paths.raw("mini", "msvd") / f"{name}.mp4", len(rows), 15 + len(rows))
                rows += [
                    (split, name, f"{name}#{k}", f"{k} of {name}", f"{name}.mp4") for k in "ab"
                ]
        manifest = paths.manifest("mini", "msvd")
        manifest.parent.mkdir(parents=True)
        pd.DataFrame(rows, columns=list(COLUMNS)).to_parquet(manifest)
        frames = read("frames", FramesParams)
        Path("work").mkdir()
        cache = FrameCache(
            pack(Path("work"), read_videos(manifest), paths.raw("mini", "msvd"), frames, 1)
        )
        embed.embed(
            open_encoder(paths.encoder("mini")).eval(),
            pd.read_parquet(manifest),
            ((video_id, *cache.stored(video_id)) for video_id in cache.video_ids),
            embed.EmbeddingsParams(batch_size=8, words=True),
            frames.antialias,
            cache.decoder,
            paths.embeddings("mini", "msvd"),
        )
    return folder


@pytest.fixture(autouse=True)
def _here(folder, monkeypatch):
    monkeypatch.chdir(folder)


def test_decord_reads_the_frames_that_pyav_reads(tmp_path):
    draw(tmp_path / "v.mp4", 0)
    wanted = (tmp_path / "v.mp4", lambda length: [0, 7, length - 1], 32, True)
    pixels, indices, length, _ = decode_decord.decode(*wanted)
    expected, expected_indices, expected_length, _ = decode(*wanted)
    assert (indices.tolist(), length) == (expected_indices.tolist(), expected_length)
    # builds of FFmpeg may differ by a level or two in converting colours
    assert np.abs(pixels.astype(int) - expected).max() <= 2


def test_other_colours_are_other_pixels_of_the_same_frames(tmp_path):
    """Red and green are told apart by less, or more, than a rounding."""
    draw(tmp_path / "v.mp4", 0)
    wanted = (tmp_path / "v.mp4", lambda length: [3, 4], 48, True)
    usual = decode(*wanted)[0].astype(int)
    other = decode(*wanted, colours="ITU709")[0].astype(int)
    assert usual.shape == other.shape
    assert 2 < np.abs(usual - other).mean() < 40
    assert np.corrcoef(usual.ravel(), other.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("content", [None, b"", b"no video"])
def test_what_is_no_video_is_a_decode_error(tmp_path, content):
    if content is not None:
        (tmp_path / "v.mp4").write_bytes(content)
    with pytest.raises(DecodeError, match=r"there is no such|is empty|does not open as a video"):
        decode_decord.decode(tmp_path / "v.mp4", lambda length: [0], 32, True)


def test_embeddings_are_those_of_the_pipeline_but_for_the_decoder(tmp_path):
    """Texts to the bit, frames as the same pixels embed in other batches; no test video."""
    frames = read("frames", FramesParams)
    own = EmbeddingCache(paths.embeddings("mini", "msvd"))
    judged = (own.texts["split"] != "test").to_numpy()
    found = {
        decoder: EmbeddingCache(redecoded.redecoded("msvd", decoder, tmp_path))
        for decoder in redecoded.JOBS
    }
    videos = list(dict.fromkeys(own.texts["video_id"][judged]))
    rows, mask = own.sampled(videos, 4, frames)
    expected = own.frames(rows)
    for cache in found.values():
        assert cache.texts.equals(own.texts[judged].reset_index(drop=True))
        assert cache.text.equal(own.text[np.flatnonzero(judged)])
        words, expected_words = cache.words(), own.words()[torch.from_numpy(judged)].alone()
        assert words.values.equal(expected_words.values)
        assert words.count.equal(expected_words.count)
        assert (cache.dim, cache.logit_scale) == (own.dim, own.logit_scale)
        assert cache.sampled(videos, 4, frames)[1].equal(mask)
    embedded = {
        name: cache.frames(cache.sampled(videos, 4, frames)[0]) for name, cache in found.items()
    }
    assert np.allclose(embedded["pyav"], expected, atol=1e-5)
    assert np.allclose(embedded["decord"], expected, atol=0.1)
    apart = {name: float((value - expected).norm()) for name, value in embedded.items()}
    assert apart["pyav_bt709"] > 10 * max(apart["pyav"], 1e-6)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == sorted(found)


def test_two_that_ask_at_once_make_it_once(tmp_path, monkeypatch):
    made = []

    def slow(benchmark, job, work):
        made.append(job)
        time.sleep(0.3)
        (work / "embeddings").mkdir()
        return work / "embeddings"

    monkeypatch.setattr(redecoded, "_embed", slow)
    ask = lambda: redecoded.redecoded("msvd", "pyav", tmp_path)  # noqa: E731
    both = [threading.Thread(target=ask) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert made == [decode]
    assert ask().is_dir()
