"""The official formats with their traps in small handmade files, and the real files where present.

The real files' counts are the published ones (paper.md names the sources), so they are golden; the
handmade files are checked by property.
"""

import json
import os
import pickle
import unicodedata
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from xpool.data.benchmark import SPLITS, Benchmark, Counts, load
from xpool.data.benchmarks.lsmdc import SKIPPED, LsmdcOptions
from xpool.data.benchmarks.msrvtt import MsrVttOptions
from xpool.data.benchmarks.msvd import MsvdOptions
from xpool.data.manifest import COLUMNS
from xpool.data.raw_folder import RawFolder
from xpool.project.errors import InputError

SHARED = Path(__file__).resolve().parents[3] / "shared"
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real annotation files are not beside this checkout"
)

MSVD_IDS = {
    "train": ["-4wsuPCjDBc_5_15", "zulPFoY64wE_26_33"],
    "val": ["bQJQGoJF7_k_162_169"],
    "test": ["eyhzdC936uk_15_27"],
}
A, B = "3086_UGLY_TRUTH_00.23.23.000-00.23.28.886", "3086_UGLY_TRUTH_00.24.00.000-00.24.02.000"
C, D = "1001_Flight_00.00.01.000-00.00.02.500", "1020_Crazy_00.00.05.000-00.00.09.000"


def options9k(**changes: object) -> MsrVttOptions:
    return MsrVttOptions(
        **{"allowed_missing": 0.0, "training_videos": "9k", "val_videos": 0, **changes}
    )


def lsmdc_options(test_clips: int = 1000) -> LsmdcOptions:
    return LsmdcOptions(allowed_missing=0.0, test_clips=test_clips)


MSVD_OPTIONS = MsvdOptions(allowed_missing=0.0)


def write_msrvtt(raw: Path, *, prefix: str = "") -> Path:
    """Six training videos with three captions each in a shuffled order, and two test videos."""
    folder = raw / prefix
    folder.mkdir(parents=True, exist_ok=True)
    sentences = [
        {"caption": f"caption {k} of {v}", "video_id": f"video{v}", "sen_id": 10 * v + k}
        for k in range(3)
        for v in (3, 1, 0, 2, 5, 4, 9, 8)
    ]
    (folder / "MSRVTT_data.json").write_text(json.dumps({"videos": [], "sentences": sentences}))
    nine = "\n".join(["video_id", *(f"video{v}" for v in (0, 1, 2, 3, 4, 5))])
    seven = "\n".join(["video_id", *(f"video{v}" for v in (0, 2, 1))])
    (folder / "MSRVTT_train.9k.csv").write_text(nine + "\n")
    (folder / "MSRVTT_train.7k.csv").write_text(seven + "\n")
    (folder / "MSRVTT_JSFUSION_test.csv").write_text(
        "key,vid_key,video_id,sentence\n"
        'ret0,msr9,video9,"a man, tall, runs"\n'
        "ret1,msr8,video8,a dog sits\n"
    )
    return raw


def write_msvd(raw: Path, captions: dict[str, list[str]] | None = None) -> Path:
    raw.mkdir(parents=True, exist_ok=True)
    for split, ids in MSVD_IDS.items():
        (raw / f"{split}_list.txt").write_text("\n".join(ids))  # no newline at the end, as in CE's
    captions = captions or {
        name: [f"a cat {k} of {name[:3]}" for k in range(2)]
        for ids in MSVD_IDS.values()
        for name in ids
    }
    (raw / "captions_msvd.json").write_text(json.dumps(captions))
    return raw


def write_lsmdc(raw: Path) -> Path:
    raw.mkdir(parents=True, exist_ok=True)

    def lines(*pairs: tuple[str, str]) -> str:
        return "".join(f"{clip}\t00.0\t00.1\t00.0\t00.1\t{text}\n" for clip, text in pairs)

    (raw / "LSMDC16_annos_training.csv").write_text(
        lines((A, "SOMEONE stands."), (B, 'He says "stop.'), (A, "She turns."))
    )
    (raw / "LSMDC16_annos_val.csv").write_text(lines((C, "A plane lands.")))
    (raw / "LSMDC16_challenge_1000_publictect.csv").write_text(
        lines((D, "He runs."), (SKIPPED, "A train goes by."))
    )
    return raw


def read(name: str, raw: Path, options: object) -> pd.DataFrame:
    return load(name).read(raw, options)


CASES = {
    "msrvtt": (write_msrvtt, options9k(val_videos=2)),
    "msvd": (write_msvd, MSVD_OPTIONS),
    "lsmdc": (write_lsmdc, lsmdc_options()),
}


