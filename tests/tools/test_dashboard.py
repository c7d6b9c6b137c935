"""The real dashboard in a real browser: empty, filled, on a busy port, without a network."""

import contextlib
import json
import math
import os
import socket
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import optuna
import optuna_dashboard
import pytest
from browser import (
    TOP,
    assert_study_shows_plots,
    chromium,
    drawn,
    get,
    requested,
    running_dashboard,
    text_when,
)
from PIL import Image

from xpool.ablation.storage import OptunaParams, artifact_store, open_storage

PARAMS = OptunaParams(storage="sqlite:///.optuna/studies.db", workers=0, heartbeat_s=60, retries=0)
TEMPERATURE = "temperature-msrvtt-xpool-1a2b3c4d"
FRAMES = "frame_count-msrvtt-methods-5e6f7a8b"
TEMPERATURE_FACTORS = ("contrastive_temperature", "learnt", "seed")
STRIP = "strip.png"
QUESTION = "How does R@1 depend on the temperature?"


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """One browser for all tests of this file."""
    with chromium(tmp_path_factory.mktemp("chromium") / "profile") as started:
        yield started


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A project where nothing has run yet."""
    folder = tmp_path_factory.mktemp("empty")
    (folder / "params.yaml").write_text(f"optuna: {json.dumps(PARAMS.model_dump())}\n")
    return folder


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A project with a grid and a multi-objective study."""
    folder = tmp_path_factory.mktemp("filled")
    (folder / "params.yaml").write_text(f"optuna: {json.dumps(PARAMS.model_dump())}\n")
    with contextlib.chdir(folder):
        storage = open_storage(PARAMS)
        fill_temperature(storage)
        fill_frames(storage)
    return folder


def fill_temperature(storage):
    """24 trials whose value depends on one factor and hardly on the others."""
    study = optuna.create_study(study_name=TEMPERATURE, storage=storage, direction="maximize")
    study.set_metric_names(["R@1"])
    optuna_dashboard.save_note(study, f"## temperature\n\n{QUESTION}")
    kinds = {
        "contrastive_temperature": optuna.distributions.FloatDistribution(0.01, 10.0, log=True),
        "learnt": optuna.distributions.CategoricalDistribution([True, False]),
        "seed": optuna.distributions.IntDistribution(0, 2),
    }
    noise = np.random.default_rng(0)
    points = list(product([0.01, 0.3, 1.0, 10.0], [True, False], [0, 1, 2]))
    for number, point in enumerate(points):
        values = dict(zip(kinds, point, strict=True))
        running = optuna.trial.TrialState.RUNNING  # finished trials take no artifacts
        study.add_trial(optuna.create_trial(state=running, params=values, distributions=kinds))
        if number == 0:
            attach_strip(study.trials[0], storage)
        study.tell(number, 50 - 10 * math.log10(point[0]) ** 2 + noise.normal(0, 0.1))


def attach_strip(trial, storage):
    picture = Path(STRIP)
    Image.new("RGB", (40, 30), "red").save(picture)
    optuna.artifacts.upload_artifact(
        artifact_store=artifact_store(), file_path=str(picture), study_or_trial=trial,
        storage=storage,
    )  # fmt: skip


def fill_frames(storage):
    """18 trials with two objectives; one factor has a single value."""
    study = optuna.create_study(
        study_name=FRAMES, storage=storage, directions=["maximize", "minimize"]
    )
    study.set_metric_names(["R@1", "cost_ms"])
    for frames, method in product([1, 2, 4, 6, 8, 12, 16, 24, 32], ["xpool", "mean_pool"]):
        better = method == "xpool"
        study.add_trial(
            optuna.create_trial(
                params={"frames": frames, "method": method, "seed": 0},
                distributions={
                    "frames": optuna.distributions.IntDistribution(1, 32),
                    "method": optuna.distributions.CategoricalDistribution(["mean_pool", "xpool"]),
                    "seed": optuna.distributions.IntDistribution(0, 0),
                },
                values=[20 + 10 * math.log2(frames) + 5 * better, 1.5 * frames + better],
            )
        )


def command(folder, *flags):
    return subprocess.run(
        [sys.executable, "-m", "xpool", "dashboard", *flags], cwd=folder, capture_output=True,
        text=True, timeout=60, env=os.environ | {"PYTHONPATH": str(TOP)},
    )  # fmt: skip


@pytest.mark.slow
def test_an_empty_project_gets_an_empty_storage_and_a_friendly_line(empty):
    with running_dashboard(empty) as running:
        printed = running.out.read_text().splitlines()
        assert printed == [
            f"{running.url}/ shows sqlite:///.optuna/studies.db; Ctrl-C ends it",
            "no study yet: run `dvc repro ablate@temperature`, and it appears here while it runs",
        ]
        assert json.loads(get(f"{running.url}/api/studies")) == {"study_summaries": []}
        assert (empty / ".optuna" / "studies.db").is_file()


@pytest.mark.slow
def test_the_page_of_an_empty_project_opens(empty, driver):
    with running_dashboard(empty) as running:
        driver.get(running.url)
        shown = text_when(driver, "CREATE")
    assert driver.current_url.startswith(f"{running.url}/dashboard")
    assert "Direction" not in shown  # each study would have one


