"""Other people's archives: nothing leaves the folder, and nothing half is seen."""

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from xpool.data.get import archives
from xpool.data.get.archives import is_archive, members, unpack
from xpool.project.errors import InputError

VIDEO = np.random.default_rng(0).bytes(5000)
FORMS = ["zip", "tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"]


@pytest.fixture(autouse=True, params=[archives.SAFELY, {"set_attrs": False}], ids=["", "old"])
def _safely(request, monkeypatch):
    """As this Python extracts, and as one does that knows no filters."""
    monkeypatch.setattr(archives, "SAFELY", request.param)


def write(path, files, links=()):
    """Write an archive of (name, bytes) and (name, target) of links."""
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files:
                archive.writestr(name, content)
            for name, target in links:
                info = zipfile.ZipInfo(name)
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(info, target)
        return path
    packing = {"tar": "", "tgz": "gz"}.get(path.suffix[1:], path.suffix[1:])
    with tarfile.open(path, f"w:{packing}") as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o4777
            archive.addfile(info, io.BytesIO(content))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return path


def everything(_):
    return True


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


@pytest.mark.parametrize("form", FORMS)
def test_files_keep_their_names_and_bytes(form, tmp_path):
    files = [(f"MSRVTT/videos/all/video{n}.mp4", VIDEO[n:]) for n in range(3)]
    hidden = [("__MACOSX/MSRVTT/._video0.mp4", b"x"), ("MSRVTT/.DS_Store", b"x")]
    archive = write(tmp_path / f"MSRVTT.{form}", files + hidden)
    made = unpack(archive, tmp_path / "raw", everything)
    assert made == tmp_path / "raw" / "MSRVTT"
    assert tree(made) == dict(files)
    mode = next(made.rglob("video0.mp4")).stat().st_mode
    assert not mode & (stat.S_ISUID | stat.S_IWOTH)


def test_only_what_is_wanted_is_unpacked_and_no_folder_is_replaced(tmp_path):
    archive = write(tmp_path / "a.zip", [("x/1.mp4", b"1"), ("x/2.mp4", b"2")])
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.txt").write_text("mine")
    assert unpack(archive, tmp_path, lambda name: "2" in name) == tmp_path / "a-2"
    assert tree(tmp_path / "a-2") == {"x/2.mp4": b"2"}
    assert tree(tmp_path / "a") == {"mine.txt": b"mine"}


@pytest.mark.parametrize("form", ["zip", "tar"])
@pytest.mark.parametrize(
    "name", ["../out.mp4", "/tmp/out.mp4", "a/../../out.mp4", "..\\out.mp4", "C:\\out.mp4"]
)
def test_a_name_that_leads_out_of_the_folder_is_refused(name, form, tmp_path):
    archive = write(tmp_path / f"a.{form}", [("good.mp4", VIDEO), (name, VIDEO)])
    with pytest.raises(InputError, match="leads out of the folder; nothing was unpacked"):
        unpack(archive, tmp_path / "raw", everything)
    assert not list((tmp_path).rglob("*.mp4"))


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_links_are_left_out_and_nothing_is_written_through_them(form, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = write(
        tmp_path / f"a.{form}",
        [("a.mp4", VIDEO)],
        [("out.mp4", "/etc/passwd"), ("way", str(outside)), ("b.mp4", "a.mp4")],
    )
    with members(archive) as found:
        assert [member.name for member in found] == ["a.mp4"]
    made = unpack(archive, tmp_path / "raw", everything)
    assert tree(made) == {"a.mp4": VIDEO}
    assert not [path for path in made.rglob("*") if path.is_symlink()]


def test_a_file_behind_a_link_of_the_same_name_stays_inside(tmp_path):
    """The link is first, and a file goes through it: in no archive that `tar` writes."""
    outside = tmp_path / "outside"
    outside.mkdir()
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("way")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        archive.addfile(link)
        info = tarfile.TarInfo("way/a.mp4")
        info.size = len(VIDEO)
        archive.addfile(info, io.BytesIO(VIDEO))
    made = unpack(tmp_path / "a.tar", tmp_path / "raw", everything)
    assert tree(made) == {"way/a.mp4": VIDEO}
    assert not list(outside.iterdir())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("share", [0.2, 0.6, 0.97])
def test_an_archive_that_is_cut_short_leaves_nothing(form, share, tmp_path):
    archive = write(tmp_path / f"a.{form}", [(f"{n}.mp4", VIDEO) for n in range(9)])
    whole = archive.read_bytes()
    if form == "tar":  # ends in up to 10 kB of padding
        whole = whole[: 9 * (512 + 5120)]
    archive.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match="no whole archive .*; fetch it again"):
        unpack(archive, tmp_path / "raw", everything)
    assert not list((tmp_path / "raw").glob("[!.]*"))


