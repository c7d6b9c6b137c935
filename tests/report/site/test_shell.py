"""A page of the report in a browser: sorted, filtered, light and dark, downloaded, printed."""

import base64
import io

import numpy as np
import pandas as pd
import pytest
from browser import assert_accessible, assert_page_of_report, chromium
from matplotlib.figure import Figure
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from xpool.report import style, typesetting
from xpool.report.site import shell, shown

CELLS = {
    "ours": ("9.5† [1.0, 20.0]", "−3", "10.25", "1,043", "–", "0.5", "88"),
    "published": ("7.0", "–", "30.5"),
}


def table():
    groups, figures = [], []
    for heading, cells in CELLS.items():
        rows = tuple(
            typesetting.Row(label=f"{heading} {n}", cells=(cell, str(n)), bold=(False, False))
            for n, cell in enumerate(cells)
        )
        groups.append(typesetting.Group(heading=heading, rows=rows))
        figures += [{"kind": heading, "row": n} for n in range(len(cells))]
    return typesetting.Table(
        name="made", caption="A table.", columns=(("R", "R@1"), ("R", "n")), names=("R@1", "n"),
        groups=tuple(groups), notes=("A note.",), figures=pd.DataFrame(figures),
    )  # fmt: skip


@pytest.fixture
def written(tmp_path):
    picture = style.save(Figure(figsize=(3, 2)), tmp_path, "drawn", ("png",), 40)
    data = pd.DataFrame({"x": [1, 2], "y": [0.1, 1 / 3]})
    figure = shown.Shown(picture=picture, alt="A <figure>", data=data)
    parts = ["<h1>Title</h1>", *(f"<h2>Part {n}</h2>" for n in range(3)), table()._repr_html_()]
    file = tmp_path / "results.html"
    file.write_text(shell.page("results", "\n".join([*parts, figure._repr_html_()]), "mini"))
    return file


def rows(driver, heading):
    """Labels of the rows of a group that are seen, in their order."""
    cells = driver.find_elements(By.CSS_SELECTOR, "tbody tr:not([hidden]) td:first-child")
    return [int(cell.text.split()[1]) for cell in cells if cell.text.startswith(heading)]


def expected(heading, descending):
    """Oracle: numbers in order, cells without a figure last; equal ones do not occur."""
    found = []
    for n, cell in enumerate(CELLS[heading]):
        if cell != "–":
            value = float(cell.split("†")[0].replace("−", "-").replace(",", ""))
            found.append((value, n))
    without = [n for n, cell in enumerate(CELLS[heading]) if cell == "–"]
    return [n for _, n in sorted(found, reverse=descending)] + without


def test_tables_sort_and_filter_in_both_themes_without_a_fault(written, tmp_path):
    with chromium(tmp_path / "profile") as driver:
        assert_page_of_report(driver, written)
        wait = WebDriverWait(driver, 20, 0.05)
        button = driver.find_element(By.XPATH, "//button[text()='R@1']")
        for descending in (True, False):
            button.send_keys(Keys.ENTER)
            for heading in CELLS:
                order = expected(heading, descending)
                wait.until(lambda _, h=heading, o=order: rows(driver, h) == o, f"{heading} {order}")
        headings = driver.find_elements(By.CSS_SELECTOR, "tbody.heading")
        assert [heading.text for heading in headings] == list(CELLS)

        field = driver.find_element(By.CSS_SELECTOR, ".tools input")
        field.send_keys("PUBLISHED")
        assert (rows(driver, "ours"), len(rows(driver, "published"))) == ([], 3)
        assert not headings[0].is_displayed()
        assert driver.find_element(By.TAG_NAME, "output").text == "3 of 10 rows"
        assert_accessible(driver)
        field.clear()
        field.send_keys(Keys.SPACE)
        assert len(rows(driver, "ours")) == 7

        theme = driver.find_element(By.ID, "theme")
        theme.click()  # from dark
        ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert ground == "rgb(255, 255, 255)"
        driver.refresh()
        assert driver.find_element(By.TAG_NAME, "html").get_attribute("data-theme") == "light"
        links = driver.find_elements(By.CSS_SELECTOR, "#contents a")
        assert [link.text for link in links] == ["Part 0", "Part 1", "Part 2"]
        here = driver.find_element(By.CSS_SELECTOR, "header [aria-current=page]")
        assert here.text == "Results"
        assert "SYNTHETIC" in driver.find_element(By.CLASS_NAME, "synthetic").text

        (link,) = driver.find_elements(By.CSS_SELECTOR, "figure a[download]")
        content = base64.b64decode(link.get_attribute("href").partition(",")[2]).decode()
        assert (link.get_attribute("download"), content) == (
            "drawn.csv", f"x,y\n1,0.1\n2,{1 / 3!r}\n",
        )  # fmt: skip
        driver.execute_script("document.documentElement.dataset.theme = 'dark'")
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        assert not driver.find_element(By.TAG_NAME, "header").is_displayed()
        ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert ground == "rgb(255, 255, 255)", "paper is white"


def test_real_videos_are_not_called_synthetic():
    assert "SYNTHETIC" not in shell.page("results", "", "paper")


@pytest.mark.parametrize("kind", ["drawing", "photograph"])
def test_a_drawing_stays_exact_and_a_photograph_small(kind):

    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[20:40] = (200, 30, 40)
    if kind == "photograph":
        pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    source = shown.as_webp(Image.fromarray(pixels), getattr(shown, kind.upper()))
    content = base64.b64decode(source.removeprefix("data:image/webp;base64,"))
    exact = np.array_equal(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")), pixels)
    assert exact == (kind == "drawing")
    assert len(content) < pixels.size / 1.5
