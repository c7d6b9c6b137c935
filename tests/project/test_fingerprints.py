"""What a module uses, and on what the digest of its code depends."""

import ast
import dis
import functools
import io
import json
import keyword
import os
import random
import re
import shutil
import sys
import time
import tokenize
from pathlib import Path
from types import CodeType

import pytest

from xpool.project import fingerprints
from xpool.project.digests import sha256
from xpool.project.errors import InputError
from xpool.project.fingerprints import (
    LOADED_BY_NAME,
    NOTEBOOKS,
    OURS,
    SETS,
    closure,
    code_digest,
    code_digests,
    fingerprint,
    keys,
    modules,
    path_of,
    syntax,
    uses,
    uses_of_set,
    values,
)
from xpool.project.paths import TOP

FILES = sorted(
    path.relative_to(TOP).as_posix() for package in OURS for path in (TOP / package).rglob("*.py")
)


def forget():
    """Make the module read all files anew."""
    fingerprints._KNOWN.clear()
    for function in vars(fingerprints).values():
        if isinstance(function, functools._lru_cache_wrapper):
            function.cache_clear()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty project in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fingerprints, "TOP", tmp_path)
    forget()
    yield tmp_path
    forget()


@pytest.fixture
def write(folder):
    def write(texts):
        """Write files, by their paths."""
        for name, text in texts.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        forget()

    return write


@pytest.fixture
def notebook(folder):
    def notebook(*cells):
        """Write ``notebooks/page.ipynb`` with pairs of a cell's type and its source."""
        path = folder / "notebooks/page.ipynb"
        path.parent.mkdir(exist_ok=True)
        written = [{"cell_type": kind, "source": source} for kind, source in cells]
        path.write_text(json.dumps({"cells": written}))
        forget()

    return notebook


# --- what a digest of code depends on ---

SOURCE = '''"""About the module."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xpool.other import Other

LIMIT = 3  # at most
"""About the constant."""


class Thing:
    """About the class."""

    size: int
    """About the attribute."""

    def grow(self, by: int) -> "Other":
        """About the method."""
        if by > LIMIT:
            return self.size + by
        return f"{by}"
'''


@pytest.fixture
def digest_of(write):
    def digest_of(text):
        write({"xpool/thing.py": text})
        return code_digest(Path("xpool/thing.py"))

    return digest_of


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# at most", "# never more than this"),
        ("  # at most", ""),
        ("if by >", "# a comment of its own\n        if by >"),
        ("About the module.", "Other words."),
        ("About the constant.", "Other words."),
        ("About the class.", "Other words."),
        ("About the attribute.", "Other words.\n\n    In two paragraphs.\n    "),
        ("About the method.", "Other words."),
        ('    """About the class."""\n', ""),
        ('"""About the module."""\n', ""),
        ("LIMIT = 3", "\n\n\nLIMIT = 3"),
        ("LIMIT = 3", "LIMIT = (\n    3\n)"),
        ("    from xpool.other import Other", "    from xpool.another import Other"),
        ("if TYPE_CHECKING:\n    from xpool.other import Other\n", ""),
        ("LIMIT = 3", "if TYPE_CHECKING:\n    import xpool.more\nLIMIT = 3"),
    ],
)
def test_prose_and_layout_change_no_digest(digest_of, old, new):
    assert old in SOURCE
    assert digest_of(SOURCE.replace(old, new, 1)) == digest_of(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("LIMIT = 3", "LIMIT = 3.0"),
        ("LIMIT = 3", "LIMIT = True + 2"),
        ("by > LIMIT", "by >= LIMIT"),
        ("size + by", "size - by"),
        ("self.size + by", "self.size + LIMIT"),
        ('f"{by}"', 'f"{by!r}"'),
        ('f"{by}"', 'f"{by} "'),
        ('f"{by}"', '"by"'),
        ('f"{by}"', "None"),
        ("size: int", "size: float"),
        ('-> "Other"', '-> "Another"'),
        ("class Thing:", "class Thing(dict):"),
        ("    def grow", "    @staticmethod\n    def grow"),
        ("by: int)", "by: int = 1)"),
        ("by: int)", "*, by: int)"),
        ("import TYPE_CHECKING, Any", "import Any, TYPE_CHECKING"),
        ("if TYPE_CHECKING:", "if not TYPE_CHECKING:"),
        ("import Other\n", "import Other\nelse:\n    Other = None\n"),
    ],
)
def test_any_other_change_changes_the_digest(digest_of, old, new):
    assert old in SOURCE
    assert digest_of(SOURCE.replace(old, new, 1)) != digest_of(SOURCE)


