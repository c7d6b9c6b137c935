"""The mini benchmarks: official layouts and formats, true intervals, same seed same result."""

import csv
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from xpool.data.benchmark import load
from xpool.data.benchmarks import lsmdc
from xpool.mini import drawing, world
from xpool.mini.generate import GenerateParams, draw, layout_of, plan, write_benchmark, write_video
from xpool.project.errors import InputError
from xpool.project.params import validate
from xpool.project.plugins import members
from xpool.stages import generate

decord = pytest.importorskip("decord")
SHARED = Path(__file__).resolve().parents[3] / "shared"
FEW = {
    "videos": {"train": 4, "val": 2, "test": 3},
    "captions": [2, 3],
    "scenes": [1, 2],
    "duration_s": [1.0, 1.5],
    "rate_fps": 8,
    "sizes": [[80, 60]],
}
SETTINGS = {
    "msrvtt": {
        "videos": {"train": 18, "val": 0, "test": 6},
        "captions": [20, 20],
        "scenes": [2, 4],
        "duration_s": [2.0, 4.0],
        "rate_fps": 8,
        "sizes": [[80, 60]],
    },
    "msvd": {
        "videos": {"train": 9, "val": 3, "test": 6},
        "captions": [6, 14],
        "scenes": [1, 1],
        "duration_s": [1.0, 2.0],
        "rate_fps": 8,
        "sizes": [[96, 72], [64, 64], [60, 80]],
    },
    "lsmdc": {
        "videos": {"train": 14, "val": 4, "test": 8},
        "captions": [1, 1],
        "scenes": [1, 2],
        "duration_s": [1.0, 2.5],
        "rate_fps": 8,
        "sizes": [[116, 50]],
    },
    "vatex": FEW,
    "didemo": FEW,
    "activitynet": FEW | {"videos": {"train": 6, "val": 0, "test": 3}},
}
BENCHMARKS = [name for name in members("xpool.data.benchmarks", "BENCHMARK") if load(name).layout]


def params_of(benchmark, **changes):
    return GenerateParams.model_validate(SETTINGS[benchmark] | changes)


def write(benchmark, folder, seed=0, **changes):
    params = params_of(benchmark, **changes)
    write_benchmark(benchmark, params, seed, folder / "raw", folder / "truth")
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return {name: write(name, tmp_path_factory.mktemp(name)) for name in BENCHMARKS}


def decode(path):
    reader = decord.VideoReader(str(path), num_threads=1)
    return np.stack([reader.next().asnumpy() for _ in range(len(reader))])


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def captions_in_file_order(benchmark, raw):
    """Read ``{video_id: captions}`` from the official files."""
    captions = {}
    if benchmark == "msrvtt":
        rows = json.loads((raw / "MSRVTT_data.json").read_text())["sentences"]
        for row in rows:
            captions.setdefault(row["video_id"], []).append(row["caption"])
    elif benchmark == "msvd":
        captions = json.loads((raw / "captions_msvd.json").read_text())
    elif benchmark == "vatex":
        for file in raw.glob("vatex_*.json"):
            captions |= {row["videoID"]: row["enCap"] for row in json.loads(file.read_text())}
    elif benchmark == "didemo":
        for file in raw.glob("*_data.json"):
            for row in json.loads(file.read_text()):
                captions.setdefault(Path(row["video"]).stem, []).append(row["description"])
    elif benchmark == "activitynet":
        for file in raw.glob("*.json"):
            entries = json.loads(file.read_text())
            captions |= {video: entry["sentences"] for video, entry in entries.items()}
    else:
        for file in raw.glob("LSMDC16_*.csv"):
            for line in file.read_text().splitlines():
                captions.setdefault(line.split("\t")[0], []).append(line.split("\t")[5])
    return captions


# One result per seed ---------------------------------------------------------------------------


@pytest.mark.parametrize("benchmark", ["msrvtt", "lsmdc"])
def test_write_same_seed_other_number_of_cores_same_bytes(
    benchmark, written, tmp_path, monkeypatch
):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0})
    again = digests(write(benchmark, tmp_path))
    assert again == digests(written[benchmark])


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_plan_other_seed_other_scenes_and_captions(benchmark):
    first, second = (plan(benchmark, params_of(benchmark), seed) for seed in (0, 1))
    assert [v.scenes for v in first] != [v.scenes for v in second]
    assert [v.captions for v in first] != [v.captions for v in second]


