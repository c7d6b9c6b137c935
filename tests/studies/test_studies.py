"""Contract of every study found on disk (properties); each also runs a few trials on a tiny world.

A new file in ``studies/`` is tested without being listed here.
"""

import contextlib
import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import worlds
import yaml
from optuna.distributions import CategoricalDistribution

from studies.variance import query_error
from xpool.ablation.experiment import Study, benchmarks_of, experiments_of, load_study
from xpool.ablation.lab import Lab
from xpool.data.frame_cache import FramesParams
from xpool.data.manifest import COLUMNS
from xpool.encoders.text_transformer import write_text_transformer
from xpool.mini.generate import write_video
from xpool.project import paths
from xpool.project.params import read
from xpool.project.paths import TOP
from xpool.training.cell import new_model, read_cell
from xpool.training.checkpoints.run_state import save_weights
from xpool.training.data import EmbeddingData
from xpool.training.recipes import import_path, recipe_for

STUDIES = sorted(path.stem for path in (TOP / "studies").glob("[!_]*.py"))
SETTINGS = [TOP / "params.yaml", *sorted((TOP / "settings").glob("*.yaml"))]
SETTING = yaml.safe_load((TOP / "params.yaml").read_text())["setting"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """All that the studies of the mini setting read, small: inputs, models, params as they are."""
    folder = tmp_path_factory.mktemp("project")
    with contextlib.chdir(folder):
        text = (TOP / "params.yaml").read_text()
        Path("params.yaml").write_text(text)
        params = yaml.safe_load(text)
        worlds.write_encoder(paths.encoder(SETTING))
        for benchmark in params["benchmarks"]:
            write_world(paths.embeddings(SETTING, benchmark), params)
            texts = pd.read_parquet(paths.embeddings(SETTING, benchmark) / "texts.parquet")
            paths.manifest(SETTING, benchmark).parent.mkdir(parents=True, exist_ok=True)
            write_noise(paths.raw(SETTING, benchmark) / "x.avi")
            texts.assign(path="x.avi")[list(COLUMNS)].to_parquet(paths.manifest(SETTING, benchmark))
            paths.video_digests(SETTING, benchmark).write_text("path,bytes,sha256\n")
            videos = texts["video_id"].unique()
            paths.shots(SETTING, benchmark).parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(
                {"video_id": videos, "shot_changes": [n % 4 for n in range(len(videos))]}
            ).to_csv(paths.shots(SETTING, benchmark), index=False)
            for method, seed in itertools.product(["xpool", *params["baselines"]], params["seeds"]):
                cell = read_cell(import_path(method), benchmark, seed)
                data = Lab().data(benchmark, cell.train, read("frames", FramesParams))
                model = new_model(cell, data)
                trained = paths.training(SETTING, method, benchmark, seed)
                trained.mkdir(parents=True)
                save_weights(model, trained / "checkpoint.safetensors")
        for scenes in params["ablations"]["scene_diversity"]["scenes"]:
            write_world(paths.scenes(SETTING, scenes), params)
    return folder


def write_world(folder, params):
    """Embeddings behind a text transformer that the recipes fit, as the mini setting's does."""
    worlds.write_embeddings(folder, videos=(12, 10, 4), captions=2)
    pooling = params["recipes"]["self_attention"]["msrvtt"]["pooling"]
    transformer = worlds.text_transformer(layers=pooling["layers"], heads=pooling["heads"])
    write_text_transformer(transformer, folder / "text_transformer.safetensors")


def write_noise(path):
    """One video for all; of saturated colours, so that decoders may differ."""
    frames = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (20, 6, 8, 3))
    write_video(path, frames.repeat(8, axis=1).repeat(8, axis=2), 64, 48, 8)


@pytest.fixture(autouse=True)
def _here(project, monkeypatch):
    monkeypatch.chdir(project)


@pytest.fixture(params=STUDIES)
def name(request):
    return request.param


def test_studies_are_found():
    assert {"temperature", "frame_count", "search"} <= set(STUDIES)


