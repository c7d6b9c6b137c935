"""dvc.yaml against the code: deps cover imports and what is read, names mirror each other."""

import ast
import itertools
import re
from pathlib import Path

import pytest
import yaml
from projects import Project

from xpool.check import values
from xpool.sources import OURS, TOP, closure, imported, modules, path_of

STAGES = yaml.safe_load((TOP / "dvc.yaml").read_text())["stages"]
_FILES = [TOP / "params.yaml", *(TOP / "settings").glob("*.yaml")]
PARAMS = {params["setting"]: params for params in (yaml.safe_load(f.read_text()) for f in _FILES)}


def modules_of(stage):
    """Modules that a stage's command runs: its step, its method, its study, its notebook."""
    command = STAGES[stage]["cmd"]
    modules = re.findall(r"-m (xpool\.\w+)", command)
    modules += re.findall(r"--method ([\w.]+(?:\$\{[\w.]+\})?)", command)
    if "xpool.ablate" in modules:  # it starts workers, and its trials build any method
        modules += ["xpool.study_worker", "xpool.xpool", "studies.${item.study}"]
    modules += [f"notebooks.{name}" for name in re.findall(r"-m xpool.notebook (\w+)", command)]
    return modules


LOADERS = {
    "xpool/encoder.py": ("results/sources/xpool.encoders.${encoder.library}.txt",),
    "xpool/benchmark.py": (
        "results/sources/xpool.benchmarks.${item.benchmark}.txt",
        "xpool/benchmarks",
    ),
}
"""Files that import a member of a set by its name, and deps each of which covers the member."""


def deps_of(stage):
    return list(STAGES[stage].get("deps", []))


@pytest.mark.parametrize("stage", sorted(set(STAGES) - {"check", "sources"}))
def test_a_stage_depends_on_what_its_modules_import_and_on_no_other_code(stage):
    """A missing dep gives a stale result, a needless one computes again what did not change."""
    deps, modules = deps_of(stage), modules_of(stage)
    needed = {f"results/sources/{module}.txt" for module in modules}
    for loader, covers in LOADERS.items():
        if loader in closure(*modules):
            used = set(covers) & set(deps)
            assert used, f"add one of {covers} to the deps of {stage} in dvc.yaml"
            needed |= used
    listed = {dep for dep in deps if dep.startswith(("results/sources/", "xpool/benchmarks"))}
    assert listed == needed, f"deps of {stage} in dvc.yaml"
    assert not [dep for dep in deps if dep.endswith(".py")]


def test_the_check_depends_on_all_code():
    """It loads the members of every set by name, and they import what it does not."""
    assert deps_of("check") == ["results/sources"]


def test_every_list_of_sources_that_a_stage_names_is_written():
    written = {f"results/sources/{name}.txt" for name in modules()}
    for stage in STAGES:
        for dep in deps_of(stage):
            if dep.startswith("results/sources/"):
                pattern = re.sub(r"\\\$\\\{[^}]*\\\}", r"\\w+", re.escape(dep))
                assert any(re.fullmatch(pattern, name) for name in written), dep


def test_lists_of_sources_change_with_what_a_module_imports_only(tmp_path):
    """Property, over the real step in a copy of the project."""
    project = Project(tmp_path / "copy")

    def lists():
        project.run("python", "-m", "xpool.sources")
        folder = project.folder / "results/sources"
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    before = lists()
    assert len(before) == len(modules())
    with (project.folder / "xpool/blocks.py").open("a") as code:
        code.write("# another file\n")
    after = lists()
    changed = {name for name in before if before[name] != after[name]}
    assert {"xpool.blocks.txt", "xpool.xpool.txt", "baselines.mean_pool.txt"} <= changed
    assert changed == {
        f"{name}.txt" for name in modules() if "xpool/blocks.py" in closure(name)
    }  # fmt: skip


def test_a_changed_method_leaves_the_other_methods_trained():
    assert "results/sources/xpool.xpool.txt" in deps_of("train_xpool")
    assert "results/sources/baselines.${item.baseline}.txt" in deps_of("train_baselines")
    assert "xpool/xpool.py" not in closure("xpool.train", "baselines.mean_pool")
    assert not [p for p in closure("xpool.train") if p.startswith("baselines")]


def test_pictures_and_tables_are_needed_by_no_computation():
    for stage in STAGES:
        if stage not in {"results", "attention", "ablations", "check"}:
            needed = closure(*modules_of(stage))
            shown = {"tables.py", "figures.py", "ablation_tables.py", "ablation_figures.py"}
            assert not needed & {f"xpool/{name}" for name in shown}, stage