def test_what_runs_instead_of_an_import_for_types_counts(write):
    text = "if TYPE_CHECKING:\n    import xpool.one\nelse:\n    import xpool.two\n"
    write({"xpool/a.py": text, "xpool/one.py": "", "xpool/two.py": ""})
    assert closure("xpool.a") == {"xpool/a.py", "xpool/two.py"}


def test_the_digest_is_the_same_under_each_version_of_python(digest_of):
    """Golden: this project's own, computed alike by Python 3.11, 3.12 and 3.13."""
    assert digest_of(SOURCE) == DIGEST_OF_SOURCE


DIGEST_OF_SOURCE = "4d30a9806b750daf155a98381511950cf22255b7fb2b45138782f98604b0944c"


@pytest.mark.parametrize("file", FILES)
def test_of_each_file_every_name_counts_and_no_prose(write, file):
    """Property over our own files: prose and layout removed; some of all names changed, one each.

    ``ast.unparse`` keeps neither comments nor blank lines, and docstrings are replaced before.
    """
    text = (TOP / file).read_text()
    write({"xpool/thing.py": text})
    before = code_digest(Path("xpool/thing.py"))
    write({"xpool/thing.py": ast.unparse(other_prose(ast.parse(text)))})
    assert code_digest(Path("xpool/thing.py")) == before
    names = names_in(text)
    for name in random.Random(file).sample(names, min(3, len(names))):
        lines = text.splitlines(keepends=True)
        row, column = name.end
        line = lines[row - 1]
        lines[row - 1] = f"{line[:column]}_{line[column:]}"
        write({"xpool/thing.py": "".join(lines)})
        assert code_digest(Path("xpool/thing.py")) != before, (name.line, name.string)


def blocks_of(node):
    body = getattr(node, "body", [])
    return body if isinstance(body, list) else []  # else the expression of a lambda


def other_prose(tree):
    for node in ast.walk(tree):
        for statement in blocks_of(node):
            value = getattr(statement, "value", None)
            if isinstance(statement, ast.Expr) and isinstance(getattr(value, "value", None), str):
                statement.value = ast.Constant("Other words.")
    return tree


def names_in(text):
    """Tokens that are names, but for those inside ``if TYPE_CHECKING:``."""
    for_types = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            for_types |= set(range(node.lineno, node.end_lineno + 1))
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [
        token
        for token in tokens
        if token.type == tokenize.NAME
        and not keyword.iskeyword(token.string)
        and token.start[0] not in for_types
    ]


# --- which files a module uses ---


DATA = {
    "xpool/data/benchmarks/sources.yaml",
    "xpool/encoders/tiny.json",
    "xpool/report/results/published.csv",
    "xpool/report/site/page/shell.html",
    "xpool/report/site/page/site.css",
    "xpool/report/site/page/site.js",
    "xpool/report/site/page/sortable-4.1.7.min.js",
    "xpool/search/page/app.css",
    "xpool/search/page/app.js",
    "xpool/search/page/page.html",
}
"""Files of data that lie between the code."""


def imports_of(code):
    """Names that compiled code imports, at any depth."""
    found, module = set(), ""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            module = instruction.argval
            found.add(module)
        elif instruction.opname == "IMPORT_FROM":
            found.add(f"{module}.{instruction.argval}")
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return found.union(*map(imports_of, inner))