def test_plan_more_captions_leave_the_frames_alone():
    few = plan("msvd", params_of("msvd"), 0)
    many = plan("msvd", params_of("msvd", captions=[20, 30]), 0)
    assert [(v.video_id, v.scenes, v.ends) for v in few] == [
        (v.video_id, v.scenes, v.ends) for v in many
    ]


# Truth and frames ------------------------------------------------------------------------------


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_truth_intervals_cover_each_video_exactly(benchmark, written):
    folder = written[benchmark]
    scenes = pq.read_table(folder / "truth" / "scenes.parquet").to_pylist()
    least, most = SETTINGS[benchmark]["scenes"]
    files = {path.stem: path for path in folder.rglob("*.*") if path.suffix in (".mp4", ".avi")}
    assert {row["video_id"] for row in scenes} == set(files)
    assert len(files) == sum(SETTINGS[benchmark]["videos"].values())
    for video_id, path in files.items():
        rows = [row for row in scenes if row["video_id"] == video_id]
        assert least <= len(rows) <= most
        assert [row["scene"] for row in rows] == list(range(len(rows)))
        assert [row["start_frame"] for row in rows] == [0, *(r["end_frame"] for r in rows[:-1])]
        assert rows[-1]["end_frame"] == len(decord.VideoReader(str(path), num_threads=1))


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_truth_sorted_and_in_named_columns(benchmark, written):
    truth = written[benchmark] / "truth"
    scenes, captions = (pq.read_table(truth / f"{n}.parquet") for n in ("scenes", "captions"))
    assert scenes.column_names == (
        [
            "video_id",
            "scene",
            "start_frame",
            "end_frame",
            "shape",
            "colour",
            "background",
            "count",
            "motion",
        ]
    )
    assert captions.column_names == ["video_id", "caption_index", "scene"]
    for table, number in ((scenes, "scene"), (captions, "caption_index")):
        keys = [(row["video_id"], row[number]) for row in table.to_pylist()]
        assert keys == sorted(set(keys))


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_videos_decoded_show_what_was_drawn(benchmark, written):
    for video in plan(benchmark, params_of(benchmark), 0)[::5]:
        drawn = np.stack(list(draw(video, 0, benchmark)))
        decoded = decode(written[benchmark] / "raw" / video.path)
        assert decoded.shape == drawn.shape
        # compression costs under 8 grey levels on average; any other scene differs by far more
        error = np.abs(decoded.astype(float) - drawn).mean(axis=(1, 2, 3))
        assert error.max() < 8, video.video_id


