"""The official layouts and annotation formats, as the mini benchmarks are written in them.

How each benchmark names, words, stores and lists its videos; ``xpool/benchmarks`` reads the same
formats. Sources of the formats: docs/real_data.md.
"""

import json
import math
import pickle
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

from xpool import world

Split = Literal["train", "val", "test"]
Named = dict[Split, list[str]]
Durations = dict[Split, list[float]]

SPLITS: tuple[Split, ...] = ("train", "val", "test")
SHARE_7K = Fraction(7010, 9000)  # of the MSR-VTT 9k training videos, those of the 7k list
SHARE_OFFICIAL_TRAIN = Fraction(6513, 7010)  # the rest of the 7k are the official "validate"

SKIPPED_BY_OFFICIAL_CODE = "1012_Unbreakable_00.05.16.065-00.05.21.941"
REPEATED_IDS = 2  # training clips of LSMDC with a second row and another sentence
MOVIES: dict[Split, tuple[str, ...]] = {
    "train": (
        "0901_A_Quiet_Harbour",
        "0902_Paper_Lanterns",
        "0903_The_Third_Ferry",
        "0904_Ohne_Wiederkehr",
        "1901_Glasshouse",
        "1902_Night_Train_to_Oslo",
        "1903_Salt",
        "3901_SEVEN_ORCHARDS",
        "3902_THE_LONG_WAY_DOWN",
        "3903_COPPER_SKY",
    ),
    "val": ("0911_Winter_Field", "3911_THE_CLOCKMAKER"),
    "test": ("0921_Two_Rivers", "1012_Unbreakable", "1921_Half_Moon", "3921_OPEN_WATER"),
}


@dataclass(frozen=True, kw_only=True)
class Caption:
    """One sentence and the number of the scene it is about, from 0."""

    text: str
    scene: int


