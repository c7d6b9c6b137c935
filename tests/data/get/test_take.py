"""What lies on a disk: unpacked folders are linked and never copied, archives are unpacked."""

import zipfile
from pathlib import Path

import pytest
from get_inputs import SHARED, laid, msvd_annotations, msvd_videos, zipped

from xpool.data.benchmark import load
from xpool.data.get.fetch import get
from xpool.data.get.target import find
from xpool.data.raw_folder import RawFolder
from xpool.project.errors import InputError
from xpool.project.params import read

RAW = Path("data/paper/raw/msvd")
pytestmark = pytest.mark.usefixtures("project")


def state(folder):
    """Every file and link below a folder, with its bytes and time of change."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.lstat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def readable(name="msvd"):
    """The videos that the benchmark's reader finds, by its own paths."""
    benchmark, raw = load(name), Path("data/paper/raw") / name
    rows = benchmark.read(raw, read(f"manifest.{name}", benchmark.Options))
    videos = rows.drop_duplicates("video_id")
    paths = zip(videos["video_id"], videos["path"], strict=True)
    return {video: (raw / path).read_bytes() for video, path in paths}


def expected():
    return {Path(name).stem: content for name, content in msvd_videos().items()}


def test_an_unpacked_folder_is_linked_and_nothing_in_it_changes(tmp_path):
    disk = laid(tmp_path / "disk" / "MSVD", msvd_annotations() | msvd_videos())
    before = state(disk)
    assert not get(find("msvd", "paper"), str(disk))
    assert (RAW / "MSVD").is_symlink()
    assert (RAW / "MSVD").readlink() == disk.resolve()
    assert readable() == expected()
    assert state(disk) == before


def test_archives_are_unpacked_and_stay_as_they_are(tmp_path):
    disk = tmp_path / "disk"
    zipped(disk / "msvd_data.zip", {f"msvd_data/{n}": c for n, c in msvd_annotations().items()})
    zipped(disk / "deep" / "YouTubeClips.zip", msvd_videos())
    zipped(disk / "thesis.zip", {"thesis.mp4": b"mine"})
    before = state(disk)
    assert not get(find("msvd", "paper"), str(disk))
    assert readable() == expected()
    assert {path.name for path in RAW.iterdir()} == {"msvd_data", "YouTubeClips"}
    assert state(disk) == before


def test_unpacked_annotations_and_packed_videos(tmp_path):
    disk = laid(tmp_path / "disk", msvd_annotations())
    zipped(disk / "YouTubeClips.zip", msvd_videos())
    assert not get(find("msvd", "paper"), str(disk))
    assert readable() == expected()
    assert (RAW / "disk").is_symlink()


def test_archives_in_the_raw_folder_itself_are_unpacked_there():
    zipped(RAW / "msvd_data.zip", msvd_annotations())
    zipped(RAW / "YouTubeClips.zip", msvd_videos())
    assert not get(find("msvd", "paper"), str(RAW))
    assert readable() == expected()
    assert not [path for path in RAW.iterdir() if path.is_symlink()]


def test_of_an_archive_only_what_is_missing_is_unpacked(tmp_path):
    """Else two files could be one video."""
    one, *others = msvd_videos().items()
    laid(RAW, msvd_annotations() | {f"mine/{Path(one[0]).name}": one[1]})
    zipped(tmp_path / "disk" / "clips.zip", dict([one, *others]))
    assert not get(find("msvd", "paper"), str(tmp_path / "disk"))
    assert readable() == expected()
    unpacked = RawFolder.scan(RAW / "clips", "msvd").by_name
    assert set(unpacked) == {Path(name).name for name, _ in others}


def test_a_folder_that_brings_nothing_is_an_error_that_says_what_is_missing(tmp_path):
    disk = laid(tmp_path / "disk", {"holiday.mp4": b"1"})
    zipped(disk / "thesis.zip", {"thesis.pdf": b"mine"})
    with pytest.raises(InputError, match=r"disk: holds nothing of msvd that is missing: train_li"):
        get(find("msvd", "paper"), str(disk))
    assert not RAW.exists()


