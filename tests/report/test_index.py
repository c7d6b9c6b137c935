"""The page that links the others: each link leads to a file, and a missing file is named."""

import re
from pathlib import Path

import pytest
import yaml

from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.paths import TOP
from xpool.report import index
from xpool.stages import report


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    use("mini")


def use(setting):
    Path("params.yaml").write_text(yaml.safe_dump({"setting": setting}))
    linked = [paths.report(setting, name) for name in index.PAGES]
    for file in [*linked, *(paths.tables(setting) / f"{name}.svg" for name in index.FIGURES)]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("setting", ["mini", "paper"])
def test_every_link_leads_to_a_file_beside_the_page(setting):
    use(setting)
    report.main("index")
    page = paths.report(setting, "index")
    text = page.read_text(encoding="utf-8")
    links = re.findall(r'(?:href|src)="([^"]+)"', text)
    assert len(links) == len(index.PAGES) + len(index.FIGURES)
    for link in links:
        assert (page.parent / link).is_file(), link
    assert ("SYNTHETIC" in text) == (setting == "mini")
    assert str(Path.cwd()) not in text
    report.main("index")
    assert page.read_text(encoding="utf-8") == text


@pytest.mark.usefixtures("project")
def test_missing_page_is_named():
    paths.report("mini", "attention").unlink()
    with pytest.raises(
        InputError, match=r"reports/mini/attention.html: not found; run 'dvc repro'"
    ):
        report.main("index")


def test_every_notebook_has_its_words():
    assert set(index.PAGES) == {path.stem for path in (TOP / "notebooks").glob("*.ipynb")}
