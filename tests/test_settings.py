"""The check of all of params.yaml: both settings pass, and each mistake is one line that helps."""

import copy
import json
from pathlib import Path

import pytest
import yaml

from studies import variance
from xpool.encoders.base import EncoderParams
from xpool.project import fingerprints, paths, plugins
from xpool.project.errors import InputError
from xpool.project.params import read
from xpool.settings import check
from xpool.stages import check as stage

SHIPPED = yaml.safe_load((Path(__file__).resolve().parents[1] / "params.yaml").read_text())
OTHERS = ", ".join(name for name in SHIPPED["recipes"] if name != "top_k")


@pytest.fixture(scope="module")
def settings():
    """The two shipped settings by their own name: one of them is in force as params.yaml."""
    top = Path(__file__).resolve().parents[1]
    files = [top / "params.yaml", *(top / "settings").glob("*.yaml")]
    loaded = [yaml.safe_load(path.read_text()) for path in files]
    loaded = json.loads(json.dumps(loaded))  # no value shared through an anchor
    return {params["setting"]: params for params in loaded}


@pytest.fixture
def written(settings, tmp_path, monkeypatch):
    """Write a setting with some values changed, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def write(name="mini", changes=()):
        params = copy.deepcopy(settings[name])
        for key, value in dict(changes).items():
            *parents, last = key.split(".")
            place = params
            for part in parents:
                place = place[part]
            if value is ...:
                del place[last]
            else:
                place[last] = value
        path = Path("made.yaml")
        path.write_text(yaml.safe_dump(params, sort_keys=False))
        return path

    return write


@pytest.fixture
def raw(tmp_path):
    for name in ("msrvtt", "msvd", "lsmdc"):
        (tmp_path / "data" / "paper" / "raw" / name).mkdir(parents=True)


def error_of(path):
    with pytest.raises(InputError) as caught:
        check(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_mini_setting_passes(written):
    check(written("mini"))


def test_listed_post_processing_is_used(written):
    """So that a file of the set may be broken only where it is not listed."""
    listed = {"post_processing": {"members": {"dual_softmax": {}}, "bank": None}}
    used = check(written("mini", listed)) - check(written("mini"))
    assert used == {"xpool.postprocessing.dual_softmax"}


@pytest.mark.parametrize("name", ["mini", "paper"])
def test_nothing_is_post_processed_unless_it_is_listed(settings, name):
    assert settings[name]["post_processing"] == {"members": {}, "bank": None}


@pytest.mark.usefixtures("raw")
def test_the_paper_setting_passes_with_raw_folders(written):
    check(written("paper"))


TITLES = {"msrvtt": "MSR-VTT", "msvd": "MSVD", "lsmdc": "LSMDC"}


def test_the_paper_setting_without_raw_files_says_where_they_go(written):
    message = error_of(written("paper"))
    folders = [f"data/paper/raw/{n} ({t})" for n, t in TITLES.items()]
    assert message.startswith(f"{', '.join(folders)}: not found; put the files there")


def test_both_settings_have_the_same_keys_but_for_what_is_generated(settings):
    def keys(value, prefix=""):
        if not isinstance(value, dict):
            return {prefix}
        return {key for name in value for key in keys(value[name], f"{prefix}.{name}")}

    def comparable(name):
        return {
            key for key in keys(settings[name])
            if not key.startswith((".generate.", ".encoder.pretraining"))
        }  # fmt: skip

    assert comparable("mini") == comparable("paper")


WRONG = {
    "attribute of slices unknown": (
        {"slices.attributes": ["words"]},
        "made.yaml: slices.attributes.0: Input should be 'caption_words', 'relation_words', 'dupl",
    ),
    "attribute of slices twice": (
        {"slices.attributes": ["shots", "shots"]},
        "made.yaml: slices.attributes: 'shots' is listed twice",
    ),
    "file of slices absent": (
        {"slices.files": {"msvd": ["mine.csv"]}},
        "made.yaml: slices.files.msvd: no file attributes/mine.csv; put it there, or take it off",
    ),
    "file of slices elsewhere": (
        {"slices.files": {"msvd": ["../mine.csv"]}},
        "made.yaml: slices.files.msvd.0: String should match pattern",
    ),
    "file of slices for an unknown benchmark": (
        {"slices.files": {"youcook": []}},
        "made.yaml: slices.files: ",
    ),
    "unknown section": ({"trian": {}}, "made.yaml: trian: unknown key; known: setting, benchm"),
    "missing section": ({"frames": ...}, "made.yaml: frames is missing; known there: "),
    "unknown setting": ({"setting": "big"}, "made.yaml: setting: Input should be 'mini' or 'pap"),
    "key misspelt": (
        {"train.batchsize": 1},
        "made.yaml: train.batchsize: unknown key; known: batch_size, compile, contrastive_temperat",
    ),
    "recipe key misspelt": (
        {"recipes.xpool.msvd.lr": 1.0},
        "made.yaml: recipes.xpool.msvd.lr: unknown key; known: lr_encoder, lr_pooling, pooling",
    ),
    "pooling key misspelt": (
        {"recipes.xpool.msvd.pooling.dropuot": 0.1},
        "made.yaml: recipes.xpool.msvd.pooling.dropuot: xpool.xpool takes no such argument; "
        "known: heads, dropout, temperature",
    ),
    "pooling key of a method that waits": (
        {"recipes.top_k.msvd.pooling.kk": 3},
        "made.yaml: recipes.top_k.msvd.pooling.kk: baselines.top_k takes no such argument; known: ",
    ),
    "pooling key missing": (
        {"recipes.top_k.lsmdc.pooling": {}},
        "made.yaml: recipes.top_k.lsmdc.pooling.k is missing; baselines.top_k needs it",
    ),
    "pooling value of another type": (
        {"recipes.xpool.msvd.pooling.heads": 1.5},
        "made.yaml: recipes.xpool.msvd.pooling.heads: Input should be a valid integer; got 1.5",
    ),
    "post-processing misspelt": (
        {"post_processing.members": {"nn": {}}},
        "made.yaml: post_processing.members.nn: no file xpool/postprocessing/nn.py for 'nn'; ther",
    ),
    "post-processing argument misspelt": (
        {"post_processing.members": {"dual_softmax": {"temp": 1.0}}},
        "made.yaml: post_processing.members.dual_softmax.temp: xpool.postprocessing.dual_softmax ",
    ),
    "post-processing without its bank": (
        {"post_processing.members": {"nnn": {}}},
        "made.yaml: post_processing.bank: nnn needs one; write {captions: 1000, seed: 0}, or take",
    ),
    "bank of no caption": (
        {"post_processing.bank": {"captions": 0, "seed": 0}},
        "made.yaml: post_processing.bank.captions: Input should be greater than or equal to 1; go",
    ),
    "recipe missing": (
        {"recipes.mean_pool.lsmdc": ...},
        "made.yaml: recipes.mean_pool.lsmdc is missing; known there: msrvtt, msvd",
    ),
    "recipes of a method missing": (
        {"recipes.self_attention": ...},
        "made.yaml: recipes.self_attention is missing; known there: ",
    ),
    "recipes of an unknown method": (
        {"recipes.xpol": {}},
        "made.yaml: recipes.xpol: no such method; known: xpool, attention",
    ),
    "features for runs that read frames": (
        {"manifest.msvd.features": "CLIP", "train.reads": "frames"},
        "made.yaml: manifest.msvd.features: features stand for the videos, but train.reads is fr",
    ),
    "features and folders of frames": (
        {"manifest.msvd.features": "CLIP", "manifest.msvd.frames_fps": 3.0},
        "made.yaml: manifest.msvd.features: given beside frames_fps; keep one of them",
    ),
    "recipe for an unknown benchmark": (
        {"recipes.xpool.tgif": {"lr_encoder": 0.0, "lr_pooling": 0.0, "pooling": {}}},
        "made.yaml: recipes.xpool: no file xpool/data/benchmarks/tgif.py",
    ),
    "baseline without a file": (
        {"baselines": ["mean_pol"]},
        "made.yaml: baselines: no file baselines/mean_pol.py; there are: attention",
    ),
    "benchmark without a file": (
        {"benchmarks": ["msrvt"]},
        "made.yaml: benchmarks: no file xpool/data/benchmarks/msrvt.py",
    ),
    "benchmark without options": (
        {"manifest.msvd": ...}, "made.yaml: manifest.msvd is missing; known there: ",
    ),
    "options of an unknown benchmark": (
        {"manifest.msvdd": {}}, "made.yaml: manifest: no file xpool/data/benchmarks/msvdd.py",
    ),
    "option misspelt": (
        {"manifest.lsmdc.clips": 999},
        "made.yaml: manifest.lsmdc.clips: unknown key; known: allowed_missing, featu",
    ),
    "option not allowed": (
        {"manifest.lsmdc.test_clips": 998},
        "made.yaml: manifest.lsmdc.test_clips: Input should be 999 or 1000; got 998",
    ),
    "benchmark not generated": (
        {"generate.benchmarks": ["msrvtt", "lsmdc"]},
        "made.yaml: generate.benchmarks: msvd is compared but not generated",
    ),
    "generated key misspelt": (
        {"generate.msvd.videos.tset": 3},
        "made.yaml: generate.msvd.videos.tset: unknown key; known: test, train, val",
    ),
    "generated but unknown": (
        {"generate.msvdd": {}}, "made.yaml: generate: no file xpool/data/benchmarks/msvdd.py",
    ),
    "generated videos too short": (
        {"generate.msrvtt.rate_fps": 1}, "made.yaml: generate.msrvtt: ",
    ),
    "listed twice": ({"seeds": [0, 1, 0]}, "made.yaml: seeds: 0 is listed twice"),
    "nothing listed": ({"seeds": []}, "made.yaml: seeds: List should have at least 1 item"),
    "seed as text": ({"seeds": [0, "1"]}, "made.yaml: seeds.1: Input should be a valid integer"),
    "too many frames": (
        {"train.frames": 12, "frames.counts": [8]},
        "made.yaml: train.frames: 12 frames asked of a cache for [8] (frames.counts)",
    ),
    "frames that the rule does not find": (
        {"train.frames": 10, "frames.counts": [8, 12]},
        "made.yaml: train.frames: 10 frames asked of a cache for [8, 12] (frames.counts); "
        "change one, or add 10 to the other",
    ),
    "a rule that is not cached": (
        {"frames.sampling": "rand", "frames.rules": ["uniform"]},
        "made.yaml: frames.sampling: Value error, rand frames asked of a cache for uniform "
        "(frames.rules); change one, or add rand to the other",
    ),
    "unknown rule": (
        {"frames.rules": ["uniform", "random"]}, "made.yaml: frames.rules.1: Input should be 'uni",
    ),
    "a temperature that is none": (
        {"train.contrastive_temperature": "0,01"},
        "made.yaml: train.contrastive_temperature: Value error, must be encoder, or a number above",
    ),
    "a temperature beyond the clamp": (
        {"train.contrastive_temperature": 0.009},
        "made.yaml: train.contrastive_temperature: Value error, its inverse must be at most "
        "max_logit_scale (100); raise the one or the other; got 0.009",
    ),
    "no validation split of MSR-VTT": (
        {"manifest.msrvtt.val_videos": 0},
        "made.yaml: selection: 'val' needs a validation split, but manifest.msrvtt.val_videos is 0",
    ),
    "no validation split generated": (
        {"generate.lsmdc.videos.val": 0},
        "made.yaml: selection: 'val' needs a validation split, but generate.lsmdc.videos.val is 0",
    ),
    "unknown selection": ({"selection": "best"}, "made.yaml: selection: Input should be 'val', "),
    "pretraining missing": (
        {"encoder.pretraining": ...}, "made.yaml: encoder.pretraining is missing",
    ),
    "pretraining key misspelt": (
        {"encoder.pretraining.step": 3}, "made.yaml: encoder.pretraining.step: unknown key; known",
    ),
    "too few stills for one batch": (
        {"encoder.pretraining.images": 1000},
        "made.yaml: encoder.pretraining.images: Input should be greater than or equal to 1024",
    ),
    "a batch of more than all appearances": (
        {"encoder.pretraining.batch_size": 2048},
        "made.yaml: encoder.pretraining.batch_size: Input should be less than or equal to 1024",
    ),
    "mini_world through the other library": (
        {"encoder.library": "huggingface"}, "made.yaml: encoder: pretrained: must be hub with ",
    ),
    "mini_world for another model": (
        {"encoder.model": "ViT-B-32"}, "made.yaml: encoder: mini_world is how the tiny model",
    ),
    "tiny with weights that do not exist": (
        {"encoder.pretrained": "openai"}, "made.yaml: encoder: mini_world is how the tiny model",
    ),
    "a tag through transformers": (
        {"encoder": {"library": "huggingface", "model": "a/b", "pretrained": "openai"}},
        "made.yaml: encoder: pretrained: must be hub with library huggingface",
    ),
    "text for a number": (
        {"train.weight_decay": "1.5e3"},
        "made.yaml: train.weight_decay: Input should be a valid number; got '1.5e3', which YAML "
        "reads as text; write 1500.0",
    ),
    "yes for a number": (
        {"train.epochs": True}, "made.yaml: train.epochs: Input should be a valid integer; got",
    ),
    "a study without a file": (
        {"studies.own_models": ["temprature"]},
        "made.yaml: studies: no file studies/temprature.py; there are: frame_count, scene_div",
    ),
    "a study in both lists": (
        {"studies.trained_models": ["search"]}, "made.yaml: studies: 'search' is listed twice",
    ),
    "a study without a block": (
        {"ablations.search": ...}, "made.yaml: ablations.search is missing; known there: temp",
    ),
    "a block of no study": (
        {"ablations.sarch": {}}, "made.yaml: ablations: no file studies/sarch.py; there are: ",
    ),
    "a study's key misspelt": (
        {"ablations.temperature.seed": [0]},
        "made.yaml: ablations.temperature.seed: unknown key; known: attention_temperature, benc",
    ),
    "a study on an unknown benchmark": (
        {"ablations.search.benchmarks": ["tgif"]}, "made.yaml: ablations.search.benchmarks: ",
    ),
    "a study of an unknown method": (
        {"ablations.frame_count.methods": ["median"]},
        "made.yaml: ablations.frame_count.methods: no file baselines/median.py; there are: ",
    ),
    "more frames than the cache holds": (
        {"ablations.frame_count.frames": [12, 64]},
        "made.yaml: ablations.frame_count.frames: 64 frames asked of a cache for [1, 2, 4, 8, 12, "
        "24] (frames.counts); change one, or add 64 to the other",
    ),
    "more frames than positions": (
        {"recipes.self_attention.msvd.pooling.positions": 12},
        "made.yaml: ablations.frame_count.frames: 24 frames are more than self_attention has posi",
    ),
    "a rule that the cache does not hold": (
        {"frames.rules": ["uniform"], "ablations.frame_count.sampling": ["uniform", "rand"]},
        "made.yaml: ablations.frame_count.sampling: rand asked of a cache for uniform",
    ),
    "more scenes than fit": (
        {"ablations.scene_diversity.scenes": [1, 17]},
        "made.yaml: ablations.scene_diversity.scenes: 17 do not fit into the shortest video, whi",
    ),
    "more distractors than frames": (
        {"ablations.scene_diversity.distractors": [12]},
        "made.yaml: ablations.scene_diversity.distractors: 12 leave a video none of its 12 frames",
    ),
    "a search of what is no param": (
        {"ablations.search.spaces.xpool": {"pooling.head": {"choices": [1, 2]}}},
        "made.yaml: ablations.search.spaces.xpool.pooling.head: not in its recipe; there: lr_enc",
    ),
    "a search among what cannot be": (
        {"ablations.search.spaces.xpool": {"lr_pooling": {"low": -1.0, "high": 0.1}}},
        "made.yaml: ablations.search.spaces.xpool.lr_pooling: -1.0 cannot be (made.yaml: recipes",
    ),
    "a space that is none": (
        {"ablations.search.spaces.xpool": {"lr_pooling": {"low": 0.1}}},
        "made.yaml: ablations.search.spaces.xpool.lr_pooling: Value error, give low and high",
    ),
    "no storage": ({"optuna.storage": ...}, "made.yaml: optuna.storage is missing"),
    "heads that do not divide the encoder's width": (
        {"recipes.self_attention.msvd.pooling.heads": 5},
        "params.yaml: recipes.self_attention.msvd.pooling: heads must be a divisor "
        "of dim; got heads=5, dim=64",
    ),
    "a storage that is no URL": (
        {"optuna.storage": "studies.db"},
        "params.yaml: optuna.storage: not a URL; write sqlite:///.optuna/studies.db, ",
    ),
    "a storage of an unknown kind": (
        {"optuna.storage": "redis://host"},
        "params.yaml: optuna.storage: no storage of kind 'redis'; known: sqlite, postgresql, ",
    ),
    "a storage whose driver is not installed": (
        {"optuna.storage": "postgresql+psycopg2://user@host/studies"},
        "params.yaml: optuna.storage: postgresql+psycopg2://user@host/studies needs a package that",
    ),
    "a negative seed": (
        {"seeds": [0, -1]},
        "made.yaml: seeds.1: Input should be greater than or equal to 0; got -1",
    ),
    "a negative seed of the videos": ({"generate.seed": -1}, "made.yaml: generate.seed: Input sh"),
    "a negative seed of the frames": ({"frames.seed": -1}, "made.yaml: frames.seed: Input should"),
    "a negative seed of the stills": (
        {"encoder.pretraining.seed": -1}, "made.yaml: encoder.pretraining.seed: Input should be g",
    ),
    "a negative seed of a study": (
        {"ablations.search.seeds": [-1]}, "made.yaml: ablations.search.seeds.0: Input should be g",
    ),
    "a negative seed of a world": (
        {"ablations.scene_diversity.world.seed": -1},
        "made.yaml: ablations.scene_diversity.world.seed: Input should be greater than or equal",
    ),
    "a negative level": (
        {"ablations.variance.levels.order": [0, -1]},
        "made.yaml: ablations.variance.levels.order.1: Input should be greater than or equal to 0",
    ),
    "the official protocol with studies": (
        {"selection": "test_window", "manifest.msrvtt.val_videos": 0},
        "made.yaml: ablations.temperature.benchmarks: the study needs a validation split, but "
        "manifest.msrvtt.val_videos is 0 (MSR-VTT has no official one); raise it, or take "
        "msrvtt off this list or temperature off studies",
    ),
    "studies on a generated benchmark without validation": (
        {"selection": "last", "generate.msvd.videos.val": 0},
        "made.yaml: ablations.temperature.benchmarks: the study needs a validation split, but "
        "generate.msvd.videos.val is 0; raise it, or take msvd off",
    ),
    "more distractors than other validation videos": (
        {"manifest.msrvtt.val_videos": 8},
        "made.yaml: ablations.scene_diversity.benchmarks: the study needs a validation "
        "split of 9 videos or more, but manifest.msrvtt.val_videos is 8 (MSR-VTT has no official",
    ),
    "a study of a method without recipes": (
        {"recipes.top_k": ...},
        f"made.yaml: recipes.top_k is missing; known there: {OTHERS}; ablations.temperature needs "
        "it",
    ),
    "a study of a method without a recipe on its benchmark": (
        {"recipes.attention.lsmdc": ...},
        "made.yaml: recipes.attention.lsmdc is missing; known there: msrvtt, msvd; "
        "ablations.temperature needs it",
    ),
    "a study of the trained models that does not wait for them": (
        {"studies": {"own_models": ["scene_diversity"], "trained_models": []}},
        "made.yaml: studies.own_models: scene_diversity judges the models of the comparison; list",
    ),
    "more frames of a run than positions": (
        {"recipes.self_attention.msvd.pooling.positions": 8},
        "made.yaml: train.frames: 12 frames are more than self_attention has positions for (8: "
        "recipes.self_attention.msvd.pooling.positions)",
    ),
    "other frames of a run than a method is made for": (
        {"baselines": ["mean_pool", "tmass"], "recipes.tmass.msvd.pooling.frames": 8},
        "made.yaml: train.frames: 12 frames, but tmass is made for one number of frames (8: "
        "recipes.tmass.msvd.pooling.frames)",
    ),
    "other frames of a study than a method is made for": (
        {"ablations.frame_count.methods": ["tmass"]},
        "made.yaml: ablations.frame_count.frames: 24 frames, but tmass is made for one number of "
        "frames (12: recipes.tmass.msrvtt.pooling.frames)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_line_that_names_key_and_mending(written, name):
    changes, said = WRONG[name]
    assert error_of(written("mini", changes)).startswith(said)


PAPER_WRONG = {
    "generated": ({"generate.benchmarks": ["msvd"]}, "made.yaml: generate.benchmarks: must be []"),
    "mini world": (
        {
            "encoder": {"library": "openclip", "model": "tiny", "pretrained": "mini_world",
                        "pretraining": {"seed": 0, "images": 2048, "steps": 1, "batch_size": 8,
                                        "lr": 0.1, "weight_decay": 0.0, "warmup": 0.0}},
        },
        "made.yaml: encoder.pretrained: mini_world knows only generated videos; name real weights",
    ),
    "no validation split of MSR-VTT": (
        {"manifest.msrvtt.val_videos": 0}, "made.yaml: selection: 'val' needs a validation split",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("raw")
@pytest.mark.parametrize("name", PAPER_WRONG)
def test_a_mistake_in_the_paper_setting(written, name):
    changes, said = PAPER_WRONG[name]
    if "generate.benchmarks" in changes:
        changes = {**changes, "generate.msvd": MSVD}
    assert error_of(written("paper", changes)).startswith(said)


MSVD = {
    "videos": {"train": 4, "val": 1, "test": 2}, "captions": [1, 2], "scenes": [1, 1],
    "duration_s": [2, 3], "rate_fps": 8, "sizes": [[96, 72]],
}  # fmt: skip


NO_STUDIES = {"own_models": [], "trained_models": []}


@pytest.mark.parametrize("selection", ["last", "test_window"])
@pytest.mark.parametrize(
    "studies",
    [
        {"studies": NO_STUDIES},
        {"benchmarks": ["msrvtt", "lsmdc"],
         "studies": {**NO_STUDIES, "own_models": ["frame_count"]},
         "ablations.frame_count.benchmarks": ["msvd", "lsmdc"]},
        {"studies": {**NO_STUDIES, "trained_models": ["scene_diversity"]},
         "ablations.scene_diversity.distractors": [], "ablations.scene_diversity.bins": 1},
    ],
    ids=["no study", "on other benchmarks", "on generated videos alone"],
)  # fmt: skip
def test_no_validation_split_is_right_where_none_is_used(written, selection, studies):
    check(written("mini", {"manifest.msrvtt.val_videos": 0, "selection": selection, **studies}))


def test_recipes_of_methods_that_nothing_uses_may_be_missing(written):
    """A study that runs on none of the benchmarks needs none either."""
    changes = {"benchmarks": ["msvd"], "recipes.top_k.lsmdc": ..., "recipes.attention.msrvtt": ...}
    check(written("mini", changes))
    check(written("mini", {"studies": NO_STUDIES, "recipes.top_k": ..., "recipes.attention": ...}))


def test_a_decoder_that_is_not_installed_is_said(written, monkeypatch):
    monkeypatch.setattr(variance, "find_spec", lambda name: None)
    assert error_of(written("mini")).startswith(
        "made.yaml: ablations.variance.levels.decoder: the package decord is not installed"
    )


def test_what_is_used_is_returned(written):
    """The methods of the listed studies among it: temperature trains two that no list names."""
    used = check(written("mini", {"studies": {**NO_STUDIES, "own_models": ["temperature"]}}))
    assert used == {
        "xpool.encoders.openclip", "studies.temperature", "xpool.xpool",
        *(f"xpool.data.benchmarks.{name}" for name in ("msrvtt", "msvd", "lsmdc")),
        *(f"baselines.{name}" for name in ("mean_pool", "self_attention", "attention", "top_k")),
    }  # fmt: skip


def test_fewer_benchmarks_and_baselines_are_right(written):
    check(written("mini", {"benchmarks": ["msvd"], "baselines": [], "seeds": [5]}))


def test_real_weights_in_the_mini_setting_are_right(written):
    encoder = {"library": "openclip", "model": "ViT-B-32", "pretrained": "openai"}
    check(written("mini", {"encoder": encoder}))
    encoder = {"library": "huggingface", "model": "openai/clip-vit-base-patch32"}
    check(written("mini", {"encoder": {**encoder, "pretrained": "hub"}}))


def test_the_papers_hyperparameters_are_those_it_states(settings):
    """Golden: X-Pool (arXiv 2203.15086) section 4.2, and the commands of its code's README."""
    paper = settings["paper"]
    train, xpool = paper["train"], paper["recipes"]["xpool"]
    assert (train["frames"], train["epochs"], train["batch_size"]) == (12, 5, 32)
    assert (train["weight_decay"], train["max_grad_norm"], train["warmup"]) == (0.2, 1.0, 0.1)
    assert train["reads"] == "frames"
    assert {name: recipe["lr_encoder"] for name, recipe in xpool.items()} == {
        "msrvtt": 1e-6, "msvd": 1e-6, "lsmdc": 1e-6,
    }  # fmt: skip
    rates = {name: recipe["lr_pooling"] for name, recipe in xpool.items()}
    assert rates == {"msrvtt": 3e-5, "msvd": 1e-5, "lsmdc": 1e-5}
    dropouts = {name: recipe["pooling"]["dropout"] for name, recipe in xpool.items()}
    assert dropouts == {"msrvtt": 0.3, "msvd": 0.4, "lsmdc": 0.3}
    assert paper["encoder"]["model"] == "openai/clip-vit-base-patch32"