@pytest.mark.parametrize("name", CASES)
def test_read_any_benchmark_gives_the_common_schema(name: str, tmp_path: Path) -> None:
    write, options = CASES[name]
    rows = read(name, write(tmp_path), options)
    assert tuple(rows.columns) == COLUMNS
    assert rows["split"].drop_duplicates().tolist() == list(SPLITS)
    assert rows["caption_id"].is_unique
    assert rows.groupby("video_id")["path"].nunique().eq(1).all()
    assert not rows.isna().any().any()
    benchmark = load(name)
    assert isinstance(benchmark, Benchmark)
    assert benchmark.name == name
    assert set(benchmark.published_counts(options)) <= set(SPLITS)


@pytest.mark.parametrize("name", CASES)
def test_read_windows_line_ends_and_byte_order_mark_change_nothing(
    name: str, tmp_path: Path
) -> None:
    write, options = CASES[name]
    plain = read(name, write(tmp_path / "plain"), options)
    for path in write(tmp_path / "windows").iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    pd.testing.assert_frame_equal(read(name, tmp_path / "windows", options), plain)


@pytest.mark.parametrize("name", CASES)
def test_read_missing_file_names_it_and_the_guide(name: str, tmp_path: Path) -> None:
    write, options = CASES[name]
    files = sorted(path.name for path in write(tmp_path / "whole").iterdir())
    for file in files:
        if file == "MSRVTT_train.7k.csv":  # not read by the 9k protocol
            continue
        raw = write(tmp_path / file)
        (raw / file).unlink()
        with pytest.raises(InputError, match=file) as caught:
            read(name, raw, options)
        assert "docs/data/real_data.md" in str(caught.value)


def test_read_missing_folder_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such folder"):
        read("msvd", tmp_path / "nowhere", MSVD_OPTIONS)


def test_load_unknown_benchmark_lists_the_known() -> None:
    with pytest.raises(InputError, match="there are: activitynet, didemo, lsmdc, msrvtt, msvd"):
        load("tgif")


def test_read_file_in_a_subfolder_is_found_and_a_second_copy_refused(tmp_path: Path) -> None:
    rows = read("msrvtt", write_msrvtt(tmp_path, prefix="msrvtt_data"), options9k())
    assert len(rows) == 6 * 3 + 2
    write_msrvtt(tmp_path, prefix="copy")
    with pytest.raises(InputError, match=r"copy/MSRVTT_data.json, msrvtt_data/MSRVTT_data.json"):
        read("msrvtt", tmp_path, options9k())


def test_read_zipped_captions_says_how_to_unpack(tmp_path: Path) -> None:
    raw = write_msrvtt(tmp_path)
    (raw / "MSRVTT_data.json").rename(raw / "MSRVTT_data.json.zip")
    with pytest.raises(
        InputError, match=r"unpack MSRVTT_data.json.zip with `xpool get msrvtt --from .*`"
    ):
        read("msrvtt", raw, options9k())


def test_msrvtt_follows_list_order_and_counts_captions_in_file_order(tmp_path: Path) -> None:
    rows = read("msrvtt", write_msrvtt(tmp_path), options9k(training_videos="7k"))
    train = rows[rows["split"] == "train"]
    assert train["video_id"].drop_duplicates().tolist() == ["video0", "video2", "video1"]
    assert train["caption_id"].tolist()[:3] == ["video0#0", "video0#1", "video0#2"]
    assert train["caption"].tolist()[:3] == [f"caption {k} of 0" for k in range(3)]
    test = rows[rows["split"] == "test"]
    assert test["caption_id"].tolist() == ["ret0", "ret1"]
    assert test["caption"].tolist() == ["a man, tall, runs", "a dog sits"]
    assert test["path"].tolist() == ["videos/all/video9.mp4", "videos/all/video8.mp4"]


