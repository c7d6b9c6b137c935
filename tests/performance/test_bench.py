"""The measurements run and report; none of their times is tested."""

import json
import subprocess
import sys

import numpy as np
import open_clip
import pytest
import torch

from performance import __main__ as command
from performance import decode, pipeline, scoring, search, training, words
from performance.measure import Row, peak_mib
from performance.simulations import attainable, coverage, power
from xpool.mini.generate import GenerateParams
from xpool.project.errors import InputError
from xpool.project.paths import TOP

CPU = torch.device("cpu")


def test_rows_of_scoring_small_shapes(monkeypatch):
    monkeypatch.setattr(scoring, "DIM", 32)
    rows = [*scoring.against_direct(CPU, 20), *scoring.growth(CPU, (4, 8))]
    values = {row.what: row.value for row in rows}
    assert values["ranks 20 x 20, that differ from the direct form's"] == 0
    assert all(value is not None for value in values.values())
    assert rows[0].ratio > 0


def test_both_forms_of_words_give_the_same_scores(monkeypatch):
    """So that their times compare. In the plain one padding has the cosine 0."""
    monkeypatch.setattr(words, "DIM", 32)
    fast, slow = words._forms(CPU, 30, 20, full=True)
    torch.testing.assert_close(fast(), slow(), atol=1e-6, rtol=0)
    fast, slow = words._forms(CPU, 30, 20, full=False)
    assert (slow() - fast()).min() > -1e-6


def test_rows_of_words_small_shapes(monkeypatch):
    monkeypatch.setattr(words, "DIM", 32)
    (row,) = words.against_plain(CPU, (30, 20), full=False)
    assert row.what == "WTI of 30 texts of words like MSVD's x 20"
    assert row.ratio > 0


def test_rows_of_search_few_videos(monkeypatch):
    monkeypatch.setattr(search, "VIDEOS", 300)
    monkeypatch.setattr(search, "DIM", 32)
    opened, exact, short = search.rows(CPU)
    assert opened.what == "open 300 videos for X-Pool"
    assert exact.note == "the same first 5: yes"
    assert short.ratio > 0


@pytest.mark.slow  # starts processes
def test_rows_of_decode_short_videos(monkeypatch):
    changes = {"videos": {"train": 1, "val": 0, "test": 1}, "duration_s": [2, 3], "rate_fps": 10}
    made = GenerateParams.model_validate(decode.MADE.model_dump() | changes)
    monkeypatch.setattr(decode, "MADE", made)
    monkeypatch.setattr(decode, "REPEATS", 1)
    many, one, other = decode.rows(CPU)
    assert many.ratio > 0
    assert one.ratio > 0
    assert other.value == 0, "the baseline must give the frames that the frames step gives"


def test_rows_of_training_one_step(monkeypatch):
    load = training.Load(
        batch_size=4, videos=2, captions=3, size=(20, 30), steps=1, workers=0, compiled=False
    )
    monkeypatch.setattr(training, "CPU", (load,))
    monkeypatch.setattr(training, "REPEATS", 1)
    measured, *left = training.rows(CPU)
    assert measured.what == "training, 4 pairs of 2 videos"
    assert measured.ratio > 0
    assert {row.value for row in left} == {None}


def test_both_training_loops_start_from_the_same_loss(monkeypatch):
    """Without chance: frames as large as the encoder's, no crop and no dropout."""
    load = training.Load(
        batch_size=8, videos=4, captions=2, size=(48, 48), steps=1, workers=0, compiled=False
    )
    whole = training.transforms.Crop(0, 0, 48, 48, False)
    monkeypatch.setattr(training.transforms, "draw_crop", lambda *_: whole)
    monkeypatch.setattr(training, "POOLING", training.POOLING | {"dropout": 0.0})
    with training.world(load, vit_b_32=False) as data:
        ours = [next(training.our_loop(data, load, CPU, size)).item() for size in (None, 3)]
        plain = next(training.plain_loop(data, load, CPU))
    assert ours == pytest.approx([plain, plain], rel=1e-4)


def test_arithmetic_of_an_encoder_is_the_published():
    """Golden: open_clip's docs/model_profile.csv has 14.78 GFLOP for an image and a text."""
    config = open_clip.get_model_config("ViT-B-32")
    pair = training.flops(config, frames=1)
    assert pair / 3 == pytest.approx(14.78e9, rel=0.005)


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's process status")
def test_peak_memory_counts_what_was_freed():
    def brief():
        return torch.ones(100 * 2**18).sum()

    assert 95 < peak_mib(brief, CPU) < 200


