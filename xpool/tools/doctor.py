"""The command ``xpool doctor``: print what this machine has of what the pipeline needs."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from xpool.project import paths

GIB = 2**30
LEAST_DISK_GIB = 5


def _python() -> str:
    return f"{sys.version.split()[0]} at {sys.executable}"


def _packages() -> str:
    names = ("torch", "torchvision", "transformers", "open_clip_torch", "decord", "dvc")
    return ", ".join(f"{name} {version(name)}" for name in names)


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        count = torch.cuda.device_count()
        return f"{count} x {properties.name}, {properties.total_memory / GIB:.0f} GiB each"
    if torch.backends.mps.is_available():
        return "mps (Apple)"
    return f"cpu only, {os.cpu_count()} cores: enough for the mini setting"


def _codecs() -> str:
    import av

    missing = [name for name in ("libx264", "mpeg4") if name not in av.codecs_available]
    if missing:
        raise RuntimeError(f"PyAV was built without {', '.join(missing)}")
    return f"PyAV {av.__version__} reads and writes h264 and mpeg4"


def _disk() -> str:
    free = shutil.disk_usage(".").free / GIB
    if free < LEAST_DISK_GIB:
        raise RuntimeError(f"{free:.1f} GiB free here; the mini setting needs {LEAST_DISK_GIB}")
    return f"{free:.0f} GiB free here"


def _needs() -> str:
    from xpool.project.params import read, setting
    from xpool.tools.disk import in_words

    if setting() == "mini":
        return f"at most {LEAST_DISK_GIB} GiB"
    return "; ".join(map(in_words, read("benchmarks", list[str]))) + " (docs/running/cost.md)"


def _git() -> str:
    from xpool.project.provenance import checkout

    found = checkout()
    if found.dirty is None:
        raise RuntimeError(f"{found.commit}; {found.remedy}, or records cannot name the code")
    return f"commit {found.commit[:10]}, code {'changed since' if found.dirty else 'unchanged'}"


def _data() -> str:
    from xpool.project.params import read, setting

    here = setting()
    found = [f"{name} {_raw_files(here, name)}" for name in read("benchmarks", list[str])]
    return f"setting {here}: {'; '.join(found)}"


def _raw_files(here: str, name: str) -> str:
    from xpool.data.get.target import find
    from xpool.project.errors import InputError

    target = find(name, here)
    how = "`make repro` makes it" if here == "mini" else f"`xpool get {name}`"
    try:
        folder = target.scan()
        if not folder.by_name:
            return f"not there yet: {how}"
        missing = target.missing()
    except InputError as error:
        return f"unreadable ({error})"
    if not missing:
        return f"complete, with {len(folder.videos)} videos"
    if folder.archives and here != "mini":
        how = folder.unpacking()
    return f"incomplete, missing: {missing}: {how}"


def _weights() -> str:
    from xpool.project.params import setting

    folder = paths.encoder(setting())
    if (folder / "encoder.json").is_file():
        return f"prepared in {folder}"
    return f"not there yet; `dvc repro weights` fills {folder}"


def _compiler() -> str:
    from xpool.project.params import read
    from xpool.training.towers import compiler

    if found := compiler():
        return f"{found}, for train.compile"
    if read("train.compile", bool):
        raise RuntimeError("train.compile is true, and PATH has none (Debian: apt-get install g++)")
    return "none; only train.compile needs one (Debian: apt-get install g++)"


def _studies() -> str:
    from optuna import get_all_study_names

    from xpool.ablation.storage import OptunaParams, address, is_missing, open_storage
    from xpool.project.params import read

    params = read("optuna", OptunaParams)
    if is_missing(params):
        return f"{address(params)} not there yet; the first study creates it"
    count = len(get_all_study_names(open_storage(params)))
    return f"{count} in {address(params)}; `make dashboard` shows them"


def _server() -> str:
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = shutil.which("initdb") or (debian[-1] if debian else None)
    if initdb is None:
        return "no PostgreSQL server; only tests need one (Debian: apt-get install postgresql)"
    return f"PostgreSQL in {Path(initdb).parent}, for tests"


def _browser() -> str:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        install = "apt-get install chromium chromium-driver"
        return f"no Chromium with its driver; only tests need it (Debian: {install})"
    return f"{chromium} and {driver}, for tests"


CHECKS: dict[str, Callable[[], str]] = {
    "python": _python,
    "packages": _packages,
    "device": _device,
    "codecs": _codecs,
    "git": _git,
    "disk": _disk,
    "space": _needs,
    "data": _data,
    "encoder": _weights,
    "compiler": _compiler,
    "studies": _studies,
    "database": _server,
    "browser": _browser,
}


def report() -> Iterator[tuple[bool, str]]:
    """Yield, for each check, whether it passed and its line."""
    for name, probe in CHECKS.items():
        try:
            yield True, f"ok    {name:9} {probe()}"
        except Exception as error:  # any failure is to be reported
            yield False, f"WRONG {name:9} {' '.join(str(error).split())}"


def main() -> None:
    """Print what this machine has of what the pipeline needs.

    Exit status: 1 if something is wrong or missing.

    Example: xpool doctor
    """
    passed = True
    for fine, line in report():
        print(line)
        passed = passed and fine
    sys.exit(0 if passed else 1)
