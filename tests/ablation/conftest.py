"""A project in this process, with the mini setting's params and a storage without studies."""

import contextlib
import shutil
from functools import cache

import pytest
from alembic.script import ScriptDirectory

from xpool.ablation.storage import OptunaParams, open_storage
from xpool.project.paths import TOP


@pytest.fixture(scope="session", autouse=True)
def _one_version_of_optuna():
    """Look for the newest form of the tables once: each opening would load Optuna's migrations."""
    look_up = ScriptDirectory.get_current_head
    newest = cache(lambda folder: look_up(ScriptDirectory(folder)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "get_current_head", lambda scripts: newest(scripts.dir))
        yield


@pytest.fixture(scope="session")
def empty_project(tmp_path_factory):
    """A folder to copy: making the storage's tables takes longer than most of the tests."""
    folder = tmp_path_factory.mktemp("project")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as environment:
        environment.delenv("XPOOL_STORAGE", raising=False)
        shutil.copy(TOP / "params.yaml", ".")
        open_storage(
            OptunaParams(
                storage="sqlite:///.optuna/studies.db", workers=0, heartbeat_s=60, retries=0
            )
        )
    return folder


@pytest.fixture
def in_empty_project(tmp_path, monkeypatch, empty_project):
    """Work in a copy of it."""
    shutil.copytree(empty_project, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XPOOL_STORAGE", raising=False)