@pytest.fixture(scope="module")
def used():
    """Oracle, from bytecode: the files that each module uses. It has no code for types alone."""
    direct = {}
    for file in FILES:
        text = (TOP / file).read_text().replace("if TYPE_CHECKING:", "if False:")
        names = imports_of(compile(text, file, "exec"))
        direct[file] = {f"{name.replace('.', '/')}.py" for name in names} & set(FILES)
        direct[file] |= {data for data in DATA if f'"{Path(data).name}"' in text}
    direct |= {data: set() for data in DATA}

    def reached(file, seen):
        for other in direct[file] - seen:
            seen.add(other)
            reached(other, seen)
        return seen

    return {file: reached(file, {file}) for file in FILES}


def test_the_data_between_the_code_are_found():
    others = (".py", ".pyc", ".txt")  # a licence is read by people
    found = [p for p in (TOP / "xpool").rglob("*.*") if p.is_file() and p.suffix not in others]
    assert {path.relative_to(TOP).as_posix() for path in found} == DATA
    assert code_digest(Path("xpool/encoders/tiny.json")) == sha256(TOP / "xpool/encoders/tiny.json")
    assert "xpool/report/results/published.csv" in closure("notebooks.results")
    assert "xpool/encoders/tiny.json" in closure("xpool.stages.weights")


def test_closure_has_all_that_a_module_imports_and_nothing_else(used):
    for module in modules():
        if not module.startswith(f"{NOTEBOOKS}."):
            assert closure(module) == used[path_of(module).as_posix()], module


def test_closure_has_no_file_of_a_package_since_each_holds_a_docstring_only():
    assert not [path for path in closure(*modules()) if path.endswith("__init__.py")]
    for file in FILES:
        if file.endswith("__init__.py"):
            assert syntax(Path(file)).body == [], file


@pytest.fixture
def copy(folder):
    """A copy of our own code."""
    for name in (*OURS, NOTEBOOKS):
        ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        shutil.copytree(TOP / name, folder / name, ignore=ignore)
    return folder


def test_a_changed_line_changes_what_uses_it_and_nothing_else(copy, used):
    def digests():
        forget()
        return {module: code_digests(module) for module in modules()}

    before = digests()
    for file in ("xpool/project/seeds.py", "baselines/mean_pool.py"):
        with (copy / file).open("a") as code:
            code.write("ANOTHER = 1\n")
        after = digests()
        assert set(before) == set(after)
        for module in before:
            parts = before[module].items() ^ after[module].items()
            uses_it = file in used.get(str(path_of(module)), closure(module))
            assert {path for path, _ in parts} == ({file} if uses_it else set()), module
        before = after


def test_every_module_that_our_code_names_exists():
    """A name that leads nowhere would take code out of a digest without a word."""
    for module in modules():
        for node in ast.walk(syntax(path_of(module))):
            value = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
            if isinstance(value, str) and re.fullmatch(rf"({'|'.join(OURS)})(\.\w+)+", value):
                assert path_of(value), f"{module}: {value}"
    for file, (package, _) in LOADED_BY_NAME.items():
        assert (TOP / file).is_file()
        assert path_of(package.rstrip("."))
    assert all(path_of(package) for package in SETS)


def test_modules_are_all_files_but_hidden_ones(write, notebook):
    write(
        {
            "xpool/a.py": "",
            "xpool/b/c.py": "",
            "xpool/__init__.py": "",
            "baselines/d.py": "",
            "other/e.py": "",
        }
    )
    notebook()
    assert modules() == ("baselines.d", "notebooks.page", "xpool.a", "xpool.b.c")
    assert path_of("xpool.b.c") == Path("xpool/b/c.py")
    assert path_of("xpool") == Path("xpool/__init__.py")
    assert path_of("xpool.nothing") is path_of("other.e") is path_of("json") is None


