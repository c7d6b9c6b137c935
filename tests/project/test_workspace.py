"""Atomic files, and the locked folders in which unfinished work survives a kill."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from xpool.project.errors import InputError
from xpool.project.workspace import (
    publish,
    replacing,
    work_folder,
    work_path,
    write_json,
)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_replacing_makes_folders_and_leaves_nothing_else():
    path = Path("a", "b", "c.txt")
    with replacing(path) as file:
        file.write("hello\n")
        assert not path.exists()
    assert path.read_bytes() == b"hello\n"
    assert list(path.parent.iterdir()) == [path]


def test_replacing_keeps_the_old_file_until_the_end():
    path = Path("file")
    path.write_text("old")
    with replacing(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_inside_leaves_the_old_file_and_no_temporary_one(error):
    path = Path("file")
    path.write_text("old")

    def fail():
        with replacing(path) as file:
            file.write("half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert list(Path().iterdir()) == [path]


def test_replacing_writes_bytes_and_unix_line_ends():
    with replacing(Path("b"), "wb") as file:
        file.write(b"\x00\r\n")
    assert Path("b").read_bytes() == b"\x00\r\n"
    with replacing(Path("t")) as file:
        file.write("é\n")
    assert Path("t").read_bytes() == "é\n".encode()


def test_json_of_equal_values_has_equal_bytes():
    write_json(Path("1.json"), {"b": 1.5, "a": {"y": "é", "x": [1]}})
    write_json(Path("2.json"), {"a": {"x": [1], "y": "é"}, "b": 1.5})
    first = Path("1.json").read_bytes()
    assert first == Path("2.json").read_bytes()
    assert first.endswith(b"}\n")
    assert json.loads(first) == {"b": 1.5, "a": {"y": "é", "x": [1]}}


def test_json_that_cannot_be_written_leaves_the_old_file():
    write_json(Path("1.json"), 1)
    with pytest.raises(TypeError):
        write_json(Path("1.json"), {"a": object()})
    assert Path("1.json").read_text() == "1\n"


def test_work_folder_is_kept_and_found_again():
    with work_folder("train", "a-1", "f00") as folder:
        assert folder == work_path("train", "a-1", "f00")
        (folder / "state").write_text("half")
    with work_folder("train", "a-1", "f00") as folder:
        assert (folder / "state").read_text() == "half"


def test_work_of_the_same_cell_under_another_fingerprint_is_removed_and_no_other():
    for cell, digest in (("a-1", "old"), ("a-10", "old"), ("b-1", "old"), ("a-1-x", "old")):
        with work_folder("train", cell, digest):
            pass
    with work_folder("evaluate", "a-1", "old"), work_folder("train", "a-1", "new"):
        pass
    left = {p.name for p in Path(".work", "train").iterdir() if p.is_dir()}
    assert left == {"a-1@new", "a-1-x@old", "a-10@old", "b-1@old"}
    assert work_path("evaluate", "a-1", "old").is_dir()


def test_a_second_process_at_the_same_cell_is_told_who_is_there(top, tmp_path):
    code = (
        "import sys\nfrom xpool.project.workspace import work_folder\n"
        "with work_folder('train', 'a-1', 'x'):\n    print('in', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(top)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "in\n"
        with pytest.raises(InputError) as caught, work_folder("train", "a-1", "y"):
            pass
        assert f"process {holder.pid} already does this work" in str(caught.value)
        assert work_path("train", "a-1", "x").is_dir()  # the other's work is untouched
        with work_folder("train", "a-2", "y"):  # another cell is free
            pass
    finally:
        holder.kill()
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()
    with work_folder("train", "a-1", "y") as folder:  # a killed process holds no lock
        assert folder.is_dir()


def test_two_threads_at_the_same_cell_exclude_each_other_too():
    refused = []

    def second():
        try:
            with work_folder("train", "a", "x"):
                pass
        except InputError as error:
            refused.append(str(error))

    with work_folder("train", "a", "x"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(refused) == 1
    assert f"process {os.getpid()} " in refused[0]


def test_publish_moves_and_replaces():
    new, destination = Path("new"), Path("deep", "er", "still")
    for name in ("one", "two"):
        new.mkdir()
        (new / name).write_text(name)
        publish(new, destination)
        assert not new.exists()
        assert [p.name for p in destination.iterdir()] == [name]