@pytest.mark.parametrize("first", ["annotations", "both"])
def test_msrvtt_frozens_file_gives_the_same_rows(first: str, tmp_path: Path) -> None:
    raw = write_msrvtt(tmp_path)
    expected = read("msrvtt", raw, options9k())
    content = json.loads((raw / "MSRVTT_data.json").read_text())
    entries = [{"image_id": s["video_id"], "caption": s["caption"]} for s in content["sentences"]]
    frozen = {"info": {}, "annotations": entries}
    if first == "annotations":
        (raw / "MSRVTT_data.json").unlink()
    else:  # CLIP4Clip's file wins where both are there
        frozen = {"annotations": []}
    (raw / "annotation").mkdir()
    (raw / "annotation" / "MSR_VTT.json").write_text(json.dumps(frozen))
    pd.testing.assert_frame_equal(read("msrvtt", raw, options9k()), expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": []}', "expected 'sentences'.*found images"),
        ("[1]", "found no mapping"),
        ('{"sentences": [{"text": 1}]}', r"sentences\[0\]: expected the keys 'video_id'"),
        ('{"sentences": [{"video_id": 7, "caption": "x"}]}', r"sentences\[0\]: expected strings"),
        ('{"sentences": [', "not valid JSON"),
        ('{"sentences": []}', "no caption of video0, which MSRVTT_train.9k.csv lists"),
    ],
)
def test_msrvtt_malformed_captions_are_refused_by_name(
    content: str, message: str, tmp_path: Path
) -> None:
    raw = write_msrvtt(tmp_path)
    (raw / "MSRVTT_data.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read("msrvtt", raw, options9k())


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("MSRVTT_JSFUSION_test.csv", "key,video_id\nret0,video9\n", "column 'sentence' is missing"),
        ("MSRVTT_JSFUSION_test.csv", "key,video_id,sentence\nret0,video9\n", "line 2: fewer"),
        ("MSRVTT_train.9k.csv", "video0\nvideo1\n", "column 'video_id' is missing"),
        ("MSRVTT_train.9k.csv", "video_id\nvideo0\nvideo0\n", "video0 occurs twice"),
        ("MSRVTT_train.9k.csv", "video_id\n", "empty; expected one video_id"),
    ],
)
def test_msrvtt_malformed_list_is_refused_by_name(
    file: str, content: str, message: str, tmp_path: Path
) -> None:
    raw = write_msrvtt(tmp_path)
    (raw / file).write_text(content)
    with pytest.raises(InputError, match=f"{file}.*{message}"):
        read("msrvtt", raw, options9k())


def test_msrvtt_validation_is_carved_from_training_whatever_the_order(tmp_path: Path) -> None:
    raw = write_msrvtt(tmp_path)
    rows = read("msrvtt", raw, options9k(val_videos=2))
    val, train = rows[rows["split"] == "val"], rows[rows["split"] == "train"]
    assert len(val) == val["video_id"].nunique() == 2
    assert val["caption_id"].str.endswith("#0").all()
    assert set(val["video_id"]) | set(train["video_id"]) == {f"video{v}" for v in range(6)}
    assert not set(val["video_id"]) & set(train["video_id"])
    csv = raw / "MSRVTT_train.9k.csv"
    csv.write_text("\n".join(["video_id", *(f"video{v}" for v in (5, 3, 1, 4, 2, 0))]))
    again = read("msrvtt", raw, options9k(val_videos=2))
    assert set(again.loc[again["split"] == "val", "video_id"]) == set(val["video_id"])
    more = read("msrvtt", raw, options9k(val_videos=3))
    assert set(val["video_id"]) < set(more.loc[more["split"] == "val", "video_id"])
    with pytest.raises(InputError, match="manifest.msrvtt.val_videos: 6 leaves none"):
        read("msrvtt", raw, options9k(val_videos=6))


def test_msrvtt_validation_passes_over_an_empty_first_caption(tmp_path: Path) -> None:
    raw = write_msrvtt(tmp_path)
    path = raw / "MSRVTT_data.json"
    content = json.loads(path.read_text())
    for sentence in content["sentences"][:8]:  # the first of each of the eight videos
        sentence["caption"] = " "
    path.write_text(json.dumps(content))
    rows = read("msrvtt", raw, options9k(val_videos=2))
    assert rows.loc[rows["split"] == "val", "caption_id"].str.endswith("#1").all()


@pytest.mark.parametrize(
    "path", ["videos/all/video9.mp4", "videos/video9.mp4", "TestVideo/video9.MP4", "video9.webm"]
)
def test_msrvtt_video_is_found_in_each_distributed_layout(path: str, tmp_path: Path) -> None:
    raw = write_msrvtt(tmp_path)
    (raw / path).parent.mkdir(parents=True, exist_ok=True)
    (raw / path).write_bytes(b"")
    (raw / "._video9.mp4").write_bytes(b"")  # what macOS adds to archives
    rows = read("msrvtt", raw, options9k())
    assert rows.loc[rows["caption_id"] == "ret0", "path"].item() == path


def test_video_in_two_copies_is_refused_naming_both(tmp_path: Path) -> None:
    raw = write_msrvtt(tmp_path)
    for path in ("videos/video9.mp4", "compressed/video9.mp4"):
        (raw / path).parent.mkdir()
        (raw / path).write_bytes(b"")
    with pytest.raises(InputError, match=r"compressed/video9.mp4 and videos/video9.mp4"):
        read("msrvtt", raw, options9k())


def test_scan_follows_links_to_folders_once_and_passes_over_dead_links(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "video9.mp4").write_bytes(b"")
    raw = write_msrvtt(tmp_path / "raw")
    (raw / "videos").symlink_to(disk)
    (disk / "loop").symlink_to(raw)
    (raw / "video8.mp4").symlink_to(tmp_path / "gone.mp4")
    folder = RawFolder.scan(raw, "msrvtt")
    assert dict(folder.videos) == {"video9": ("videos/video9.mp4",)}