def test_a_notebook_uses_what_its_code_cells_import(write, notebook):
    write({"xpool/a.py": "import xpool.b", "xpool/b.py": "", "xpool/c.py": ""})
    code = "%matplotlib inline\n\ndef f():\n    from xpool import a\n"
    notebook(("markdown", "import xpool.c"), ("code", code.splitlines(keepends=True)))
    assert closure("notebooks.page") == {"notebooks/page.ipynb", "xpool/a.py", "xpool/b.py"}


def test_a_notebook_counts_with_its_prose(notebook):
    notebook(("markdown", "One."), ("code", "a = 1"))
    before = code_digest(Path("notebooks/page.ipynb"))
    notebook(("markdown", "Two."), ("code", "a = 1"))
    assert code_digest(Path("notebooks/page.ipynb")) != before


# --- files that are no Python ---


def error_of(*modules):
    with pytest.raises(InputError) as caught:
        closure(*modules)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("line", ["def broken(:", "a = (1", "  a = 1", 'a = "', "return = 1"])
def test_a_syntax_error_is_one_line_with_file_and_line(write, line):
    write(
        {
            "xpool/a.py": "import xpool.b\n",
            "xpool/b.py": f"a = 1\n\n{line}\n",
            "xpool/c.py": "c = 1\n",
        }
    )
    assert re.fullmatch(r"xpool/b\.py: line 3: .+", error_of("xpool.a"))
    assert closure("xpool.c") == {"xpool/c.py"}, "which does not use the broken file"


def test_a_syntax_error_in_a_notebook_names_cell_and_line(notebook):
    notebook(("markdown", "def ("), ("code", "a = 1"), ("code", "%magic\nb = 1\nc = = 1"))
    message = error_of("notebooks.page")
    assert re.fullmatch(r"notebooks/page\.ipynb: cell 3: line 3: invalid syntax.*", message)


def test_a_notebook_that_is_no_json_is_one_line(folder, notebook):
    notebook()
    (folder / "notebooks/page.ipynb").write_text('{"cells": [\n<<<<<<< ours\n]}')
    message = error_of("notebooks.page")
    assert message.startswith("notebooks/page.ipynb: not a notebook: ")
    assert "line 2" in message


def test_a_file_that_is_no_text_is_one_line(write, folder):
    write({"xpool/a.py": "a = 1"})
    (folder / "xpool/a.py").write_bytes(b"a = 1\nb = '\xff'\n")
    assert error_of("xpool.a").startswith("xpool/a.py: line ")


# --- keys of params.yaml ---


def test_keys_are_found_in_calls_of_read(write):
    write(
        {
            "xpool/a.py": 'import xpool.b\nx = read("train", T)\ny = read(f"recipes.{name}", R)\n',
            "xpool/b.py": 'def f(name):\n    read("frames.counts", T)\n    read(f"manifest.{n}")\n',
            "xpool/c.py": 'read("other", int)\nfile.read("no")\nread(key, int)\nread()\nf("no")\n',
            "xpool/d.py": 'read("setting", str)\nread("optuna", Optuna)\nread("seeds", list)\n',
        }
    )
    assert keys("xpool.a") == ({"train", "frames.counts"}, {"recipes", "manifest"})
    assert keys("xpool.b") == ({"frames.counts"}, {"manifest"})
    assert keys("xpool.c") == ({"other"}, set())
    assert keys("xpool.d") == ({"seeds"}, set()), "the others make no stage run again"


def test_a_module_uses_the_values_of_its_keys(write):
    write({"xpool/a.py": 'read("train", T)\nread("absent", T)\n', "xpool/b.py": ""})
    params = dict(values({"train": {"epochs": 3}, "frames": 12}))
    assert uses("xpool.a", params) == {
        "code": {"xpool/a.py": code_digest(Path("xpool/a.py"))},
        "params": {"train": {"epochs": 3}},
    }


