"""Generated worlds that differ in the number of scenes alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from worlds import write_encoder

from xpool.data.frame_cache import FramesParams
from xpool.encoders.embedding_cache import EmbeddingCache
from xpool.mini import drawing, world
from xpool.mini.scenes import WorldParams, draw, texts_of
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.params import validate
from xpool.stages import scenes

WORLD = {
    "seed": 0,
    "videos": {"train": 6, "val": 4},
    "captions": {"train": 5, "val": 2},
    "duration_s": [3, 4],
    "rate_fps": 8,
    "size": [48, 32],
}
FRAMES = {
    "counts": [4], "rules": ["uniform"], "sampling": "uniform", "seed": 0, "short_side_px": 32,
    "antialias": True, "short_videos": "mask", "storage": "raw", "timeout_s": 10.0,
    "allowed_cut": 0.0, "allowed_unreadable": 0.0,
}  # fmt: skip


def params(**changes):
    return WorldParams(**WORLD | changes)


def frames(**changes):
    return FramesParams(**FRAMES | changes)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_captions_describe_the_scenes_of_their_video_in_turn(count):
    texts, shown = texts_of(params(), count)
    assert texts.groupby("split")["video_id"].nunique().to_dict() == {"train": 6, "val": 4}
    assert texts.groupby("video_id").size()[["train0", "val0"]].tolist() == [5, 2]
    assert not texts["caption_id"].duplicated().any()
    for row in texts.itertuples():
        assert len(shown[row.video_id]) == count
        about = int(row.caption_id.partition("#")[2]) % count
        scene = shown[row.video_id][about]
        words = set(row.caption.split())
        assert words & {w for names in world.SHAPES[scene.shape] for w in names}
        assert words & set(world.COLOURS[scene.colour])


def test_worlds_share_all_but_the_number_of_scenes():
    one, three = texts_of(params(), 1), texts_of(params(), 3)
    columns = ["split", "video_id", "caption_id"]
    pd.testing.assert_frame_equal(one[0][columns], three[0][columns])
    lengths = [
        [length for *_, length in draw(params(), shown, 4, frames())] for _, shown in (one, three)
    ]
    assert lengths[0] == lengths[1]
    assert all(24 <= length <= 32 for length in lengths[0])


def test_within_a_split_no_appearance_comes_twice_while_there_are_enough():
    _, shown = texts_of(params(videos={"train": 100, "val": 50}), 4)
    appearances = [
        (s.shape, s.colour, s.background, s.count)
        for video_id, scenes in shown.items() if video_id.startswith("train") for s in scenes
    ]  # fmt: skip
    assert len(set(appearances)) == len(appearances) == 400


def test_sampled_frames_are_those_of_the_whole_video():
    _, shown = texts_of(params(), 3)
    some = {name: (pixels, at) for name, pixels, at, _ in draw(params(), shown, 4, frames())}
    for name, pixels, indices, length in draw(params(), shown, 99, frames(counts=[99])):
        assert indices.tolist() == list(range(length))
        sampled, at = some[name]
        assert len(at) == 4
        assert np.array_equal(pixels[at], sampled)


def test_drawing_some_frames_draws_the_same_pixels():
    (scene,) = world.draw_scenes(1, np.random.default_rng(3))
    whole = drawing.frames_of(scene, 9, 32, 48, np.random.default_rng(5))
    some = drawing.frames_of(scene, 9, 32, 48, np.random.default_rng(5), np.array([0, 4, 8]))
    assert np.array_equal(whole[[0, 4, 8]], some)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"duration_s": [4, 3]}, r"world\.duration_s: Value error, give the least first"),
        ({"videos": {"train": 0, "val": 3}}, r"world\.videos\.train: Input should be greater"),
        ({"size": [48]}, r"world\.size: List should have at least 2 items"),
    ],
)
def test_worlds_that_cannot_be_are_refused(changes, said):
    with pytest.raises(InputError, match=said):
        validate(WORLD | changes, "world", WorldParams)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train = {
        "reads": "embeddings", "frames": 4, "epochs": 1, "batch_size": 4,
        "micro_batch": None, "warmup": 0.1, "weight_decay": 0.2, "max_grad_norm": 1.0,
        "max_logit_scale": 100.0,
        "contrastive_temperature": "encoder", "learn_contrastive_temperature": True,
        "evaluations_per_epoch": 1, "precision": "fp32", "compile": False, "workers": 0,
    }  # fmt: skip
    whole = {
        "setting": "mini", "frames": FRAMES, "train": train,
        "embeddings": {"batch_size": 8, "words": True},
        "ablations": {"scene_diversity": {"world": WORLD}},
    }  # fmt: skip
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(whole))
    write_encoder(paths.encoder("mini"))


def run(*numbers):
    params_file = Path("params.yaml")
    whole = yaml.safe_load(params_file.read_text())
    whole["ablations"]["scene_diversity"]["scenes"] = list(numbers)
    params_file.write_text(yaml.safe_dump(whole))
    scenes.main()


@pytest.mark.usefixtures("project")
def test_the_stage_writes_what_a_frozen_run_reads_and_the_same_again():
    run(1, 2)
    assert len(EmbeddingCache(paths.scenes("mini", 1)).texts) == 6 * 5 + 4 * 2
    folder = paths.scenes("mini", 2)
    cache = EmbeddingCache(folder)
    assert len(cache.texts) == len(cache.text) == 6 * 5 + 4 * 2
    rows, mask = cache.sampled(["val0", "train3"], 4, frames())
    embeddings = cache.frames(rows)
    assert embeddings.shape == (2, 4, 16)
    assert mask.all()
    assert torch.isfinite(embeddings).all()
    values, exists = cache.words().padded()
    last = values[torch.arange(len(values)), exists.sum(dim=1) - 1]
    torch.testing.assert_close(last, cache.text, atol=1e-5, rtol=1e-4)  # the end token is the text
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    run(2)  # alone, as after another one
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.usefixtures("project")
def test_without_any_number_the_folder_is_there():
    """The study depends on it, also where it has no such part, as in the paper's setting."""
    run()
    assert list(paths.all_scenes("mini").iterdir()) == []


@pytest.mark.usefixtures("project")
def test_more_scenes_than_the_shortest_video_holds_are_refused():
    with pytest.raises(InputError, match=r"scenes: 9; expected 1 to 8, because the shortest video"):
        run(8, 9)
    assert not paths.all_scenes("mini").exists(), "nothing is drawn before all are known to fit"
    run(8)
