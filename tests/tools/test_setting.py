"""The switch of settings: files are exchanged whole, and none is ever lost."""

import subprocess
import sys
from pathlib import Path

import pytest

from xpool.project.errors import InputError
from xpool.tools.setting import switch

MINI = "# the mini one\nsetting: mini\nvalue: 1 # a comment\n"
PAPER = "# the paper's\nsetting: paper\nvalue: 2\n"


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("settings").mkdir()
    Path("params.yaml").write_text(MINI)
    Path("settings", "paper.yaml").write_text(PAPER)


def files():
    return {str(path): path.read_text() for path in Path().rglob("*.yaml")}


def test_switching_exchanges_the_files():
    assert switch("paper") == "params.yaml now holds the paper setting; mini waits in settings/"
    assert files() == {"params.yaml": PAPER, "settings/mini.yaml": MINI}


def test_there_and_back_changes_no_byte():
    before = files()
    switch("paper")
    switch("mini")
    assert files() == before


def test_edits_are_kept_on_both_sides():
    edited = MINI.replace("1", "17")
    Path("params.yaml").write_text(edited)
    switch("paper")
    Path("params.yaml").write_text(PAPER + "more: 3\n")
    switch("mini")
    assert files() == {"params.yaml": edited, "settings/paper.yaml": PAPER + "more: 3\n"}


def test_the_setting_in_force_stays():
    before = files()
    assert switch("mini") == "params.yaml holds the mini setting already"
    assert files() == before


def test_an_unknown_setting_lists_the_known_ones():
    before = files()
    with pytest.raises(InputError, match=r"settings/papr\.yaml: no such setting; .*: mini, paper"):
        switch("papr")
    assert files() == before


def test_a_file_in_the_way_is_not_overwritten():
    """As after a checkout of params.yaml in the paper setting: two mini files, one edited."""
    Path("settings", "mini.yaml").write_text(MINI + "edited: 1\n")
    before = files()
    with pytest.raises(InputError, match=r"settings/mini\.yaml: exists already"):
        switch("paper")
    assert files() == before


@pytest.mark.parametrize("edited", [False, True])
def test_there_is_a_way_back_after_a_checkout_of_params_in_the_paper_setting(edited):
    """`git checkout params.yaml` leaves two mini files and none of the paper's."""
    for words in (["init"], ["add", "--all"], ["commit", "-m", "t"]):
        identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run(["git", *identity, *words], check=True, capture_output=True)
    if edited:
        Path("params.yaml").write_text(f"{MINI}edited: 1\n")
    switch("paper")
    subprocess.run(["git", "checkout", "params.yaml"], check=True, capture_output=True)
    with pytest.raises(InputError, match=r"`git checkout settings/paper\.yaml` brings it back"):
        switch("paper")
    subprocess.run(["git", "checkout", "settings/paper.yaml"], check=True, capture_output=True)
    if edited:
        with pytest.raises(InputError, match=r"remove settings/mini\.yaml, or move it to params"):
            switch("paper")
        Path("settings/mini.yaml").replace("params.yaml")
    switch("paper")
    expected = f"{MINI}edited: 1\n" if edited else MINI
    assert files() == {"params.yaml": PAPER, "settings/mini.yaml": expected}


def test_a_file_that_names_another_setting_is_refused():
    Path("settings", "big.yaml").write_text(PAPER)
    before = files()
    with pytest.raises(InputError, match=r"big\.yaml: setting: expected big, .* got paper"):
        switch("big")
    assert files() == before


@pytest.mark.parametrize("text", ["setting: [\n", "value: 1\n", "setting: 3\n"])
def test_a_damaged_file_is_not_installed(text):
    Path("settings", "paper.yaml").write_text(text)
    before = files()
    with pytest.raises(InputError, match=r"^settings/paper\.yaml: "):
        switch("paper")
    assert files() == before


def test_the_command_says_what_it_did(top, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(top))
    command = [sys.executable, "-m", "xpool", "setting"]
    done = subprocess.run([*command, "paper"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "params.yaml now holds the paper setting; mini waits in settings/\n"
    done = subprocess.run([*command, "none"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error: settings/none.yaml: no such setting")