def test_table_marks_what_was_not_measured():
    rows = [
        Row(what="a", value=0.25, unit="s", baseline=5.0, ratio=20.0, note="n"),
        Row(what="b", value=None, unit="s"),
    ]
    assert command.table(rows).splitlines() == [
        "what       value     baseline   ratio  note",
        "a           0.25  s         5  20.0 x  n",
        "b     unmeasured  s",
    ]


def test_results_are_written_with_the_machine(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scoring, "rows", lambda device: [Row(what="a", value=1.0, unit="s")])
    file = tmp_path / "results.json"
    command.main(["scoring"], file=file)
    assert "unit" not in capsys.readouterr().out
    record = json.loads(file.read_text())
    assert record["results"]["scoring"][0]["what"] == "a"
    assert {"date", "device", "torch", "python"} <= set(record["machine"])


def test_the_pipeline_is_timed_only_where_it_has_nothing_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "TOP", tmp_path)
    assert [row.value for row in pipeline._repro()] == [None]
    (tmp_path / "dvc.lock").write_text("stages: {}")  # of no pipeline: dvc status fails
    assert [row.value for row in pipeline._repro()] == [None]


def test_coverage_has_a_row_for_each_share(monkeypatch):
    monkeypatch.setattr(coverage, "FEW_SIMULATIONS", 2)
    rows = coverage.rows(CPU)
    assert {row.what.partition(":")[0] for row in rows} == {
        "covered", "rejected", "covered where runs agree", "rejected where runs agree",
        "detectable differences found",
    }  # fmt: skip
    assert all(0 <= row.value <= 100 for row in rows)


def test_power_has_a_row_for_each_case_beside_what_is_said(monkeypatch):
    monkeypatch.setattr(power, "FEW_SIMULATIONS", 2)
    rows = list(power.rows(CPU))
    assert len({row.what for row in rows}) == len(power.CASES) == len(rows)
    assert all(0 <= share <= 100 for row in rows for share in (row.value, row.baseline))


def test_what_was_measured_is_kept_when_a_run_is_stopped(tmp_path, monkeypatch):
    def rows(device):
        yield Row(what="a", value=1.0, unit="s")
        raise KeyboardInterrupt

    monkeypatch.setattr(scoring, "rows", rows)
    file = tmp_path / "results.json"
    with pytest.raises(KeyboardInterrupt):
        command.main(["scoring"], file=file)
    assert json.loads(file.read_text())["results"]["scoring"][0]["what"] == "a"


def test_unknown_measurement_is_named():
    with pytest.raises(InputError, match="'sorcing'; known: scoring, words, search, "):
        command.main(["sorcing"])


def test_the_command_takes_measurements_a_device_and_a_file(tmp_path):
    """`make bench DEVICE=cuda JSON=file.json` and a single measurement, up to the first refusal."""
    words = ["--device", "cuda", "--json", str(tmp_path / "a.json"), "sorcing"]
    done = subprocess.run(
        [sys.executable, "-m", "performance", *words],
        cwd=TOP, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: no measurement 'sorcing'; known: scoring, ")


@pytest.mark.slow  # imports torch twice
def test_help_is_timed_against_an_import_that_succeeds(monkeypatch):
    monkeypatch.setattr(pipeline, "REPEATS", 1)
    (row,) = pipeline._help()
    assert row.what == "python -m xpool train --help"
    assert row.ratio > 1


def test_a_command_that_fails_is_not_timed(monkeypatch):
    monkeypatch.setattr(pipeline, "MODULE", "xpool.train")
    monkeypatch.setattr(pipeline, "REPEATS", 1)
    with pytest.raises(subprocess.CalledProcessError):
        pipeline._help()


def test_coverage_of_a_rule_is_that_of_drawn_tables():
    """Oracle: runs of two methods, drawn one by one; each quarter by the spread that they show."""
    random, seeds, spread = np.random.default_rng(0), 3, 1.0
    deviation = np.sqrt(attainable.CHANCE + spread**2)
    runs = deviation * random.normal(size=(2, 40_000, seeds))
    shared = np.sqrt(attainable.SHARED) * random.normal(size=40_000)
    difference = runs[0].mean(axis=1) - runs[1].mean(axis=1) + shared
    shown = runs.var(axis=2, ddof=1).sum(axis=0)
    order = np.argsort(shown)
    inside = (np.abs(difference) < 1.5 * np.sqrt(shown))[order].reshape(4, -1).mean(axis=1)
    case = attainable.tables(seeds, spread)
    np.testing.assert_allclose(
        attainable.coverage(1.5 * np.sqrt(case.shown), case.variance), inside, atol=0.012
    )


def test_one_known_spread_can_be_covered_evenly(monkeypatch):
    monkeypatch.setattr(attainable, "STARTS", 1)
    assert attainable.most_even(3, [1.0]) == pytest.approx(0.95, abs=1e-3)
