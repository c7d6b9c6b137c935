"""A project in the paper's setting, a server that fails, and a list of sources of one's own."""

import pytest
import yaml
from fault_server import FaultServer

from xpool.data.get import download, sources


@pytest.fixture
def server():
    server = FaultServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(download, "WAIT_S", 0.0)


@pytest.fixture
def project(tmp_path, monkeypatch, top):
    """An empty checkout in the paper's setting; the current folder."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "params.yaml").write_text((top / "settings" / "paper.yaml").read_text())
    return folder


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """Replace the list of sources by one that is given."""

    def replace(items):
        file = tmp_path / "sources.yaml"
        file.write_text(yaml.safe_dump(items))
        monkeypatch.setattr(sources, "SOURCES", file)

    return replace
