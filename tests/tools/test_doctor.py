"""The doctor reports each need in one line, whatever is broken, and its exit status says so."""

import sys
from pathlib import Path

import optuna
import pytest
import yaml
from get_inputs import laid, msvd_annotations, msvd_videos, zipped

from xpool.ablation.storage import OptunaParams, open_storage
from xpool.project import provenance
from xpool.project.params import read
from xpool.project.provenance import NO_CHECKOUT, Checkout
from xpool.tools import disk, doctor

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XPOOL_STORAGE", raising=False)
    # the tests may run in an unpacked archive
    monkeypatch.setattr(provenance, "checkout", lambda: Checkout("a" * 40, False))
    Path("params.yaml").write_text(
        "setting: mini\nbenchmarks: [msrvtt, msvd]\n"
        "manifest: {msrvtt: {training_videos: 9k, val_videos: 0, allowed_missing: 0.0}, "
        "msvd: {allowed_missing: 0.0}}\n"
        "optuna: {storage: sqlite:///.optuna/s.db, workers: 1, heartbeat_s: 60, retries: 0}\n"
    )


def lines():
    return {line.split()[1]: (fine, line) for fine, line in doctor.report()}


@pytest.mark.usefixtures("project")
def test_all_checks_pass_here_in_one_line_each():
    found = lines()
    assert set(found) == set(doctor.CHECKS)
    for fine, line in found.values():
        assert fine, line
        assert line.startswith("ok    ")
        assert "\n" not in line
    assert sys.version.split()[0] in found["python"][1]
    assert "torch " in found["packages"][1]
    assert "libx264" not in found["codecs"][1]


@pytest.mark.usefixtures("project")
def test_data_and_encoder_say_what_is_missing_and_how_to_get_it():
    found = lines()
    assert "msvd not there yet: `make repro` makes it" in found["data"][1]
    assert "`dvc repro weights`" in found["encoder"][1]
    Path("data", "mini", "raw", "msvd").mkdir(parents=True)
    Path("data", "mini", "encoder").mkdir()
    Path("data", "mini", "encoder", "encoder.json").touch()
    found = lines()
    assert "msvd not there yet: `make repro`" in found["data"][1]
    assert "msrvtt not there yet" in found["data"][1]
    assert "prepared in data/mini/encoder" in found["encoder"][1]


@pytest.mark.usefixtures("project")
def test_an_incomplete_raw_folder_is_not_found():
    raw = Path("data", "mini", "raw", "msvd")
    raw.mkdir(parents=True)
    (raw / "captions_msvd.json").write_text("{}")
    (raw / "a_0_1.avi").touch()
    said = lines()["data"][1]
    lists = ", ".join(f"{s}_list.txt or msvd_{s}.json" for s in ("train", "val", "test"))
    assert f"msvd incomplete, missing: {lists}: `make repro` makes it" in said
    for split in ("train", "val", "test"):
        (raw / f"{split}_list.txt").write_text(f"{split[0]}_0_1")
    assert (
        "msvd unreadable (data/mini/raw/msvd/captions_msvd.json: no caption of t"
        in (lines()["data"][1])
    )


@pytest.mark.usefixtures("project")
def test_in_the_paper_setting_one_command_gets_what_is_missing():
    manifest = "manifest: {msvd: {allowed_missing: 0.0}}"
    Path("params.yaml").write_text(f"setting: paper\nbenchmarks: [msvd]\n{manifest}\n")
    assert "setting paper: msvd not there yet: `xpool get msvd`" in lines()["data"][1]
    raw = Path("data", "paper", "raw", "msvd")
    laid(raw, msvd_annotations())
    said = "msvd incomplete, missing: 3 of 3 videos (-4wsuPCjDBc_5_15, bQJQGoJF7_k_162_169, "
    assert said in lines()["data"][1]
    assert lines()["data"][1].endswith("eyhzdC936uk_15_27): `xpool get msvd`")
    zipped(raw / "YouTubeClips.zip", msvd_videos())
    how = "unpack YouTubeClips.zip with `xpool get msvd --from data/paper/raw/msvd`"
    assert lines()["data"][1].endswith(how)
    laid(raw, msvd_videos())
    assert lines()["data"][1].endswith("msvd complete, with 3 videos")


