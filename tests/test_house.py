"""The floor plan: layers, no circles, folders one can read, modules of readable length."""

import ast
import itertools
from pathlib import Path
from statistics import median

import pytest

TOP = Path(__file__).resolve().parents[1]
PACKAGES = ("xpool", "baselines", "studies", "performance")
MOST_ENTRIES, MOST_LINES, MEDIAN_LINES = 14, 400, 200

LAYERS = (
    {"xpool.project"},
    {
        "xpool.blocks",
        "xpool.pooling",
        "xpool.similarity",
        "xpool.metrics",
        "xpool.postprocessing",
        "xpool.xpool",
    },
    {"xpool.data"},
    {"xpool.mini"},
    {"xpool.encoders"},
    {"xpool.training"},
    {"xpool.statistics"},
    {"xpool.ablation"},
    {"xpool.report"},
    {"xpool.search"},
    {"xpool.settings", "xpool.compare"},
    {"xpool.tools", "xpool.stages"},
    {"xpool.__main__"},
)
"""A module imports from its own layer and from those before it."""
SETS = {
    "baselines": TOP / "baselines",
    "studies": TOP / "studies",
    "xpool.data.benchmarks": TOP / "xpool/data/benchmarks",
    "xpool.stages": TOP / "xpool/stages",
}
"""Packages whose files never import each other."""


def files():
    return [path for package in PACKAGES for path in sorted((TOP / package).rglob("*.py"))]


def module_of(path):
    name = ".".join(path.relative_to(TOP).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {module_of(path): path for path in files()}


def resolve(name):
    """The module of ours that a dotted name leads to, if any."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def imports_of(path):
    """Modules of ours that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name for name in map(resolve, names) if name}
    return found - {module_of(path)}


IMPORTS = {module: imports_of(path) for module, path in MODULES.items()}


def layer_of(module):
    for number, members in enumerate(LAYERS):
        if any(module == name or module.startswith(f"{name}.") for name in members):
            return number
    return None


def test_every_module_of_xpool_belongs_to_a_layer():
    homeless = [m for m in MODULES if m.startswith("xpool.") and layer_of(m) is None]
    assert not homeless


@pytest.mark.parametrize("module", sorted(m for m in MODULES if layer_of(m) is not None))
def test_a_module_imports_no_later_layer(module):
    """Also not for type checkers alone."""
    mine = layer_of(module)
    for other in IMPORTS[module]:
        theirs = layer_of(other)
        assert theirs is None or theirs <= mine, f"{module} imports {other}"


def test_no_module_of_xpool_imports_a_baseline_a_study_or_a_measurement():
    for module, imported in IMPORTS.items():
        if module.split(".")[0] == "xpool":
            outside = {m for m in imported if m.split(".")[0] != "xpool"}
            assert not outside, f"{module} imports {outside}"


def test_a_control_never_imports_the_treatment_nor_a_layer_that_uses_it():
    allowed = {"xpool.pooling", "xpool.project.errors"}
    for module, imported in IMPORTS.items():
        if module.startswith("baselines."):
            others = {name for name in imported if not name.startswith("xpool.blocks.")}
            assert others <= allowed, module


@pytest.mark.parametrize("package", SETS)
def test_members_of_a_set_never_import_each_other(package):
    for path in SETS[package].glob("[!_]*.py"):
        others = {m for m in IMPORTS[module_of(path)] if m.startswith(f"{package}.")}
        assert not others, path.name


@pytest.mark.parametrize("name", ["ENCODER", "POSTPROCESSING"])
def test_members_beside_their_base_never_import_each_other(name):
    members = {m for m, path in MODULES.items() if f"\n{name} = " in path.read_text()}
    assert len(members) >= 2
    for member in members:
        assert not IMPORTS[member] & members


def test_no_circle():
    """Depth first over all imports, those inside functions too, but for types alone."""
    graph = {module: runtime_imports(path) for module, path in MODULES.items()}
    done, open_ = set(), []

    def visit(module):
        if module in done:
            return
        assert module not in open_, " -> ".join([*open_[open_.index(module) :], module])
        open_.append(module)
        for other in sorted(graph[module]):
            visit(other)
        open_.pop()
        done.add(module)

    for module in graph:
        visit(module)


