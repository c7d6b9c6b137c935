"""Sets of interchangeable files: which members there are, and what loading one says."""

import ast
import sys

import pytest

from xpool.project import plugins
from xpool.project.errors import InputError
from xpool.project.paths import TOP
from xpool.project.plugins import BrokenMemberError, load, members

SETS = {
    "baselines": "METHOD",
    "studies": "STUDY",
    "xpool.data.benchmarks": "BENCHMARK",
    "xpool.encoders": "ENCODER",
}


def assigned(path):
    """Names that a file assigns at its top level (oracle: its syntax tree)."""
    targets = [
        target
        for node in ast.parse(path.read_text()).body
        for target in getattr(node, "targets", [getattr(node, "target", None)])
    ]
    return {target.id for target in targets if isinstance(target, ast.Name)}


@pytest.mark.parametrize(("package", "name"), SETS.items())
def test_members_are_the_files_that_end_in_the_name_and_no_others(package, name):
    files = sorted(TOP.joinpath(*package.split(".")).glob("*.py"))
    expected = [path.stem for path in files if name in assigned(path)]
    assert list(members(package, name)) == expected
    assert expected


def test_members_of_the_project_include_no_helper():
    assert {"attention", "mean_pool", "self_attention", "top_k"} <= set(
        members("baselines", "METHOD")
    )
    assert {"msrvtt", "msvd", "lsmdc"} <= set(members("xpool.data.benchmarks", "BENCHMARK"))
    assert members("xpool.encoders", "ENCODER") == ("huggingface", "openclip")
    assert {"temperature", "variance"} <= set(members("studies", "STUDY"))
    assert "xpool" in members("xpool", "METHOD")


@pytest.mark.parametrize(("package", "name"), SETS.items())
def test_every_member_is_loaded(package, name):
    for member in members(package, name):
        assert load(f"{package}.{member}", name) is not None


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A set in a folder of its own: a member, a file without the last line, and broken ones."""
    folder = tmp_path / "made_set"
    folder.mkdir()
    for member, text in {
        "__init__": "MEMBER = 0\n",
        "_hidden": "\nMEMBER = 0\n",
        "good": "import json\n\nMEMBER = 1\n",
        "other": "\nMEMBER = 2\n",
        "indented": "def f():\n    MEMBER = 1\n",
        "open": "VALUE = 1\n",
        "lacking": "import no_such_library\n\nMEMBER = 1\n",
        "itself": "import made_set.no_such_file\n\nMEMBER = 1\n",
        "wrong": "from json import nothing_there\n\nMEMBER = 1\n",
        "broken": "def (\n\nMEMBER = 1\n",
        "conflict": "<<<<<<< HEAD\nMEMBER = 1\n=======\nMEMBER = 2\n>>>>>>> other\n",
        "raises": "\ndef f():\n    return 1 / 0\n\nMEMBER = f()\n",
        "uses_broken": "from made_set import broken\n\nMEMBER = 1\n",
    }.items():
        (folder / f"{member}.py").write_text(text)
    monkeypatch.setattr(plugins, "TOP", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    members.cache_clear()
    yield
    members.cache_clear()
    for module in [name for name in sys.modules if name.split(".")[0] == "made_set"]:
        del sys.modules[module]


KNOWN = "broken, conflict, good, itself, lacking, other, raises, uses_broken, wrong"


def error_of(path):
    with pytest.raises(InputError) as caught:
        load(path, "MEMBER")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_members_are_found_without_importing_them(made):
    assert ", ".join(members("made_set", "MEMBER")) == KNOWN
    assert "made_set" not in sys.modules
    assert load("made_set.good", "MEMBER") == 1


def test_an_unknown_member_lists_the_known_ones(made):
    assert error_of("made_set.god") == (f"no file made_set/god.py for 'god'; there are: {KNOWN}")


@pytest.mark.parametrize("path", ["", ".", ".good", "good", "json", "made_set/good"])
def test_a_path_that_leads_to_no_set_has_no_members(made, path):
    assert error_of(path).endswith("there are: none")


@pytest.mark.parametrize("member", ["open", "indented"])
def test_a_file_without_the_last_line_is_told_what_it_lacks(made, member):
    expected = f"made_set/{member}.py: the file must end in 'MEMBER = ...'"
    assert error_of(f"made_set.{member}") == expected


@pytest.mark.parametrize(
    ("member", "said"),
    [
        ("lacking", "lacking.py: line 1: ModuleNotFoundError: No module named 'no_such_library'"),
        ("itself", "itself.py: line 1: ModuleNotFoundError: No module named 'made_set.no_such_fi"),
        ("wrong", "wrong.py: line 1: ImportError: cannot import name 'nothing_there' from 'json'"),
        ("broken", "broken.py: line 1: "),
        ("conflict", "conflict.py: line 1: "),
        ("raises", "raises.py: line 3: ZeroDivisionError: division by zero"),
        ("uses_broken", "broken.py: line 1: "),
    ],
)
def test_an_error_inside_a_member_is_one_line_with_file_and_line(made, member, said):
    with pytest.raises(BrokenMemberError) as caught:
        load(f"made_set.{member}", "MEMBER")
    assert str(caught.value).startswith(f"made_set/{said}")
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_a_path_out_of_the_project_is_imported(tmp_path, monkeypatch):
    package = tmp_path / "their_methods"
    package.mkdir()
    (package / "good.py").write_text("METHOD = 7\n")
    (package / "broken.py").write_text("METHOD = 1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert load("their_methods.good", "METHOD") == 7
    for path, name, message in (
        ("their_methods.good", "STUDY", "their_methods.good: the module must define STUDY"),
        ("their_methods.bad", "METHOD", "their_methods.bad: no such module; install its package"),
        ("nowhere.pooling", "METHOD", "nowhere.pooling: no such module; install its package"),
        ("their_methods.broken", "METHOD", "ZeroDivisionError"),
    ):
        with pytest.raises(BrokenMemberError, match=message):
            load(path, name)