def test_a_second_copy_of_a_file_is_refused_and_not_linked(tmp_path):
    laid(RAW, msvd_annotations())
    disk = laid(tmp_path / "disk", msvd_annotations() | msvd_videos())
    with pytest.raises(InputError, match=r"train_list.txt is there 2 times"):
        get(find("msvd", "paper"), str(disk))
    assert not (RAW / "disk").exists()
    assert not get(find("msvd", "paper"), str(disk / "YouTubeClips"))
    assert readable() == expected()


def test_what_is_in_the_way_of_a_link_is_kept(tmp_path):
    laid(RAW / "disk", {"note.txt": b"mine"})
    disk = laid(tmp_path / "disk", msvd_annotations() | msvd_videos())
    with pytest.raises(InputError, match=r"raw/msvd/disk: is already there; remove or rename it"):
        get(find("msvd", "paper"), str(disk))
    assert (RAW / "disk" / "note.txt").read_bytes() == b"mine"


def test_a_folder_around_the_raw_folder_is_not_linked_into_it(tmp_path):
    laid(Path("data"), msvd_annotations())
    RAW.mkdir(parents=True)
    with pytest.raises(InputError, match="lies in it; name a folder beside or below it"):
        get(find("msvd", "paper"), "data")


def test_no_such_folder():
    with pytest.raises(InputError, match="nowhere: no such folder"):
        get(find("msvd", "paper"), "nowhere")


def test_a_folder_that_is_complete_is_left_alone(tmp_path):
    laid(RAW, msvd_annotations() | msvd_videos())
    before = state(RAW)
    assert not get(find("msvd", "paper"), str(tmp_path))
    assert state(RAW) == before


def test_a_damaged_archive_is_named(tmp_path):
    content = zipped(tmp_path / "disk" / "msvd_data.zip", msvd_annotations())
    (tmp_path / "disk" / "msvd_data.zip").write_bytes(content[:-30])
    with pytest.raises(InputError, match=r"msvd_data.zip: no whole archive"):
        get(find("msvd", "paper"), str(tmp_path / "disk"))
    assert not list(RAW.glob("[!.]*"))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real annotation files are not here")
def test_msrvtt_in_the_archives_of_its_distributors_with_all_10000_names(tmp_path):
    """The real lists; the videos are a few bytes each, in Frozen in Time's tree."""
    disk = tmp_path / "downloads"
    lists = {path.name: path.read_bytes() for path in (SHARED / "msrvtt").glob("*.csv")}
    with zipfile.ZipFile(SHARED / "msrvtt" / "MSRVTT_data.json.zip") as archive:
        lists["MSRVTT_data.json"] = archive.read("MSRVTT_data.json")
    zipped(disk / "msrvtt_data.zip", {f"msrvtt_data/{n}": c for n, c in lists.items()})
    videos = {f"MSRVTT/videos/all/video{n}.mp4": b"%d" % n for n in range(10_000)}
    zipped(disk / "MSRVTT.zip", videos | {"MSRVTT/high-quality/note.txt": b""})
    assert not get(find("msrvtt", "paper"), str(disk))
    found = readable("msrvtt")
    assert found == {f"video{n}": b"%d" % n for n in range(10_000)}


def test_checkpoints_are_linked_from_a_folder_by_their_names(project, tmp_path):
    official = laid(tmp_path / "official", {"deep/msvd.pth": b"weights", "other.pth": b"no"})
    target = find("xpool-checkpoints", "paper")
    still = get(target, str(official))
    assert still.files == ("msrvtt-9k", "msrvtt-7k", "lsmdc")
    link = project / "data/paper/raw/xpool-checkpoints/msvd.pth"
    assert link.is_symlink()
    assert link.read_bytes() == b"weights"
    with pytest.raises(InputError, match=r"has none of msrvtt-9k\.pth, msrvtt-7k\.pth, lsmdc\.pth"):
        get(target, str(official))
    laid(official, {"a/lsmdc.pth": b"1", "b/lsmdc.pth": b"2"})
    with pytest.raises(InputError, match=r"lsmdc\.pth is there twice"):
        get(target, str(official))
