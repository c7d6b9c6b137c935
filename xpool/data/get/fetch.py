"""Get what is missing from the first source that gives it, or from where the user says."""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import requests

from xpool.data.annotations.text import text_lines
from xpool.data.get import hub
from xpool.data.get.archives import expect_room, is_archive
from xpool.data.get.download import auth_for, download
from xpool.data.get.sources import Hub, Links, Remote, Source, Web, shown
from xpool.data.get.take import link_files, take, unpacked
from xpool.data.get.target import Missing, Target
from xpool.data.get.verified import UnavailableError
from xpool.data.raw_folder import composed
from xpool.project.errors import InputError
from xpool.project.progress import progress
from xpool.project.workspace import locked

CONNECTIONS = 8
"""Videos that are fetched at a time from a list of addresses."""
MOST_FAILED = 50
"""Failed videos after which the others of a list are not tried."""
log = logging.getLogger(__name__)


def get(target: Target, origin: str | None) -> Missing:
    """Get what is missing of a target.

    Args:
        target: what.
        origin: an address, a folder, ``hf:<owner>/<name>``, or None for the listed sources.

    Returns:
        What is still missing.

    Raises:
        InputError: nothing gives it; says why, and what to do.
    """
    with locked(target.archives / ".lock"):
        before = target.missing()
        if origin is None:
            return _from_sources(target, before)
        if target.benchmark is None:
            return _file(target, origin)
        if origin.startswith("hf:"):
            source: Hub | Web = Hub(hub=origin.removeprefix("hf:"))
            missing = _from(target, source, before)
        elif "://" in origin:
            missing = _from(target, Web(files=[Remote(url=origin)]), before)
        else:
            missing = take(target, Path(origin).expanduser())
        if before and missing == before:
            raise InputError(
                f"{_shown(origin)}: holds nothing of {target.name} that is missing: {before}. "
                "Videos count when the annotation files that list them are there"
            )
        return missing


def _from_sources(target: Target, missing: Missing) -> Missing:
    for part, sources in target.item.parts.items():
        if _lacks(target, part, missing):
            missing = _first(target, part, sources, missing)
    if missing and not target.item.parts:
        raise InputError(
            f"{target.name}: no source is listed, and missing are {missing}; say where it is: "
            f"`xpool get {target.name} --from URL or FOLDER`"
        )
    return missing


def _lacks(target: Target, part: str, missing: Missing) -> bool:
    if target.benchmark is None:
        return part in missing.files
    return bool(missing.videos if part == "videos" else missing.files)


def _first(target: Target, part: str, sources: list[Source], missing: Missing) -> Missing:
    """Get a part from the first source that gives it, or some of it."""
    refused = []
    for source in sources:
        try:
            still = _from(target, source, missing)
        except UnavailableError as error:
            refused.append(str(error))
        else:
            if still != missing:
                return still
            refused.append(f"{_places(source)}: holds nothing of it")
        if source is not sources[-1]:
            log.warning("%s; trying the next source", refused[-1])
    where = f"in a folder and run `xpool get {target.name} --from FOLDER`"
    if target.benchmark is None:
        where = f"as {target.raw}/<name>"
    raise InputError(
        f"{target.name}: no source gives its {part}: {'; '.join(refused)}. Fetch the files by "
        f"hand, put them {where}"
    )


def _from(target: Target, source: Source, missing: Missing) -> Missing:
    """Get what one source holds.

    Raises:
        UnavailableError: it does not give it.
    """
    if isinstance(source, Hub):
        if source.kind == "model":
            hub.cache(source)
            return target.missing()
        return take(target, hub.fetch(source, target.archives, _ledger(target)))
    with requests.Session() as session:
        if isinstance(source, Links):
            return _linked_videos(target, source, missing, session)
        files = [_downloaded(target, remote, session) for remote in source.files]
    archives = [file for file in files if is_archive(file.name)]
    return unpacked(target, archives, target.missing())


def _downloaded(target: Target, remote: Remote, session: requests.Session) -> Path:
    """Return a file, which is downloaded unless it is there: archives aside, others in place."""
    folder = target.archives if is_archive(remote.file_name) else target.raw
    file = folder / remote.file_name
    if not file.is_file():
        auth = auth_for(target.item.login, remote.url)
        download(session, remote, file, _ledger(target), auth)
    return file


def _linked_videos(
    target: Target, source: Links, missing: Missing, session: requests.Session
) -> Missing:
    """Download the missing videos whose addresses some lists have."""
    wanted = {composed(name) for name in missing.videos}
    found: dict[str, Remote] = {}
    for remote in source.links:
        lists = Remote(url=remote.url, name=remote.name)
        listing = target.archives / lists.file_name
        if not listing.is_file():
            auth = auth_for(target.item.login, remote.url)
            download(session, lists, listing, _ledger(target), auth)
        for url in map(str.strip, text_lines(listing)):
            path = PurePosixPath(urlsplit(url).path)
            name = unquote(path.name)
            if composed(PurePosixPath(name).stem) in wanted:
                found[f"{path.parent.name or 'videos'}/{name}"] = Remote(url=url, name=name)
    share = len(missing.videos) / missing.listed if missing.videos else 0.0
    size = share * sum(remote.gb or 0 for remote in source.links)
    expect_room(target.raw, round(size * 1e9), f"{target.name}: {len(missing.videos)} videos")
    failed = list[InputError]()

    def one(place: str) -> None:
        if len(failed) < MOST_FAILED:
            try:
                auth = auth_for(target.item.login, found[place].url)
                download(
                    session, found[place], target.raw / "videos" / place, None, auth, bar=False
                )
            except InputError as error:
                failed.append(error)

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(progress(pool.map(one, found), "videos", total=len(found)))
    if failed:
        raise InputError(
            f"{target.name}: {len(failed)} videos did not come, the first: {failed[0]}; run the "
            "same command again, which fetches what is missing"
        )
    return target.missing()


def _file(target: Target, origin: str) -> Missing:
    """Get one more file of what is no benchmark, or link those that a folder has."""
    if "://" not in origin:
        return link_files(target, Path(origin).expanduser())
    with requests.Session() as session:
        _downloaded(target, Remote(url=origin), session)
    return target.missing()


def _ledger(target: Target) -> Path:
    return target.archives / "digests.json"


def _shown(origin: str) -> str:
    return shown(origin) if "://" in origin else origin


def _places(source: Source) -> str:
    if isinstance(source, Hub):
        return f"hf:{source.hub}"
    return ", ".join(shown(r.url) for r in (source.files if isinstance(source, Web) else []))
