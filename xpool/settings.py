"""The whole of ``params.yaml``, checked before anything is computed.

Each stage checks the section that it reads again; here are the rules that span several sections, so
that a mistake in the last stage's section stops the pipeline in its first second.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import Field

from xpool.ablation.experiment import Study, benchmarks_of, load_study
from xpool.ablation.storage import OptunaParams, check_driver
from xpool.data.benchmark import Benchmark, module_of
from xpool.data.benchmark import load as load_benchmark
from xpool.data.frame_cache import FramesParams
from xpool.encoders.base import EncoderParams
from xpool.encoders.embed import EmbeddingsParams
from xpool.mini.generate import GenerateParams
from xpool.postprocessing.listed import PostProcessingParams, file_of, listed
from xpool.project import paths, plugins
from xpool.project.errors import InputError
from xpool.project.params import PARAMS_FILE, Section, Seed, load, read, validate
from xpool.project.plugins import BrokenMemberError
from xpool.statistics.slices.attributes import SlicesParams
from xpool.training.evaluations import Selection
from xpool.training.pretrain import PretrainParams
from xpool.training.recipes import (
    Recipe,
    TrainParams,
    build_pooling,
    frames_refused,
    import_path,
    recipe_for,
    wants_words,
)
from xpool.training.towers import compiler

log = logging.getLogger(__name__)


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
    seeds: Annotated[list[Seed], Field(min_length=1)]
    studies: Studies
    selection: Selection
    mixing: Literal["refuse", "allow"]
    slices: SlicesParams
    real: list[str]
    generate: dict[str, Any]
    manifest: dict[str, Any]
    frames: FramesParams
    encoder: EncoderParams
    embeddings: EmbeddingsParams
    train: TrainParams
    recipes: dict[str, dict[str, Recipe]]
    post_processing: PostProcessingParams
    optuna: OptunaParams
    ablations: dict[str, Any]


def check(path: Path = PARAMS_FILE) -> set[str]:
    """Check the whole file.

    Returns:
        The import paths of the methods, benchmarks, studies, post-processing and the encoder that
        it uses. A file of theirs that it does not use may be half written.

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
    _features(params, path)
    _slices(params, path)
    _generated(params, path)
    _encoder(params, path)
    _frames(params, path)
    _compiler(params, path)
    _selection(params, path)
    _recipes(params, path)
    listed(params.post_processing, path)
    methods = _studies(params, path)
    check_driver(params.optuna, used=bool(params.studies.all()))
    return {
        f"xpool.encoders.{params.encoder.library}",
        *(module_of(name, path) for name in params.benchmarks),
        *(f"studies.{name}" for name in params.studies.all()),
        *map(file_of, params.post_processing.members),
        *map(import_path, [*params.baselines, *methods]),
    }


@contextmanager
def _waiting(listed: bool) -> Iterator[None]:
    """Pass over a file that cannot be imported where nothing that is listed uses it."""
    try:
        yield
    except BrokenMemberError as error:
        if listed:
            raise
        log.warning("%s; it does not matter, since nothing listed uses it", error)


def _lists(params: Setting, path: Path) -> None:
    lists = {key: getattr(params, key) for key in ("benchmarks", "baselines", "seeds")}
    for key, values in (lists | {"studies": params.studies.all()}).items():
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise InputError(f"{path}: {key}: {twice[0]!r} is listed twice")
    for name in params.benchmarks:
        read(f"manifest.{name}", _benchmark(name, "benchmarks", path).Options, path)
    for name in params.manifest:  # also those that wait for their turn
        with _waiting(name in params.benchmarks):
            read(f"manifest.{name}", _benchmark(name, "manifest", path).Options, path)
    for name in params.baselines:
        _member("baselines", name, path, "baselines")
    for name in params.studies.all():
        _member("studies", name, path, "studies")


def _features(params: Setting, path: Path) -> None:
    """Check that features which stand for videos meet runs and studies that read no picture."""
    for name in params.benchmarks:
        options = read(f"manifest.{name}", _benchmark(name, "benchmarks", path).Options, path)
        key = f"{path}: manifest.{name}.features"
        if options.features is not None and options.frames_fps is not None:
            raise InputError(f"{key}: given beside frames_fps; keep one of them")
        if options.features is not None and params.train.reads != "embeddings":
            raise InputError(
                f"{key}: features stand for the videos, but train.reads is {params.train.reads}; "
                "write embeddings, or remove this key"
            )


def _slices(params: Setting, path: Path) -> None:
    names = params.slices.attributes
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{path}: slices.attributes: {twice[0]!r} is listed twice")
    for name, files in params.slices.files.items():
        _benchmark(name, "slices.files", path)
        for file in files:
            if not paths.attributes(file).is_file():
                raise InputError(
                    f"{path}: slices.files.{name}: no file {paths.attributes(file)}; put it there, "
                    "or take it off the list"
                )