def test_videos_cut_is_hard_and_where_truth_says(written):
    folder = written["msrvtt"]
    for video in plan("msrvtt", params_of("msrvtt"), 0):
        frames = decode(folder / "raw" / video.path).astype(float)
        steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
        cuts = [end - 1 for end in video.ends[:-1]]
        within = np.delete(steps, cuts)
        for cut, (a, b) in zip(
            cuts, zip(video.scenes, video.scenes[1:], strict=False), strict=True
        ):
            if a.background != b.background:
                assert steps[cut] > within.max()
    # and each scene shows its own colour near the centre
    for row in pq.read_table(folder / "truth" / "scenes.parquet").to_pylist()[:20]:
        video = decode(folder / "raw" / "videos" / "all" / f"{row['video_id']}.mp4")
        middle = video[(row["start_frame"] + row["end_frame"]) // 2].astype(int)
        near = {
            name: (np.abs(middle - rgb).max(axis=-1) < 70).sum()
            for name, rgb in drawing.RGB.items()
        }
        assert max(near, key=lambda name: near[name]) == row["colour"], (row, near)


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_captions_match_the_scene_that_truth_names(benchmark, written):
    folder = written[benchmark]
    captions = captions_in_file_order(benchmark, folder / "raw")
    truth = pq.read_table(folder / "truth" / "captions.parquet").to_pylist()
    assert {row["video_id"] for row in truth} == set(captions)
    assert len(truth) == sum(map(len, captions.values()))
    scenes = {
        (row["video_id"], row["scene"]): row
        for row in pq.read_table(folder / "truth" / "scenes.parquet").to_pylist()
    }
    for row in truth:
        caption = captions[row["video_id"]][row["caption_index"]].lower()
        scene = scenes[row["video_id"], row["scene"]]
        words = (
            [noun for nouns in world.SHAPES[scene["shape"]] for noun in nouns],
            world.COLOURS[scene["colour"]],
            world.BACKGROUNDS[scene["background"]],
            world.MOTIONS[scene["motion"]],
        )
        for allowed in words:
            assert re.search(rf"\b({'|'.join(allowed)})\b", caption), (caption, scene)


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_plan_test_split_no_appearance_twice(benchmark):
    scenes = [
        (s.shape, s.colour, s.background, s.count)
        for video in plan(benchmark, params_of(benchmark), 0)
        if video.split == "test"
        for s in video.scenes
    ]
    assert len(scenes) == len(set(scenes))


# Official formats -------------------------------------------------------------------------------


def test_msrvtt_files_are_in_the_official_form(written):
    raw = written["msrvtt"] / "raw"
    data = json.loads((raw / "MSRVTT_data.json").read_text())
    keys = ["category", "url", "video_id", "start time", "end time", "split", "id"]
    assert all(list(video) == keys for video in data["videos"])
    assert all(list(row) == ["caption", "video_id", "sen_id"] for row in data["sentences"])
    assert [v["id"] for v in data["videos"]] == list(range(24))
    assert [row["sen_id"] for row in data["sentences"]] == list(range(24 * 20))
    nine = (raw / "MSRVTT_train.9k.csv").read_text().splitlines()
    seven = (raw / "MSRVTT_train.7k.csv").read_text().splitlines()
    assert nine[0] == seven[0] == "video_id"
    assert nine[1:] == sorted(nine[1:], key=lambda v: int(v.removeprefix("video")))
    assert seven[1:] == sorted(seven[1:])
    assert (len(nine) - 1, len(seven) - 1) == (18, 14)
    assert set(seven) < set(nine)
    with (raw / "MSRVTT_JSFUSION_test.csv").open(newline="") as file:
        test = list(csv.DictReader(file))
    assert list(test[0]) == ["key", "vid_key", "video_id", "sentence"]
    assert [row["key"] for row in test] == [f"ret{i}" for i in range(6)]
    assert not {row["video_id"] for row in test} & set(nine)
    captions = captions_in_file_order("msrvtt", raw)
    for row in test:
        assert row["vid_key"] == row["video_id"].replace("video", "msr")
        assert row["sentence"] == captions[row["video_id"]][0]
        official = next(v for v in data["videos"] if v["video_id"] == row["video_id"])
        assert official["split"] == "test"
    assert {path.stem for path in (raw / "videos" / "all").glob("*.mp4")} == set(captions)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real annotation files are not here")
def test_msrvtt_file_heads_equal_the_real_ones(written):
    raw, real = written["msrvtt"] / "raw", SHARED / "annotations" / "msrvtt"
    for name in ("MSRVTT_train.9k.csv", "MSRVTT_train.7k.csv", "MSRVTT_JSFUSION_test.csv"):
        assert (raw / name).read_text().split("\n")[0] == (real / name).read_text().split("\n")[0]


def test_msvd_files_are_in_the_official_form(written):
    raw = written["msvd"] / "raw"
    captions = json.loads((raw / "captions_msvd.json").read_text())
    words = pickle.loads((raw / "raw-captions.pkl").read_bytes())
    assert {key: [" ".join(tokens) for tokens in lists] for key, lists in words.items()} == captions
    lists = {s: (raw / f"{s}_list.txt").read_text().splitlines() for s in ("train", "val", "test")}
    assert {split: len(ids) for split, ids in lists.items()} == {"train": 9, "val": 3, "test": 6}
    ids = [video_id for split in lists.values() for video_id in split]
    assert sorted(ids) == list(captions)
    assert {path.name for path in (raw / "YouTubeClips").iterdir()} == {f"{i}.avi" for i in ids}
    for video_id in ids:
        source, start, end = video_id.rsplit("_", 2)
        assert len(source) == 11
        assert 1 <= int(end) - int(start) <= 2
        assert 6 <= len(captions[video_id]) <= 14
    assert any(i.startswith("-") for i in ids)
    assert any("_" in i[:11] for i in ids)
    assert all(re.fullmatch("[a-z0-9 ]+", c) for texts in captions.values() for c in texts)


def test_lsmdc_files_are_in_the_official_form(written):
    raw = written["lsmdc"] / "raw"
    names = {
        "LSMDC16_annos_training.csv": 14 + layout_of("lsmdc").repeated_ids,
        "LSMDC16_annos_val.csv": 4,
        "LSMDC16_challenge_1000_publictect.csv": 8,
    }
    rows = {name: (raw / name).read_text().splitlines() for name in names}
    assert {name: len(lines) for name, lines in rows.items()} == names
    ids, movies = {}, {}
    for name, lines in rows.items():
        for line in lines:
            clip_id, *times, sentence = line.split("\t")
            assert len(times) == 4
            assert all(re.fullmatch(r"\d\d\.\d\d\.\d\d\.\d{3}", time) for time in times)
            assert clip_id.endswith(f"_{times[2]}-{times[3]}")
            assert sentence[0].isupper()
            assert sentence.endswith(".")
            movie = clip_id.split(".")[0][:-3]  # the official rule
            assert (raw / "videos" / movie / f"{clip_id}.avi").is_file()
            ids.setdefault(name, []).append(clip_id)
            movies.setdefault(name, set()).add(movie)
    train, val, test = ids.values()
    assert len(train) - len(set(train)) == layout_of("lsmdc").repeated_ids == 2
    assert len(val) == len(set(val))
    assert len(test) == len(set(test))
    assert "1012_Unbreakable_00.05.16.065-00.05.21.941" in test
    a, b, c = movies.values()
    assert len(a | b | c) == len(a) + len(b) + len(c)
    assert len(set(raw.rglob("*.avi"))) == len({*train, *val, *test})


@pytest.mark.parametrize("n_test", [1, 2, 5])
def test_lsmdc_skipped_clip_is_always_in_the_test_split(n_test):
    videos = plan("lsmdc", params_of("lsmdc", videos={"train": 1, "val": 1, "test": n_test}), 0)
    test = [video.video_id for video in videos if video.split == "test"]
    assert len(set(test)) == n_test
    assert lsmdc.SKIPPED in test


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_videos_have_the_codec_size_and_rate_of_the_params(benchmark, written):
    import av

    for path in sorted((written[benchmark] / "raw").rglob("*.*")):
        if path.suffix not in (".mp4", ".avi"):
            continue
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert [stream.width, stream.height] in SETTINGS[benchmark]["sizes"]
            assert stream.average_rate == 8


# Params and the command -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenes": [4, 2]}, r"scenes: .*least first"),
        ({"scenes": [2, 9]}, r"16 frames, but 9 scenes need 27: raise duration_s"),
        ({"sizes": [[81, 60]]}, r"sizes.0.0: .*multiple of 2"),
        ({"sizes": []}, r"sizes: .*at least 1"),
        ({"captions": [0, 3]}, r"captions.0: "),
        ({"scene": [1, 1]}, r"generate.msrvtt.scene: unknown key"),
    ],
)
def test_params_wrong_value_is_named(changes, message):
    with pytest.raises(InputError, match=message):
        validate(SETTINGS["msrvtt"] | changes, "generate.msrvtt", GenerateParams)


