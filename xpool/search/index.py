"""One's own videos, decoded and embedded once, so that trained runs can search them.

An index is a folder: ``videos.csv`` (video_id, path), ``frames/`` (a frame cache, whose
``quarantine.csv`` names the videos that could not be read), ``embeddings.npy`` and ``mask.npy``
(``(video, frame, dim)`` float32 and ``(video, frame)`` bool), and ``index.json``. It holds what the
encoder gives, so that all runs with that encoder frozen can search it; the index of a run that has
trained its encoder serves that run alone.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from xpool.data.frame_cache import FrameCache
from xpool.data.packing import pack
from xpool.data.raw_folder import RawFolder
from xpool.data.transforms import evaluation
from xpool.encoders.embed import embed_images
from xpool.project.command import available_cores
from xpool.project.errors import InputError
from xpool.project.fingerprints import fingerprint
from xpool.project.workspace import publish, work_folder, write_json
from xpool.search.library import Library
from xpool.search.trained import Trained

log = logging.getLogger(__name__)
VIDEOS, FRAMES, EMBEDDINGS, MASK = "videos.csv", "frames", "embeddings.npy", "mask.npy"
ABOUT = "index.json"
VIDEOS_AT_A_TIME = 16


def build(videos: Sequence[Path], run: Trained, out: Path) -> int:
    """Write an index; a killed one goes on where it was.

    Args:
        videos: video files, and folders whose video files are taken.
        run: embeds them.
        out: the folder of the index; an older index there is replaced when this one is complete.

    Returns:
        The number of videos that could be read.

    Raises:
        InputError: there is no video, none can be read, or ``out`` holds something else.
    """
    if out.exists() and not (out / ABOUT).is_file():
        raise InputError(f"{out}: is there already, and is no index; name another folder")
    listed = named(files_of(videos))
    raw = Path(os.path.commonpath([path.parent for path in listed.values()]))
    packed = [(video_id, str(path.relative_to(raw))) for video_id, path in listed.items()]
    params = run.frames.model_copy(update={"allowed_unreadable": 1.0})
    about = {"made_by": run.made_by, "frames": run.count, "params": params.about_pixels()}
    digest = fingerprint([about, packed], listed.values(), code=[__name__])
    cell = out.resolve().as_posix().strip("/").replace("/", "-")
    with work_folder("index", cell, digest) as work:
        folder = pack(work, packed, raw, params, min(available_cores(), len(packed)))
        cache, made = FrameCache(folder), work / "index"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        embedded, mask = embed(run, cache)
        np.save(made / EMBEDDINGS, embedded.numpy())
        np.save(made / MASK, mask.numpy())
        files = [str(listed[video_id]) for video_id in cache.video_ids]
        table = pd.DataFrame({"video_id": cache.video_ids, "path": files})
        table.to_csv(made / VIDEOS, index=False)
        shutil.copytree(folder, made / FRAMES)
        write_json(made / ABOUT, about)
        publish(made, out)
        shutil.rmtree(work)
    return len(cache)


@torch.inference_mode()
def embed(run: Trained, cache: FrameCache) -> tuple[Tensor, Tensor]:
    """Return what the run's encoder gives for the sampled frames of all videos of a cache.

    Returns:
        ``(video, frame, dim)`` float32 and ``(video, frame)`` bool, on the CPU.
    """
    masks = []

    def pixels() -> Iterator[Tensor]:
        for video_id in cache.video_ids:
            frames, mask = cache.read(video_id, run.count, run.frames)
            masks.append(torch.from_numpy(mask))
            yield evaluation(torch.tensor(frames), run.encoder.size_px, run.frames.antialias)

    embedded = embed_images(run.encoder, pixels(), VIDEOS_AT_A_TIME * run.count)
    return embedded.view(len(cache), run.count, -1), torch.stack(masks)


def open_index(folder: Path, run: Trained) -> Library:
    """Open an index for a run.

    Raises:
        InputError: it is no index, or another encoder or sampling made it.
    """
    if not (folder / ABOUT).is_file():
        raise InputError(f"{folder}: no index; make one with: xpool index VIDEOS --out {folder}")
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    expected = {"made_by": run.made_by, "frames": run.count, "params": run.frames.about_pixels()}
    for key in ("made_by", "frames", "params"):
        if about[key] != json.loads(json.dumps(expected[key])):
            what = "encoder" if key == "made_by" else f"frames ({key})"
            raise InputError(
                f"{folder}: made with another {what} than this run has; index the videos again, "
                "with --run naming it"
            )
    videos = pd.read_csv(folder / VIDEOS, dtype=str, keep_default_na=False)
    return library(
        folder.name,
        run,
        FrameCache(folder / FRAMES),
        dict(zip(videos["video_id"], map(Path, videos["path"]), strict=True)),
        (torch.from_numpy(np.load(folder / name)) for name in (EMBEDDINGS, MASK)),
    )


def library(
    title: str,
    run: Trained,
    cache: FrameCache,
    files: Mapping[str, Path],
    embedded: Iterable[Tensor],
) -> Library:
    """Return videos that :func:`embed` embedded, as the run searches them."""
    frames, mask = embedded
    return Library(
        title=title,
        video_ids=cache.video_ids,
        files=[files[video_id] for video_id in cache.video_ids],
        frames=run.videos(frames),
        mask=mask.to(run.device),
        cache=cache,
        params=run.frames,
        video_of_caption={},
    )


def files_of(videos: Iterable[Path]) -> list[Path]:
    """Return the video files among files and folders, each once, as absolute paths.

    Raises:
        InputError: one is not there, or there is no video file at all.
    """
    found: dict[Path, None] = {}
    for path in videos:
        if path.is_dir():
            of_folder = RawFolder.scan(path, path.name).videos.values()
            found |= dict.fromkeys((path / p).resolve() for paths in of_folder for p in paths)
        elif path.is_file():
            found[path.resolve()] = None
        else:
            raise InputError(f"{path}: not found; name video files, or folders of some")
    if not found:
        raise InputError(f"{', '.join(map(str, videos))}: no video file in there")
    return list(found)


def named(files: Iterable[Path]) -> dict[str, Path]:
    """Return the files by their names without suffix; further ones of a name get a number."""
    found: dict[str, Path] = {}
    for file in files:
        names = (file.stem if n == 1 else f"{file.stem} ({n})" for n in count(1))
        found[next(name for name in names if name not in found)] = file
    return found
