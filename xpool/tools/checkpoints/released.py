"""The authors' checkpoints: each is scored on its test split by the stages of the pipeline.

A check has a setting of its own, ``check-<checkpoint>``: the setting for real data, with nothing
but this benchmark, X-Pool and the test split. So it neither needs nor touches what ``dvc repro``
makes. All checks share the folder ``data/check``: encoder, manifests and frames; the official files
are those of the setting for real data.
"""

import copy
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from xpool.data.benchmark import load as load_benchmark
from xpool.data.frame_cache import FramesParams
from xpool.data.get import target as targets
from xpool.data.get.fetch import get
from xpool.data.get.sources import Web, items
from xpool.data.manifest import read_videos
from xpool.encoders.base import EncoderParams
from xpool.project import paths
from xpool.project.digests import sha256
from xpool.project.errors import InputError
from xpool.project.fingerprints import fingerprint
from xpool.project.params import PARAMS_FILE, holding, load, read, setting
from xpool.project.records import RECORD
from xpool.project.workspace import WORK, replacing
from xpool.report.check_paper import figures
from xpool.stages import evaluate, frames, manifest, weights
from xpool.tools.checkpoints import import_checkpoint
from xpool.tools.setting import SETTINGS

NAME = "xpool-checkpoints"
"""Target of ``xpool get``; a part is named after its benchmark and, of MSR-VTT, training list."""
SHARED = "check"
METHOD = "xpool"
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Released:
    """One checkpoint of the authors."""

    part: str
    """Its name among the sources, e.g. ``msrvtt-9k``."""
    benchmark: str
    training_videos: str
    """The training list that the name says; empty where a benchmark has one list."""

    @property
    def setting(self) -> str:
        """The setting of its check."""
        return f"{SHARED}-{self.part}"

    @property
    def run(self) -> Path:
        """The folder of the run that is made of it."""
        return paths.training(self.setting, METHOD, self.benchmark, 0)


def released() -> Iterator[Released]:
    """Yield the authors' checkpoints, in the order of the sources."""
    for part in items()[NAME].parts:
        benchmark, _, training_videos = part.partition("-")
        yield Released(part=part, benchmark=benchmark, training_videos=training_videos)


def check(one: Released, origin: Path | None) -> pd.DataFrame:
    """Score a checkpoint, after doing what is not done yet.

    Args:
        one: which.
        origin: folder with a folder of official files for each name of ``xpool get``; None for the
            listed sources.

    Returns:
        What :func:`xpool.report.check_paper.figures` gives.

    Raises:
        InputError: something is missing, and no source gives it; or the file does not fit.
    """
    here = targets.real()
    values = _params(one)
    _share_data(one.setting, here)
    with holding(values):
        file = _checkpoint(one, here, origin)
        _got(targets.find(one.benchmark, here), origin)
        about = fingerprint(values)
        encoder = read("encoder", EncoderParams)
        own_files = [Path(encoder.model), Path(encoder.pretrained)]
        code = [f"xpool.encoders.{encoder.library}"]
        of_weights = fingerprint(encoder.model_dump(), own_files, code)
        _once("weights", of_weights, paths.encoder(SHARED) / "encoder.json", weights.main)
        manifest.main(one.benchmark)
        of_frames = _frames_digest(one)
        index = paths.frames(SHARED, one.benchmark) / "index.parquet"
        _once(f"frames-{one.benchmark}", of_frames, index, lambda: frames.main(one.benchmark))
        rows = sha256(paths.manifest(SHARED, one.benchmark))
        inputs = [about, of_weights, of_frames, rows, sha256(file)]
        importer = "xpool.training.checkpoints.imported"
        of_run = fingerprint(inputs, code=[importer, "xpool.xpool", *code])
        _once(
            f"import-{one.part}",
            of_run,
            one.run / RECORD,
            lambda: import_checkpoint.main(file, one.run),
        )
        of_scores = fingerprint([of_run], code=["xpool.training.evaluate"])
        scored = paths.similarity(one.setting, METHOD, one.benchmark, 0)
        _once(f"evaluate-{one.part}", of_scores, scored / RECORD, lambda: evaluate.main(one.run))
        return figures(one.part, one.benchmark, METHOD, file.name)