@pytest.fixture
def files(written, monkeypatch):
    """Run the step on the mini setting with changes; return its files' texts, by their keys."""
    # tests/test_pipeline.py runs the stage as it is
    monkeypatch.setattr(
        fingerprints, "modules", lambda: ("xpool.stages.train", "notebooks.results")
    )

    def files(changes=()):
        written("mini", changes).replace("params.yaml")
        stage.main()
        return {path.stem: path.read_text() for path in paths.params().iterdir()}

    return files


def test_main_writes_only_if_all_is_right(files):
    with pytest.raises(InputError):
        files({"seeds": []})
    assert not paths.params().exists()
    files()
    assert paths.studies("mini", "").is_dir(), "what the page of the studies reads"
    assert read("setting", str) == "mini"


def test_every_section_has_its_values_at_every_depth(files):
    found = files()
    for key, text in found.items():
        assert text.endswith("\n")
        if not key.startswith("ablations.search.spaces."):  # names of params, with dots in them
            assert json.loads(text) == read(key, dict), key
    assert {"train", "recipes.xpool.msvd", "recipes.xpool.msvd.pooling", "manifest"} <= set(found)
    assert not {"seeds", "train.epochs"} & set(found), "values are read through their section"
    assert found["manifest.msvd"] == '{\n  "allowed_missing": 0.0\n}\n'


