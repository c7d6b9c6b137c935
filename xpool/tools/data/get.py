"""The command ``xpool get``: fetch, unpack or link official files, or list what is needed."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from xpool.data.get.sources import Remote, Source
    from xpool.data.get.target import Target


def listing(target: "Target") -> Iterator[str]:
    """Yield lines: what is missing, where it is, how large, under which terms."""
    import shutil

    from xpool.project.errors import InputError

    item, benchmark = target.item, target.benchmark
    try:
        state = f"missing: {target.missing()}"
    except InputError as error:
        state = f"wrong: {error}"
    yield f"{target.name}: {benchmark.title if benchmark else item.title}"
    yield f"  {state}"
    for part, sources in item.parts.items():
        for number, source in enumerate(sources):
            yield f"  {'or' if number else part} from {_in_words(source)}"
    if any(
        getattr(source, "kind", "") == "model" for all_ in item.parts.values() for source in all_
    ):
        yield "  to the cache of Hugging Face"
    else:
        there = next(path for path in (target.raw, *target.raw.parents) if path.exists())
        yield f"  to {target.raw}, where {shutil.disk_usage(there).free / 1e9:.0f} GB are free"
    yield f"  licence: {benchmark.licence if benchmark else item.licence}"
    if item.access:
        yield f"  access: {item.access}"


def _in_words(source: "Source") -> str:
    from xpool.data.get.sources import Hub, Links

    if isinstance(source, Hub):
        size = f" ({source.gb} GB)" if source.gb else ""
        return f"hf:{source.hub}: {', '.join(source.take or ['all files'])}{size}"
    if isinstance(source, Links):
        return f"the addresses in {' and '.join(map(_file, source.links))}"
    return ", ".join(map(_file, source.files))


def _file(remote: "Remote") -> str:
    known = [f"{remote.gb} GB"] if remote.gb else []
    known += [kind for kind in ("sha256", "md5") if getattr(remote, kind)]
    facts = f" ({', '.join(known)})" if known else ""
    return f"{remote.url}{facts}"


def main(
    name: Annotated[
        str | None, typer.Argument(help="msrvtt, msvd, lsmdc, clip or xpool-checkpoints.")
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option("--from", help="An address, a folder, or hf:<owner>/<name>."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list.")] = False,
) -> None:
    """Get official files; without a name, list all.

    Lists what is missing, where it is, how large and under which terms. Then downloads and unpacks
    it, or, from a folder, unpacks or links it. A killed call goes on where it was.

    Example: xpool get msrvtt --from /disk/MSRVTT
    """
    from xpool.data.get import target as targets

    chosen = [targets.find(each, targets.real()) for each in ([name] if name else targets.names())]
    for target in chosen:
        print("\n".join(listing(target)), flush=True)
    if dry_run or name is None:
        return
    from xpool.data.get.fetch import get
    from xpool.project.errors import InputError

    if missing := get(chosen[0], origin):
        raise InputError(
            f"{name}: still missing: {missing}; they may be elsewhere: "
            f"`xpool get {name} --from FOLDER`, or an address"
        )
    print(f"{name}: complete")
