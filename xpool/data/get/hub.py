"""Files of a repository of Hugging Face, through its own library, which resumes downloads."""

import glob
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from xpool.data.get.archives import is_archive
from xpool.data.get.sources import Hub, Remote
from xpool.data.get.verified import UnavailableError, refuse_other
from xpool.data.raw_folder import is_video
from xpool.project.errors import InputError
from xpool.project.workspace import refused

ANNOTATIONS = (".csv", ".json", ".pkl", ".txt")
"""Suffixes of annotation files."""


def fetch(source: Hub, folder: Path, ledger: Path) -> Path:
    """Download files of a data set into a folder.

    Args:
        source: the repository, and which files.
        folder: where downloads go; the files come into a folder of their own there.
        ledger: JSON file of digests.

    Returns:
        The folder of the files.

    Raises:
        UnavailableError: the repository or a file is not there, is not public, or is another file.
    """
    from huggingface_hub import HfApi, snapshot_download

    into = folder / source.hub.replace("/", "-")
    with _asked(source):
        api = HfApi()
        files = source.take or _useful(api.list_repo_files(source.hub, repo_type=source.kind))
        if not files:
            raise UnavailableError(f"hf:{source.hub}: it has no archive, video or annotations")
        infos = api.get_paths_info(source.hub, files, repo_type=source.kind)
        found = {info.path: info for info in infos}
        if lost := [file for file in files if file not in found]:
            raise UnavailableError(f"hf:{source.hub}: it has no {', '.join(lost)}")
        snapshot_download(
            source.hub,
            repo_type=source.kind,
            allow_patterns=[glob.escape(file) for file in files],
            local_dir=into,
        )
    for file in files:
        published: Any = getattr(found[file], "lfs", None)
        remote = Remote(
            url=f"hf:{source.hub}/{file}",
            name=PurePosixPath(file).name,
            sha256=published.sha256 if published else None,
        )
        refuse_other(into / file, remote, remote.url, ledger)
    return into


def cache(source: Hub) -> None:
    """Download the files of a model into the cache of Hugging Face, where its readers look.

    Raises:
        UnavailableError: as :func:`fetch`.
    """
    from huggingface_hub import snapshot_download

    with _asked(source):
        snapshot_download(source.hub, repo_type=source.kind, allow_patterns=source.take)


@contextmanager
def _asked(source: Hub) -> Iterator[None]:
    """Turn whatever the library raises into one line, except what this machine's disk refuses."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # its own errors, and those of the libraries that it uses
        if refused(error):
            raise
        words = " ".join(str(error).split()) or type(error).__name__
        raise UnavailableError(f"hf:{source.hub}: {words[:300]}") from error


def _useful(files: list[str]) -> list[str]:
    """Return the files that can hold a part of a benchmark."""
    return [f for f in files if is_archive(f) or is_video(f) or f.lower().endswith(ANNOTATIONS)]