@dataclass(frozen=True, kw_only=True)
class Video:
    """All that is decided of one video before it is drawn."""

    video_id: str
    split: Split
    path: Path
    """Below the raw folder."""
    scenes: tuple[world.Scene, ...]
    ends: tuple[int, ...]
    """Per scene, the frame after its last one."""
    width: int
    height: int
    rate_fps: int
    captions: tuple[Caption, ...]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one benchmark names, words, stores and lists its videos."""

    name: Callable[[Durations, np.random.Generator], Named]
    path: Callable[[str], Path]
    word: Callable[[str], str]
    write: Callable[[list[Video], Path, np.random.Generator], None]


def _of(videos: Sequence[Video], split: Split) -> list[Video]:
    return [video for video in videos if video.split == split]


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


# MSR-VTT ----------------------------------------------------------------------------------------


def _seven_k(n_train: int) -> int:
    """Number of the videos of the 7k list: the first ones, by number."""
    return max(1, round(n_train * SHARE_7K))


def _name_msrvtt(durations: Durations, rng: np.random.Generator) -> Named:
    """Number all videos through; the test videos come from those beyond the 7k, in mixed order."""
    n_train, n_test = len(durations["train"]), len(durations["test"])
    n_7k = _seven_k(n_train)
    beyond = n_7k + rng.permutation(n_train + n_test - n_7k)
    train = [*range(n_7k), *sorted(beyond[n_test:].tolist())]
    return {
        "train": [f"video{number}" for number in train],
        "val": [],
        "test": [f"video{number}" for number in beyond[:n_test]],
    }


def _write_msrvtt(videos: list[Video], folder: Path, rng: np.random.Generator) -> None:
    def number(video: Video) -> int:
        return int(video.video_id.removeprefix("video"))

    n_7k = _seven_k(len(_of(videos, "train")))
    n_official_train = max(1, round(n_7k * SHARE_OFFICIAL_TRAIN))
    entries = []
    for video in sorted(videos, key=number):
        start_s, id_ = round(rng.uniform(0, 300), 2), number(video)
        later = "validate" if id_ < n_7k else "test"
        entries.append(
            {
                "category": int(rng.integers(20)),
                "url": f"synthetic:msrvtt/{video.video_id}",
                "video_id": video.video_id,
                "start time": start_s,
                "end time": round(start_s + video.ends[-1] / video.rate_fps, 2),
                "split": "train" if id_ < n_official_train else later,
                "id": id_,
            }
        )
    mixed = [videos[i] for i in rng.permutation(len(videos))]
    captions = [(caption.text, video.video_id) for video in mixed for caption in video.captions]
    sentences = [
        {"caption": text, "video_id": video_id, "sen_id": sen_id}
        for sen_id, (text, video_id) in enumerate(captions)
    ]
    record = {
        "info": {"description": "Synthetic: a mini benchmark in the layout of MSR-VTT."},
        "videos": entries,
        "sentences": sentences,
    }
    (folder / "MSRVTT_data.json").write_text(json.dumps(record), encoding="utf-8")
    train = sorted(_of(videos, "train"), key=number)
    _write_lines(folder / "MSRVTT_train.9k.csv", ["video_id", *(v.video_id for v in train)])
    first = sorted(v.video_id for v in train if number(v) < n_7k)  # as text, like the official one
    _write_lines(folder / "MSRVTT_train.7k.csv", ["video_id", *first])
    rows = ["key,vid_key,video_id,sentence"]
    for i, video in enumerate(_of(videos, "test")):
        # the first caption, so that it has index 0 whichever file a reader counts in
        sentence = video.captions[0].text
        rows.append(f"ret{i},msr{number(video)},{video.video_id},{sentence}")
    _write_lines(folder / "MSRVTT_JSFUSION_test.csv", rows)


# MSVD -------------------------------------------------------------------------------------------


def _name_msvd(durations: Durations, rng: np.random.Generator) -> Named:
    """Make ids ``{youtube}_{start}_{end}``; some share a source, as the real ones do.

    The 11 characters of the source may start with ``-`` and contain ``_``, the traps of the real
    ids; every eighth source has both.
    """
    letters = np.array(list(string.ascii_letters + string.digits + "-_"))
    names: Named = {split: [] for split in SPLITS}
    source, end_s, n_sources = "", 0, 0
    for split in SPLITS:
        for duration_s in durations[split]:
            if not source or rng.random() < 0.7:
                source, end_s = "".join(rng.choice(letters, 11)), 0
                if n_sources % 8 == 0:
                    source = f"-{source[1:5]}_{source[6:]}"
                n_sources += 1
            start_s = end_s + int(rng.integers(0, 60))
            end_s = start_s + math.ceil(duration_s)
            names[split].append(f"{source}_{start_s}_{end_s}")
    return names


def _write_msvd(videos: list[Video], folder: Path, rng: np.random.Generator) -> None:
    captions = {
        video.video_id: [caption.text for caption in video.captions]
        for video in sorted(videos, key=lambda video: video.video_id)
    }
    (folder / "captions_msvd.json").write_text(json.dumps(captions), encoding="utf-8")
    words = {video_id: [text.split() for text in texts] for video_id, texts in captions.items()}
    # the one pickle of this project: the official file is one
    (folder / "raw-captions.pkl").write_bytes(pickle.dumps(words, protocol=2))
    for split in SPLITS:
        _write_lines(folder / f"{split}_list.txt", [v.video_id for v in _of(videos, split)])


# LSMDC ------------------------------------------------------------------------------------------


def _name_lsmdc(durations: Durations, rng: np.random.Generator) -> Named:
    """Make ids ``{movie}_{start}-{end}``; no movie is in two splits."""
    names: Named = {split: [] for split in SPLITS}
    for split in SPLITS:
        total = len(durations[split])
        for i, movie in enumerate(MOVIES[split]):
            first, last = (total * k // len(MOVIES[split]) for k in (i, i + 1))
            time_s = 300.0
            for duration_s in durations[split][first:last]:
                start_s = time_s + rng.uniform(2, 30)
                time_s = start_s + duration_s
                names[split].append(f"{movie}_{_stamp(start_s)}-{_stamp(time_s)}")
    unbreakable = [name.startswith("1012_") for name in names["test"]]
    place = unbreakable.index(True) if any(unbreakable) else 0
    names["test"][place] = SKIPPED_BY_OFFICIAL_CODE
    return names


def _stamp(time_s: float) -> str:
    milliseconds = round(time_s * 1000)
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}.{minutes:02}.{seconds:02}.{milliseconds:03}"


def _movie(clip_id: str) -> str:
    return clip_id.rsplit("_", 1)[0]


def _sentence(caption: str) -> str:
    """Word a caption as LSMDC does: a capital, punctuation, and a person without a name."""
    if caption.startswith("we see "):
        caption = "SOMEONE sees " + caption.removeprefix("we see ")
    for place in world.PLACES:  # "on the sand a ring moving up" -> "On the sand, a ring moving up."
        if caption.startswith(f"{place} the "):
            for phrases in (background.names for background in world.BACKGROUNDS.values()):
                for phrase in phrases:
                    caption = caption.replace(f"{place} the {phrase} ", f"{place} the {phrase}, ")
    return f"{caption[0].upper()}{caption[1:]}."


def _write_lsmdc(videos: list[Video], folder: Path, rng: np.random.Generator) -> None:
    files = {
        "train": "LSMDC16_annos_training.csv",
        "val": "LSMDC16_annos_val.csv",
        "test": "LSMDC16_challenge_1000_publictect.csv",
    }
    for split in SPLITS:
        rows = []
        for video in _of(videos, split):
            start, end = video.video_id.rsplit("_", 1)[1].split("-")
            # in the real file every fifth row or so has an aligned start of its own
            aligned = f"{start[:-3]}{int(rng.integers(1000)):03}" if rng.random() < 0.2 else start
            for caption in video.captions:
                rows.append("\t".join([video.video_id, aligned, end, start, end, caption.text]))
        _write_lines(folder / files[split], rows)


LAYOUTS: dict[str, Layout] = {
    "msrvtt": Layout(
        name=_name_msrvtt,
        path=lambda video_id: Path("videos", "all", f"{video_id}.mp4"),
        word=lambda caption: caption,
        write=_write_msrvtt,
    ),
    "msvd": Layout(
        name=_name_msvd,
        path=lambda video_id: Path("YouTubeClips", f"{video_id}.avi"),
        word=lambda caption: caption,
        write=_write_msvd,
    ),
    "lsmdc": Layout(
        name=_name_lsmdc,
        path=lambda video_id: Path("videos", _movie(video_id), f"{video_id}.avi"),
        word=_sentence,
        write=_write_lsmdc,
    ),
}
