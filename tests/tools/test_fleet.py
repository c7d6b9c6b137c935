"""The fleet without a cluster: what is missing, what it takes, how the end of a command is read."""

import os
import shutil
import sys
from pathlib import Path

import accelerate
import pandas as pd
import pytest
import worlds
import yaml

from xpool.data.manifest import COLUMNS
from xpool.project import paths
from xpool.project.command import BUSY
from xpool.project.errors import InputError
from xpool.stages import train
from xpool.tools.fleet import cluster, command, estimate, plan


@pytest.fixture(autouse=True)
def _project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    worlds.write_project()
    (paths.encoder("mini") / "encoder.json").write_text("{}")
    change(seeds=[0, 1], studies={"own_models": [], "trained_models": []})


def change(**changes):
    path = Path("params.yaml")
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def train_section(**changes):
    change(train=yaml.safe_load(Path("params.yaml").read_text())["train"] | changes)


ALL = [
    ("xpool", "msvd", 0),
    ("xpool", "msvd", 1),
    ("mean_pool", "msvd", 0),
    ("mean_pool", "msvd", 1),
]


def test_a_cell_is_missing_until_its_own_run_is_published():
    """As params change and change back, and as results are removed."""
    assert plan.missing_cells() == ALL
    train.main(method="xpool", benchmark="msvd", seed=1)
    folder = paths.training("mini", "xpool", "msvd", 1)
    assert [path.name for path in folder.parent.iterdir()] == ["1"], "no other seed is trained"
    left = [ALL[0], *ALL[2:]]
    assert plan.missing_cells() == left
    train_section(epochs=2)
    assert plan.missing_cells() == ALL
    train.main(method="xpool", benchmark="msvd", seed=1)
    assert plan.missing_cells() == left
    train_section(epochs=1)
    assert plan.missing_cells() == ALL, "the run is finished, but another one is published"
    train.main(method="xpool", benchmark="msvd", seed=1)
    assert plan.missing_cells() == left


def test_what_is_missing_is_asked_of_the_data_as_they_are_now():
    """The process may have opened others before; as it goes on, they may be embedded anew."""
    plan.missing_cells()
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    train.main(method="xpool", benchmark="msvd", seed=1)
    assert plan.missing_cells() == [ALL[0], *ALL[2:]]
    folder = paths.embeddings("mini", "msvd")
    shutil.rmtree(folder)
    worlds.write_embeddings(folder, seed=1)
    assert plan.missing_cells() == ALL


def test_a_seed_that_is_not_listed_is_refused():
    with pytest.raises(InputError, match=r"params.yaml: seeds: no 7 among \[0, 1\]; add it"):
        train.main(method="xpool", benchmark="msvd", seed=7)


def test_what_the_trainings_read_must_be_there():
    plan.check_ready([])
    (paths.encoder("mini") / "encoder.json").unlink()
    paths.manifest("mini", "msvd").unlink()
    with pytest.raises(InputError, match=r"encoder.json and 1 more: not found; first run: dvc rep"):
        command.main(dry_run=True)
    with pytest.raises(InputError, match=r"dvc repro weights manifest$"):
        plan.check_ready([])


def test_what_a_study_of_the_trained_models_reads_must_be_there():
    with pytest.raises(InputError, match=r"shots/msvd.csv and 1 more.*: dvc repro shots scenes$"):
        plan.check_ready(["scene_diversity"])


def test_without_ray_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"^xpool fleet needs Ray; install it with: pip install"):
        command.main(gpus=None, cores=1, retries=3, studies=True, dry_run=False)


