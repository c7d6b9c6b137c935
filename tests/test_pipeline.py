"""dvc.yaml against the code: deps cover imports and what is read, names mirror each other."""

import ast
import itertools
import json
import re
from pathlib import Path

import pytest
import yaml
from projects import Project

from xpool.project.fingerprints import (
    OURS,
    SETS,
    TOP,
    closure,
    keys,
    modules,
    path_of,
    syntax,
    values,
)

STAGES = yaml.safe_load((TOP / "dvc.yaml").read_text())["stages"]
_FILES = [TOP / "params.yaml", *(TOP / "settings").glob("*.yaml")]
PARAMS = {params["setting"]: params for params in (yaml.safe_load(f.read_text()) for f in _FILES)}
FINGERPRINT = re.compile(r"results/fingerprints/(.+)\.json")


def modules_of(stage):
    """Modules that a stage's command runs: its stage file, its method, its study, its notebook."""
    command = STAGES[stage]["cmd"]
    name = re.search(r"-m xpool ([\w-]+)", command)[1]
    if name == "report":  # one command for all pages: a page depends on what makes it
        page = command.split()[-1]
        made_by = ["xpool.report.site.index"] if page == "index" else ["xpool.report.notebook"]
        return made_by + ([] if page == "index" else [f"notebooks.{page}"])
    found = ["xpool.data.inventory" if "--list-files" in command else f"xpool.stages.{name}"]
    for method in re.findall(r"--method (\w+|\$\{[\w.]+\})", command):
        found.append("xpool.xpool" if method == "xpool" else f"baselines.{method}")
    if name == "ablate":  # its trials build any method
        found += ["xpool.xpool", "studies.${item.study}"]
    return found


def members(module):
    """The modules that a name with an axis in it stands for."""
    pattern = re.sub(r"\\\$\\\{[^}]*\\\}", r"\\w+", re.escape(module))
    return [name for name in modules() if re.fullmatch(pattern, name)]


BENCHMARKS = {"xpool.data.benchmarks.${item.benchmark}", "xpool.data.benchmarks"}
"""Fingerprints each of which covers what `xpool.data.benchmark.load` loads by its name."""


def deps_of(stage):
    return list(STAGES[stage].get("deps", []))


def fingerprints_of(stage):
    return {match[1] for dep in deps_of(stage) if (match := FINGERPRINT.fullmatch(dep))}


def test_just_the_list_of_real_files_is_made_each_time():
    """And no stage depends on the raw files, each of which DVC would read."""
    always = {name for name, stage in STAGES.items() if stage.get("always_changed")}
    assert always == {"files"}
    assert not [dep for stage in STAGES for dep in deps_of(stage) if "/raw" in dep]
    assert PARAMS["mini"]["real"] == [], "so that an unchanged mini pipeline runs nothing"
    assert PARAMS["paper"]["real"] == PARAMS["paper"]["benchmarks"]


@pytest.mark.parametrize("stage", sorted(set(STAGES) - {"check"}))
def test_a_stage_depends_on_what_its_modules_use_and_on_no_other_code(stage):
    """A missing dep gives a stale result, a needless one computes again what did not change."""
    needed = set(modules_of(stage))
    if "xpool/data/benchmark.py" in closure(*modules_of(stage)):
        used = BENCHMARKS & fingerprints_of(stage)
        assert used, f"add one of {BENCHMARKS} to the deps of {stage} in dvc.yaml"
        needed |= used
    if "xpool/postprocessing/listed.py" in closure(*modules_of(stage)):
        needed.add("xpool.postprocessing")
    if stage.startswith("ablate"):
        needed.add("baselines")
    if stage == "attention":  # which opens X-Pool's checkpoint
        needed.add("xpool.xpool")
    if stage == "ablations":
        needed.add("studies")
    assert fingerprints_of(stage) == needed, f"deps of {stage} in dvc.yaml"
    top = (*OURS, "notebooks")
    code = [d for d in deps_of(stage) if d.endswith(".py") or d.split("/")[0] in top]
    assert code == [], "`check` finds code, and the data beside it"


def test_the_check_depends_on_all_code():
    """It loads the members of every set by name, and they import what it does not."""
    assert deps_of("check") == [*OURS, "notebooks"]