@pytest.mark.slow
def test_a_study_appears_while_the_dashboard_runs(empty, monkeypatch):
    with running_dashboard(empty) as running:
        assert json.loads(get(f"{running.url}/api/studies"))["study_summaries"] == []
        monkeypatch.chdir(empty)
        storage = open_storage(PARAMS)
        optuna.create_study(study_name="late", storage=storage)
        names = [
            s["study_name"]
            for s in json.loads(get(f"{running.url}/api/studies"))["study_summaries"]
        ]
        optuna.delete_study(study_name="late", storage=storage)
    assert names == ["late"]


@pytest.mark.slow
def test_ctrl_c_ends_it_quietly(filled):
    with running_dashboard(filled) as running:
        printed = running.out.read_text().splitlines()
        get(f"{running.url}/api/studies")
        for _ in range(1000):  # the server logs a request after its answer has gone out
            if "GET /api/studies" in running.err.read_text():
                break
            time.sleep(0.01)
        assert running.end() == 0
        said = running.err.read_text().splitlines()
    served = [line for line in said if line.startswith("127.0.0.1 - - [")]
    greeting = [line for line in said if line.startswith(("Bottle ", "Listening ", "Hit Ctrl-C"))]
    assert len(served) == 1
    assert len(served) + len(greeting) == len([line for line in said if line]), said
    assert printed[1:] == [
        f"  {TEMPERATURE}: 24 of 24 trials complete",
        f"  {FRAMES}: 18 of 18 trials complete",
    ]


@pytest.mark.slow
def test_it_listens_on_this_machine_only(filled):
    with running_dashboard(filled) as running:
        port = urlsplit(running.url).port
        listening = []
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            rows = [line.split() for line in Path(table).read_text().splitlines()[1:]]
            listening += [
                row[1] for row in rows if row[1].endswith(f":{port:04X}") if row[3] == "0A"
            ]
    assert listening == [f"0100007F:{port:04X}"]


@pytest.mark.slow
def test_a_port_in_use_is_one_line_with_the_way_out(empty):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = command(empty, "--port", str(port))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: --port {port}: cannot listen on 127.0.0.1:{port} (")
    assert f"--port {port + 1}, or make dashboard PORT={port + 1}" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_studies_are_listed_with_history_and_importance(filled, driver, tmp_path):
    with running_dashboard(filled) as running:
        page = assert_study_shows_plots(driver, running.url, "temperature-msrvtt-xpool-")
        driver.save_screenshot(str(tmp_path / "temperature.png"))
        history = drawn(driver, "plot-history", 24)
        assert {"Trial", "R@1"} <= set(history["labels"])
        bars = drawn(driver, "graph-hyperparameter-importances", 3)
        names = [label for label in bars["labels"] if label in TEMPERATURE_FACTORS]
        widths = dict(zip(names, [bar["width"] for bar in bars["marks"]], strict=True))
        others = [width for name, width in widths.items() if name != "contrastive_temperature"]
        assert widths["contrastive_temperature"] > 5 * max(others)

        driver.get(f"{page}/note")
        text_when(driver, QUESTION)
        assert not [line for line in driver.get_log("browser") if line["level"] == "SEVERE"]


@pytest.mark.slow
def test_two_objectives_show_their_pareto_front(filled, driver, tmp_path):
    with running_dashboard(filled) as running:
        assert_study_shows_plots(driver, running.url, "frame_count-msrvtt-methods-")
        driver.save_screenshot(str(tmp_path / "frames.png"))
        front = drawn(driver, "graph-pareto-front", 18)
        assert {"Trial", "Best Trial"} <= set(front["labels"])


@pytest.mark.slow
def test_the_browser_is_given_artifacts_and_asks_no_other_machine(filled, driver):
    with running_dashboard(filled) as running:
        requested(driver)
        driver.get(f"{running.url}/dashboard/studies/1/trials?numbers=0")
        text_when(driver, STRIP)
        asked = requested(driver)
        (picture,) = {url for url in asked if "/artifacts/" in url}
        data = get(picture)
    assert data == (filled / STRIP).read_bytes()
    remote = [url for url in asked if urlsplit(url).scheme in {"http", "https", "ws", "wss"}]
    assert len(remote) > 3
    assert {urlsplit(url).hostname for url in remote} == {"127.0.0.1"}


def test_a_plot_with_a_point_missing_is_noticed(driver, tmp_path):
    """The check of the other tests can fail: two points drawn, and one of them invisible."""
    page = tmp_path / "page.html"
    page.write_text(
        '<div id="p"><svg class="main-svg" width="300" height="300">'
        '<path class="point" d="M0,0h9v9z"/><path class="point" d="M0,0h9v9z" opacity="0"/>'
        "</svg></div>"
    )
    driver.get(page.as_uri())
    assert drawn(driver, "p", 1)["width"] == 300
    with pytest.raises(AssertionError, match="drawn: 1"):
        drawn(driver, "p", 2, wait_s=1)
    with pytest.raises(AssertionError, match="drawn: None"):
        drawn(driver, "q", 1, wait_s=1)