def keys_of(stage):
    """Keys of params.yaml that a stage depends on: through their files, `setting` by its paths."""
    deps = deps_of(stage)
    keys = [match[1] for dep in deps if (match := re.fullmatch(r"results/params/(.+)\.json", dep))]
    spelled = [*deps, *STAGES[stage]["outs"]]
    return keys + ["setting"] * any("/${setting}/" in path for path in spelled)


def test_params_reach_the_stages_through_the_check_alone():
    """DVC parses params.yaml anew for each stage that has params."""
    assert STAGES["check"]["params"] == [{"params.yaml": None}], "all of it"
    for stage in sorted(set(STAGES) - {"check"}):
        assert "params" not in STAGES[stage]
        assert "params.yaml" not in deps_of(stage)
        assert "results/params" not in deps_of(stage), "another stage's key would run it again"


def reads_of(module):
    """Keys that a module's files read from params.yaml, as dvc.yaml would spell them."""
    keys = set()
    for path in closure(*module):
        for node in ast.walk(ast.parse((TOP / path).read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            if node.func.id == "setting":
                keys.add("setting")
            if node.func.id == "read" and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    keys.add(first.value)
                elif isinstance(first, ast.JoinedStr):
                    keys.add(first.values[0].value.rstrip("."))
    return keys


@pytest.mark.parametrize("stage", [s for s in STAGES if s != "check"])
def test_params_cover_every_key_that_the_stage_reads(stage):
    listed = keys_of(stage)
    for key in reads_of(modules_of(stage)):
        hit = [p for p in listed if key == p or key.startswith(f"{p}.") or p.startswith(f"{key}.")]
        inert = key == "optuna" or (stage == "generate" and key == "setting")
        inert |= key == "mixing" and stage != "ranks"  # read by that step's main alone
        inert |= key == "seeds" and stage == "ablate"  # by the main of train alone
        assert hit or inert, f"{stage} reads {key}"


@pytest.mark.parametrize("name", PARAMS)
def test_every_key_that_a_stage_depends_on_is_written_in_both_settings(name):
    """DVC stops at a file that is not there."""
    params = PARAMS[name]
    written = {key for key, _ in values(params)}
    axes = {
        "benchmark": params["benchmarks"],
        "baseline": params["baselines"],
        "study": params["studies"]["own_models"] + params["studies"]["trained_models"],
    }
    for stage in STAGES:
        if stage == "generate" and name != "mini":
            continue
        for key in keys_of(stage):
            used = re.findall(r"\$\{item\.(\w+)\}", key)
            for members in itertools.product(*(axes[axis] for axis in used)):
                spelled = key
                for axis, member in zip(used, members, strict=True):
                    spelled = spelled.replace(f"${{item.{axis}}}", member)
                assert spelled in written, f"{stage}: {spelled} is not in the {name} setting"


def test_baselines_never_import_the_treatment_nor_a_step():
    steps = {"xpool.train", "xpool.evaluate", "xpool.xpool", "xpool.embeddings", "xpool.frames"}
    for path in (TOP / "baselines").glob("*.py"):
        assert not imported(path.relative_to(TOP)) & steps, path.name


def test_xpool_never_imports_baselines_or_studies():
    for path in (TOP / "xpool").rglob("*.py"):
        names = imported(path.relative_to(TOP))
        assert not {n for n in names if n.split(".")[0] in {"baselines", "studies"}}, path.name


def test_members_of_a_set_never_import_each_other():
    for folder in ("baselines", "studies", "xpool/benchmarks", "xpool/encoders"):
        package = folder.replace("/", ".")
        for path in (TOP / folder).glob("[!_]*.py"):
            names = imported(path.relative_to(TOP))
            others = {n for n in names if n.startswith(f"{package}.")}
            assert not others, f"{path} imports {others}"


def test_only_paths_spells_the_folders_of_artifacts():
    for path in (TOP / "xpool").rglob("*.py"):
        if path.name == "paths.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Path":
                words = [a.value for a in node.args if isinstance(a, ast.Constant)]
                assert not {"data", "results", "reports"} & set(words), path.name


@pytest.mark.parametrize("name", PARAMS)
def test_every_listed_member_has_its_file(name):
    for benchmark in PARAMS[name]["benchmarks"]:
        assert Path(TOP, "xpool", "benchmarks", f"{benchmark}.py").is_file()
    for study in itertools.chain(*PARAMS[name]["studies"].values()):
        assert Path(TOP, "studies", f"{study}.py").is_file()
    for baseline in PARAMS[name]["baselines"]:
        assert Path(TOP, "baselines", f"{baseline}.py").is_file()
        assert set(PARAMS[name]["recipes"][baseline]) >= set(PARAMS[name]["benchmarks"])


def test_our_packages_are_found():
    assert all(path_of(package) for package in OURS)
