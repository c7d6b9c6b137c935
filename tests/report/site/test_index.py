"""The page that links the others: each link leads to a page, and a missing file is named."""

import base64
import html
import io
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from xpool.project import paths
from xpool.project.errors import InputError
from xpool.project.paths import TOP
from xpool.report.site import index, shell
from xpool.stages import report


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    use("mini")


def use(setting):
    Path("params.yaml").write_text(yaml.safe_dump({"setting": setting}))
    for page in shell.PAGES:
        file = paths.report(setting, page)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    paths.tables(setting).mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(index.FIGURES):
        picture = Image.new("RGB", (6, 4), (0, 0, 10 * number))
        picture.save(paths.tables(setting) / f"{name}.png")


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("setting", ["mini", "paper"])
def test_every_link_leads_to_a_file_beside_the_page(setting):
    use(setting)
    report.main("index")
    page = paths.report(setting, "index")
    text = page.read_text(encoding="utf-8")
    links = [
        link for link in re.findall(r'href="([^"]+)"', text) if link not in ("#main", "data:,")
    ]
    assert set(links) == {"index.html", *(f"{name}.html" for name in shell.PAGES)}
    for link in links:
        assert (page.parent / link).is_file(), link
    pictures = re.findall(r'<img src="data:image/webp;base64,([^"]+)" alt="([^"]+)"', text)
    assert [html.unescape(alt) for _, alt in pictures] == list(index.FIGURES.values())
    for number, (content, _) in enumerate(pictures):
        with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
            assert picture.size == (6, 4)
            assert picture.convert("RGB").getpixel((0, 0)) == (0, 0, 10 * number)
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
    assert set(shell.PAGES) == {path.stem for path in (TOP / "notebooks").glob("*.ipynb")}
