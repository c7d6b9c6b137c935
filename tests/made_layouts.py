"""MSR-VTT and MSVD in the forms in which they are distributed, under the files' real names."""

import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass
class MsrVtt:
    """What all forms of MSR-VTT say."""

    captions: dict[str, list[str]]
    nine: list[str]
    seven: list[str]
    test: list[tuple[str, int]]
    """Video, and the number of the caption that is its query."""

    def sentence(self, video, number):
        return self.captions[video][number]


def small():
    """Eight videos of three captions each; 9k is by number, 7k as text; 9 and 8 are the test."""
    numbers = (0, 1, 2, 3, 10, 5, 9, 8)
    captions = {f"video{v}": [f"caption {k} of {v}" for k in range(3)] for v in numbers}
    nine = [f"video{v}" for v in (0, 1, 2, 3, 5, 10)]
    seven = [f"video{v}" for v in (0, 10, 1, 2)]
    return MsrVtt(captions, nine, seven, [("video9", 2), ("video8", 0)])


def lines(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{value}\n" for value in values))


def dump(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def sentences(captions, videos):
    return {
        "info": {"year": "2016"},
        "videos": [{"video_id": video, "split": "train", "id": 0} for video in videos],
        "sentences": [
            {"caption": caption, "video_id": video, "sen_id": k}
            for video in videos
            for k, caption in enumerate(captions[video])
        ],
    }


def test_csv(facts, folder):
    rows = [
        f"ret{n},msr{video[5:]},{video},{facts.sentence(video, k)}"
        for n, (video, k) in enumerate(facts.test)
    ]
    lines(folder / "MSRVTT_JSFUSION_test.csv", ["key,vid_key,video_id,sentence", *rows])


def clip4clip(facts, folder):
    """The archive msrvtt_data.zip."""
    dump(folder / "MSRVTT_data.json", sentences(facts.captions, list(facts.captions)))
    lines(folder / "MSRVTT_train.9k.csv", ["video_id", *facts.nine])
    lines(folder / "MSRVTT_train.7k.csv", ["video_id", *facts.seven])
    test_csv(facts, folder)


def frozen_captions(facts, path):
    entries = [
        {"image_id": video, "caption": caption, "id": k}
        for video, captions in facts.captions.items()
        for k, caption in enumerate(captions)
    ]
    dump(path, {"info": {}, "images": [], "annotations": entries})


def frozen(facts, folder):
    """Frozen in Time's MSRVTT.zip, which has no csv; its 9k list alone."""
    root = folder / "MSRVTT"
    frozen_captions(facts, root / "annotation" / "MSR_VTT.json")
    links = root / "high-quality" / "structured-symlinks"
    lines(links / "train_list_jsfusion.txt", facts.nine)
    lines(links / "train_list_full.txt", facts.seven[:2])
    lines(links / "val_list_jsfusion.txt", [video for video, _ in facts.test])
    (links / "jsfusion_val_caption_idx.pkl").write_bytes(pickle.dumps(dict(facts.test)))


def all_in_one(facts, folder):
    """All-in-one's annotation files, with lists of both sizes."""
    frozen_captions(facts, folder / "MSR_VTT.json")
    lines(folder / "train_list_9k.txt", facts.nine)
    lines(folder / "train_list_7k.txt", facts.seven)
    lines(folder / "val_list_jsfusion.txt", [video for video, _ in facts.test])
    (folder / "jsfusion_val_caption_idx.pkl").write_bytes(pickle.dumps(dict(facts.test)))


def challenge(facts, folder):
    """The 2016 challenge: captions of its two parts; 1k-A is by others."""
    later = [video for video in facts.captions if video not in facts.seven]
    first = [video for video in facts.captions if video in facts.seven]
    name = folder / "train_val_annotation" / "train_val_videodatainfo.json"
    dump(name, sentences(facts.captions, first))
    dump(folder / "test_videodatainfo.json", sentences(facts.captions, later))
    test_csv(facts, folder)


def hub_rows(facts, part):
    if part == "test_1k":
        return [hub_row(video, facts.sentence(video, k)) for video, k in facts.test]
    videos = facts.nine if part == "train_9k" else facts.seven
    return [hub_row(video, facts.captions[video]) for video in videos]


def hub_row(video, caption):
    return {
        "video_id": video,
        "video": f"{video}.mp4",
        "caption": caption,
        "source": "MSR-VTT",
        "category": 9,
        "url": "https://www.youtube.com/watch?v=9lZi22qLlEo",
        "start time": 137.72,
        "end time": 149.44,
        "id": int(video[5:]),
    }


PARTS = ("train_9k", "train_7k", "test_1k")


def hub_json(facts, folder):
    """friedrichor/MSR-VTT."""
    for part in PARTS:
        dump(folder / f"msrvtt_{part}.json", hub_rows(facts, part))


def hub_parquet(facts, folder):
    """The Parquet files that the hub makes of it, the longest in two parts."""
    for part in PARTS:
        rows = hub_rows(facts, part)
        split = folder / part / part.partition("_")[0]
        split.mkdir(parents=True)
        half = len(rows) if part == "test_1k" else 2
        for number, some in enumerate((rows[:half], rows[half:])):
            if some:
                pq.write_table(pa.Table.from_pylist(some), split / f"{number:04}.parquet")


def hub_captions(facts, folder):
    """A table with one caption a row, and videos as the hub's own type stores them."""
    for part in PARTS:
        rows = [
            row | {"caption": text, "video": {"bytes": None, "path": row["video"]}}
            for row in hub_rows(facts, part)
            for text in ([row["caption"]] if isinstance(row["caption"], str) else row["caption"])
        ]
        (folder / part).mkdir(parents=True)
        name = f"{part.partition('_')[0]}-00000-of-00001.parquet"
        pq.write_table(pa.Table.from_pylist(rows), folder / part / name)


def msvd_hub_json(lists, captions, folder):
    """friedrichor/MSVD."""
    for split, videos in lists.items():
        rows = [
            {"video_id": v, "video": f"{v}.avi", "caption": captions[v], "source": "MSVD"}
            for v in videos
        ]
        dump(folder / f"msvd_{split}.json", rows)


def msvd_hub_parquet(lists, captions, folder):
    """The Parquet files that the hub makes of it."""
    for split, videos in lists.items():
        place = folder / "default" / ("validation" if split == "val" else split)
        place.mkdir(parents=True)
        rows = [{"video_id": v, "video": f"{v}.avi", "caption": captions[v]} for v in videos]
        pq.write_table(pa.Table.from_pylist(rows), place / "0000.parquet")


def laid(folder: Path, paths):
    """Make empty files that stand for videos."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"")