def test_msvd_pickle_of_tokens_gives_the_same_rows_as_json(tmp_path: Path) -> None:
    raw = write_msvd(tmp_path)
    expected = read("msvd", raw, MSVD_OPTIONS)
    captions = json.loads((raw / "captions_msvd.json").read_text())
    tokens = {name: [text.split() for text in texts] for name, texts in captions.items()}
    (raw / "raw-captions.pkl").write_bytes(pickle.dumps(tokens))
    pd.testing.assert_frame_equal(read("msvd", raw, MSVD_OPTIONS), expected)  # both agree
    (raw / "captions_msvd.json").unlink()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (raw / "raw-captions.pkl").write_bytes(pickle.dumps(tokens, protocol))
        pd.testing.assert_frame_equal(read("msvd", raw, MSVD_OPTIONS), expected)


def test_msvd_caption_files_that_disagree_are_refused(tmp_path: Path) -> None:
    raw = write_msvd(tmp_path)
    tokens = {name: [["one"]] for ids in MSVD_IDS.values() for name in ids}
    (raw / "raw-captions.pkl").write_bytes(pickle.dumps(tokens))
    with pytest.raises(InputError, match=r"has 2 captions of -4wsuPCjDBc_5_15, .* has 1"):
        read("msvd", raw, MSVD_OPTIONS)