def test_every_fingerprint_that_a_stage_names_is_written():
    for stage in STAGES:
        for module in fingerprints_of(stage):
            assert module in SETS or members(module), module


def written(project):
    folder = project.folder / "results/fingerprints"
    return {path.stem: json.loads(path.read_text()) for path in folder.iterdir()}


NO_MORE_LISTED = [
    *(f"data/mini/{name}" for name in (
        "manifest/old.parquet", "manifest/old.videos.csv", "frames/old/x", "embeddings/old/x",
    )),
    "results/mini/train/xpool/old/0/x", "results/mini/train/max_pool/msvd/0/x",
    "results/mini/similarity/max_pool/msvd/0/x", "results/mini/studies/old/trials.csv",
]  # fmt: skip
LISTED = [
    "data/mini/raw/old/x", "data/mini/manifest/msvd.parquet", "data/mini/frames/msvd/x",
    "results/mini/train/mean_pool/msrvtt/0/x", "results/mini/studies/search/trials.csv",
]  # fmt: skip


@pytest.fixture(scope="module")
def checked(tmp_path_factory, commands):
    """A copy of the project in which DVC has run the check, with what DVC says of it."""
    project = Project(tmp_path_factory.mktemp("pipeline") / "copy", commands)
    project.run("dvc", "repro", "check")
    return project, json.loads(project.run("dvc", "status", "--json"))