def test_a_changed_value_changes_the_files_of_its_sections_alone(files):
    before = files()
    after = files({"recipes.xpool.msvd.lr_pooling": 0.5})
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {"recipes", "recipes.xpool", "recipes.xpool.msvd"}
    assert set(after) == set(before)


def test_the_order_of_keys_changes_no_file(files, settings):
    before = files()
    assert files({"train": dict(reversed(settings["mini"]["train"].items()))}) == before


def test_no_file_of_a_removed_section_stays(files):
    before = files()
    after = files({"recipes.top_k": ..., "studies": NO_STUDIES})
    gone = set(before) - set(after)
    assert set(after) <= set(before)
    assert {"recipes.top_k", "recipes.top_k.msvd.pooling"} <= gone
    assert all(key.startswith("recipes.top_k") for key in gone)


def test_a_module_uses_its_files_and_the_values_that_it_reads(files):
    files({"seeds": [3, 4]})
    uses = json.loads((paths.fingerprints() / "xpool.stages.train.json").read_text())
    assert {"xpool/encoders/base.py", "xpool/encoders/openclip.py"} <= set(uses["code"])
    assert "xpool/encoders/huggingface.py" not in uses["code"], "the other library"
    assert uses["params"]["seeds"] == [3, 4]
    assert uses["params"]["train"] == read("train", dict)
    notebook = json.loads((paths.fingerprints() / "notebooks.results.json").read_text())
    assert "notebooks/results.ipynb" in notebook["code"]
    assert notebook["params"]["train.frames"] == read("train.frames", int)
    assert "train" not in notebook["params"], "its page says nothing of the rest"


@pytest.mark.parametrize(
    ("library", "model", "width"),
    [
        ("openclip", "tiny", 64), ("openclip", "ViT-B-32", 512), ("openclip", "ViT-L-14", 768),
        ("openclip", "no-such-model", None),
        ("huggingface", "openai/clip-vit-base-patch32", 512), ("huggingface", "me/mine", None),
    ],
)  # fmt: skip
def test_the_width_of_an_encoder_is_known_before_its_weights(library, model, width):
    encoder = plugins.load(f"xpool.encoders.{library}", "ENCODER")
    params = EncoderParams(library=library, model=model, pretrained="hub")
    assert encoder.width(params) == width


@pytest.mark.parametrize("on_gpu", [False, True])
def test_compile_without_a_compiler_is_one_line(written, on_gpu, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: on_gpu)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    asks = written("mini", {"train.reads": "frames", "train.compile": True})
    monkeypatch.setenv("PATH", "/nowhere")
    assert error_of(asks).startswith("made.yaml: train.compile: true needs a C and C++ compiler")
    check(written("mini", {"train.reads": "embeddings", "train.compile": True}))
