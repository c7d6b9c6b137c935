"""The documentation site: built without a network, whole, and fit to be read in a browser."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from axe_core_python.selenium import Axe
from browser import chromium, requested, text_when
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

TOP = Path(__file__).resolve().parents[1]
BUILD = """
import socket
def refuse(*arguments): raise OSError("the network was asked for")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from mkdocs.__main__ import cli
cli()
"""
READABLE = """
return [...document.querySelectorAll("img")].every(image => image.complete && image.naturalWidth)
    && document.documentElement.scrollWidth <= innerWidth
"""
LIGHT, DARK = "light", "dark"

pytestmark = pytest.mark.slow


def build(config, site):
    return subprocess.run(
        [sys.executable, "-c", BUILD, "build", "-f", str(config), "-d", str(site)],
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = build(TOP / "website/mkdocs.yml", folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


def pages(site):
    return sorted(path for path in site.rglob("*.html") if path.name != "404.html")


def resize(driver, width):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def view(driver, page, width, scheme):
    """Open a page as somebody with this screen and this preference sees it."""
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    resize(driver, width)
    if driver.current_url.startswith("file:"):
        driver.execute_script("localStorage.clear()")  # the scheme of the page before
    driver.get(page.as_uri())


def test_each_document_is_a_page(site):
    written = {path.relative_to(TOP).with_suffix("") for path in (TOP / "docs").rglob("*.md")}
    made = {path.relative_to(site).with_suffix("") for path in pages(site)}
    assert written | {Path("index"), Path("CONTRIBUTING"), Path("CHANGELOG")} <= made


def test_the_reference_has_every_public_module(site):
    """Oracle: the files."""
    text = "".join(path.read_text() for path in (site / "docs/reference").glob("*.html"))
    for package in ("xpool", "baselines", "studies"):
        for path in (TOP / package).rglob("*.py"):
            parts = path.relative_to(TOP).with_suffix("").parts
            if parts[-1] == "__init__":
                parts = parts[:-1]
            if len(parts) > 1:
                assert f'id="{".".join(parts)}"' in text, path


def test_roles_and_examples_of_docstrings_become_links_and_code(site):
    text = (site / "docs/reference/method.html").read_text()
    assert ":func:" not in text
    assert ":class:" not in text
    assert 'href="#xpool.metrics.retrieval_metrics"' in text
    assert "&gt;&gt;&gt; " in text


def test_all_pages_open_from_files_alone_and_say_nothing_on_the_console(site, driver):
    requested(driver)
    for page in pages(site):
        view(driver, page, 1280, LIGHT)
        assert driver.execute_script(READABLE), page
        resize(driver, 390)
        WebDriverWait(driver, 20).until(lambda _: driver.execute_script("return innerWidth") == 390)
        assert driver.execute_script(READABLE), (page, "on a phone")
        wrong = [line["message"] for line in driver.get_log("browser")]
        assert not wrong, (page, wrong)
    assert not [url for url in requested(driver) if url.startswith(("http:", "https:", "//"))]


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
@pytest.mark.parametrize("width", [1280, 390])
def test_no_serious_fault_of_accessibility(site, driver, scheme, width):
    for name in (
        "index", "docs/start/five_minutes", "docs/start/troubleshooting", "docs/results/protocol",
        "docs/running/scaling_out", "docs/methods/methods", "docs/reference/mini",
    ):  # fmt: skip
        view(driver, site / f"{name}.html", width, scheme)
        body = driver.find_element(By.TAG_NAME, "body")
        expected = {LIGHT: "default", DARK: "slate"}[scheme]
        assert body.get_attribute("data-md-color-scheme") == expected
        found = Axe().run(driver)["violations"]
        serious = {
            fault["id"]: [node["html"][:200] for node in fault["nodes"][:3]]
            for fault in found
            if fault["impact"] in ("serious", "critical")
        }
        assert not serious, (name, serious)


def test_the_search_answers_from_files(site, driver):
    view(driver, site / "index.html", 1280, LIGHT)
    field = driver.find_element(By.CSS_SELECTOR, ".md-search__input")
    field.click()
    field.send_keys("antialias")
    text_when(driver, "matching documents")
    first = driver.find_element(By.CSS_SELECTOR, ".md-search-result__link")
    WebDriverWait(driver, 20).until(lambda _: first.is_displayed())
    first.click()
    assert driver.current_url.startswith(site.as_uri())
    assert "antialias" in driver.find_element(By.TAG_NAME, "body").text


@pytest.mark.parametrize(
    ("page", "docstring", "said"),
    [
        ("[there](nowhere.md)", "Fine.", "nowhere.md"),
        ("[there](#nowhere)", "Fine.", "#nowhere"),
        ("![picture](nowhere.png)", "Fine.", "nowhere.png"),
        ("::: xpool.nowhere", "Fine.", "xpool.nowhere"),
        ("::: xpool", "See :func:`nowhere`.", "nowhere"),
        ("::: xpool", "See :func:`xpool.nowhere`.", "xpool.nowhere"),
        ("fine", "Fine.", None),
        ("::: xpool", "See :func:`there` and :func:`torch.matmul`.", None),
    ],
)
def test_what_leads_nowhere_fails_the_build(tmp_path, page, docstring, said):
    website = tmp_path / "website"
    (website / "pages").mkdir(parents=True)
    (website / "pages/README.md").write_text(f"# One\n\n{page}\n")
    shutil.copy(TOP / "website/docstrings.py", website)
    (website / "mkdocs.yml").write_text(
        f"INHERIT: {TOP}/website/mkdocs.yml\nnav: [README.md]\ntheme: {{favicon: x.png}}\n"
        "extra_css: []\nextra_javascript: []\nextra: {polyfills: [iframe-worker.js]}\n"
    )
    (tmp_path / "xpool").mkdir()
    (tmp_path / "xpool/__init__.py").write_text(
        f'"""{docstring}"""\n\ndef there() -> None:\n    """Do nothing."""\n'
    )
    done = build(website / "mkdocs.yml", tmp_path / "site")
    assert (done.returncode == 0) == (said is None), done.stderr
    assert said is None or said in done.stderr
