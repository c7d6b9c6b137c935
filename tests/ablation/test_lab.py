"""What a trial trains and judges, on the tiny world of ``worlds`` (oracles and properties)."""

import dataclasses
import gc
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import worlds
import yaml
from PIL import Image

from xpool.ablation import cost
from xpool.ablation import lab as module
from xpool.ablation.cost import gallery_cost_ms
from xpool.ablation.lab import ATTENTION_ROWS, Lab, changed_cell, decided_by
from xpool.data.frame_cache import FramesParams
from xpool.metrics import REPORTED
from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.params import read
from xpool.project.paths import TOP
from xpool.training.cost import least_time_s
from xpool.training.data import EmbeddingData
from xpool.training.model import RetrievalModel
from xpool.training.recipes import TrainParams

METHODS = ["xpool.xpool", "baselines.mean_pool", "baselines.self_attention", "baselines.attention"]
EPOCHS = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project with cached embeddings and an encoder."""
    folder = tmp_path_factory.mktemp("project")
    worlds.write_embeddings(folder / paths.embeddings("mini", "msvd"))
    worlds.write_encoder(folder / paths.encoder("mini"))
    return folder


@pytest.fixture(autouse=True)
def _here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    write_params()


def write_params(**changes):
    """Write the project's params for the tiny world; ``changes`` have ``__`` for the dot."""
    params = yaml.safe_load((TOP / "params.yaml").read_text())
    sequence = params["recipes"]["self_attention"]["msvd"]["pooling"]
    sequence |= {"heads": 2, "layers": 2, "positions": 8}
    known = {
        "train__frames": worlds.FRAMES, "frames__counts": [1, 2, worlds.FRAMES],
        "train__batch_size": 16, "train__precision": "fp32",
    }  # fmt: skip
    for key, value in (known | changes).items():
        *parents, last = key.split("__")
        place = params
        for parent in parents:
            place = place[parent]
        place[last] = value
    Path("params.yaml").write_text(yaml.safe_dump(params))


@pytest.fixture
def lab(tmp_path):
    made = Lab()
    made.folder = tmp_path / "trial"
    return made


@pytest.fixture
def trained(lab):
    return lab.train("msvd", "xpool.xpool", 0, 1, {})


def recalls(scores, video_of_text):
    """R@1, MdR and MnR by sorting each row (oracle; the scores do not tie)."""
    ranks = []
    for row, right in zip(scores.tolist(), video_of_text, strict=True):
        ranks.append(1 + sorted(row, reverse=True).index(row[right]))
    return {
        "R@1": 100 * np.mean([rank == 1 for rank in ranks]),
        "MdR": np.median(ranks),
        "MnR": np.mean(ranks),
    }


def test_changed_cell_changes_what_is_named_and_nothing_else():
    changes = {
        "train.frames": 2,
        "train.contrastive_temperature": 0.05,
        "train.learn_contrastive_temperature": False,
        "frames.sampling": "rand",
        "recipe.lr_pooling": 0.5,
        "recipe.pooling.temperature": 3.0,
    }
    cell, frames = changed_cell("msvd", "xpool.xpool", 7, 5, changes)
    train = read("train", TrainParams).model_dump()
    train |= {"frames": 2, "epochs": 5, "contrastive_temperature": 0.05}
    assert cell.train.model_dump() == train | {"learn_contrastive_temperature": False}
    expected = read("frames", FramesParams).model_dump() | {"sampling": "rand"}
    assert frames.model_dump() == expected
    recipe = yaml.safe_load(Path("params.yaml").read_text())["recipes"]["xpool"]["msvd"]
    recipe["lr_pooling"] = 0.5
    recipe["pooling"]["temperature"] = 3.0
    assert cell.recipe.model_dump() == recipe
    assert (cell.method, cell.benchmark, cell.seed) == ("xpool.xpool", "msvd", 7)


