"""One project with trained runs, for all tests of the search."""

import pytest
import searchable


@pytest.fixture(scope="package")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("searchable")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        searchable.write(folder)
    return folder


@pytest.fixture
def here(project, monkeypatch):
    monkeypatch.chdir(project)
    return project