class Attack:
    """Makes a file when it is unpickled by a plain pickle.load."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.target,)


def test_msvd_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    raw = write_msvd(tmp_path / "raw")
    (raw / "captions_msvd.json").unlink()
    target = tmp_path / "pwned"
    attack = pickle.dumps({"-4wsuPCjDBc_5_15": Attack(target)})
    pickle.loads(attack)
    assert target.exists()  # the attack is real
    target.unlink()
    (raw / "raw-captions.pkl").write_bytes(attack)
    with pytest.raises(InputError, match=r"raw-captions.pkl: refused: it names .*pathlib"):
        read("msvd", raw, MSVD_OPTIONS)
    assert not target.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"not a pickle", pickle.dumps([1]), pickle.dumps({"a": ["x"]}), pickle.dumps({1: []})],
)
def test_msvd_broken_pickle_is_refused(content: bytes, tmp_path: Path) -> None:
    raw = write_msvd(tmp_path)
    (raw / "captions_msvd.json").unlink()
    (raw / "raw-captions.pkl").write_bytes(content)
    with pytest.raises(InputError, match="raw-captions.pkl"):
        read("msvd", raw, MSVD_OPTIONS)


def test_msvd_malformed_json_and_unlisted_captions_are_refused(tmp_path: Path) -> None:
    raw = write_msvd(tmp_path, {"-4wsuPCjDBc_5_15": ["x"]})
    with pytest.raises(InputError, match="no caption of zulPFoY64wE_26_33, which train_list.txt"):
        read("msvd", raw, MSVD_OPTIONS)
    (raw / "captions_msvd.json").write_text('{"-4wsuPCjDBc_5_15": [["x"]]}')
    with pytest.raises(InputError, match="expected a mapping of video ids to lists of captions"):
        read("msvd", raw, MSVD_OPTIONS)


@pytest.mark.parametrize("where", ["list", "videos"])
def test_msvd_captioning_copy_is_refused_naming_the_mapping(where: str, tmp_path: Path) -> None:
    raw = write_msvd(tmp_path)
    if where == "list":
        (raw / "train_list.txt").write_text("vid1\nvid2\n")
    else:
        (raw / "YouTubeClips").mkdir()
        (raw / "YouTubeClips" / "vid1.avi").write_bytes(b"")
    with pytest.raises(InputError, match=r"vid1 .*youtube_mapping.txt"):
        read("msvd", raw, MSVD_OPTIONS)


def test_lsmdc_repeated_ids_keep_all_captions_in_file_order(tmp_path: Path) -> None:
    rows = read("lsmdc", write_lsmdc(tmp_path), lsmdc_options())
    train = rows[rows["split"] == "train"]
    assert train["caption_id"].tolist() == [f"{A}#0", f"{B}#0", f"{A}#1"]
    assert train["caption"].tolist() == ["SOMEONE stands.", 'He says "stop.', "She turns."]
    assert train["path"].tolist()[0] == f"videos/3086_UGLY_TRUTH/{A}.avi"


def test_lsmdc_stray_quote_before_an_id_is_removed(tmp_path: Path) -> None:
    raw = write_lsmdc(tmp_path)
    path = raw / "LSMDC16_annos_val.csv"
    path.write_text(f'"{path.read_text()}')
    rows = read("lsmdc", raw, lsmdc_options())
    assert rows.loc[rows["split"] == "val", "video_id"].tolist() == [C]


def test_lsmdc_999_leaves_out_the_official_codes_clip_by_name(tmp_path: Path) -> None:
    raw = write_lsmdc(tmp_path)
    lsmdc = load("lsmdc")
    assert SKIPPED in set(lsmdc.read(raw, lsmdc_options(1000))["video_id"])
    assert SKIPPED not in set(lsmdc.read(raw, lsmdc_options(999))["video_id"])
    assert lsmdc.skipped(lsmdc_options(999)) == (SKIPPED,)
    assert lsmdc.skipped(lsmdc_options(1000)) == ()
    assert lsmdc.published_counts(lsmdc_options(999))["test"] == (999, 999)


@pytest.mark.parametrize("path", [f"videos/1020_Crazy/{D}.avi", f"small/{D}.mp4"])
def test_lsmdc_video_is_found_nested_and_flattened(path: str, tmp_path: Path) -> None:
    raw = write_lsmdc(tmp_path)
    (raw / path).parent.mkdir(parents=True)
    (raw / path).write_bytes(b"")
    rows = read("lsmdc", raw, lsmdc_options())
    assert rows.loc[rows["video_id"] == D, "path"].item() == path


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{C},00.0,00.1,00.0,00.1,A plane lands.", "line 2: expected 6 columns"),
        ("CLIP_ID\tSTART\tEND\tSTART\tEND\tSENTENCE", "line 2: 'CLIP_ID' is not a clip id"),
    ],
)
def test_lsmdc_malformed_line_is_refused_by_number(line: str, message: str, tmp_path: Path) -> None:
    raw = write_lsmdc(tmp_path)
    path = raw / "LSMDC16_annos_val.csv"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(InputError, match=message):
        read("lsmdc", raw, lsmdc_options())


def test_lsmdc_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    raw = write_lsmdc(tmp_path)
    (raw / "LSMDC16_annos_val.csv").write_bytes(f"{C}\t0\t0\t0\t0\tcaf\xe9".encode("latin-1"))
    with pytest.raises(InputError, match="LSMDC16_annos_val.csv line 1: not UTF-8"):
        read("lsmdc", raw, lsmdc_options())


LFS = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 1\n".encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", ": empty; fetch it again"),
        (b" \r\n\t", ": empty; fetch it again"),
        (LFS, ": a Git LFS pointer in place of the file; run `git lfs pull`"),
        ("é".encode("utf-16"), ": UTF-16 text; expected UTF-8: iconv -f UTF-16 -t UTF-8"),
        (b"\xfe\xff\x00a", ": UTF-16 text"),
        ("a".encode("utf-32"), ": UTF-32 text"),
        ("a\nb".encode("utf-16-le"), " line 1: a NUL character"),
        ("first\nIt’s".encode("cp1252"), " line 2: not UTF-8 text (byte 0x92 near 'first\\nIt’s')"),
        ("é".encode("latin-1"), " line 1: not UTF-8 text (byte 0xe9"),
        ("\r\ncafé".encode("mac-roman"), " line 2: not UTF-8 text"),
    ],
)
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("msrvtt", "MSRVTT_data.json"),
        ("msrvtt", "MSRVTT_train.9k.csv"),
        ("msrvtt", "MSRVTT_JSFUSION_test.csv"),
        ("msvd", "captions_msvd.json"),
        ("msvd", "val_list.txt"),
        ("lsmdc", "LSMDC16_annos_training.csv"),
    ],
)
def test_a_file_that_is_not_utf8_text_is_named_with_its_line(
    name: str, file: str, content: bytes, said: str, tmp_path: Path
) -> None:
    write, options = CASES[name]
    (write(tmp_path) / file).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(name, tmp_path, options)
    assert f"{tmp_path / file}{said}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mark", ["\ufeff", "\ufeff\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", CASES)
def test_line_ends_and_byte_order_marks_change_nothing(
    name: str, end: str, mark: str, tmp_path: Path
) -> None:
    write, options = CASES[name]
    expected = read(name, write(tmp_path / "plain"), options)
    for path in write(tmp_path / "other").iterdir():
        path.write_bytes((mark + path.read_text().replace("\n", end)).encode())
    pd.testing.assert_frame_equal(read(name, tmp_path / "other", options), expected)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"sentences": null}', "sentences: expected a list of .*, found None"),
        ('{"sentences": {"0": {"video_id": "video0", "caption": "a"}}}', "sentences: expected a l"),
        ('{"sentences": "text"}', "sentences: expected a list"),
        ('{"sentences": [null]}', r"sentences\[0\]: expected the keys"),
        ('{"sentences": [{"video_id": "video0", "caption": NaN}]}', r"sentences\[0\]: expected st"),
        ('{"sentences": [{"video_id": "video0", "caption": ["a"]}]}', r"\[0\]: expected strings"),
        ("[" * 100_000 + "]" * 100_000, r"not valid JSON \(nested too deeply\)"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, r"not valid JSON \(nested too deeply\)"),
        ("1" * 5000, "not valid JSON .*digits"),
        ('{"sentences": []}\n{"sentences": []}', "not valid JSON .*line 2"),
        (
            '{"sentences": [\n{"video_id": "video0", "caption": "half \\ud83d here"}]}',
            r"sentences\[0\].caption: 'half \\ud83d here' holds half of a surrogate pair",
        ),
        ('{"sentences": [{"video_id": "\\udc00", "caption": ""}]}', r"sentences\[0\].video_id: "),
        ('{"\\udFFF": 1, "sentences": []}', "a key: .* holds half of a surrogate pair"),
        (
            '{"sentences": [\n{"caption": "}"},\n{"caption": "a",\n"caption": "b"}]}',
            "line 4: the key 'caption' is given twice",
        ),
        ('{"sentences": [],\n\n"sentences": []}', "line 3: the key 'sentences' is given twice"),
    ],
)
def test_json_that_is_not_what_it_seems_is_refused_by_its_keys(
    content: str, said: str, tmp_path: Path
) -> None:
    raw = write_msrvtt(tmp_path)
    (raw / "MSRVTT_data.json").write_text(content)
    with pytest.raises(InputError, match=f"MSRVTT_data.json.*{said}") as caught:
        read("msrvtt", raw, options9k())
    assert "\n" not in str(caught.value)


def test_json_with_whole_surrogate_pairs_is_text(tmp_path: Path) -> None:
    raw = write_msvd(tmp_path, {name: ["a 🐕 runs"] for ids in MSVD_IDS.values() for name in ids})
    assert "\\ud83d\\udc15" in (raw / "captions_msvd.json").read_text()
    assert set(read("msvd", raw, MSVD_OPTIONS)["caption"]) == {"a 🐕 runs"}


def test_msvd_duplicate_key_and_half_pairs_are_refused(tmp_path: Path) -> None:
    raw = write_msvd(tmp_path)
    (raw / "captions_msvd.json").write_text('{"a": ["first"],\n"b": ["x"],\n"a": ["second"]}')
    with pytest.raises(InputError, match="captions_msvd.json line 3: the key 'a' is given twice"):
        read("msvd", raw, MSVD_OPTIONS)
    (raw / "captions_msvd.json").unlink()
    (raw / "raw-captions.pkl").write_bytes(pickle.dumps({"a": [["half", "\ud83d"]]}))
    with pytest.raises(InputError, match=r"raw-captions.pkl: a\[0\]\[1\]: .*half of a surrogate"):
        read("msvd", raw, MSVD_OPTIONS)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("ret0,msr9,video9,a person cooks, then eats\n", r"line 2: more values \(5\) than"),
        ('ret0,msr9,video9,"a person cooks\nret1,msr8,video8,a boy swims\n', "line 2: not comma"),
        (
            'ret0,msr9,video9,"a person\nret1,msr8,video8,"a boy swims\n',
            "line 2: not comma-separated values",
        ),
        (
            'ret0,msr9,video9,"a person\nret1,msr8,video8,a boy swims"\n',
            "line 2: a value in quote marks runs over several lines",
        ),
        ('ret0,msr9,video9,"Exit" reads a sign\n', "line 2: not comma-separated values"),
        ('ret0,msr9,video9,a cat\n"ret1",msr8,video8,"a ""b""",\n', r"line 3: more values \(5\)"),
        ("ret0,msr9,video9\n", r"line 2: fewer values \(3\)"),
    ],
)
def test_csv_rows_that_lose_or_join_captions_are_refused_by_line(
    rows: str, said: str, tmp_path: Path
) -> None:
    raw = write_msrvtt(tmp_path)
    (raw / "MSRVTT_JSFUSION_test.csv").write_text(f"key,vid_key,video_id,sentence\n{rows}")
    with pytest.raises(InputError, match=f"MSRVTT_JSFUSION_test.csv {said}") as caught:
        read("msrvtt", raw, options9k())
    assert "\n" not in str(caught.value)


