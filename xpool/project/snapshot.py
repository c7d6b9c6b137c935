"""The snapshot of code and params from which all stages of a ``dvc repro`` work.

``check`` takes it, and DVC records what ``check`` saw as the cause of each result. An edit while
the pipeline runs, for the next experiment for instance, must therefore reach no result:

- **Params.** A stage that DVC runs reads the snapshot; ``params.yaml`` counts at the next
  ``dvc repro``. A stage that is run by hand reads ``params.yaml``, once.
- **Code.** A stage imports all that it uses as it starts, and stops if that is not the code of the
  snapshot; a later edit cannot reach it. Processes that it starts, such as decoders and notebooks,
  import code later: it stops if a file was changed meanwhile (:func:`untouched`).
"""

import importlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any

from xpool.project import fingerprints, params, paths
from xpool.project.errors import InputError
from xpool.project.workspace import write_json

log = logging.getLogger(__name__)
RECORDED = "DVC_STAGE"
"""Environment variable of the commands that DVC runs; it records what they make."""
TAKEN_BY = "xpool.stages.check"
TICK_NS = 30_000_000
"""The clock that stamps files may be so much behind the clock of a process."""

_used: set[str] | None = None
"""Files of code that this process, a stage, uses; None in any other process."""
_snapshot: dict[str, Any] | None = None
"""The snapshot that this process works from, if DVC records what it makes."""


def take(files: Iterable[str]) -> dict[str, Any]:
    """Return the snapshot: the params, and what :mod:`fingerprints` knows about files of code.

    Raises:
        InputError: a file was changed since this process began, which may have seen both states.
    """
    taken = {"params": params.load(), "code": fingerprints.facts(files)}
    if _used is not None:
        _refuse(changed([*taken["code"], str(params.PARAMS_FILE)]))
    return taken


def held(main: Callable[..., None]) -> Callable[..., None]:
    """Make a function a stage: all that it does comes from one state of code and params."""

    @wraps(main)
    def stage(*arguments: Any, **options: Any) -> None:
        start(main.__module__)
        main(*arguments, **options)
        confirm()

    return stage


def start(module: str) -> None:
    """Hold code and params for the rest of this process, which runs the stage of a module.

    Raises:
        InputError: its code is not that of the snapshot, or there is no snapshot.
    """
    global _used, _snapshot
    _used = set()
    there = paths.snapshot().is_file() and module != TAKEN_BY
    fingerprints.hold(_read()["code"] if there else {})
    if RECORDED in os.environ and module != TAKEN_BY:
        _snapshot = _read()
        if _edited(_snapshot["params"]):
            log.info("%s was edited; the edit counts at the next `dvc repro`", params.PARAMS_FILE)
            _outdate()
        os.environ[params.HELD_IN] = str(paths.snapshot())
    params.hold(params.load())
    use(module)


def use(module: str) -> None:
    """Import a module with all that it uses, and hold its code, if this process runs a stage.

    A notebook's code is imported by another process; :func:`untouched` is for it.

    Raises:
        InputError: it is not the code of the snapshot.
    """
    if _used is None:
        return
    try:
        digests = fingerprints.code_digests(module)
    except (InputError, FileNotFoundError) as error:  # half of an edit
        if _snapshot is None:
            raise
        _refuse([str(error)])
    if _snapshot is not None:
        known = _snapshot["code"]
        _refuse([file for file, code in digests.items() if known.get(file, {}).get("code") != code])
    new = sorted(digests.keys() - _used)
    for file in new:
        if file.endswith(".py") and not module.startswith(f"{fingerprints.NOTEBOOKS}."):
            importlib.import_module(
                ".".join(Path(file).with_suffix("").parts).removesuffix(".__init__")
            )
    _refuse(changed(new))
    _used.update(new)


def untouched() -> None:
    """Check that no file of code was changed since this stage began.

    Raises:
        InputError: one was, and a process that imported it meanwhile may have run other code.
    """
    _refuse(changed(_used or ()))


def confirm() -> None:
    """Check that DVC will record what this stage made under the code and params that it used.

    Raises:
        InputError: ``check`` has taken another snapshot since the stage began.
    """
    if _snapshot is None or _used is None:
        return
    now = _read()
    same = now["params"] == _snapshot["params"] and all(
        now["code"].get(file) == _snapshot["code"].get(file) for file in _used
    )
    _refuse([] if same else [str(paths.snapshot())])


def changed(files: Iterable[str]) -> list[str]:
    """Return the files, relative to the top, that were changed since this process began."""
    return [file for file in files if not _as_it_was(fingerprints.located(Path(file)))]


def _as_it_was(file: Path) -> bool:
    if not file.exists():
        return False
    # the time that no user sets; one in the future tells of a clock that was set back
    stamp = file.stat().st_ctime_ns
    return not paths.BEGAN_NS - TICK_NS <= stamp <= time.time_ns()


def _refuse(files: list[str]) -> None:
    """Stop if files were changed."""
    if not files:
        return
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    began, again = "this command", "it"
    if RECORDED in os.environ:
        began = again = "`dvc repro`"
    if _snapshot is not None:
        _outdate()
    raise InputError(
        f"{files[0]}{more}: changed since {began} began; nothing was published, and finished work "
        f"is kept; run {again} again"
    )


def _outdate() -> None:
    """Change the file of the snapshot, an output of ``check``: the next ``dvc repro`` runs it.

    It may not do so by itself: DVC looks at code and params once more after ``check`` has, and
    takes an edit between the two for what ``check`` saw.
    """
    write_json(paths.snapshot(), _read() | {"outdated": True})


def _edited(values: dict[str, Any]) -> bool:
    """Whether ``params.yaml`` holds other values by now, or none that can be read."""
    try:
        return bool(json.loads(json.dumps(params.load())) != values)
    except (InputError, TypeError):
        return True


def _read() -> dict[str, Any]:
    if not paths.snapshot().is_file():
        raise InputError(f"{paths.snapshot()}: not found; run `dvc repro check` to make it")
    read: dict[str, Any] = json.loads(paths.snapshot().read_text(encoding="utf-8"))
    return read
