"""dvc.yaml against the code: deps cover imports and what is read, names mirror each other."""

import ast
import itertools
import json
import re
from pathlib import Path

import pytest
import yaml
from projects import Project

from xpool.check import values
from xpool.sources import OURS, TOP, closure, code_of, imported, keys, modules, path_of

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


def members(module):
    """The modules that a name with an axis in it stands for."""
    pattern = re.sub(r"\\\$\\\{[^}]*\\\}", r"\\w+", re.escape(module))
    return [name for name in modules() if re.fullmatch(pattern, name)]


BENCHMARKS = {"results/needs/xpool.benchmarks.${item.benchmark}.json", "xpool/benchmarks"}
"""Deps each of which covers what `xpool/benchmark.py` loads by its name."""


def deps_of(stage):
    return list(STAGES[stage].get("deps", []))


@pytest.mark.parametrize("stage", sorted(set(STAGES) - {"check"}))
def test_a_stage_depends_on_what_its_modules_need_and_on_no_other_code(stage):
    """A missing dep gives a stale result, a needless one computes again what did not change."""
    deps, modules = deps_of(stage), modules_of(stage)
    needed = {f"results/needs/{module}.json" for module in modules}
    if "xpool/benchmark.py" in closure(*modules):
        used = BENCHMARKS & set(deps)
        assert used, f"add one of {BENCHMARKS} to the deps of {stage} in dvc.yaml"
        needed |= used
    listed = {dep for dep in deps if dep.startswith(("results/needs/", "xpool/benchmarks"))}
    assert listed == needed, f"deps of {stage} in dvc.yaml"
    assert not [dep for dep in deps if dep.endswith(".py")]


def test_the_check_depends_on_all_code():
    """It loads the members of every set by name, and they import what it does not."""
    assert deps_of("check") == [*OURS, "notebooks"]


def test_every_module_that_a_stage_names_is_there():
    for stage in STAGES:
        for dep in deps_of(stage):
            if match := re.fullmatch(r"results/needs/(.+)\.json", dep):
                assert members(match[1]), dep


def test_what_a_module_needs_changes_with_it_alone(tmp_path):
    """Property, over the real step in a copy of the project."""
    project = Project(tmp_path / "copy")

    def needs():
        project.run("python", "-m", "xpool.check")
        folder = project.folder / "results/needs"
        return {path.stem: json.loads(path.read_text()) for path in folder.iterdir()}

    before = needs()
    with (project.folder / "xpool/blocks.py").open("a") as code:
        code.write("# another file\n")
    project.change(embeddings__batch_size=7)
    after = needs()
    assert set(before) == set(after) == set(modules())
    files, params = (
        {name for name in before if before[name][part] != after[name][part]}
        for part in ("files", "params")
    )
    assert files == {name for name in modules() if "xpool/blocks.py" in closure(name)}
    assert params == {name for name in modules() if "embeddings" in keys(name)[0]}
    assert {"xpool.blocks", "xpool.xpool", "baselines.mean_pool"} <= files
    assert {"xpool.embeddings", "xpool.scenes", "studies.variance"} <= params
    assert not params & {"xpool.train", "xpool.evaluate", "xpool.xpool"}


def test_a_changed_method_leaves_the_other_methods_trained():
    assert "results/needs/xpool.xpool.json" in deps_of("train_xpool")
    assert "results/needs/baselines.${item.baseline}.json" in deps_of("train_baselines")
    assert "xpool/xpool.py" not in closure("xpool.train", "baselines.mean_pool")
    assert not [p for p in closure("xpool.train") if p.startswith("baselines")]


def test_pictures_and_tables_are_needed_by_no_computation():
    for stage in STAGES:
        if stage not in {"results", "attention", "ablations", "check"}:
            needed = closure(*modules_of(stage))
            shown = {"tables.py", "figures.py", "ablation_tables.py", "ablation_figures.py"}
            assert not needed & {f"xpool/{name}" for name in shown}, stage


def sections_of(stage):
    """Sections of params.yaml that a stage names itself."""
    deps = deps_of(stage)
    return [match[1] for dep in deps if (match := re.fullmatch(r"results/params/(.+)\.json", dep))]


def test_params_reach_the_stages_through_the_check_alone():
    """DVC parses params.yaml anew for each stage that has params."""
    assert STAGES["check"]["params"] == [{"params.yaml": None}], "all of it"
    for stage in sorted(set(STAGES) - {"check"}):
        assert "params" not in STAGES[stage]
        assert "params.yaml" not in deps_of(stage)
        assert not {"results/params", "results/needs"} & set(deps_of(stage)), (
            "another stage's key would run it again"
        )


NO_RECIPE = {"scenes"}
"""Stages that import `xpool.recipes` for a type: what reads a recipe is not called."""


@pytest.mark.parametrize("stage", sorted(set(STAGES) - {"check"}))
def test_a_stage_names_each_section_of_which_its_source_spells_the_beginning(stage):
    begun = set().union(*(keys(m)[1] for name in modules_of(stage) for m in members(name)))
    if stage in NO_RECIPE:
        begun.remove("recipes")
    assert {section.split(".")[0] for section in sections_of(stage)} == begun


def test_every_read_of_params_spells_its_key():
    """Or its beginning: nothing else is seen. The check, which reads all, is told all."""
    for module in set(modules()) - {"xpool.check", "xpool.params"}:
        for call in ast.walk(ast.parse(code_of(path_of(module)))):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "read":
                if module == "xpool.compare":  # its own function, which reads files
                    continue
                key = call.args[0]
                begun = isinstance(key, ast.JoinedStr) and isinstance(key.values[0], ast.Constant)
                assert begun or isinstance(key, ast.Constant), f"{module}, line {call.lineno}"


def test_keys_are_those_that_the_source_reads():
    assert keys("xpool.frames") == ({"frames"}, set())
    assert keys("xpool.manifest") == (set(), {"generate", "manifest"})
    assert "mixing" in keys("xpool.ranks")[0], "read by its main"
    assert "mixing" not in keys("xpool.statistics")[0], "which needs xpool.ranks, but not its main"
    assert "optuna" not in keys("xpool.ablate")[0]
    assert "seeds" not in keys("xpool.ablate")[0], "a further one of the comparison runs no study"


@pytest.mark.parametrize("name", PARAMS)
def test_every_section_that_a_stage_depends_on_is_written_in_both_settings(name):
    """DVC stops at a file that is not there."""
    params = PARAMS[name]
    written = {key for key, value in values(params) if isinstance(value, dict)}
    axes = {
        "benchmark": params["benchmarks"],
        "baseline": params["baselines"],
        "study": params["studies"]["own_models"] + params["studies"]["trained_models"],
    }
    for stage in STAGES:
        if stage == "generate" and name != "mini":
            continue
        for key in sections_of(stage):
            used = re.findall(r"\$\{item\.(\w+)\}", key)
            for listed in itertools.product(*(axes[axis] for axis in used)):
                spelled = key
                for axis, member in zip(used, listed, strict=True):
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