def test_changed_cell_gives_a_purpose_its_own_seed():
    cell, _ = changed_cell("msvd", "xpool.xpool", 3, 1, {"seeds.order": 7})
    assert [cell.seed_of(purpose) for purpose in ("init", "order", "dropout")] == [3, 7, 3]
    with pytest.raises(InputError, match="params.yaml: seeds.shuffle"):
        changed_cell("msvd", "xpool.xpool", 3, 1, {"seeds.shuffle": 7})


def test_changed_cell_leaves_params_as_they_are_for_the_next():
    changed_cell("msvd", "xpool.xpool", 0, 1, {"recipe.pooling.temperature": 3.0})
    cell, _ = changed_cell("msvd", "xpool.xpool", 0, 1, {})
    assert cell.recipe.pooling["temperature"] == 1.0


@pytest.mark.parametrize("selection", ["val", "last", "test_window"])
def test_changed_cell_is_selected_on_the_validation_split(selection):
    write_params(selection=selection)
    assert changed_cell("msvd", "xpool.xpool", 0, 1, {})[0].rule == "val"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("train.frames", 0, "train.frames: .*got 0"),
        ("train.frames", 2.0, "train.frames: .*got 2.0"),
        ("train.batchsize", 8, "train.batchsize: unknown key"),
        ("train.contrastive_temperature", -1.0, "train.contrastive_temperature"),
        ("train.contrastive_temperature", 1e-6, "inverse must be at most max_logit_scale"),
        ("frames.sampling", "middle", "frames.sampling: .*'uniform' or 'rand'"),
        ("recipe.lr_pooling", -1.0, "recipes.xpool.msvd.lr_pooling"),
        ("recipe.lr", 1.0, "recipes.xpool.msvd.lr: unknown key"),
        ("recipe.pooling.heads", 2.5, "recipes.xpool.msvd.pooling.heads: .*got 2.5"),
        ("recipe.pooling.temperatur", 1.0, "pooling.temperatur: xpool.xpool takes no such"),
    ],
)
def test_changed_cell_refuses_by_name_what_is_not_allowed(key, value, said):
    with pytest.raises(InputError, match=f"params.yaml: .*{said}"):
        changed_cell("msvd", "xpool.xpool", 0, 1, {key: value})


@pytest.mark.parametrize("method", METHODS)
def test_figures_are_those_of_the_validation_split_and_of_the_selected_weights(method, lab):
    curve = []
    lab.report = curve.append
    result = lab.train("msvd", method, 0, EPOCHS, {})
    figures = result.figures()
    texts = pd.read_parquet(paths.embeddings("mini", "msvd") / "texts.parquet")
    val = texts[texts["split"] == "val"]
    assert list(result.gallery.texts["caption_id"]) == list(val["caption_id"])
    assert (figures["n_text"], figures["n_video"]) == (len(val), val["video_id"].nunique())
    assert {*REPORTED, "n_text", "n_video"} == set(figures)
    expected = recalls(result.scores, result.gallery.video_of_text())
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    best = max(curve, key=lambda row: (row["R@1"], -row["MnR"]))
    assert (figures["R@1"], figures["MnR"]) == (best["R@1"], best["MnR"])
    assert len(curve) == EPOCHS * read("train", TrainParams).evaluations_per_epoch