def test_a_cluster_that_does_not_answer_is_one_line(monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv(cluster.ADDRESS, "no-port-here")
    with pytest.raises(InputError, match=r"^RAY_ADDRESS: no Ray answers at no-port-here"):
        cluster.Cluster(None, 1, 3)


def test_a_file_of_trials_serves_no_second_machine(monkeypatch):
    class TwoHosts:
        hosts = {"a": 1, "b": 1}

        def __init__(self, *arguments):
            pass

        def close(self):
            pass

    monkeypatch.setattr(cluster, "Cluster", TwoHosts)
    change(studies={"own_models": ["temperature"], "trained_models": []})
    with pytest.raises(
        InputError, match=r"optuna.storage: a file serves one machine.*--no-studies"
    ):
        command.main(gpus=None, cores=1, retries=3, studies=True, dry_run=False)


# --- what it takes ---


@pytest.mark.parametrize(
    ("pairs", "videos", "texts", "hours"),
    [
        (170_000, 1500, 1500, 0.4),
        (130_200, 1500, 1500, 0.3),
        (48_774, 770, 32_053, 0.2),
        (101_079, 8407, 8407, 0.7),
    ],
)
def test_hours_of_the_papers_setting_are_those_of_the_docs(pairs, videos, texts, hours):
    """Oracle: the table in docs/running/cost.md."""
    train_section(reads="frames", epochs=5, evaluations_per_epoch=10, workers=8)
    rows = pd.DataFrame({"split": ["train"] * pairs + ["test"] * texts})
    rows["video_id"] = [f"v{number % videos}" for number in range(len(rows))]
    rows = rows.assign(caption_id="", caption="", path="")[list(COLUMNS)]
    rows.to_parquet(paths.manifest("mini", "msvd"))
    assert round(estimate.hours_of("xpool", "msvd"), 1) == hours


def test_earlier_runs_of_the_same_budget_tell_time_and_disk():
    assert estimate.hours_of("xpool", "msvd") is None
    assert estimate.gb_of("xpool", "msvd") is None
    train.main(method="xpool", benchmark="msvd", seed=0)
    folder = paths.training("mini", "xpool", "msvd", 0)
    record = yaml.safe_load((folder / "provenance.json").read_text())
    assert estimate.hours_of("xpool", "msvd") == record["seconds"] / 3600
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert estimate.gb_of("xpool", "msvd") == 2 * size / 1e9
    train_section(epochs=2)
    assert estimate.hours_of("xpool", "msvd") is None
    assert estimate.hours_of("mean_pool", "msvd") is None


def test_the_plan_counts_hours_and_disk_of_what_is_known(monkeypatch):
    """Three runs of 2 h beside each other on two slots, and one of unknown time."""
    known = {"xpool": (2.0, 6.0), "mean_pool": (None, None)}
    monkeypatch.setattr(estimate, "hours_of", lambda method, benchmark: known[method][0])
    monkeypatch.setattr(estimate, "gb_of", lambda method, benchmark: known[method][1])
    cells = [("xpool", "msvd", 0), ("xpool", "msvd", 1), ("mean_pool", "msvd", 2)]
    trials = [plan.Trials("search", 12, 8, 1800.0), plan.Trials("later", None, 0, None)]
    lines = list(estimate.in_words(cells, trials, slots=2))
    assert lines[:-1] == [
        "train xpool on msvd, seeds 0, 1: 2.0 h and 6.0 GB each",
        "train mean_pool on msvd, seeds 2: unknown time and unknown disk each",
        "study search: 4 of 12 trials, 0.5 h each",
        "study later: its trials show when all cells are trained",
    ]
    assert lines[-1].startswith("in all 3.0 h and 12.0 GB, beside what is unknown; ")


# --- the end of a command ---


def run(tmp_path, body):
    """Run a shell script in place of Python; it can count its calls in the file ``calls``."""
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\necho x >> calls\n{body}\n")
    script.chmod(0o755)
    log = tmp_path / "log.txt"
    try:
        cluster._run(str(tmp_path), str(script), ("train", "--seed", "1"), str(log))
    finally:
        run.calls = len((tmp_path / "calls").read_text().split())
        run.log = log.read_text()


def test_a_command_gets_its_words_and_the_log_what_it_says(tmp_path):
    run(tmp_path, 'echo "$@"')
    assert run.log.splitlines()[1] == "-m xpool train --seed 1"


def test_a_command_waits_for_another_process_at_its_work(tmp_path, monkeypatch):
    """A lost process may live on for a moment, and holds the lock of its cell."""
    monkeypatch.setattr(cluster, "BUSY_S", 0.01)
    run(tmp_path, f'test "$(wc -l < calls)" = 3 || exit {BUSY}')
    assert run.calls == 3


def test_what_a_user_can_mend_is_not_tried_again(tmp_path):
    with pytest.raises(InputError, match=r"^recipes.xpool: wrong$"):
        run(tmp_path, "echo 'error: recipes.xpool: wrong'; exit 2")
    assert run.calls == 1


@pytest.mark.parametrize(("body", "status"), [("kill -9 $$", -9), ("exit 1", 1)])
def test_a_command_that_is_killed_or_breaks_off_is_lost(tmp_path, body, status):
    with pytest.raises(cluster.LostError, match=rf"exit status {status}: last words"):
        run(tmp_path, f"echo last words; {body}")


def test_a_node_without_the_folder_says_so(tmp_path):
    with pytest.raises(InputError, match=r"gone: not found on .*; all nodes must share"):
        cluster._run(str(tmp_path / "gone"), sys.executable, (), os.devnull)
