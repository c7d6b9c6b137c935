"""Check ``params.yaml`` and write down what each stage depends on.

A stage of ``dvc.yaml`` depends on the files that are its own, and so runs again when code or a
value that it uses has changed, and for nothing else:

- ``results/fingerprints/<module>.json``: a digest of each file of code that the module uses, and
  the values that it reads of ``params.yaml``; of a set such as ``baselines`` the digests alone;
- ``results/params/<dotted key>.json``: the values of one section. Where ``dvc.yaml`` makes several
  stages of one module, each reads a section of its own, which the module's source does not spell.

No stage depends on ``results/snapshot.json``, but all work from it: see ``xpool.project.snapshot``.
"""


def main() -> None:
    """Check params.yaml; write what each stage depends on.

    Example: xpool check
    """
    import shutil

    from xpool.data.benchmark import MEMBERS, module_of
    from xpool.project import fingerprints, paths, snapshot
    from xpool.project.params import load, read, setting
    from xpool.project.workspace import WORK, publish, write_json
    from xpool.report.site.shell import PAGES
    from xpool.settings import Studies, check

    used = check() | {f"{fingerprints.NOTEBOOKS}.{page}" for page in PAGES}
    # of a benchmark that is listed no more: stages that read all benchmarks would depend on it
    methods = ["xpool", *read("baselines", list[str])]
    listed = (read("benchmarks", list[str]), methods, read("studies", Studies).all())
    for entry in list(paths.left_over(setting(), *listed)):
        publish(entry, WORK / "left-over" / entry)
    # the page of all studies reads this folder, also where none is listed
    paths.studies(setting(), "").mkdir(parents=True, exist_ok=True)
    params = dict(fingerprints.values(load()))
    names = fingerprints.usable(used)
    modules = {name: fingerprints.uses(name, params) for name in names}
    # a method of another package has the files that dvc.yaml asks of one of ours
    modules = {fingerprints.name_of_file(name): uses for name, uses in modules.items()}
    # a benchmark of one's own has no file of its name, which dvc.yaml asks for
    own = {f"{MEMBERS}.{name}": module_of(name) for name in listed[0]}
    modules |= {name: fingerprints.uses(file, params) for name, file in own.items() if file != name}
    modules |= {name: fingerprints.uses_of_set(name, names) for name in fingerprints.SETS}
    sections = {key: value for key, value in params.items() if isinstance(value, dict)}
    for made, destination in ((modules, paths.fingerprints()), (sections, paths.params())):
        folder = WORK / destination.name
        shutil.rmtree(folder, ignore_errors=True)
        for name, content in made.items():
            write_json(folder / f"{name}.json", content)
        publish(folder, destination)
    files = {file for name in modules for file in modules[name]["code"]}
    write_json(paths.snapshot(), snapshot.take(files))