def test_a_study_says_what_it_asks_and_how_to_read_it(name):
    study, _ = load_study(name)
    assert isinstance(study, Study)
    assert study.name == name
    assert study.question.rstrip().endswith("?")
    assert study.reading.rstrip().endswith(".")
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_its_block_stands_in_every_setting_and_is_valid(name, path):
    study, block = load_study(name, path)
    params = yaml.safe_load(path.read_text())
    assert set(block.benchmarks) <= set(params["recipes"]["xpool"])
    listed = itertools.chain.from_iterable(params["studies"].values())
    if name in listed:  # others wait until what they need is listed too
        assert list(study.check(block, path)) == []


def test_names_are_unique_legal_and_the_same_each_time():
    names = [experiment.name for study in STUDIES for experiment in experiments_of(study)]
    assert len(set(names)) == len(names)
    for each in names:
        assert re.fullmatch(r"[a-z0-9_]+-[a-z0-9]+-[a-z0-9_]+-[0-9a-f]{8}", each), each
    assert names == [e.name for study in STUDIES for e in experiments_of(study)]


def test_experiments_have_trials_and_each_is_planned_once(name):
    study, block = load_study(name)
    found = experiments_of(name)
    assert {experiment.study for experiment in found} == {name}
    assert {e.benchmark for e in found} <= set(benchmarks_of(block))
    for experiment in found:
        assert 0 < len(experiment.cells) < 1000
        assert len(experiment.planned()) == len(experiment.cells)


def test_each_cell_lies_within_the_space(name):
    for experiment in experiments_of(name):
        if experiment.searches:
            assert set(map(len, experiment.cells)) == {0}
            continue
        for cell in experiment.cells:
            assert set(cell) == set(experiment.space), (experiment.part, cell)
            for factor, value in cell.items():
                kind = experiment.space[factor]
                assert kind._contains(kind.to_internal_repr(value)), (factor, value)


def test_a_grid_has_every_combination_of_its_values(name):
    for experiment in experiments_of(name):
        if not experiment.searches:
            values = [{cell[factor] for cell in experiment.cells} for factor in experiment.space]
            count = 1
            for each in values:
                count *= len(each)
            assert len(experiment.cells) == count, experiment.part


def test_a_mean_is_over_all_seeds(name):
    """Each point of a grid is there with every seed of its experiment."""
    for experiment in experiments_of(name):
        if not experiment.searches:
            seeds = {cell["seed"] for cell in experiment.cells}
            _, block = load_study(name)
            assert seeds in (set(block.seeds), set(read("seeds", list[int])))


def test_the_objective_is_r_at_1_and_costs_are_lessened(name):
    for experiment in experiments_of(name):
        first, *others = experiment.objectives.items()
        assert first == ("R@1", "maximize")
        assert all(direction == "minimize" for _, direction in others)


def test_grids_are_never_pruned_and_searches_have_equal_budgets(name):
    found = experiments_of(name)
    assert {e.pruner for e in found if not e.searches} <= {"none"}
    budgets = {
        (len(e.cells), e.pruner, e.startup_trials, tuple(e.objectives)) for e in found if e.searches
    }
    assert len(budgets) <= 1


def last_cells(experiment):
    """Cells at the end of every range, with every combination of choices."""
    ends = {
        factor: max(cell[factor] for cell in experiment.cells)
        for factor, kind in experiment.space.items()
        if not isinstance(kind, CategoricalDistribution)
    }
    return [
        cell
        for cell in experiment.cells
        if all(cell[factor] == value for factor, value in ends.items())
    ]


def middle(experiment):
    """A point of a search's space."""
    return {
        factor: kind.choices[-1] if isinstance(kind, CategoricalDistribution) else kind.high
        for factor, kind in experiment.space.items()
    }


def test_trials_run_and_never_ask_for_the_test_split(name, tmp_path, monkeypatch):
    """At the ends of the ranges, where a recipe or a cache is the first to be too small."""
    original = EmbeddingData.gallery

    def guarded(self, towers, split):
        assert split == "val", f"asked for {split}"
        return original(self, towers, split)

    monkeypatch.setattr(EmbeddingData, "gallery", guarded)
    lab = Lab()
    done = set()
    for number, experiment in enumerate(experiments_of(name)):
        if experiment.part in done:  # on another benchmark
            continue
        done.add(experiment.part)
        points = [middle(experiment)] if experiment.searches else last_cells(experiment)
        assert points
        for index, point in enumerate(points):
            lab.folder = tmp_path / f"{number}-{index}"
            lab.report = lambda row: None
            figures = experiment.run(point, lab).figures
            for objective in experiment.objectives:
                assert figures[objective] >= 0
            assert 0 <= figures["R@1"] <= 100
            assert figures["n_video"] > 0


