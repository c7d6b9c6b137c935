"""A stage works from one state of code and params: an edit meanwhile, taken back or not, reaches no
result that DVC records. A small project, with our own `xpool/project`, is edited as it runs."""

import ast
import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from xpool.project import fingerprints, paths, snapshot
from xpool.project.errors import InputError
from xpool.project.paths import TOP

STAGE = """
from pathlib import Path


def main():
    import time
    from xpool.project import snapshot
    from xpool.project.params import read
    from xpool.project.plugins import load

    Path("began").touch()
    while Path("hold").exists():
        time.sleep(0.01)
    from xpool.late import VALUE

    method = load("baselines.method", "METHOD")
    if Path("has-children").exists():
        snapshot.untouched()
    Path("made").write_text(f"epochs {read('epochs', int)}, value {VALUE}, method {method}")
"""
FILES = {
    "xpool/__init__.py": "",
    "xpool/stages/__init__.py": "",
    "xpool/stages/fake.py": STAGE,
    "baselines/__init__.py": "",
    "xpool/late.py": 'VALUE = 1\nTABLE = "table.csv"\n',
    "xpool/table.csv": "a,b\n",
    "baselines/method.py": "import json\n\nMETHOD = 1\n",
    "baselines/other.py": "import json\n\nMETHOD = 2\n",
    "params.yaml": "setting: mini\nepochs: 2\noptuna: {}\n",
}
TAKE = """
from xpool.project import fingerprints, paths, snapshot
from xpool.project.workspace import write_json
digests = fingerprints.code_digests("xpool.stages.fake", "baselines.method", "baselines.other")
write_json(paths.snapshot(), snapshot.take(digests))
"""
RUN = """
from xpool.project.command import run
from xpool.project.snapshot import held
from xpool.stages.fake import main
run(held(main))
"""
MADE = "epochs 2, value 1, method 1"


