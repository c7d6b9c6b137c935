"""The ablations page whatever the studies hold: a part left out, no part, a study of one's own."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from made_results import PARAMS as ALL
from made_studies import STUDIES, write_studies

from xpool.project import paths
from xpool.project.paths import TOP
from xpool.report import style

PARAMS = ALL | {"benchmarks": ["msrvtt", "lsmdc"]}
"""Two benchmarks stand for three: each is a panel more in every picture."""
PARTS = sorted(
    {
        (name, row["part"])
        for name, rows in STUDIES.items()
        for row in rows(PARAMS["benchmarks"], np.random.default_rng(0))
    }
)


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Run the code cells of the notebook; return the names of the pictures and tables."""
    monkeypatch.chdir(tmp_path)
    write_studies(PARAMS)

    def page():
        pictures = []
        monkeypatch.setattr("IPython.display.display", lambda shown: None)
        monkeypatch.setattr("IPython.display.Image", lambda picture, **options: None)
        monkeypatch.setattr(style, "save", lambda figure, folder, name: pictures.append(name))
        notebook = json.loads((TOP / "notebooks/ablations.ipynb").read_text(encoding="utf-8"))
        names = {}
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
        return set(pictures), {path.stem for path in paths.ablations("mini").iterdir()}

    return page


def file_of(study):
    return paths.studies("mini", study) / "trials.csv"


def keep(study, kept):
    """List one study, with some of its trials; columns without a value go, as in an export."""
    file = file_of(study)
    trials = pd.read_csv(file)
    trials = trials[kept(trials)].dropna(axis="columns", how="all")
    if trials.empty:
        trials = pd.DataFrame(columns=["study", "benchmark", "part", "state"])
    file.parent.mkdir(parents=True, exist_ok=True)
    trials.to_csv(file, index=False)
    list_studies(study)


def list_studies(*names):
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["studies"] = {"own_models": list(names), "trained_models": []}
    Path("params.yaml").write_text(yaml.safe_dump(params))


@pytest.mark.parametrize(("study", "part"), PARTS)
def test_a_part_may_be_left_out(page, study, part):
    keep(study, lambda trials: trials["part"] != part)
    assert any(page())


@pytest.mark.parametrize(("study", "part"), PARTS)
def test_a_part_may_stand_alone(page, study, part):
    keep(study, lambda trials: trials["part"] == part)
    limit = study == "temperature" and part in {"mean_pool", "top_k"}  # lines beside a curve
    assert any(page()) != limit


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_may_have_no_trial(page, study):
    keep(study, lambda trials: trials["seed" if "seed" in trials else "state"] == "none")
    assert page() == (set(), set())


def test_no_study_may_be_listed(page):
    list_studies()
    assert page() == (set(), set())


def test_scenes_may_be_of_xpool_alone(page):
    keep("scene_diversity", lambda trials: trials["method"] == "xpool")
    pictures, tables = page()
    assert "scenes" in pictures
    assert {"scenes", "distractors-mdr", "shots"} <= tables


def test_a_search_may_have_no_complete_try(page):
    keep("search", lambda trials: trials["state"] == "pruned")
    assert page() == (set(), {"search"})


# --- studies of one's own ---


def write_study(name):
    """Export a study of two parts, where the figure ``a_cost`` is one of its own."""
    rng = np.random.default_rng(5)
    rows = [
        {
            "study": name, "benchmark": benchmark, "part": part, "state": "complete",
            "method": "xpool", "width": width, "seed": seed, "R@1": 10.0 * width + seed,
            "a_cost": rng.random(), "n_text": 9, "n_video": 9, **more,
        }
        for part, extra in (("plain", ({},)), ("deep", ({"depth": 1}, {"depth": 2})))
        for benchmark in ("msrvtt", "lsmdc")
        for width in (1, 2)
        for more in extra
        for seed in (0, 2)
    ]  # fmt: skip
    rows.append(rows[0] | {"state": "pruned", "width": 7, "R@1": None})
    folder = file_of(name).parent
    folder.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(folder / "trials.csv", index=False)


def test_a_study_without_a_section_gets_a_table(page):
    write_study("width")
    list_studies(*STUDIES, "width")
    _, tables = page()
    assert {name for name in tables if name.startswith("study-")} == {"study-width"}
    stored = pd.read_csv(paths.ablations("mini") / "study-width.csv")
    assert stored[stored["part"] == "plain"]["label"].unique().tolist() == [
        "X-Pool, width 1",
        "X-Pool, width 2",
    ]
    assert stored[stored["part"] == "deep"]["label"].unique().tolist() == [
        f"X-Pool, width {width}, depth {depth}" for width in (1, 2) for depth in (1, 2)
    ]
    assert len(stored) == 12
    assert (stored["n_seeds"] == 2).all()
    widths = stored["label"].str.extract(r"width (\d)")[0].astype(int)
    assert stored["mean"].tolist() == (10 * widths + 1).tolist()
    assert np.allclose(stored["std"], np.std([0, 2], ddof=1))
    text = (paths.ablations("mini") / "study-width.md").read_text()
    assert "Study width, SYNTHETIC" in text
    assert "mean ± sample standard deviation over 2 seeds" in text
    assert text.count("**21.0 ± 1.4**") == 6
    assert "a_cost" not in text


def test_the_studies_with_a_section_get_no_other_table(page):
    _, tables = page()
    assert tables
    assert not [name for name in tables if name.startswith("study-")]