def _params(one: Released) -> dict[str, Any]:
    """Return the params of a check: those for real data, less what it does not need."""
    base = PARAMS_FILE if targets.real() == setting() else SETTINGS / "paper.yaml"
    values = copy.deepcopy(load(base))
    values |= {"setting": one.setting, "benchmarks": [one.benchmark], "real": [one.benchmark]}
    values |= {"baselines": [], "seeds": [0]}
    values["studies"] = {name: [] for name in values["studies"]}
    values["post_processing"] = values["post_processing"] | {"members": {}, "bank": None}
    values["train"]["reads"] = "frames"
    values["frames"]["counts"] = [values["train"]["frames"]]
    values["frames"]["rules"] = [values["frames"]["sampling"]]
    options = values["manifest"][one.benchmark]
    options["splits"] = ["test"]
    if carved := load_benchmark(one.benchmark).validation_option:
        options[carved] = 0
    if one.training_videos:
        options["training_videos"] = one.training_videos
    return values


def _share_data(own_setting: str, real: str) -> None:
    """Let a check read the shared folder of data, and there the official files."""
    shared, own = (paths.encoder(name).parent for name in (SHARED, own_setting))
    official = paths.raw(real, "any").parent
    raw = paths.raw(SHARED, "any").parent
    shared.mkdir(parents=True, exist_ok=True)
    for link, aim in ((raw, Path("..", *official.parts[1:])), (own, Path(SHARED))):
        if link.is_symlink() and link.readlink() != aim:  # another setting for real data by now
            link.unlink()
        if not link.is_symlink():
            link.symlink_to(aim, target_is_directory=True)


def _checkpoint(one: Released, here: str, origin: Path | None) -> Path:
    """Return the file of a checkpoint, after getting it if it is not there."""
    target = targets.find(NAME, here)
    sources = target.item.parts[one.part]
    alone = target.item.model_copy(update={"parts": {one.part: sources}})
    _got(replace(target, item=alone), origin)
    web = next(source for source in sources if isinstance(source, Web))
    return target.raw / web.files[0].file_name


def _got(target: targets.Target, origin: Path | None) -> None:
    """Get what is missing of a target, from its folder in ``origin`` if there is one.

    Raises:
        InputError: something is still missing.
    """
    if not target.missing():
        log.info("%s: is there", target.name)
        return
    folder = None if origin is None else origin / target.name
    if folder is not None and not folder.is_dir():
        raise InputError(
            f"missing: {target.missing()}; put the files into {folder}, or run `xpool get "
            f"{target.name}`, and check again"
        )
    if missing := get(target, None if folder is None else str(folder)):
        raise InputError(
            f"still missing: {missing}; `xpool get {target.name} --from FOLDER` takes them from "
            "elsewhere"
        )


def _frames_digest(one: Released) -> str:
    """Return the fingerprint of all that decides the frames, as of a work folder of the stage."""
    raw = paths.raw(one.setting, one.benchmark).resolve()  # the same of all checks
    videos = read_videos(paths.manifest(one.setting, one.benchmark))
    pixels = read("frames", FramesParams).about_pixels()
    files = [raw / path for _, path in videos]
    return fingerprint([pixels, videos], files, ["xpool.data.packing"])


def _once(step: str, digest: str, made: Path, work: Callable[[], object]) -> None:
    """Do a step, unless what it makes is there and was made from the same.

    Args:
        step: its name.
        digest: fingerprint of all that it depends on.
        made: a file that it writes last.
        work: does it.
    """
    stamp = WORK / "check-paper" / f"{step}.json"
    if made.is_file() and stamp.is_file() and json.loads(stamp.read_text()) == digest:
        log.info("%s: done already", step)
        return
    stamp.unlink(missing_ok=True)
    work()
    with replacing(stamp) as file:
        json.dump(digest, file)