def test_a_module_uses_the_encoder_that_params_name(write):
    write(
        {
            "xpool/stage.py": "import xpool.encoders.base",
            "xpool/encoders/base.py": "",
            "xpool/encoders/one.py": "import xpool.helper",
            "xpool/encoders/two.py": "",
            "xpool/helper.py": "",
        }
    )
    found = uses("xpool.stage", {"encoder.library": "one"})["code"]
    assert set(found) == {
        "xpool/stage.py",
        "xpool/encoders/base.py",
        "xpool/encoders/one.py",
        "xpool/helper.py",
    }
    found = uses("xpool.stage", {"encoder.library": "two"})["code"]
    assert "xpool/encoders/two.py" in found
    assert "xpool/encoders/one.py" not in found


def test_a_file_that_nothing_uses_may_be_broken(write, caplog):
    """A method that is half written, a notebook with a conflict marker."""
    files = {
        "baselines/a.py": "",
        "baselines/half.py": "def (\n",
        "baselines/uses_half.py": "from xpool import c\nimport baselines.half\n",
        "studies/half.py": "<<<<<<< HEAD\n",
        "xpool/data/benchmarks/half.py": "\0",
        "notebooks/half.ipynb": '{"cells": [\n<<<<<<< HEAD\n]}',
        "xpool/c.py": "",
    }
    write(files)
    assert fingerprints.usable({"baselines.a"}) == ["baselines.a", "xpool.c"]
    said = " ".join(record.getMessage() for record in caplog.records)
    for where in ("baselines/half.py: line 1: ", "studies/half.py: line 1: ", "half.ipynb: not a"):
        assert where in said
    for name, where in (
        ("baselines.half", "baselines/half.py: line 1: "),
        ("baselines.uses_half", "baselines/half.py: line 1: "),
        ("studies.half", "studies/half.py: line 1: "),
        ("xpool.data.benchmarks.half", "xpool/data/benchmarks/half.py: "),
        ("notebooks.half", "notebooks/half.ipynb: not a notebook: .* line 2"),
    ):
        with pytest.raises(InputError, match=f"^{where}"):
            fingerprints.usable({name})
    write({"xpool/c.py": "\n>>>>>>> other\n"})
    with pytest.raises(InputError, match=r"^xpool/c\.py: line 2: "):
        fingerprints.usable(set())


def test_a_set_uses_what_its_members_use(write):
    write(
        {
            "baselines/a.py": "import xpool.c",
            "baselines/b.py": "",
            "baselines/__init__.py": "",
            "xpool/c.py": "",
        }
    )
    assert set(uses_of_set("baselines", modules())["code"]) == {
        "baselines/a.py",
        "baselines/b.py",
        "xpool/c.py",
    }


# --- speed ---


def test_each_file_is_parsed_once(monkeypatch):
    """For the closures, digests and keys of all modules together, in a few seconds at most."""
    parsed, parse = [], fingerprints._parsed
    cells = sum(
        cell["cell_type"] == "code"
        for path in (TOP / NOTEBOOKS).glob("*.ipynb")
        for cell in json.loads(path.read_text())["cells"]
    )
    forget()
    monkeypatch.setattr(
        fingerprints, "_parsed", lambda *source: parsed.append(source) or parse(*source)
    )
    began = time.process_time()
    for module in modules():
        closure(module)
    seconds = time.process_time() - began
    for module in modules():
        code_digests(module)
        keys(module)
    assert 0 < len(parsed) <= len(FILES) + cells
    assert seconds < 5


def test_a_file_that_changes_is_read_again_in_the_same_process(folder):
    """A study runs for hours: an edit meanwhile must be seen by its next check."""
    (folder / "xpool").mkdir()
    (folder / "xpool/a.py").write_text("from xpool import b\n")
    (folder / "xpool/b.py").write_text("value = 1\n")
    before = code_digests("xpool.a")
    assert code_digests("xpool.a") == before
    (folder / "xpool/b.py").write_text("value = 22\n")
    after = code_digests("xpool.a")
    assert after["xpool/a.py"] == before["xpool/a.py"]
    assert after["xpool/b.py"] != before["xpool/b.py"]


# --- names of work folders ---