def _generated(params: Setting, path: Path) -> None:
    listed = read("generate.benchmarks", list[str], path)
    read("generate.seed", Seed, path)
    for name in listed:
        _benchmark(name, "generate.benchmarks", path)
    for name in sorted({*listed, *params.generate} - {"benchmarks", "seed"}):
        with _waiting(name in listed):
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
            folders = ", ".join(
                f"{raw[name]} ({load_benchmark(name, path).title})" for name in absent
            )
            raise InputError(
                f"{folders}: not found; put the files there (docs/data/real_data.md), or take "
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


def _compiler(params: Setting, path: Path) -> None:
    if params.train.reads == "frames" and params.train.compile and compiler() is None:
        raise InputError(
            f"{path}: train.compile: true needs a C and C++ compiler, and PATH has none; install "
            "one (Debian: apt-get install g++), name it in CC and CXX, or write false"
        )


def _selection(params: Setting, path: Path) -> None:
    for name in params.benchmarks if params.selection == "val" else ():
        if lacking := _too_few(params, name, 1, path):
            raise InputError(
                f"{path}: selection: 'val' needs a validation split, but {lacking}; "
                "raise it, or choose last or test_window"
            )


def _too_few(params: Setting, name: str, least: int, path: Path) -> str:
    """Say which key gives a benchmark fewer validation videos than that; empty if none does."""
    benchmark = _benchmark(name, "benchmarks", path)
    if benchmark.validation_option:
        key = f"manifest.{name}.{benchmark.validation_option}"
        why = f" ({benchmark.title} has no official one)"
    elif params.setting == "mini":
        key, why = f"generate.{name}.videos.val", ""
    else:
        return ""
    count = read(key, int, path)
    return f"{key} is {count}{why}" if count < least else ""


def _recipes(params: Setting, path: Path) -> None:
    methods = ["xpool", *plugins.members("baselines", "METHOD")]
    for name, recipes in params.recipes.items():
        if name not in methods and "." not in name:
            raise InputError(f"{path}: recipes.{name}: no such method; known: {', '.join(methods)}")
        for benchmark in recipes:
            with _waiting(benchmark in params.benchmarks):
                _benchmark(benchmark, f"recipes.{name}", path)
            with _waiting(name in ("xpool", *params.baselines)):
                recipe_for(import_path(name), benchmark, path)
    for name in ("xpool", *params.baselines):
        for benchmark in params.benchmarks:
            _fits(params, name, benchmark, path)


def _fits(params: Setting, method: str, benchmark: str, path: Path) -> None:
    """Check that a method has a recipe, takes a run's frames, and fits the encoder's width."""
    recipe = recipe_for(import_path(method), benchmark, path)
    refused = frames_refused(import_path(method), benchmark, recipe, [params.train.frames])
    if refused:
        raise InputError(f"{path}: train.frames: {refused}")
    if (
        params.train.reads == "embeddings"
        and not params.embeddings.words
        and wants_words(import_path(method))
    ):
        raise InputError(
            f"{path}: embeddings.words: false, but {method} compares words with frames; write true"
        )
    library = plugins.load(f"xpool.encoders.{params.encoder.library}", "ENCODER")
    width = library.width(params.encoder)
    if width is not None:
        build_pooling(import_path(method), benchmark, recipe, width)


def _studies(params: Setting, path: Path) -> set[str]:
    """Check the blocks of all studies, also of those that wait for their turn.

    Returns:
        The methods that the listed studies train or judge, by their short names.
    """
    for name in params.ablations:
        _member("studies", name, path, "ablations")
    methods: set[str] = set()
    for name in dict.fromkeys([*params.studies.all(), *params.ablations]):
        listed = name in params.studies.all()
        with _waiting(listed):
            study, block = load_study(name, path)
            for benchmark in block.benchmarks:
                with _waiting(benchmark in params.benchmarks):
                    _benchmark(benchmark, f"ablations.{name}.benchmarks", path)
            for method in getattr(block, "methods", []):
                if method != "xpool":
                    _member("baselines", method, path, f"ablations.{name}.methods")
            if listed:
                methods |= _listed_study(params, study, block, path)
    return methods


def _listed_study(params: Setting, study: Study, block: Any, path: Path) -> set[str]:
    """Check all that a listed study needs when its turn comes; return the methods that it uses."""
    key = f"{path}: ablations.{study.name}"
    if study.judges_trained and study.name in params.studies.own_models:
        raise InputError(
            f"{path}: studies.own_models: {study.name} judges the models of the comparison; list "
            "it under trained_models, so that it waits for them"
        )
    methods: set[str] = set()
    for benchmark in benchmarks_of(block, path):
        least = study.least_validation(block)
        if lacking := _too_few(params, benchmark, least, path):
            size = f" of {least} videos or more" if least > 1 else ""
            raise InputError(
                f"{key}.benchmarks: the study needs a validation split{size}, but {lacking}; raise "
                f"it, or take {benchmark} off this list or {study.name} off studies"
            )
        for method in study.methods(block, benchmark, path):
            methods.add(method)
            try:
                _fits(params, method, benchmark, path)
            except BrokenMemberError:
                raise
            except InputError as error:
                raise InputError(f"{error}; ablations.{study.name} needs it") from error
    for problem in study.check(block, path):
        raise InputError(f"{key}.{problem}")
    return methods


def _benchmark(name: str, key: str, path: Path) -> Benchmark:
    try:
        return load_benchmark(name, path)
    except BrokenMemberError:
        raise
    except InputError as error:
        raise InputError(f"{path}: {key}: {error}") from error


MEMBER = {"baselines": "METHOD", "studies": "STUDY"}
"""Name that each file of a top-level set defines at its end."""


def _member(folder: str, name: str, path: Path, key: str) -> None:
    if folder == "baselines" and "." in name:  # of another package
        try:
            plugins.load(name, MEMBER[folder])
        except InputError as error:
            raise InputError(f"{path}: {key}: {error}") from error
    elif name not in (known := plugins.members(folder, MEMBER[folder])):
        raise InputError(
            f"{path}: {key}: no file {folder}/{name}.py; there are: {', '.join(known)}"
        )
