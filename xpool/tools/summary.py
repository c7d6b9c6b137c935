"""The command ``xpool summary``: print the summary of the results, and where the rest is."""


def main() -> None:
    """Print the summary table, and the paths of all results.

    Example: xpool summary
    """
    from xpool.project import paths
    from xpool.project.made import made
    from xpool.project.params import read, setting
    from xpool.report.typesetting import FORMATS

    folder, report = paths.tables(setting()), paths.report(setting(), "results")
    names = ["summary", *read("benchmarks", list[str]), "selection"]
    for path in [report, *(folder / f"{name}.{end}" for name in names for end in FORMATS)]:
        made(path)
    print((folder / "summary.md").read_text(encoding="utf-8"))
    print(f"tables:  {folder}/{{{','.join(names)}}}.{{{','.join(FORMATS)}}}")
    if (studies := paths.ablations(setting())).is_dir():
        print(f"studies: {studies}/")
    print(f"reports: {', '.join(map(str, sorted(report.parent.glob('*.html'))))}")
