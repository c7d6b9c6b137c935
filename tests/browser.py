"""Headless Chromium from the system's packages, a running dashboard, and what its pages must show.

Nothing but 127.0.0.1 can be reached from this browser.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from axe_core_python.selenium import Axe
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

TOP = Path(__file__).resolve().parent.parent
WAIT_S = 60  # a busy machine draws slowly
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--window-size=1400,2400", "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip


def programs() -> tuple[str, str] | None:
    """Return Chromium and its driver."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    return (chromium, driver) if chromium and driver else None


@contextmanager
def chromium(profile: Path) -> Iterator[WebDriver]:
    """Start Chromium with an empty profile; skips the test where it is not installed."""
    found = programs()
    if found is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = found[0]
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(found[1]))  # its path: no download
    try:
        yield driver
    finally:
        driver.quit()


@dataclass
class Dashboard:
    """A running ``xpool dashboard``, or another command that serves pages."""

    url: str
    process: subprocess.Popen
    out: Path
    err: Path

    def end(self) -> int:
        """Press Ctrl-C, as a user would again if nothing happens; return the exit status.

        ``wsgiref``, which Optuna's server is, drops one that comes while it finishes an answer.
        """
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGINT)
            return self.process.wait(timeout=20)


@contextmanager
def running_dashboard(
    folder: Path, environment: Mapping[str, str] | None = None, command: str = "dashboard"
) -> Iterator[Dashboard]:
    """Start the dashboard of the project in ``folder`` on a free port; end it with the block.

    Args:
        folder: has params.yaml.
        environment: of the command; by default this one, with the code of this checkout.
        command: another command of ours that serves pages.
    """
    out, err = folder / f"{command}.out", folder / f"{command}.err"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with out.open("w") as output, err.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "xpool", command, "--port", str(port)], cwd=folder,
            env=environment or os.environ | {"PYTHONPATH": str(TOP)},
            stdout=output, stderr=errors, preexec_fn=_takes_ctrl_c,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + WAIT_S
        while not _listens(port):
            assert process.poll() is None, err.read_text()
            assert time.monotonic() < deadline, err.read_text()
            time.sleep(0.05)
        yield Dashboard(f"http://127.0.0.1:{port}", process, out, err)
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _takes_ctrl_c() -> None:
    """Undo what a shell does to its background jobs, should the tests be one."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def get(url: str) -> bytes:
    """Return what the dashboard serves there."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=WAIT_S) as answer:
        return answer.read()


def requested(driver: WebDriver) -> list[str]:
    """Return the addresses that pages have asked for since the last call."""
    messages = [json.loads(line["message"])["message"] for line in driver.get_log("performance")]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [params["request"]["url"] for params in sent]


def assert_accessible(driver: WebDriver) -> None:
    """Check that axe finds no serious fault in the page that is shown."""
    driver.set_script_timeout(5 * WAIT_S)
    faults = [f for f in Axe().run(driver)["violations"] if f["impact"] in ("serious", "critical")]
    assert not faults, json.dumps(faults, indent=1)[:3000]


def assert_page_of_report(driver: WebDriver, page: Path) -> None:
    """Check a page of a report: light and dark, no error, no serious fault, nothing fetched."""
    assert page.stat().st_size < 3_000_000
    for theme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": theme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        driver.get(page.resolve().as_uri())
        ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (theme == "light"), ground
        assert_accessible(driver)
    text = driver.find_element(By.TAG_NAME, "body").text
    assert not re.search(r"Path\(|<\w[\w.]* object at", text), "a cell shows what it returned"
    assert not driver.get_log("browser")
    assert not [url for url in requested(driver) if url.startswith("http")]


def text_when(driver: WebDriver, expected: str) -> str:
    """Wait until the page shows a text; return all that it shows."""

    def shown(_):
        body = driver.find_element(By.TAG_NAME, "body").text
        return body if expected in body else None

    return WebDriverWait(driver, WAIT_S, 0.2, [Exception]).until(shown, f"no {expected!r} seen")


# what plotly has drawn, and not what it was given: marks of some size within a visible frame
_DRAWN = """
const plot = document.getElementById(arguments[0]);
if (!plot || !plot.querySelector("svg.main-svg")) return null;
const size = plot.querySelector("svg.main-svg").getBoundingClientRect();
const marks = [...plot.querySelectorAll("path.point, .point > path")].map(mark => {
  const box = mark.getBoundingClientRect(), style = getComputedStyle(mark);
  return {width: box.width, height: box.height,
          seen: style.visibility != "hidden" && style.opacity > 0 && style.fill != "none"};
});
const labels = [...plot.querySelectorAll("text")].map(text => text.textContent);
return {width: size.width, height: size.height, marks: marks, labels: labels};
"""


def drawn(driver: WebDriver, plot: str, marks: int | range, wait_s: float = WAIT_S) -> dict:
    """Wait until a plot has so many marks of a visible size; return what is drawn.

    Args:
        driver: at the page.
        plot: id of the plot's element.
        marks: how many points or bars there must be.
        wait_s: time that drawing may take.

    Returns:
        ``width`` and ``height`` in pixels, ``marks`` with theirs, and all texts as ``labels``.
    """
    allowed = marks if isinstance(marks, range) else range(marks, marks + 1)
    last = None

    def complete(_):
        nonlocal last
        last = driver.execute_script(_DRAWN, plot)
        return last and len([mark for mark in last["marks"] if mark["seen"]]) in allowed

    try:
        WebDriverWait(driver, wait_s, 0.2).until(complete)
    except Exception as error:
        seen = last and len([mark for mark in last["marks"] if mark["seen"]])
        raise AssertionError(f"{plot}: expected {allowed} marks, drawn: {seen}") from error
    assert min(last["width"], last["height"]) > 200, last
    return last


def assert_study_shows_plots(driver: WebDriver, url: str, name: str) -> str:
    """Check that the dashboard lists a study, and draws all its trials and their importances.

    What must be drawn is taken from the dashboard's own interface: a point a trial in the history
    (pruned ones may have one), a bar for each factor and objective, and where there are several
    objectives all trials before the Pareto front.

    Args:
        driver: a browser.
        url: of the running dashboard.
        name: beginning of the study's name; its only one.

    Returns:
        Address of the study's page.
    """
    summaries = json.loads(get(f"{url}/api/studies"))["study_summaries"]
    (found,) = [study for study in summaries if study["study_name"].startswith(name)]
    study = json.loads(get(f"{url}/api/studies/{found['study_id']}?after=0"))
    complete = [trial for trial in study["trials"] if trial["state"] == "Complete"]
    pruned = [trial for trial in study["trials"] if trial["state"] == "Pruned"]
    factors = {param["name"] for trial in complete for param in trial["params"]}
    objectives = len(found["directions"])
    assert len(complete) > 1, found

    driver.get(f"{url}/dashboard")
    text_when(driver, found["study_name"])
    page = f"{url}/dashboard/studies/{found['study_id']}"
    driver.get(page)
    text_when(driver, "Hyperparameter Importance")

    points = range(len(complete), len(complete) + len(pruned) + 1)
    history = drawn(driver, "plot-history", points)
    assert all(mark["width"] > 1 and mark["height"] > 1 for mark in history["marks"]), history
    bars = drawn(driver, "graph-hyperparameter-importances", len(factors) * objectives)
    assert factors <= set(bars["labels"]), bars["labels"]
    assert max(bar["width"] for bar in bars["marks"]) > 100, bars
    if objectives > 1:
        front = drawn(driver, "graph-pareto-front", len(complete))
        assert all(mark["width"] > 1 and mark["height"] > 1 for mark in front["marks"]), front
    return page