class Small:
    """A project of one stage."""

    def __init__(self, folder):
        self.folder = folder

    def write(self, name, text):
        """Write a file; return what it held."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() if path.is_file() else None
        path.write_text(text)
        return before

    def begin(self, code=RUN, stage="fake"):
        """Start Python, as DVC does for a stage, or by hand."""
        environment = {k: v for k, v in os.environ.items() if k not in ("DVC_STAGE", "PYTHONPATH")}
        environment |= {"PYTHONPATH": str(self.folder)}
        if stage:
            environment["DVC_STAGE"] = stage
        return subprocess.Popen(
            [sys.executable, "-c", code], cwd=self.folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def python(self, code=RUN, stage="fake", status=0):
        """Run Python to its end; return what it wrote to stderr."""
        return self.end(self.begin(code, stage), status)

    def end(self, process, status=0):
        _, errors = process.communicate(timeout=60)
        assert process.returncode == status, errors
        return errors

    def while_it_runs(self, edit, stage="fake", status=0):
        """Run the stage, with an edit after it began; return what it wrote to stderr."""
        (self.folder / "hold").touch()
        process = self.begin(stage=stage)
        until = time.monotonic() + 60
        while not (self.folder / "began").exists() and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.01)
        edit()
        (self.folder / "hold").unlink()
        return self.end(process, status)

    @property
    def made(self):
        path = self.folder / "made"
        return path.read_text() if path.is_file() else None

    @property
    def outdated(self):
        """Whether DVC finds an output of `check` changed, and so runs it again."""
        return "outdated" in json.loads((self.folder / "results/snapshot.json").read_text())


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    """Such a project in which the snapshot has been taken."""
    made = Small(tmp_path_factory.mktemp("taken"))
    for name, text in FILES.items():
        made.write(name, text)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(TOP / "xpool/project", made.folder / "xpool/project", ignore=ignore)
    made.python(TAKE, stage=None)
    return made


@pytest.fixture
def small(taken, tmp_path):
    return Small(shutil.copytree(taken.folder, tmp_path, dirs_exist_ok=True))


def test_a_stage_that_nobody_disturbs_says_nothing(small):
    assert small.python() == ""
    assert (small.made, small.outdated) == (MADE, False)


def test_an_edit_of_params_before_a_stage_counts_at_the_next_repro(small):
    small.write("params.yaml", "setting: mini\nepochs: 4\noptuna: {}\n")
    said = small.python()
    assert "params.yaml was edited; the edit counts at the next `dvc repro`" in said
    assert said.count("\n") == 1
    assert (small.made, small.outdated) == (MADE, True)


def test_half_of_an_edit_of_params_does_no_harm(small):
    small.write("params.yaml", "setting: [\n")
    small.python()
    assert (small.made, small.outdated) == (MADE, True)


@pytest.mark.parametrize("stage", ["fake", None], ids=["dvc", "by hand"])
def test_no_edit_reaches_a_stage_that_runs(small, stage):
    """Neither of params nor of code that is imported late, nor of a method that is loaded late."""

    def edit():
        small.write("params.yaml", "setting: mini\nepochs: 4\noptuna: {}\n")
        small.write("xpool/late.py", "VALUE = 5\n")
        if stage:  # by hand, a method is looked up when it is needed
            return
        small.write("xpool/project/seeds.py", "broken(")

    small.while_it_runs(edit, stage=stage)
    assert small.made == MADE


EDITS = {
    "xpool/stages/fake.py": STAGE.replace("value {VALUE}", "value {VALUE + 1}"),
    "xpool/late.py": FILES["xpool/late.py"] + "VALUE = 2\n",
    "xpool/table.csv": "a,c\n",
    "baselines/method.py": "import json\n\nMETHOD = 7\n",
    "xpool/project/seeds.py": None,
}


@pytest.mark.parametrize("name", list(EDITS)[:4])
def test_code_that_was_edited_before_a_stage_stops_it_and_taken_back_lets_it_run(small, name):
    before = small.write(name, EDITS[name])
    said = small.python(status=2)
    assert said == (
        f"error: {name}: changed since `dvc repro` began; nothing was published, and finished work "
        "is kept; run `dvc repro` again\n"
    )
    assert (small.made, small.outdated) == (None, True)
    small.write(name, before)
    assert small.python() == ""
    assert small.made == MADE


def test_the_advice_mends_an_edit_that_stays(small):
    """As `dvc repro` does: `check` runs anew, and the stage after it."""
    small.write("xpool/late.py", EDITS["xpool/late.py"])
    small.python(status=2)
    small.python(TAKE, stage=None)
    small.python()
    assert small.made == "epochs 2, value 2, method 1"


@pytest.mark.parametrize("text", [None, "def half("], ids=["deleted", "half an edit"])
def test_code_that_cannot_be_read_is_one_line_too(small, text):
    path = small.folder / "xpool/late.py"
    path.unlink() if text is None else path.write_text(text)
    said = small.python(status=2)
    assert said.count("\n") == 1
    assert "xpool/late.py" in said
    assert "run `dvc repro` again" in said


def test_prose_and_what_the_stage_does_not_use_stop_nothing(small):
    small.write("xpool/late.py", '"""Prose."""\n' + FILES["xpool/late.py"] + "# more\n")
    small.write("baselines/other.py", "import json\n\nMETHOD = 9\n")
    assert small.python() == ""
    assert (small.made, small.outdated) == (MADE, False)


@pytest.mark.parametrize("taken_back", [False, True])
def test_a_stage_whose_children_import_code_notices_an_edit(small, taken_back):
    (small.folder / "has-children").touch()

    def edit():
        before = small.write("xpool/late.py", "VALUE = 5\n")
        if taken_back:
            small.write("xpool/late.py", before)

    said = small.while_it_runs(edit, status=2)
    assert said.startswith("error: xpool/late.py: changed since `dvc repro` began; ")
    assert small.made is None


def test_a_method_that_is_loaded_after_an_edit_stops_the_stage(small):
    said = small.while_it_runs(
        lambda: small.write("baselines/method.py", EDITS["baselines/method.py"]), status=2
    )
    assert said.startswith("error: baselines/method.py: changed since `dvc repro` began; ")
    assert small.made is None


def test_another_check_while_a_stage_runs_fails_it(small):
    """DVC would record the stage under what that check wrote."""

    def edit():
        small.write("params.yaml", "setting: mini\nepochs: 4\noptuna: {}\n")
        small.python(TAKE, stage=None)

    said = small.while_it_runs(edit, status=2)
    assert said.startswith("error: results/snapshot.json: changed since `dvc repro` began; ")


def test_by_hand_a_stage_takes_code_and_params_as_they_are(small):
    small.write("params.yaml", "setting: mini\nepochs: 4\noptuna: {}\n")
    small.write("xpool/late.py", "VALUE = 5\n")
    assert small.python(stage=None) == ""
    assert small.made == "epochs 4, value 5, method 1"


def test_without_a_snapshot_dvc_records_nothing_and_by_hand_it_runs(small):
    (small.folder / "results/snapshot.json").unlink()
    said = small.python(status=2)
    assert said == "error: results/snapshot.json: not found; run `dvc repro check` to make it\n"
    small.python(stage=None)
    assert small.made == MADE


def test_a_process_that_a_stage_starts_reads_the_same_params(small):
    """Such as a notebook's: it is told by the environment."""
    small.write(
        "xpool/stages/fake.py",
        "import subprocess, sys\n\n\ndef main():\n"
        "    code = \"from xpool.project.params import read; print(read('epochs', int))\"\n"
        "    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)\n"
        "    open('made', 'w').write(done.stdout)\n",
    )
    small.python(TAKE, stage=None)
    small.write("params.yaml", "setting: mini\nepochs: 4\noptuna: {}\n")
    small.python()
    assert small.made == "2\n"