def test_fingerprint_ignores_the_order_of_keys_only():
    one = fingerprint([{"a": 1, "b": {"c": 2, "d": 3}}])
    assert one == fingerprint([{"b": {"d": 3, "c": 2}, "a": 1}])
    assert one != fingerprint([{"a": 1, "b": {"c": 2, "d": 4}}])
    assert fingerprint([1, 2]) != fingerprint([2, 1])
    assert fingerprint([1]) != fingerprint(["1"])


def test_fingerprint_takes_no_value_that_differs_in_the_next_process():
    with pytest.raises(TypeError):
        fingerprint([object()])


def test_fingerprint_follows_an_input_file(folder):
    path = Path("input")
    path.write_text("one")
    os.utime(path, ns=(1, 1))
    first = fingerprint(0, [path])
    assert first == fingerprint(0, [path])
    assert first != fingerprint(0)
    os.utime(path, ns=(2, 2))
    touched = fingerprint(0, [path])
    assert touched != first
    path.write_text("three")
    os.utime(path, ns=(2, 2))
    assert fingerprint(0, [path]) != touched


def test_fingerprint_follows_the_files_of_a_folder(folder):
    inner = Path("folder", "below")
    inner.mkdir(parents=True)
    (inner / "a").write_text("a")
    first = fingerprint(0, [Path("folder")])
    (inner / "b").write_text("b")
    second = fingerprint(0, [Path("folder")])
    assert second != first
    (inner / "b").rename(inner / "c")
    assert fingerprint(0, [Path("folder")]) != second


def test_fingerprint_follows_an_input_that_appears(folder):
    before = fingerprint(0, [Path("late")])
    Path("late").touch()
    assert fingerprint(0, [Path("late")]) != before


def test_fingerprint_follows_the_code_of_its_modules_alone(write):
    def found():
        return fingerprint(0, code=["xpool.a"])

    write({"xpool/a.py": "import xpool.b\n", "xpool/b.py": "b = 1\n", "xpool/c.py": "c = 1\n"})
    before = found()
    assert before != fingerprint(0)
    write({"xpool/b.py": "b = 1  # one\n", "xpool/c.py": "c = 2\n"})
    assert found() == before
    write({"xpool/b.py": "b = 2\n"})
    assert found() != before


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Somebody else's package: a method of two files, and a module that it does not use."""
    package = tmp_path / "their_package"
    package.mkdir()
    (package / "__init__.py").write_text("SCALE = 1\n")
    (package / "maths.py").write_text("def middle(values):\n    return values[0]\n")
    (package / "pooling.py").write_text(
        "import torch\nfrom their_package.maths import middle\n"
        "from xpool.pooling import unit\nMETHOD = (middle, unit)\n"
    )
    (package / "other.py").write_text("OTHER = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(fingerprints, "_OUTSIDE", {})
    yield package
    for name in [name for name in sys.modules if name.partition(".")[0] == "their_package"]:
        del sys.modules[name]


def test_closure_of_a_method_elsewhere_has_the_files_of_its_package_that_it_uses(elsewhere):
    theirs = {f"their_package/{name}.py" for name in ("__init__", "maths", "pooling")}
    assert closure("their_package.pooling") == theirs | {"xpool/pooling.py"}
    assert fingerprints.name_of_file("their_package.pooling") == "baselines.their_package.pooling"
    assert fingerprints.name_of_file("xpool.pooling") == "xpool.pooling"


@pytest.mark.parametrize("name", ["__init__", "maths", "pooling"])
def test_a_change_of_a_method_elsewhere_changes_its_digest(elsewhere, name):
    before = code_digests("their_package.pooling")
    assert before == code_digests("their_package.pooling")
    with (elsewhere / f"{name}.py").open("a") as code:
        code.write("CHANGED = 1\n")
    after = code_digests("their_package.pooling")
    changed = {file for file, _ in before.items() ^ after.items()}
    assert changed == {f"their_package/{name}.py"}
    known = fingerprints.facts(["their_package/maths.py"])["their_package/maths.py"]
    assert known["bytes"] == sha256(elsewhere / "maths.py")