def test_csv_quotes_in_pairs_are_read_as_csv(tmp_path: Path) -> None:
    raw = write_msrvtt(tmp_path)
    path = raw / "MSRVTT_JSFUSION_test.csv"
    path.write_text(
        ',key,vid_key,video_id,sentence\n0,ret0,m,video9,"a sign: ""Exit"", red"\n\n'
        '1,ret1,m,video8,a "red" car\n'
    )
    rows = read("msrvtt", raw, options9k())
    test = rows[rows["split"] == "test"]["caption"].tolist()
    assert test == ['a sign: "Exit", red', 'a "red" car']
    path.write_text("key,sentence,video_id,sentence\nret0,a,video9,b\n")
    with pytest.raises(InputError, match="column 'sentence' is there 2 times"):
        read("msrvtt", raw, options9k())


def lsmdc_line(clip: str, sentence: str) -> str:
    return "\t".join([clip, "0", "1", "0", "1", sentence])


def quoted(line: str) -> str:
    return "\t".join(f'"{field}"' for field in line.split("\t"))


@pytest.mark.parametrize(
    ("line", "caption"),
    [
        ('"' + lsmdc_line(A, 'She reads ""Exit"" aloud.') + '"', 'She reads "Exit" aloud.'),
        ('"' + lsmdc_line(A, "She waves.") + '"', "She waves."),
        ('"' + quoted(lsmdc_line(A, "She waves.")).replace('"', '""') + '"', "She waves."),
        (quoted(lsmdc_line(A, "She waves.")), "She waves."),
        (quoted(lsmdc_line(A, 'Reads ""Exit"".')), 'Reads "Exit".'),
        (quoted(lsmdc_line(A, '""Exit""')), '"Exit"'),
        (quoted(lsmdc_line(A, "")), ""),
        (lsmdc_line(A, '"Reads ""Exit""."'), 'Reads "Exit".'),
        (lsmdc_line(A, 'A sign: "No".'), 'A sign: "No".'),
        (lsmdc_line(A, '"Stop."'), '"Stop."'),
        (lsmdc_line(A, '"Stop," he says. "Now."'), '"Stop," he says. "Now."'),
        (lsmdc_line(A, 'He says "stop.'), 'He says "stop.'),
        ('"' + lsmdc_line(A, 'He says "stop."'), 'He says "stop."'),
        (lsmdc_line(A, "She runs\rand falls."), "She runs\rand falls."),
        (lsmdc_line(A, "She \u2028 runs\x85."), "She \u2028 runs\x85."),
    ],
)
def test_lsmdc_quote_marks_that_a_program_added_are_removed_and_no_others(
    line: str, caption: str, tmp_path: Path
) -> None:
    raw = write_lsmdc(tmp_path)
    (raw / "LSMDC16_annos_training.csv").write_bytes(
        f"{line}\n{lsmdc_line(B, 'He nods.')}\n".encode()
    )
    rows = read("lsmdc", raw, lsmdc_options())
    train = rows[rows["split"] == "train"]
    assert train["video_id"].tolist() == [A, B]
    assert train["caption"].tolist() == [caption, "He nods."]