def test_a_search_reports_for_the_pruner_from_its_first_seed_alone(tmp_path):
    """Steps of a second seed would be taken for more training of the first."""
    _, block = load_study("search")
    study, _ = load_study("search")
    several = block.model_copy(update={"seeds": [0, 1, 2]})
    experiment = next(study.experiments(several, "msrvtt"))
    lab, rows = Lab(), []
    lab.folder, lab.report = tmp_path, rows.append
    mean = experiment.run(middle(experiment), lab).figures
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows})
    each = []
    for seed in several.seeds:
        alone = next(study.experiments(block.model_copy(update={"seeds": [seed]}), "msrvtt"))
        each.append(alone.run(middle(alone), lab).figures["R@1"])
    assert mean["R@1"] == pytest.approx(sum(each) / 3)


def rows_of_search():
    """Made-up rows of ``trials.csv``: of each method the best, a worse and a pruned one."""
    for experiment in experiments_of("search"):
        point = middle(experiment)
        where = {"benchmark": experiment.benchmark, "study": "search", **experiment.fixed}
        low = {
            name: kind.choices[0] if isinstance(kind, CategoricalDistribution) else kind.low
            for name, kind in experiment.space.items()
        }
        yield where | low | {"state": "complete", "R@1": 10.0}
        yield where | point | {"state": "complete", "R@1": 30.0}
        yield where | low | {"state": "complete", "R@1": 30.0}  # as good, but later
        yield where | low | {"state": "pruned"}
        yield where | {"state": "failed"}


def test_winners_are_in_the_form_that_params_take():
    """Oracle: copied into params.yaml, the recipes' own reader returns the best row's values."""
    study, _ = load_study("search")
    rows = list(rows_of_search())
    ((file, text),) = study.beside(rows).items()
    assert file == "recipes.yaml"
    assert text.startswith("# ")
    winners = yaml.safe_load(text)
    params = yaml.safe_load(Path("params.yaml").read_text())
    before = yaml.safe_load(Path("params.yaml").read_text())["recipes"]
    for method, recipes in winners["recipes"].items():
        params["recipes"][method].update(recipes)
    Path("with_winners.yaml").write_text(yaml.safe_dump(params))
    assert set(winners["recipes"]) == {row["method"] for row in rows}
    for experiment in experiments_of("search"):
        method, benchmark = experiment.part, experiment.benchmark
        recipe = recipe_for(import_path(method), benchmark, Path("with_winners.yaml"))
        point = middle(experiment)
        flat = recipe.model_dump() | recipe.pooling
        assert {name: flat[name] for name in point} == point
        untouched = {k: v for k, v in before[method][benchmark].items() if k not in point}
        for key, value in untouched.items():
            if key != "pooling":
                assert flat[key] == value
        assert set(recipe.pooling) == set(before[method][benchmark]["pooling"])


def test_winners_are_the_same_bytes_each_time():
    study, _ = load_study("search")
    assert study.beside(list(rows_of_search())) == study.beside(list(rows_of_search()))


def test_a_method_without_a_complete_try_has_no_winner():
    study, _ = load_study("search")
    rows = [row for row in rows_of_search() if row["state"] != "complete"]
    (text,) = study.beside(rows).values()
    assert yaml.safe_load(text) == {"recipes": {}}


class Asked(Exception):
    """What a trial asked of the lab: seed, changes, embeddings, threads."""


def asked(experiment, point, folder, monkeypatch):
    """Return what a trial would train."""

    def train(self, benchmark, method, seed, epochs, changes, embeddings=None):
        raise Asked(seed, changes, embeddings, torch.get_num_threads())

    lab = Lab()
    lab.folder = folder / "trial"
    with monkeypatch.context() as patch:
        patch.setattr(Lab, "train", train)
        with pytest.raises(Asked) as caught:
            experiment.run(point, lab)
    return caught.value.args


