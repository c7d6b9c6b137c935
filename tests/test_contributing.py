"""The recipes of CONTRIBUTING, as written: one of each kind is added to a copy, and runs."""

import json
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from projects import Project

TOP = Path(__file__).resolve().parents[1]
KINDS = {
    "method": "baselines/",
    "method of another package": "their_package/",
    "benchmark": "xpool/data/benchmarks/",
    "encoder": "xpool/encoders/",
    "study": "studies/",
    "post-processing": "xpool/postprocessing/",
}
RECIPE = re.compile(r"```python\n# (\S+)\n(.*?)```.*?```yaml\n# params\.yaml\n(.*?)```", re.S)

pytestmark = pytest.mark.slow


def recipes():
    """Each kind's file, its content, and what is merged into params.yaml."""
    found = {}
    for path, code, params in RECIPE.findall((TOP / "CONTRIBUTING.md").read_text()):
        kind = next(kind for kind, folder in KINDS.items() if path.startswith(folder))
        found[kind] = (path, code, yaml.safe_load(params))
    return found


def merge(params, additions):
    """Merge mappings; what is listed is added to the list that is there."""
    for key, value in additions.items():
        if isinstance(value, dict) and isinstance(params.get(key), dict):
            merge(params[key], value)
        elif isinstance(value, list) and isinstance(params.get(key), list):
            params[key] = [*params[key], *value]
        else:
            params[key] = value


def test_there_is_a_recipe_of_each_kind():
    assert set(recipes()) == set(KINDS)


@pytest.fixture(scope="module")
def project(tmp_path_factory, commands):
    """A copy with one of each kind added, as CONTRIBUTING says and in no other way."""
    made = Project(
        tmp_path_factory.mktemp("contributing") / "project",
        commands,
        benchmarks=["msvd"],
        generate__benchmarks=["msvd"],
        studies={"own_models": [], "trained_models": []},
    )
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    made.packages = (str(elsewhere),)
    made.added = {}
    for kind, (path, code, additions) in recipes().items():
        file = (elsewhere if path.startswith("their_package/") else made.folder) / path
        file.parent.mkdir(exist_ok=True)
        assert not file.exists(), "a recipe adds a file"
        file.write_text(code)
        made.added[kind] = file.stem
        params = yaml.safe_load((made.folder / "params.yaml").read_text())
        merge(params, additions)
        (made.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    made.repro("results", f"ablate@{made.added['study']}")
    return made


def test_each_touches_one_file_and_params(project):
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all"],
        cwd=project.folder, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    files = {line[3:] for line in changed if not line.endswith(".pyc")} - {"dvc.lock"}
    ours = {path for path, _, _ in recipes().values() if not path.startswith("their_package/")}
    assert files == {"params.yaml", *ours}


def test_method_and_benchmark_stand_in_the_tables(project):
    metrics = pd.read_csv(project.folder / "results/mini/metrics.csv")
    assert project.added["method"] in set(metrics["method"])
    assert project.added["benchmark"] in set(metrics["benchmark"])
    table = project.folder / f"results/mini/tables/{project.added['benchmark']}.md"
    assert table.read_text().startswith("Mini ")


def test_a_method_of_another_package_stands_in_the_tables_with_its_code_in_the_record(project):
    metrics = pd.read_csv(project.folder / "results/mini/metrics.csv")
    found = metrics[metrics["method"] == "their_package.pooling"]
    assert set(found["benchmark"]) == {"msvd", project.added["benchmark"]}
    assert "their_package.pooling" in (project.folder / "results/mini/tables/msvd.md").read_text()
    run = project.folder / "results/mini/train/their_package.pooling/msvd/0"
    record = json.loads((run / "provenance.json").read_text())
    assert "their_package/pooling.py" in record["code"]


def test_the_post_processing_has_rows_of_its_own(project):
    added = project.added["post-processing"]
    statistics = project.folder / "results/mini/statistics"
    found = pd.read_csv(statistics / "post_processing.csv")
    assert set(found["post_processing"]) == {added}
    assert set(found["label"]) == {"less the mean, bank of 20 training captions"}
    cells = pd.read_csv(statistics / "cells.csv")
    keys = ["benchmark", "method", "direction", "metric"]
    assert set(map(tuple, found[keys].to_numpy())) == set(map(tuple, cells[keys].to_numpy()))


def test_the_encoder_embedded_everything(project):
    description = (project.folder / "data/mini/encoder/encoder.json").read_text()
    assert f'"library": "{project.added["encoder"]}"' in description


def test_the_study_ran_and_its_page_shows_it(project):
    study = project.added["study"]
    trials = pd.read_csv(project.folder / f"results/mini/studies/{study}/trials.csv")
    assert set(trials["state"]) == {"complete"}
    project.repro("-s", "ablations")
    page = (project.folder / "reports/mini/ablations.html").read_text()
    assert study in page.partition("Other studies")[2]
