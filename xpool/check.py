"""[first stage] Check all of ``params.yaml`` before anything is computed, and take it apart.

Each step checks its own section again; here are the rules that span several of them, so that a
mistake in the last stage's section stops the pipeline in its first second.

Writes what DVC sees of the code and of ``params.yaml``; no step reads it. A stage depends on the
files here that are its own, so that it runs again when something that it needs changes, and for
nothing else:

- ``results/needs/<module>.json``: the SHA-256 of each file that the module needs, and the values of
  the keys that it reads.
- ``results/params/<dotted key>.json``: a section's values. A module of which ``dvc.yaml`` makes
  several stages reads one section in each; its source does not say which.

Run: ``python -m xpool.check``
"""

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import Field

from xpool import benchmark as benchmarks
from xpool import paths, sources
from xpool.benchmark import Benchmark
from xpool.command import InputError, run
from xpool.embeddings import EmbeddingsParams
from xpool.encoder import EncoderParams
from xpool.experiment import load_study
from xpool.frame_cache import FramesParams
from xpool.generate import GenerateParams
from xpool.params import PARAMS_FILE, Section, load, read, setting, validate
from xpool.pretrain import PretrainParams
from xpool.recipes import Recipe, TrainParams, import_path, recipe_for
from xpool.selection import Selection
from xpool.storage import OptunaParams
from xpool.workspace import WORK, publish, write_json

TOP = Path(__file__).resolve().parent.parent


class Studies(Section):
    """``studies``: which run, by what they wait for."""

    own_models: list[str]
    """Train what they judge."""
    trained_models: list[str]
    """Judge the models of the comparison too."""

    def all(self) -> list[str]:
        """Return both lists."""
        return [*self.own_models, *self.trained_models]


class Everything(Section):
    """``params.yaml`` from top to bottom."""

    setting: Literal["mini", "paper"]
    benchmarks: Annotated[list[str], Field(min_length=1)]
    baselines: list[str]
    seeds: Annotated[list[int], Field(min_length=1)]
    studies: Studies
    selection: Selection
    mixing: Literal["refuse", "allow"]
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
        if key not in Everything.model_fields:
            raise InputError(
                f"{path}: {key}: unknown key; known: {', '.join(Everything.model_fields)}"
            )
    for key, kind in get_type_hints(Everything, include_extras=True).items():
        if key in Everything.model_fields:  # one by one, so that a problem's key is whole
            read(key, kind, path)
    everything = validate(whole, "params", Everything, path)
    _lists(everything, path)
    _generated(everything, path)
    _encoder(everything, path)
    _frames(everything, path)
    _selection(everything, path)
    _recipes(everything, path)
    _studies(everything, path)


def _lists(params: Everything, path: Path) -> None:
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


def _generated(params: Everything, path: Path) -> None:
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
    if params.setting != "mini":
        if listed:
            raise InputError(
                f"{path}: generate.benchmarks: must be [] in the {params.setting} setting, where "
                f"the files in {paths.raw(params.setting, '<benchmark>')} are real"
            )
        for name in params.benchmarks:
            raw = paths.raw(params.setting, name)
            if not raw.is_dir():
                raise InputError(
                    f"{raw}: not found; put {benchmarks.load(name).title}'s files there "
                    f"(docs/real_data.md), or take {name} out of benchmarks in {path}"
                )


def _encoder(params: Everything, path: Path) -> None:
    library, model = params.encoder.library, params.encoder.model
    pretrained = params.encoder.pretrained
    if params.encoder.pretraining is not None or pretrained == "mini_world":
        read("encoder.pretraining", PretrainParams, path)
    if pretrained == "mini_world" and params.setting != "mini":
        raise InputError(
            f"{path}: encoder.pretrained: mini_world knows only generated videos; name real "
            f"weights in the {params.setting} setting"
        )
    if (pretrained == "mini_world") != (model == "tiny") or (
        pretrained == "mini_world" and library != "openclip"
    ):
        raise InputError(
            f"{path}: encoder: mini_world is how the tiny model of openclip is trained, and only "
            f"that; got library {library}, model {model}, pretrained {pretrained}"
        )
    if (library == "huggingface") != (pretrained == "hub"):
        raise InputError(
            f"{path}: encoder.pretrained: must be hub with library huggingface, and only with it; "
            f"got {pretrained} with {library}"
        )