@pytest.mark.usefixtures("project")
def test_studies_are_counted_and_looking_makes_no_storage():
    assert "sqlite:///.optuna/s.db not there yet" in lines()["studies"][1]
    assert not Path(".optuna").exists()
    storage = open_storage(read("optuna", OptunaParams))
    for name in ("temperature-msvd", "search-msvd"):
        optuna.create_study(study_name=name, storage=storage)
    assert "2 in sqlite:///.optuna/s.db; `make dashboard`" in lines()["studies"][1]


@pytest.mark.usefixtures("project")
def test_a_storage_that_cannot_be_opened_is_wrong_and_the_password_is_not_told(monkeypatch):
    monkeypatch.setenv("XPOOL_STORAGE", "postgresql://me:hidden@127.0.0.1:1/studies")
    fine, line = lines()["studies"]
    assert not fine
    assert "XPOOL_STORAGE" in line
    assert "hidden" not in line


@pytest.mark.usefixtures("project")
def test_what_only_tests_want_is_never_wrong(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))
    found = lines()
    assert found["database"] == (
        True,
        "ok    database  no PostgreSQL server; only tests need one "
        "(Debian: apt-get install postgresql)",
    )
    assert found["browser"][0]
    assert "apt-get install chromium chromium-driver" in found["browser"][1]


def test_without_params_the_other_checks_still_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = lines()
    assert found["data"] == (
        False,
        "WRONG data      params.yaml: not found; run this from the project's top folder",
    )
    assert found["python"][0]
    assert found["git"][0]


@pytest.mark.usefixtures("project")
def test_too_little_disk_is_wrong(monkeypatch):
    monkeypatch.setattr(doctor, "LEAST_DISK_GIB", 10**9)
    fine, line = lines()["disk"]
    assert not fine
    assert "the mini setting needs" in line


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(("probe", "status"), [(lambda: "well", 0), (lambda: 1 / 0, 1)])
def test_exit_status_and_output(monkeypatch, capsys, probe, status):
    monkeypatch.setattr(doctor, "CHECKS", {"thing": probe})
    with pytest.raises(SystemExit) as caught:
        doctor.main()
    assert caught.value.code == status
    out = capsys.readouterr().out
    assert out == (
        "ok    thing     well\n" if status == 0 else "WRONG thing     division by zero\n"
    )


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("found", "line"),
    [
        (Checkout("b" * 40, True), "ok    git       commit bbbbbbbbbb, code changed since"),
        (Checkout("b" * 40, False), "ok    git       commit bbbbbbbbbb, code unchanged"),
        (
            Checkout("unknown: not a git checkout", None, NO_CHECKOUT),
            "WRONG git       unknown: not a git checkout; clone the repository, or `git init",
        ),
        (Checkout("unknown: git is not installed", None, "install git"), "WRONG git       unknown"),
    ],
)
def test_git_tells_the_code_from_its_commit(monkeypatch, found, line):
    monkeypatch.setattr(provenance, "checkout", lambda: found)
    assert lines()["git"][1].startswith(line)


@pytest.mark.parametrize(
    ("changes", "frames"),
    # 12 frames of 298 x 224 or 398 x 224 pixels, 3 bytes each, for 10,000 videos; JPEG: 6.8 x less
    [({}, (24.0, 32.1)), ({"storage": "jpeg"}, (3.5, 4.7)), ({"counts": [6]}, (12.0, 16.1))],
)
def test_gb_of_each_stage_are_told_in_the_paper_setting(tmp_path, monkeypatch, changes, frames):
    whole = yaml.safe_load((TOP / "settings/paper.yaml").read_text())
    whole["frames"] |= changes
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(whole))
    needs = disk.needed_gb("msrvtt")
    assert needs["frames"] == pytest.approx(frames, abs=0.1)
    assert needs["train"] == pytest.approx((10.8, 10.8))  # 9 runs of 151 million floats, twice
    fine, line = lines()["space"]
    assert fine
    assert f"msrvtt: frames {frames[0]:.0f} to {frames[1]:.0f} GB, train 11 GB; msvd: " in line