def test_lsmdc_sentences_that_are_all_in_quotes_lose_them(tmp_path: Path) -> None:
    raw = write_lsmdc(tmp_path)
    lines = [lsmdc_line(A, '"She waves."'), lsmdc_line(B, '"He ""nods""."')]
    (raw / "LSMDC16_annos_training.csv").write_text("\n".join(lines))
    rows = read("lsmdc", raw, lsmdc_options())
    assert rows["caption"].tolist()[:2] == ["She waves.", 'He "nods".']


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (lsmdc_line(A, "She\twaves."), "line 1: expected 6 columns separated by tabs, found 7"),
        (quoted(lsmdc_line(A, 'He says "stop."')), "line 1: quote marks that do not pair"),
        (f'{lsmdc_line(A, "x")[:40]}"\t0\t1\t0\t1\tShe waves.', "line 1: .* is not a clip id"),
    ],
)
def test_lsmdc_line_that_can_be_read_two_ways_is_refused(
    line: str, said: str, tmp_path: Path
) -> None:
    raw = write_lsmdc(tmp_path)
    (raw / "LSMDC16_annos_training.csv").write_text(line)
    with pytest.raises(InputError, match=f"LSMDC16_annos_training.csv {said}"):
        read("lsmdc", raw, lsmdc_options())


@pytest.mark.parametrize("suffix", ["wmv", "WMV", "mts", "ts", "vob", "asf", "mpeg", "rmvb", "ogv"])
def test_videos_of_any_usual_suffix_are_found(suffix: str, tmp_path: Path) -> None:
    raw = write_msvd(tmp_path)
    (raw / f"eyhzdC936uk_15_27.{suffix}").write_bytes(b"")
    rows = read("msvd", raw, MSVD_OPTIONS)
    assert rows["path"].iloc[-1] == f"eyhzdC936uk_15_27.{suffix}"


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_links_to_one_file_are_no_duplicates(link: object, tmp_path: Path) -> None:
    raw = write_msvd(tmp_path)
    (raw / "eyhzdC936uk_15_27.avi").write_bytes(b"")
    (raw / "test").mkdir()
    link(raw / "test" / "eyhzdC936uk_15_27.avi", raw / "eyhzdC936uk_15_27.avi")
    link(raw / "test" / "captions_msvd.json", raw / "captions_msvd.json")
    rows = read("msvd", raw, MSVD_OPTIONS)
    assert rows["path"].iloc[-1] == "eyhzdC936uk_15_27.avi"