@pytest.mark.parametrize("selection", ["val", "last", "test_window"])
def test_no_trial_ever_asks_for_the_test_split(selection, lab, monkeypatch):
    """Not even under the official protocol, which selects its checkpoints there."""
    write_params(selection=selection)
    original, asked = EmbeddingData.gallery, []

    def guarded(self, towers, split):
        assert split == "val", f"a trial asked for {split}"
        asked.append(split)
        return original(self, towers, split)

    monkeypatch.setattr(EmbeddingData, "gallery", guarded)
    result = lab.train("msvd", "xpool.xpool", 0, 1, {})
    lab.outcome(result, keep=True)
    assert asked


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("method", METHODS[:3])
def test_a_resumed_trial_ends_with_the_same_figures(method, lab, monkeypatch):
    whole = lab.train("msvd", method, 0, EPOCHS, {})
    seen = []

    def stops(row):
        seen.append(row["step"])
        if len(seen) == 2:
            raise StoppedError

    lab.report = stops
    with pytest.raises(StoppedError):
        lab.train("msvd", method, 0, EPOCHS, {})
    assert list(lab.folder.rglob("step-*")), "there is nothing to resume"
    rows = []
    lab.report = rows.append
    batches, original = [], EmbeddingData.batch
    monkeypatch.setattr(
        EmbeddingData, "batch", lambda self, r, s: (batches.append(s), original(self, r, s))[1]
    )
    resumed = lab.train("msvd", method, 0, EPOCHS, {})
    assert len(batches) == 2 * seen[1] - seen[1], "the finished half was repeated"
    assert torch.equal(resumed.scores, whole.scores)
    assert resumed.figures() == whole.figures()
    assert [row["step"] for row in rows[:2]] == seen, "the pruner must see all evaluations"
    assert not list(lab.folder.iterdir()), "finished work is left behind"


def test_a_trial_that_is_ended_by_its_report_keeps_its_state(lab):
    def ends(row):
        raise StoppedError

    lab.report = ends
    with pytest.raises(StoppedError):
        lab.train("msvd", "baselines.mean_pool", 3, 1, {})
    assert [path.name for path in lab.folder.iterdir()] == ["seed-3"]


def test_seeds_and_factors_change_the_result(lab):
    """Smoke: what a grid varies arrives in the training."""
    changes = [
        (0, {}),
        (1, {}),
        (0, {"train.frames": 2}),
        (0, {"train.contrastive_temperature": 0.05}),
        (0, {"recipe.pooling.temperature": 10.0}),
        (0, {"recipe.lr_pooling": 1e-2}),
    ]
    scores = [lab.train("msvd", "xpool.xpool", seed, 1, c).scores for seed, c in changes]
    assert all(not torch.equal(scores[0], other) for other in scores[1:])
    assert torch.equal(scores[0], lab.train("msvd", "xpool.xpool", 0, 1, {}).scores)


def test_data_is_kept_open_by_all_that_decides_how_it_is_read(lab):
    train, frames = read("train", TrainParams), read("frames", FramesParams)
    first = lab.data("msvd", train, frames)
    same = train.model_copy(update={"epochs": 9, "warmup": 0.5})
    assert lab.data("msvd", same, frames) is first
    for other_train, other_frames in (
        (train.model_copy(update={"frames": 2}), frames),
        (train, frames.model_copy(update={"sampling": "rand"})),
        (train, frames.model_copy(update={"short_videos": "repeat_last"})),
    ):
        assert lab.data("msvd", other_train, other_frames) is not first
    assert lab.data("msvd", train, frames) is first
    for count in (1, 2, 3, 4):
        lab.data("msvd", train.model_copy(update={"frames": count}), frames)
    assert len(lab._data) == 4, "memory grows with every trial"


def test_once_makes_a_thing_once(lab):
    made = []
    for _ in range(2):
        assert lab.once(("a", 1), lambda: made.append(1) or "thing") == "thing"
    assert made == [1]


def test_embeddings_in_another_folder_take_the_place_of_the_benchmarks(lab, tmp_path):
    worlds.write_embeddings(tmp_path / "other", videos=(10, 8, 4), seed=5)
    result = lab.train("msvd", "baselines.mean_pool", 0, 1, {}, tmp_path / "other")
    assert result.figures()["n_video"] == 8


def test_ranks_are_written_with_the_worst_first(trained, tmp_path):
    written = pd.read_csv(trained.write_ranks(tmp_path / "ranks.csv"))
    assert list(written.columns) == ["caption_id", "video_id", "rank"]
    assert list(written["rank"]) == sorted(written["rank"], reverse=True)
    assert written["rank"].mean() == pytest.approx(trained.figures()["MnR"])
    rows = dict(zip(written["caption_id"], written["rank"], strict=True))
    texts = trained.gallery.texts.reset_index(drop=True)
    for row in (0, 7, 100):  # oracle: videos at least as near to this text as its own
        own = trained.scores[row, trained.gallery.video_of_text()[row]]
        assert rows[texts["caption_id"][row]] == int((trained.scores[row] >= own).sum())