CHECK = f"""
from pathlib import Path
from xpool.project import snapshot
snapshot.TAKEN_BY = "xpool.stages.fake"
snapshot.start("xpool.stages.fake")
late = Path("xpool/late.py").read_text()
Path("NAME").write_text(Path("NAME").read_text() + "\\n")
{TAKE}
"""


@pytest.mark.parametrize("name", ["xpool/late.py", "params.yaml"])
def test_the_check_notices_an_edit_while_it_looks(small, name):
    body = f"{CHECK.replace('NAME', name)}"
    code = "\n    ".join(["def main():", *body.splitlines()])
    said = small.python(f"{code}\nfrom xpool.project.command import run\nrun(main)\n", status=2)
    assert said.startswith(f"error: {name}: changed since `dvc repro` began; ")


def test_a_file_is_changed_if_its_time_lies_between_start_and_now(tmp_path, monkeypatch):
    file = tmp_path / "a.py"
    file.touch()
    stamp = file.stat().st_ctime_ns
    second = 1_000_000_000
    for began, now, expected in (
        (stamp - second, stamp + second, True),
        (stamp + 1, stamp + second, True),  # the clock of the file system is late
        (stamp + second, stamp + 2 * second, False),
        (stamp - 2 * second, stamp - second, False),  # a clock that was set back
    ):
        monkeypatch.setattr(paths, "BEGAN_NS", began)
        monkeypatch.setattr(snapshot.time, "time_ns", lambda now=now: now)
        assert snapshot.changed([str(file)]) == ([str(file)] if expected else []), began
    assert snapshot.changed([str(tmp_path / "gone.py")])


@pytest.fixture
def fresh(monkeypatch):
    monkeypatch.setattr(fingerprints, "_held", False)
    monkeypatch.setattr(fingerprints, "_KNOWN", {})


def test_facts_of_an_earlier_process_are_those_that_this_one_would_find(fresh, monkeypatch):
    files = fingerprints.code_digests("xpool.stages.train", "notebooks.results")
    assert {"xpool/report/results/published.csv", "notebooks/results.ipynb"} <= set(files)
    facts = fingerprints.facts(files)
    monkeypatch.setattr(fingerprints, "_KNOWN", {})
    fingerprints.hold(json.loads(json.dumps(facts)))

    def parse(path):
        assert path.name == "__init__.py", "facts spare the time"
        return ast.Module([], [])

    monkeypatch.setattr(fingerprints, "syntax", parse)
    assert fingerprints.code_digests("xpool.stages.train", "notebooks.results") == files


@pytest.mark.parametrize("stale", ["xpool/pooling.py", "xpool/project/fingerprints.py"])
def test_facts_about_other_bytes_or_by_other_code_are_not_used(fresh, monkeypatch, stale):
    facts = fingerprints.facts(fingerprints.code_digests("xpool.pooling", "xpool.stages.train"))
    right = facts["xpool/pooling.py"]["code"]
    facts["xpool/pooling.py"] |= {"code": "wrong"}
    facts[stale]["bytes"] = "0"
    monkeypatch.setattr(fingerprints, "_KNOWN", {})
    fingerprints.hold(facts)
    assert fingerprints.code_digests("xpool.pooling")["xpool/pooling.py"] == right


def test_outside_a_stage_nothing_is_held(monkeypatch):
    snapshot.use("no.such.module")
    snapshot.untouched()
    snapshot.confirm()
    assert snapshot._used is None


def test_a_missing_snapshot_is_an_input_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"results/snapshot.json: not found"):
        snapshot._read()