def _frames(params: Everything, path: Path) -> None:
    asked, held = params.train.frames, params.frames.counts
    if asked not in held:
        raise InputError(
            f"{path}: train.frames: {asked} frames asked of a cache for {held} "
            f"(frames.counts); change the one or add {asked} to the other"
        )
    rule, rules = params.frames.sampling, params.frames.rules
    if rule not in rules:
        raise InputError(
            f"{path}: frames.sampling: {rule} frames asked of a cache for {', '.join(rules)} "
            f"(frames.rules); change the one or add {rule} to the other"
        )


def _selection(params: Everything, path: Path) -> None:
    if params.selection != "val":
        return
    for name in params.benchmarks:
        if name == "msrvtt":
            key, why = "manifest.msrvtt.val_videos", " (MSR-VTT has no official one)"
        elif params.setting == "mini":
            key, why = f"generate.{name}.videos.val", ""
        else:
            continue
        if read(key, int, path) == 0:
            raise InputError(
                f"{path}: selection: 'val' needs a validation split, but {key} is 0{why}; "
                "raise it, or choose last or test_window"
            )


def _recipes(params: Everything, path: Path) -> None:
    methods = ["xpool", *_members("baselines")]
    for name, recipes in params.recipes.items():
        if name not in methods:
            raise InputError(f"{path}: recipes.{name}: no such method; known: {', '.join(methods)}")
        for benchmark in recipes:
            _benchmark(benchmark, f"recipes.{name}", path)
            recipe_for(import_path(name), benchmark, path)
    for name in ("xpool", *params.baselines):
        for benchmark in params.benchmarks:
            recipe_for(import_path(name), benchmark, path)


def _studies(params: Everything, path: Path) -> None:
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
        return benchmarks.load(name)
    except InputError as error:
        raise InputError(f"{path}: {key}: {error}") from error


def _members(folder: str) -> list[str]:
    return sorted(path.stem for path in (TOP / folder).glob("[!_]*.py"))


def _member(folder: str, name: str, path: Path, key: str) -> None:
    if name not in (known := _members(folder)):
        raise InputError(
            f"{path}: {key}: no file {folder}/{name}.py; there are: {', '.join(known)}"
        )


def values(section: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each key with its value, dotted from the top, at every depth.

    Example:
        >>> list(values({"train": {"epochs": 3}}))
        [('train', {'epochs': 3}), ('train.epochs', 3)]
    """
    for name, value in section.items():
        yield f"{above}{name}", value
        if isinstance(value, dict):
            yield from values(value, f"{above}{name}.")


def needs(module: str, params: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what a module needs: files with their digests, and keys with their values.

    Args:
        module: its name, as in an import.
        params: the values of all keys, dotted.
    """
    files = sources.digests(module)
    if "xpool/encoder.py" in files:  # which loads it by its name
        files |= sources.digests(f"xpool.encoders.{params['encoder.library']}")
    named, _ = sources.keys(module)
    return {"files": files, "params": {key: params[key] for key in named if key in params}}


def main() -> None:
    """Check, and write what the other stages depend on.

    The folder of the studies is there from now on, as the page of all studies reads it even where
    none is listed.
    """
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    check()
    paths.studies(setting(), "").mkdir(parents=True, exist_ok=True)
    params = dict(values(load()))
    modules = {name: needs(name, params) for name in sources.modules()}
    sections = {key: value for key, value in params.items() if isinstance(value, dict)}
    for made, destination in ((modules, paths.needs()), (sections, paths.params())):
        folder = WORK / destination.name
        shutil.rmtree(folder, ignore_errors=True)
        for name, content in made.items():
            write_json(folder / f"{name}.json", content)
        publish(folder, destination)


if __name__ == "__main__":
    run(main)