def test_attention_shows_each_chosen_text_over_its_own_video(trained, monkeypatch):
    """Oracle: the method's weights for all pairs, from which the chosen ones are picked."""
    seen = {}
    monkeypatch.setattr(
        module, "draw", lambda weights, names, path: seen.update(w=weights, names=names)
    )
    trained.draw_attention(Path("unused.png"))
    gallery = trained.gallery
    with torch.inference_mode():
        everything = trained.pooling.attention(gallery.text, gallery.frames, gallery.mask)
    texts = gallery.texts
    assert len(seen["names"]) == ATTENTION_ROWS
    for weights, name in zip(seen["w"], seen["names"], strict=True):
        row = list(texts["caption_id"]).index(name)
        video = gallery.video_ids.index(texts["video_id"].iloc[row])
        expected = everything[row, video].mean(dim=0)
        np.testing.assert_allclose(weights, expected, atol=1e-6)
        assert weights.sum() == pytest.approx(1, abs=1e-5)
    videos = [name.partition("#")[0] for name in seen["names"]]
    assert len(set(videos)) == ATTENTION_ROWS, "a video was shown twice"


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("xpool.xpool", ["ranks.csv", "attention.png"]),
        ("baselines.mean_pool", ["ranks.csv"]),
        ("baselines.self_attention", ["ranks.csv"]),
    ],
)
def test_an_outcome_has_what_people_look_at(method, names, lab):
    result = lab.train("msvd", method, 0, 1, {})
    outcome = lab.outcome(result, keep=True)
    assert [path.name for path in outcome.artifacts] == names
    assert all(path.stat().st_size > 0 for path in outcome.artifacts)
    assert outcome.figures == result.figures()
    assert lab.outcome(result, keep=False).artifacts == ()


@pytest.mark.parametrize(("rows", "frames"), [(1, 1), (3, 6), (12, 32)])
def test_attention_picture_opens_and_has_its_size(rows, frames, tmp_path):
    """110 pixels an inch; each row and column has its own room."""
    weights = np.random.default_rng(0).dirichlet(np.ones(frames), rows)
    names = [f"video{row}#0" for row in range(rows)]
    with Image.open(module.draw(weights, names, tmp_path / "a.png")) as picture:
        picture.load()
        width, height = picture.size
    assert width == pytest.approx(110 * (2.5 + 0.28 * frames), abs=1)
    assert height == pytest.approx(110 * (1.2 + 0.24 * rows), abs=1)


def test_attention_picture_is_the_same_bytes_each_time_and_shows_the_weights(tmp_path):
    even, first = np.full((2, 4), 0.25), np.eye(4)[[0, 0]]
    names = ["a", "b"]
    files = [
        module.draw(weights, names, tmp_path / f"{number}.png").read_bytes()
        for number, weights in enumerate((even, even, first))
    ]
    assert files[0] == files[1] != files[2]


def test_cost_is_positive_and_grows_with_the_frames(lab, monkeypatch):
    """Tiny times are noisy: here a frame takes 10 ms, far more than the scoring."""
    assert cost._encoding_s("mini", "cpu") > 0
    monkeypatch.setattr(cost, "_encoding_s", lambda setting, device: 0.01)
    costs = [
        gallery_cost_ms(lab.train("msvd", "baselines.mean_pool", 0, 1, {"train.frames": n}), lab)
        for n in (1, 2, 6)
    ]
    for found, frames in zip(costs, (1, 2, 6), strict=True):
        assert 10 * frames < found < 10 * frames + 10