def test_a_link_to_itself_and_a_pipe_are_passed_over(tmp_path: Path) -> None:
    raw = write_msvd(tmp_path)
    (raw / "loop").symlink_to(raw / "loop")
    os.mkfifo(raw / "eyhzdC936uk_15_27.avi")
    rows = read("msvd", raw, MSVD_OPTIONS)
    assert rows["path"].iloc[-1] == "YouTubeClips/eyhzdC936uk_15_27.avi"


def test_a_name_that_macos_decomposed_is_found(tmp_path: Path) -> None:
    """A disk written by macOS holds é as e and an accent."""
    name = "Café_1_2"
    raw = write_msvd(tmp_path)
    (raw / "train_list.txt").write_text(name)
    captions = json.loads((raw / "captions_msvd.json").read_text()) | {name: ["a cat"]}
    (raw / "captions_msvd.json").write_text(json.dumps(captions))
    file = f"{unicodedata.normalize('NFD', name)}.avi"
    assert file != f"{name}.avi"
    (raw / file).write_bytes(b"")
    rows = read("msvd", raw, MSVD_OPTIONS)
    assert rows.iloc[0].tolist() == ["train", name, f"{name}#0", "a cat", file]


def test_all_missing_annotation_files_are_named_at_once(tmp_path: Path) -> None:
    for name, (write, options) in CASES.items():
        raw = write(tmp_path / name)
        files = load(name).annotation_files(RawFolder.scan(raw, name), options)
        assert len(files) >= 3
        for path in files[1:]:
            path.unlink()
        with pytest.raises(InputError) as caught:
            read(name, raw, options)
        assert all(path.name in str(caught.value) for path in files[1:])
        assert files[0].name not in str(caught.value).partition("(instead there is")[0]


@pytest.mark.parametrize(
    ("name", "there", "files"),
    [
        ("msrvtt", "MSRVTT_data.json", ["videodatainfo_2017.json", "videodatainfo_2017_ustc.json"]),
        ("msvd", "captions_msvd.json", ["AllVideoDescriptions.txt"]),
        ("lsmdc", "LSMDC16_annos_val.csv", ["LSMDC16_annos_val_ids.csv"]),
    ],
)
def test_a_missing_file_names_the_similar_one_that_is_there(
    name: str, there: str, files: list[str], tmp_path: Path
) -> None:
    write, options = CASES[name]
    raw = write(tmp_path)
    (raw / there).unlink()
    for file in files:
        (raw / file).write_text("x")
    with pytest.raises(InputError, match=f"not found: {there}.*instead there is: ") as caught:
        read(name, raw, options)
    assert all(file in str(caught.value) for file in files)
    for file in files:
        (raw / file).unlink()
    (raw / there).mkdir()
    with pytest.raises(InputError, match=f"not found: {there}.*; {there} is a folder there"):
        read(name, raw, options)


def sizes(rows: pd.DataFrame) -> dict[str, Counts]:
    return {
        str(split): Counts(group["video_id"].nunique(), len(group))
        for split, group in rows.groupby("split")
    }


@needs_shared
def test_real_msvd_has_the_published_counts() -> None:
    msvd = load("msvd")
    rows = msvd.read(SHARED / "annotations" / "msvd", MSVD_OPTIONS)
    assert sizes(rows) == msvd.published_counts(MSVD_OPTIONS)
    assert sizes(rows) == {"train": (1200, 48774), "val": (100, 4290), "test": (670, 27763)}


@needs_shared
def test_real_msrvtt_has_the_published_counts(tmp_path: Path) -> None:
    source = SHARED / "annotations" / "msrvtt"
    for name in ("MSRVTT_train.7k.csv", "MSRVTT_train.9k.csv", "MSRVTT_JSFUSION_test.csv"):
        (tmp_path / name).symlink_to(source / name)
    with zipfile.ZipFile(source / "MSRVTT_data.json.zip") as archive:
        archive.extract("MSRVTT_data.json", tmp_path)
    msrvtt = load("msrvtt")
    for options, train in (
        (options9k(), (9000, 180000)),
        (options9k(training_videos="7k"), (7010, 140200)),
        (options9k(val_videos=500), (8500, 170000)),
    ):
        rows = msrvtt.read(tmp_path, options)
        assert sizes(rows)["train"] == train
        assert sizes(rows) == msrvtt.published_counts(options)
    test = rows[rows["split"] == "test"]
    assert test["caption"].nunique() == 995
    assert test["caption"].iloc[0] == "a person is connecting something to system"