def test_each_source_of_variance_changes_its_own_thing_alone(tmp_path, monkeypatch):
    """Also where a trial fails, threads are as they were."""
    monkeypatch.setattr("studies.variance.redecoded", lambda benchmark, decoder, work: decoder)
    threads = torch.get_num_threads()
    base = (0, {}, None, threads)
    sources = {"seed": 0, "decoder": 2, "threads": 3}
    keys = {"init": "seeds.init", "order": "seeds.order", "dropout": "seeds.dropout",
            "frame_sampling": "frames.sampling", "batch_size": "train.batch_size"}  # fmt: skip
    for experiment in experiments_of("variance"):
        source = experiment.part
        assert experiment.fixed == {"source": source}
        for cell in experiment.cells:
            found = asked(experiment, cell, tmp_path, monkeypatch)
            slot = sources.get(source, 1)
            expected = {keys[source]: cell["level"]} if slot == 1 else cell["level"]
            assert found == (*base[:slot], expected, *base[slot + 1 :])
            assert torch.get_num_threads() == threads


def test_the_reference_run_is_the_same_whatever_is_varied(tmp_path):
    """Property: each source's own level of params.yaml gives the run in which none is varied."""
    reference = {"frame_sampling": "uniform", "batch_size": 32, "threads": 1}
    lab, found = Lab(), {}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for experiment in experiments_of("variance"):
            if experiment.part == "decoder":  # the made-up cache was not made from the videos
                continue
            lab.folder = tmp_path / experiment.part
            level = reference.get(experiment.part, 0)
            point = {"method": "xpool", "level": level, "seed": 0}
            assert point in experiment.cells
            found[experiment.part] = experiment.run(point, lab).figures
    finally:
        torch.set_num_threads(before)
    assert len(found) == 7
    assert all(figures == found["seed"] for figures in found.values())


@pytest.mark.parametrize(
    ("levels", "changes", "said"),
    [
        ({}, {"seeds": [0, 1]}, r"seeds: expected one, .*; got \[0, 1\]"),
        ({"threads": [1]}, {}, "levels.threads: one level has no spread"),
        ({"frame_sampling": ["uniform", "rand"]}, {}, "levels.frame_sampling: rand asked of a"),
        ({"decoder": ["pyav", "decord"]}, {}, "levels.decoder: videos are decoded anew for frozen"),
    ],
)
def test_variance_refuses_what_is_no_comparison(levels, changes, said, tmp_path):
    """In a setting that fine-tunes on frames of one rule."""
    params = yaml.safe_load((TOP / "params.yaml").read_text())
    params["train"]["reads"], params["frames"]["rules"] = "frames", ["uniform"]
    block = params["ablations"]["variance"] | changes
    block["levels"] = {source: [] for source in block["levels"]} | levels
    params["ablations"]["variance"] = block
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    study, read_block = load_study("variance", tmp_path / "params.yaml")
    (problem,) = study.check(read_block, tmp_path / "params.yaml")
    assert re.match(said, problem)


def test_the_error_of_the_queries_is_that_of_drawing_videos():
    """Oracles: the binomial formula where a video has one caption, else a bootstrap of videos."""
    rng = np.random.default_rng(5)
    hits = 100.0 * (rng.random(80) < 0.3)
    p = hits.mean() / 100
    binomial = 100 * np.sqrt(p * (1 - p) / 79)
    assert query_error(hits, np.arange(80)) == pytest.approx(binomial)
    video = np.repeat(np.arange(60), rng.integers(1, 9, 60))
    hits = 100.0 * (rng.random(len(video)) < rng.random(60)[video])
    of_video = [hits[video == number] for number in range(60)]
    drawn = [
        np.concatenate([of_video[number] for number in rng.integers(0, 60, 60)]).mean()
        for _ in range(4000)
    ]
    assert query_error(hits, video) == pytest.approx(np.std(drawn), rel=0.08)
    assert query_error(hits, video) > 1.2 * query_error(hits, np.arange(len(video)))
    assert query_error(np.array([100.0]), np.array([0])) == 0