def runtime_imports(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        for field in ("body", "orelse"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                setattr(node, field, [n for n in block if not is_for_types(n)])
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {resolve(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {resolve(f"{node.module}.{alias.name}") for alias in node.names}
    return found - {"", module_of(path)}


def is_for_types(node):
    return isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"


def folders():
    found = {path.parent for path in files()}
    pages = {TOP / "docs", *(path.parent for path in (TOP / "docs").rglob("*.md"))}
    return sorted(found | pages | {TOP / "notebooks", TOP / "settings"})


@pytest.mark.parametrize("folder", folders(), ids=lambda path: str(path.relative_to(TOP)))
def test_a_folder_has_at_most_fourteen_entries(folder):
    """`xpool` itself has twenty: the method, what it is made of, and the layers."""
    hidden = {"__pycache__", "__init__.py"}
    entries = [entry.name for entry in folder.iterdir() if entry.name not in hidden]
    most = 20 if folder == TOP / "xpool" else MOST_ENTRIES
    assert len(entries) <= most, sorted(entries)


def lengths():
    return {path: len(path.read_text().splitlines()) for path in files()}


def test_no_module_is_longer_than_four_hundred_lines():
    too_long = {str(p.relative_to(TOP)): n for p, n in lengths().items() if n > MOST_LINES}
    assert not too_long


def test_the_median_module_has_at_most_two_hundred_lines():
    assert median(lengths().values()) <= MEDIAN_LINES


def test_every_module_says_what_it_is_about():
    for path in files():
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_tests_mirror_the_tree():
    """`tests/<package>/` stands for a package of that name."""
    known = {".".join(m.split(".")[1:]) for m in MODULES if m.startswith("xpool.")}
    known |= {m for m in MODULES if not m.startswith("xpool.")}
    packages = {".".join(name.split(".")[:n]) for name in known for n in (1, 2)} | known
    for path in (TOP / "tests").rglob("test_*.py"):
        parts = path.relative_to(TOP / "tests").parts[:-1]
        assert not parts or ".".join(parts) in packages, path


def test_only_paths_spells_the_folders_of_artifacts():
    for path in (TOP / "xpool").rglob("*.py"):
        if path.name == "paths.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Path":
                words = [a.value for a in node.args if isinstance(a, ast.Constant)]
                assert not {"data", "results", "reports"} & set(words), path.name


def test_no_module_repeats_a_private_helper_of_its_package():
    """A helper that two files of a package define alike belongs in one of them."""
    for folder in {path.parent for path in files()}:
        seen = {}
        for path in folder.glob("*.py"):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.FunctionDef):
                    body = ast.dump(ast.Module(node.body[1:] or node.body, []))
                    seen.setdefault(body, []).append(f"{path.name}:{node.name}")
        twice = [names for body, names in seen.items() if len(names) > 1 and len(body) > 200]
        assert not twice, folder


def test_the_stages_of_the_pipeline_are_the_files_of_the_folder():
    """`dvc dag`, `xpool --help` and `ls xpool/stages` say the same words."""
    import re

    commands = set(re.findall(r"python -m xpool ([\w-]+)", (TOP / "dvc.yaml").read_text()))
    stages = {path.stem for path in (TOP / "xpool/stages").glob("[!_]*.py")}
    assert commands == stages


def test_a_stage_is_a_few_lines():
    for path in (TOP / "xpool/stages").glob("[!_]*.py"):
        functions = [
            node.name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
        ]
        assert functions == ["main"], path.name
        assert len(path.read_text().splitlines()) <= 60, path.name


def test_the_layers_are_those_of_the_packages_docstring():
    text = (TOP / "xpool/__init__.py").read_text()
    order = [text.index(f"``{name}``") for name in itertools.chain(*map(names_of, LAYERS))]
    assert order == sorted(order)


def names_of(layer):
    return sorted(
        name.removeprefix("xpool.") for name in layer if (TOP / name.replace(".", "/")).is_dir()
    )