def test_what_decides_a_trial_is_all_that_its_training_reads():
    """Oracle: what must change the digest, and what must not."""
    methods = ["xpool.xpool", "baselines.mean_pool"]

    def now(epochs=1, names=methods):
        return repr(decided_by("msvd", names, epochs))

    before = now()
    assert now(epochs=2) != before
    assert now(names=methods[:1]) != before
    for changes in (
        {"train__epochs": 9},
        {"train__workers": 3},
        {"selection": "last"},
        {"seeds": [5]},
        {"recipes__top_k__msvd__pooling": {"k": 9}},
        {"recipes__xpool__lsmdc": {"lr_encoder": 1.0, "lr_pooling": 1.0, "pooling": {}}},
    ):
        write_params(**changes)
        assert now() == before, changes
    for changes in (
        {"train__batch_size": 8},
        {"train__max_logit_scale": 50.0},
        {"frames__seed": 3},
        {"frames__short_videos": "repeat_last"},
        {"recipes__xpool__msvd__lr_pooling": 0.5},
    ):
        write_params(**changes)
        assert now() != before, changes


def test_data_that_changed_decides_a_trial(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_params()
    worlds.write_embeddings(paths.embeddings("mini", "msvd"), videos=(4, 2, 2))
    before = decided_by("msvd", ["xpool.xpool"], 1)
    text = paths.embeddings("mini", "msvd") / "text.npy"
    np.save(text, np.load(text) + 1e-3)
    assert decided_by("msvd", ["xpool.xpool"], 1) != before


def test_where_frames_are_read_pixels_manifest_and_encoder_decide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_params(train__reads="frames")
    with pytest.raises(InputError, match="data/mini/frames/msvd: not found"):
        decided_by("msvd", ["xpool.xpool"], 1)
    worlds.write_pixels("mini", "msvd")
    seen = [decided_by("msvd", ["xpool.xpool"], 1)]
    for path in (
        paths.frames("mini", "msvd") / "index.parquet",
        paths.manifest("mini", "msvd"),
        paths.encoder("mini") / "encoder.json",
    ):
        path.write_bytes(path.read_bytes() + b" ")
        seen.append(decided_by("msvd", ["xpool.xpool"], 1))
    assert len({repr(each) for each in seen}) == 4


def test_fine_tuning_trials_start_from_the_same_encoder(tmp_path, monkeypatch, lab):
    """A trial trains the whole encoder; the next one must not go on from there."""
    monkeypatch.chdir(tmp_path)
    write_params(train__reads="frames", train__batch_size=8)
    worlds.write_pixels("mini", "msvd")
    figures = [lab.train("msvd", "xpool.xpool", 0, 1, {}).scores for _ in range(2)]
    assert torch.equal(*figures)


def test_trained_cannot_be_changed(trained):
    with pytest.raises(dataclasses.FrozenInstanceError):
        trained.scores = None


@pytest.mark.parametrize("reads", ["embeddings", "frames"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_trials_leave_no_model_and_no_optimiser(reads, precision, tmp_path, monkeypatch):
    """Oracle: the interpreter's own list of live objects, after each of four trials."""

    def alive():
        kinds = (RetrievalModel, torch.optim.Optimizer)
        return sum(issubclass(type(thing), kinds) for thing in gc.get_objects())

    monkeypatch.chdir(tmp_path)
    write_params(train__reads=reads, train__batch_size=8, train__precision=precision)
    worlds.write_pixels("mini", "msvd")
    worlds.write_embeddings(paths.embeddings("mini", "msvd"))
    before, lab, counts = alive(), Lab(), []
    lab.folder = tmp_path / "work"
    kept = []
    for seed in range(4):
        kept.append(lab.train("msvd", "xpool.xpool", seed, 1, {}))
        counts.append(alive() - before)
    # under autocast accelerate lets a model refer to itself, until the next collection
    assert max(counts) <= (1 if precision == "bf16" else 0), counts


def test_cost_on_a_cpu_is_the_time_of_this_process_alone():
    """Waiting stands for what other workers do meanwhile: on the clock, it would count."""
    cpu = torch.device("cpu")
    assert least_time_s(lambda: time.sleep(0.1), cpu) < 0.05
    assert least_time_s(lambda: sum(range(2_000_000)), cpu) > 0.005