def test_plan_msrvtt_with_validation_videos_stops():
    counts = {"train": 2, "val": 1, "test": 1}
    with pytest.raises(InputError, match=r"generate\.msrvtt\.videos\.val: .*expected 0, got 1"):
        plan("msrvtt", params_of("msrvtt", videos=counts), 0)


def test_plan_more_test_scenes_than_appearances_warns(caplog):
    counts = {"train": 1, "val": 0, "test": 520}
    plan("msvd", params_of("msvd", videos=counts, scenes=[2, 2], captions=[1, 1]), 0)
    assert "1040 scenes, but there are 1024 appearances" in caplog.text


def test_write_video_same_frames_same_bytes_without_the_options_that_vary(tmp_path):
    video = next(v for v in plan("msvd", params_of("msvd"), 0) if v.width == 60)
    frames = list(draw(video, 0, "msvd"))
    for name in ("a.avi", "b.avi"):
        write_video(tmp_path / name, frames, 60, 80, 8)
    written = (tmp_path / "a.avi").read_bytes()
    assert written == (tmp_path / "b.avi").read_bytes()
    # x264 notes its options in the file; mbtree=1 made one small video in twenty vary
    for option in (b" mbtree=0 ", b" threads=1 ", b" bframes=0 "):
        assert option in written


def test_main_writes_below_data_mini_and_replaces_what_was_there(tmp_path, monkeypatch):
    small = SETTINGS["msvd"] | {"videos": {"train": 2, "val": 0, "test": 1}}
    content = {"setting": "mini", "generate": {"seed": 0, "msvd": small}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    stale = tmp_path / "data" / "mini" / "raw" / "msvd" / "stale.txt"
    stale.parent.mkdir(parents=True)
    stale.touch()
    monkeypatch.chdir(tmp_path)
    generate.main("msvd")
    assert not stale.exists()
    assert len(list((tmp_path / "data" / "mini" / "raw" / "msvd").rglob("*.avi"))) == 3
    assert (tmp_path / "data" / "mini" / "truth" / "msvd" / "scenes.parquet").is_file()