@pytest.fixture(scope="module")
def changed(checked):
    """Its fingerprints, before and after a line, a value and the lists of members were changed."""
    project, _ = checked
    before = written(project)
    pooling = project.folder / "xpool/pooling.py"
    pooling.write_text(pooling.read_text() + "ANOTHER = 1\n")
    project.change(embeddings__batch_size=7)
    for name in [*NO_MORE_LISTED, *LISTED]:
        (project.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (project.folder / name).touch()
    project.run("python", "-m", "xpool", "check")
    return project, before, written(project)


def commented(text):
    """Add a comment before each top-level statement, a docstring line, and change the first one."""
    tree = ast.parse(text)
    lines = text.splitlines()
    decorated = [[n, *getattr(n, "decorator_list", [])] for n in tree.body]
    starts = {min(part.lineno for part in parts) for parts in decorated}
    doc = tree.body[0]
    out = []
    for number, line in enumerate(lines, start=1):
        if number in starts and number > (doc.end_lineno or 0):
            out.append("# another comment")
        if number == doc.lineno:
            line = line.replace('"""', '"""Another word. ', 1)
        out.append(line)
    return "\n".join([*out, "# the last comment", ""])


def test_bytecode_is_no_change(checked):
    """Python writes `__pycache__` unless it is told not to, as a test machine may be."""
    project, status = checked
    project.run("python", "-m", "compileall", "-q", "xpool", "baselines", "studies")
    assert list((project.folder / "xpool").rglob("*.pyc"))
    assert json.loads(project.run("dvc", "status", "--json")) == status
    assert "check" not in status


def test_a_comment_or_docstring_in_any_module_runs_no_stage(checked):
    """Of all modules at once: `dvc repro` runs the check, and then there is nothing to do."""
    project, status = checked
    before = written(project)
    for package in OURS:
        for path in (project.folder / package).rglob("*.py"):
            path.write_text(commented(path.read_text()))
    changed = json.loads(project.run("dvc", "status", "--json"))
    assert set(changed) - set(status) == {"check"}, "which has to look"
    project.run("dvc", "repro", "check")
    assert written(project) == before
    assert json.loads(project.run("dvc", "status", "--json")) == status


def test_what_a_module_uses_changes_with_it_alone(changed):
    """Property, over the real stage: exactly the modules that use a changed line or value."""
    _, before, after = changed
    assert set(before) == set(after) == {*modules(), *SETS}
    files = {name for name in before if before[name]["code"] != after[name]["code"]}
    params = {name for name in modules() if before[name]["params"] != after[name]["params"]}
    in_sets = {"baselines", "studies"}
    assert files == {n for n in modules() if "xpool/pooling.py" in closure(n)} | in_sets
    assert params == {name for name in modules() if "embeddings" in keys(name)[0]}
    assert {"xpool.pooling", "xpool.xpool", "baselines.mean_pool"} <= files
    assert {"xpool.stages.embeddings", "xpool.stages.scenes", "studies.variance"} <= params
    assert not params & {"xpool.stages.train", "xpool.stages.evaluate", "xpool.xpool"}


def test_what_was_made_for_a_benchmark_that_is_listed_no_more_is_put_aside(changed):
    """A stage that depends on all benchmarks would see it here, and not in another clone."""
    folder = changed[0].folder
    assert all((folder / name).is_file() for name in LISTED)
    assert not any((folder / name).exists() for name in NO_MORE_LISTED)
    assert all((folder / ".work/left-over" / name).is_file() for name in NO_MORE_LISTED)


def test_the_scenes_are_drawn_for_a_number_of_frames_and_not_for_a_budget():
    assert {"train.frames", "frames"} <= keys("xpool.stages.scenes")[0]
    assert "train" not in keys("xpool.stages.scenes")[0]


def test_a_changed_method_leaves_the_other_methods_trained():
    assert "xpool.xpool" in fingerprints_of("train_xpool")
    assert "baselines.${item.baseline}" in fingerprints_of("train_baselines")
    assert "xpool/xpool.py" not in closure("xpool.stages.train", "baselines.mean_pool")
    assert not [p for p in closure("xpool.stages.train") if p.startswith("baselines")]


def test_pictures_and_tables_are_needed_by_no_computation():
    for stage in set(STAGES) - {"results", "attention", "ablations", "errors", "index", "check"}:
        needed = closure(*modules_of(stage))
        assert not [path for path in needed if path.startswith("xpool/report/")], stage


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
        assert not {"results/params", "results/fingerprints"} & set(deps_of(stage)), (
            "another stage's key would run it again"
        )


@pytest.mark.parametrize("stage", sorted(set(STAGES) - {"check"}))
def test_a_stage_names_each_section_of_which_its_source_spells_the_beginning(stage):
    begun = set().union(*(keys(m)[1] for name in modules_of(stage) for m in members(name)))
    assert {section.split(".")[0] for section in sections_of(stage)} == begun


def test_every_read_of_params_spells_its_key():
    """Or its beginning: nothing else is seen. What checks all of the file is told all."""
    others = {"xpool.settings", "xpool.project.params", "xpool.compare"}
    for module in set(modules()) - others:
        for call in ast.walk(syntax(path_of(module))):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "read":
                key = call.args[0]
                begun = isinstance(key, ast.JoinedStr) and isinstance(key.values[0], ast.Constant)
                assert begun or isinstance(key, ast.Constant), f"{module}, line {call.lineno}"


def test_keys_are_those_that_the_source_reads():
    assert keys("xpool.stages.frames") == ({"frames"}, set())
    assert keys("xpool.stages.manifest") == (set(), {"generate", "manifest"})
    assert "mixing" in keys("xpool.stages.ranks")[0]
    assert "mixing" not in keys("xpool.stages.statistics")[0]
    assert "post_processing" in keys("xpool.stages.ranks")[0]
    assert "post_processing.bank" in keys("xpool.stages.evaluate")[0]
    assert "post_processing" not in keys("xpool.stages.evaluate")[0], (
        "another argument of a member scores nothing again"
    )
    assert "post_processing.members" in keys("xpool.stages.statistics")[0]
    assert "optuna" not in keys("xpool.stages.ablate")[0]
    assert "seeds" not in keys("xpool.stages.ablate")[0], (
        "a further seed of the comparison runs no study"
    )


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


@pytest.mark.parametrize("name", PARAMS)
def test_every_listed_member_has_its_file(name):
    for benchmark in PARAMS[name]["benchmarks"]:
        assert Path(TOP, "xpool", "data", "benchmarks", f"{benchmark}.py").is_file()
    for study in itertools.chain(*PARAMS[name]["studies"].values()):
        assert Path(TOP, "studies", f"{study}.py").is_file()
    for baseline in PARAMS[name]["baselines"]:
        assert Path(TOP, "baselines", f"{baseline}.py").is_file()
        assert set(PARAMS[name]["recipes"][baseline]) >= set(PARAMS[name]["benchmarks"])


def test_our_packages_are_found():
    assert all(path_of(package) for package in OURS)