def test_bytes_that_changed_in_an_archive_are_noticed(tmp_path):
    archive = write(tmp_path / "a.zip", [("a.mp4", VIDEO)])
    content = bytearray(archive.read_bytes())
    content[2000] ^= 1
    archive.write_bytes(content)
    with pytest.raises(InputError, match="no whole archive"):
        unpack(archive, tmp_path / "raw", everything)
    assert not list((tmp_path / "raw").glob("[!.]*"))


@pytest.mark.parametrize("content", [b"", b"no archive", b"<html>" + bytes(999)])
def test_what_is_no_archive_is_refused(content, tmp_path):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(InputError, match="no whole archive"):
        unpack(tmp_path / "a.tar", tmp_path / "raw", everything)


@pytest.mark.parametrize("form", ["zip", "tar.gz"])
def test_an_archive_that_grows_beyond_measure_is_refused_before_it_fills_the_disk(
    form, tmp_path, monkeypatch
):
    monkeypatch.setattr(archives, "SMALL_BYTES", 10**6)
    archive = write(tmp_path / f"a.{form}", [(f"{n}.mp4", bytes(10**6)) for n in range(3)])
    with pytest.raises(InputError, match=r"would unpack to over .* GB in 1 files"):
        unpack(archive, tmp_path / "raw", everything)
    assert not (tmp_path / "raw").exists()


def test_an_archive_of_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST_FILES", 3)
    archive = write(tmp_path / "a.zip", [(f"{n}.mp4", b"1") for n in range(4)])
    with pytest.raises(InputError, match="in 3 files, more than such an archive holds"):
        unpack(archive, tmp_path / "raw", everything)


def test_a_disk_without_room_is_told_first(tmp_path, monkeypatch):
    archive = write(tmp_path / "a.zip", [("a.mp4", VIDEO)])
    few = type("Usage", (), {"free": len(VIDEO) - 1})
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: few)
    with pytest.raises(InputError, match=r"raw: a\.zip needs 0\.0 GB"):
        unpack(archive, tmp_path / "raw", everything)
    assert not list((tmp_path / "raw").iterdir())


def test_an_unpacking_that_was_killed_is_begun_anew(tmp_path):
    archive = write(tmp_path / "a.zip", [("x/a.mp4", VIDEO)])
    half = tmp_path / "raw" / ".a.zip.unpacking"
    (half / "x").mkdir(parents=True)
    (half / "x" / "a.mp4").write_bytes(VIDEO[:10])
    (half / "stray.mp4").write_bytes(b"")
    made = unpack(archive, tmp_path / "raw", everything)
    assert tree(made) == {"x/a.mp4": VIDEO}
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["a"]


def test_suffixes_of_archives_in_any_case():
    assert all(map(is_archive, ["a.zip", "MSR-VTT.ZIP", "b.tar", "c.Tar.Gz"]))
    assert not any(map(is_archive, ["a.mp4", "a.zip.part", Path("a.json").name]))
