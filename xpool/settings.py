"""The whole of ``params.yaml``, checked before anything is computed.

Each stage checks the section that it reads again; here are the rules that span several sections, so
that a mistake in the last stage's section stops the pipeline in its first second.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import Field

from xpool.ablation.experiment import load_study
from xpool.ablation.storage import OptunaParams
from xpool.data.benchmark import Benchmark
from xpool.data.benchmark import load as load_benchmark
from xpool.data.frame_cache import FramesParams
from xpool.encoders.base import EncoderParams
from xpool.encoders.embed import EmbeddingsParams
from xpool.mini.generate import GenerateParams
from xpool.project import paths, plugins
from xpool.project.errors import InputError
from xpool.project.params import PARAMS_FILE, Section, load, read, validate
from xpool.training.pretrain import PretrainParams
from xpool.training.recipes import Recipe, TrainParams, import_path, recipe_for
from xpool.training.selection import Selection


class Studies(Section):
    """``studies``: which run, by what they wait for."""

    own_models: list[str]
    """Train what they judge."""
    trained_models: list[str]
    """Judge the models of the comparison too."""

    def all(self) -> list[str]:
        """Return both lists."""
        return [*self.own_models, *self.trained_models]


class Setting(Section):
    """``params.yaml`` from top to bottom."""

    setting: Literal["mini", "paper"]
    benchmarks: Annotated[list[str], Field(min_length=1)]
    baselines: list[str]
    seeds: Annotated[list[int], Field(min_length=1)]
    studies: Studies
    selection: Selection
    mixing: Literal["refuse", "allow"]
    real: list[str]
    generate: dict[str, Any]
    manifest: dict[str, Any]
    frames: FramesParams
    encoder: EncoderParams
    embeddings: EmbeddingsParams
    train: TrainParams
    recipes: dict[str, dict[str, Recipe]]
    optuna: OptunaParams
    ablations: dict[str, Any]


def check(path: Path = PARAMS_FILE) -> None:
    """Check the whole file.

    Raises:
        InputError: the first problem, with its key and what is allowed there.
    """
    whole = load(path)
    for key in whole:
        if key not in Setting.model_fields:
            raise InputError(
                f"{path}: {key}: unknown key; known: {', '.join(Setting.model_fields)}"
            )
    for key, kind in get_type_hints(Setting, include_extras=True).items():
        if key in Setting.model_fields:  # one by one, so that a problem's key is whole
            read(key, kind, path)
    params = validate(whole, "params", Setting, path)
    _lists(params, path)
    _generated(params, path)
    _encoder(params, path)
    _frames(params, path)
    _selection(params, path)
    _recipes(params, path)
    _studies(params, path)


def _lists(params: Setting, path: Path) -> None:
    lists = {key: getattr(params, key) for key in ("benchmarks", "baselines", "seeds")}
    for key, values in (lists | {"studies": params.studies.all()}).items():
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise InputError(f"{path}: {key}: {twice[0]!r} is listed twice")
    for name in params.benchmarks:
        read(f"manifest.{name}", _benchmark(name, "benchmarks", path).Options, path)
    for name in params.manifest:  # also those that wait for their turn
        read(f"manifest.{name}", _benchmark(name, "manifest", path).Options, path)
    for name in params.baselines:
        _member("baselines", name, path, "baselines")
    for name in params.studies.all():
        _member("studies", name, path, "studies")


def _generated(params: Setting, path: Path) -> None:
    listed = read("generate.benchmarks", list[str], path)
    read("generate.seed", int, path)
    for name in listed:
        _benchmark(name, "generate.benchmarks", path)
    for name in sorted({*listed, *params.generate} - {"benchmarks", "seed"}):
        _benchmark(name, "generate", path)
        read(f"generate.{name}", GenerateParams, path)
    if params.setting == "mini" and (missing := set(params.benchmarks) - set(listed)):
        raise InputError(
            f"{path}: generate.benchmarks: {sorted(missing)[0]} is compared but not generated; "
            "in the mini setting every benchmark is"
        )
    if params.setting == "mini" and params.real:
        raise InputError(f"{path}: real: must be [] in the mini setting, where all is generated")
    if params.setting != "mini":
        if missing := set(params.benchmarks) - set(params.real):
            raise InputError(
                f"{path}: real: add {sorted(missing)[0]}, so that DVC notices when its files change"
            )
        if listed:
            raise InputError(
                f"{path}: generate.benchmarks: must be [] in the {params.setting} setting, where "
                f"the files in {paths.raw(params.setting, '<benchmark>')} are real"
            )
        raw = {name: paths.raw(params.setting, name) for name in params.benchmarks}
        if absent := [name for name in raw if not raw[name].is_dir()]:
            folders = ", ".join(f"{raw[name]} ({load_benchmark(name).title})" for name in absent)
            raise InputError(
                f"{folders}: not found; put the files there (docs/real_data.md), or take "
                f"{', '.join(absent)} out of benchmarks in {path}"
            )


def _encoder(params: Setting, path: Path) -> None:
    encoder = params.encoder
    mini_world = encoder.pretrained == "mini_world"
    if mini_world or encoder.pretraining is not None:
        read("encoder.pretraining", PretrainParams, path)
    if mini_world and params.setting != "mini":
        raise InputError(
            f"{path}: encoder.pretrained: mini_world knows only generated videos; name real "
            f"weights in the {params.setting} setting"
        )
    library = plugins.load(f"xpool.encoders.{encoder.library}", "ENCODER")
    for problem in library.problems(encoder):
        raise InputError(f"{path}: encoder: {problem}")


def _frames(params: Setting, path: Path) -> None:
    asked, held = params.train.frames, params.frames.counts
    if asked not in held:
        raise InputError(
            f"{path}: train.frames: {asked} frames asked of a cache for {held} (frames.counts); "
            f"change one, or add {asked} to the other"
        )


def _selection(params: Setting, path: Path) -> None:
    if params.selection != "val":
        return
    for name in params.benchmarks:
        benchmark = _benchmark(name, "benchmarks", path)
        if benchmark.validation_option:
            key = f"manifest.{name}.{benchmark.validation_option}"
            why = f" ({benchmark.title} has no official one)"
        elif params.setting == "mini":
            key, why = f"generate.{name}.videos.val", ""
        else:
            continue
        if read(key, int, path) == 0:
            raise InputError(
                f"{path}: selection: 'val' needs a validation split, but {key} is 0{why}; "
                "raise it, or choose last or test_window"
            )


def _recipes(params: Setting, path: Path) -> None:
    methods = ["xpool", *plugins.members("baselines", "METHOD")]
    for name, recipes in params.recipes.items():
        if name not in methods:
            raise InputError(f"{path}: recipes.{name}: no such method; known: {', '.join(methods)}")
        for benchmark in recipes:
            _benchmark(benchmark, f"recipes.{name}", path)
            recipe_for(import_path(name), benchmark, path)
    for name in ("xpool", *params.baselines):
        for benchmark in params.benchmarks:
            recipe_for(import_path(name), benchmark, path)


def _studies(params: Setting, path: Path) -> None:
    """Check the blocks of all studies, also of those that wait for their turn."""
    for name in params.ablations:
        _member("studies", name, path, "ablations")
    for name in dict.fromkeys([*params.studies.all(), *params.ablations]):
        study, block = load_study(name, path)
        key = f"{path}: ablations.{name}"
        for benchmark in block.benchmarks:
            _benchmark(benchmark, f"ablations.{name}.benchmarks", path)
        listed = getattr(block, "methods", [])
        for method in [name for name in listed if name != "xpool"]:
            _member("baselines", method, path, f"ablations.{name}.methods")
        if name not in params.studies.all():
            continue
        for problem in study.check(block, path):
            raise InputError(f"{key}.{problem}")


def _benchmark(name: str, key: str, path: Path) -> Benchmark:
    try:
        return load_benchmark(name)
    except InputError as error:
        raise InputError(f"{path}: {key}: {error}") from error


MEMBER = {"baselines": "METHOD", "studies": "STUDY"}
"""Name that each file of a top-level set defines at its end."""


def _member(folder: str, name: str, path: Path, key: str) -> None:
    if name not in (known := plugins.members(folder, MEMBER[folder])):
        raise InputError(
            f"{path}: {key}: no file {folder}/{name}.py; there are: {', '.join(known)}"
        )
