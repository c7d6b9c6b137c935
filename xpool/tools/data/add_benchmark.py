"""The command ``xpool add-benchmark``: the lines of ``params.yaml`` that a benchmark needs.

A benchmark has a file in ``xpool/data/benchmarks``, or it is one's own: a folder of videos and a
csv, which are linked into the raw folder. The lines are put into the file as it is, so that its
comments and order stay.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from xpool.project.errors import InputError

MOST_VALIDATION = 500
"""A tenth of the training videos, and no more than this, are proposed for validation."""


def lines_with(text: str, name: str, options: Mapping[str, Any], file: Path) -> str:
    """Return the text of a params file with one benchmark more.

    The name goes on the list ``benchmarks``, the options under ``manifest``, and each method gets a
    copy of the recipe that stands last.

    Args:
        text: the file's content.
        name: the benchmark's name.
        options: its ``manifest`` section.
        file: the file, for messages.

    Raises:
        InputError: a section is missing, or the name is in use.
    """
    import yaml

    root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    sections = {key.value: value for key, value in root.value}
    if absent := {"benchmarks", "manifest", "recipes"} - set(sections):
        raise InputError(f"{file}: {sorted(absent)[0]} is missing")
    if name in [node.value for node in sections["benchmarks"].value]:
        raise InputError(f"{file}: benchmarks: {name} is listed already")
    added = dict(_entries(sections, name, options, file))
    lines = text.split("\n")
    listed = sections["benchmarks"]
    if listed.flow_style:
        line, column = listed.end_mark.line, listed.end_mark.column - 1
        lines[line] = f"{lines[line][:column]}, {name}{lines[line][column:]}"
    else:
        last = listed.value[-1]
        added[last.end_mark.line] = f"{' ' * (last.start_mark.column - 2)}- {name}"
    for after in sorted(added, reverse=True):
        lines.insert(after + 1, added[after])
    return "\n".join(lines)


def _entries(
    sections: Mapping[str, Any], name: str, options: Mapping[str, Any], file: Path
) -> Iterator[tuple[int, str]]:
    """Yield each line to put in, and the number of the line after which it goes."""
    blocks = [("manifest", sections["manifest"])]
    blocks += [(f"recipes.{key.value}", node) for key, node in sections["recipes"].value]
    for where, block in blocks:
        if name in [key.value for key, _ in block.value]:
            raise InputError(f"{file}: {where}.{name} is there already; remove it first")
        if block.flow_style or not block.value:
            raise InputError(f"{file}: {where}: expected one entry a line")
        key, last = block.value[-1]
        content = options if where == "manifest" else _plain(last)
        # the value of an alias stands where its anchor does, which is above
        end = max(key.end_mark.line, *(node.end_mark.line for node in _leaves(last)))
        yield end, f"{' ' * key.start_mark.column}{name}: {_flow(content)}"


def _leaves(node: Any) -> Iterator[Any]:
    """Yield the nodes whose ends are those of their text: of a block it is the next one's start."""
    if isinstance(node.value, list) and not node.flow_style:
        for part in node.value:
            for inner in part if isinstance(part, tuple) else (part,):
                yield from _leaves(inner)
    else:
        yield node


def _plain(node: Any) -> Any:
    import yaml

    return yaml.SafeLoader("").construct_document(node)


def _flow(content: Any) -> str:
    import yaml

    flow = yaml.safe_dump(content, default_flow_style=True, sort_keys=False, width=10**6)
    return flow.strip()


def options_of(name: str, videos: Path | None, captions: Path | None) -> dict[str, Any]:
    """Return the ``manifest`` section that a benchmark begins with.

    Raises:
        InputError: the files do not fit the benchmark, or the csv is malformed.
    """
    from xpool.data.benchmark import MEMBERS, OWN, load
    from xpool.data.benchmarks.own import captions_by_split
    from xpool.project.plugins import members

    if name in set(members(MEMBERS, "BENCHMARK")) - {OWN}:
        if videos or captions:
            raise InputError(
                f"{name}: has files of its own (xpool/data/benchmarks/{name}.py): run this without "
                f"--videos and --captions, and then `xpool get {name} --from FOLDER`"
            )
        return {**load(name).suggested, "allowed_missing": 0.0}
    if not name.isidentifier() or name == OWN:
        raise InputError(f"{name}: expected a name of letters, digits and _, other than {OWN}")
    if videos is None or captions is None:
        raise InputError(f"{name}: a benchmark of your own needs both --videos and --captions")
    parts = captions_by_split(captions)
    own: dict[str, Any] = {"captions": captions.name, "title": name}
    if not parts["val"]:
        own["val_videos"] = min(-(-len(parts["train"]) // 10), MOST_VALIDATION)
    return own | {"allowed_missing": 0.0}


def link(raw: Path, videos: Path, captions: Path) -> None:
    """Link a folder of videos and a csv into a raw folder; nothing is copied.

    Raises:
        InputError: there is no such folder, or something else lies where a link would go.
    """
    if not videos.is_dir():
        raise InputError(f"{videos}: no such folder")
    raw.mkdir(parents=True, exist_ok=True)
    for place, target in ((raw / "videos", videos), (raw / captions.name, captions)):
        if place.is_symlink() and place.resolve() == target.resolve():
            continue
        if place.exists() or place.is_symlink():
            raise InputError(f"{place}: is already there; remove or rename it")
        place.symlink_to(target.resolve(), target_is_directory=target.is_dir())


def main(
    name: Annotated[str, typer.Argument(help="Its name in params.yaml, e.g. dogs.")],
    videos: Annotated[Path | None, typer.Option(help="A folder of your own videos.")] = None,
    captions: Annotated[
        Path | None, typer.Option(help="A csv with the columns video_id, caption and split.")
    ] = None,
) -> None:
    """Write the params of a further benchmark.

    Of one's own videos, or of a file of xpool/data/benchmarks that params.yaml does not list. The
    files are linked. In the mini setting, settings/paper.yaml gets the lines.

    Example: xpool add-benchmark dogs --videos /disk/dogs --captions dogs.csv
    """
    from xpool.data.get.target import real
    from xpool.project import paths
    from xpool.project.params import PARAMS_FILE, setting
    from xpool.project.workspace import replacing
    from xpool.tools.setting import SETTINGS

    options = options_of(name, videos, captions)
    file = PARAMS_FILE if setting() == real() else SETTINGS / f"{real()}.yaml"
    if not file.is_file():
        raise InputError(f"{file}: not found; it holds the setting of real files")
    text = lines_with(file.read_text(encoding="utf-8"), name, options, file)
    if videos and captions:
        link(paths.raw(real(), name), videos, captions)
    with replacing(file) as opened:
        opened.write(text)
    how = "" if setting() == real() else f"`xpool setting {real()}`, then "
    print(f"{file}: {name} is added; {how}`xpool manifest --benchmark {name}` checks its files")
