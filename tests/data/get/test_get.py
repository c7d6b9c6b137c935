"""`xpool get` as a user calls it, against stand-ins of the official servers."""

import base64
import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from get_inputs import MSVD_IDS, SHARED, laid, msvd_annotations, msvd_videos, zipped

from xpool.data.audit import write_manifest
from xpool.data.benchmark import load
from xpool.data.get import fetch, sources
from xpool.data.get.fetch import get
from xpool.data.get.target import find, names, real
from xpool.data.manifest import read_manifest
from xpool.project.errors import InputError
from xpool.tools.data.get import listing, main

pytestmark = pytest.mark.usefixtures("project")
CLIPS = [
    "3086_UGLY_TRUTH_00.23.23.000-00.23.28.886",
    "3035_INSIDE_MAN_00.52.49.736-00.52.55.829",
    "1012_Unbreakable_00.05.16.065-00.05.21.941",
]
LSMDC = {
    "LSMDC16_annos_training.csv": CLIPS[0],
    "LSMDC16_annos_val.csv": CLIPS[1],
    "LSMDC16_challenge_1000_publictect.csv": CLIPS[2],
}


@pytest.fixture
def msvd(server, listed, tmp_path):
    """MSVD's two archives on the server, each in the list of sources after a dead mirror."""
    annotations = zipped(tmp_path / "a.zip", msvd_annotations())
    videos = zipped(tmp_path / "b.zip", msvd_videos())
    server.files |= {"/msvd_data.zip": annotations, "/YouTubeClips.zip": videos}

    def part(name):
        urls = (server.url(f"/gone/{name}"), server.url(f"/{name}"))
        return [{"files": [{"url": url}]} for url in urls]

    parts = {"annotations": part("msvd_data.zip"), "videos": part("YouTubeClips.zip")}
    listed({"msvd": {"parts": parts}})


@pytest.fixture
def lsmdc(server, listed, monkeypatch):
    """LSMDC's files behind a login."""
    word = base64.b64encode(b"me:hidden word").decode()
    server.logins["/protected"] = f"Basic {word}"
    monkeypatch.setenv("LSMDC_USER", "me")
    monkeypatch.setenv("LSMDC_PASSWORD", "hidden word")
    for name, clip in LSMDC.items():
        times = "\t".join(clip.rpartition("_")[2].split("-"))
        line = f"{clip}\t{times}\t{times}\tSOMEONE stands below."
        server.files[f"/protected/{name}"] = f"{line}\n".encode()
    addresses = []
    for clip in [*CLIPS, "9999_NOT_LISTED_00.00.01.000-00.00.02.000"]:
        path = f"/protected/avi/{clip.split('.')[0][:-3]}/{clip}.avi"
        server.files[path] = clip.encode() * 50
        addresses.append(server.url(path))
    server.files["/protected/links.txt"] = "\n".join(addresses).encode()
    remotes = [{"url": server.url(f"/protected/{name}")} for name in LSMDC]
    links = [{"url": server.url("/protected/links.txt")}]
    login = {"user": "LSMDC_USER", "password": "LSMDC_PASSWORD", "hosts": ["127.0.0.1"]}
    parts = {"annotations": [{"files": remotes}], "videos": [{"links": links}]}
    listed({"lsmdc": {"access": "Ask.", "login": login, "parts": parts}})


def videos(name):
    raw = Path("data/paper/raw") / name
    return {path.stem: path.read_bytes() for path in raw.rglob("*.avi")}


def run(*words, **environment):
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "xpool", "get", *words]
    environment = {**os.environ, "PYTHONPATH": str(Path(fetch.__file__).parents[3]), **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.usefixtures("msvd")
def test_missing_parts_come_from_the_first_mirror_that_has_them(server, capsys):
    main("msvd")
    assert capsys.readouterr().out.endswith("msvd: complete\n")
    assert videos("msvd") == {Path(name).stem: data for name, data in msvd_videos().items()}
    paths = [path for path, _ in server.requests]
    assert paths == [
        "/gone/msvd_data.zip", "/msvd_data.zip", "/gone/YouTubeClips.zip", "/YouTubeClips.zip",
    ]  # fmt: skip
    main("msvd")
    assert len(server.requests) == len(paths)  # all is there


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real annotation files are not here")
def test_from_nothing_to_the_manifest_with_the_real_lists_of_msvd(server, listed, tmp_path):
    """Archives under their official names, with all 1,970 videos, of a few bytes each."""
    lists = {path.name: path.read_bytes() for path in (SHARED / "msvd").iterdir()}
    server.files["/v0.0/msvd_data.zip"] = zipped(tmp_path / "a.zip", lists)
    ids = [line for n in lists if n.endswith(".txt") for line in lists[n].decode().split()]
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        for name in ids:
            info = tarfile.TarInfo(f"YouTubeClips/{name}.avi")
            info.size = len(name)
            archive.addfile(info, io.BytesIO(name.encode()))
    server.files["/YouTubeClips.tar"] = (tmp_path / "b.tar").read_bytes()
    digest = hashlib.md5(server.files["/YouTubeClips.tar"]).hexdigest()
    tar = {"url": server.url("/YouTubeClips.tar"), "md5": digest}
    data = {"url": server.url("/v0.0/msvd_data.zip")}
    listed({"msvd": {"parts": {"annotations": [{"files": [data]}], "videos": [{"files": [tar]}]}}})
    main("msvd")
    write_manifest(load("msvd"))
    rows = read_manifest(Path("data/paper/manifest/msvd.parquet"))
    counts = rows.groupby("split").agg({"video_id": "nunique", "caption": "size"})
    assert counts.loc["test"].tolist() == [670, 27763]
    assert counts.loc["train"].tolist() == [1200, 48774]
    assert {path.split("/")[0] for path in rows["path"]} == {"YouTubeClips"}


@pytest.mark.usefixtures("msvd")
def test_a_mirror_that_holds_other_files_is_passed_over(server, tmp_path):
    server.files["/gone/YouTubeClips.zip"] = zipped(tmp_path / "c.zip", {"holiday.avi": b"1"})
    server.files["/gone/msvd_data.zip"] = zipped(tmp_path / "d.zip", {"holiday.txt": b"1"})
    (Path("data/paper/raw/archives/msvd")).mkdir(parents=True)
    with pytest.raises(InputError, match=r"no source gives its annotations: .*/gone/msvd_data.zip"):
        get(find("msvd", "paper"), None)
    assert not videos("msvd")


@pytest.mark.usefixtures("msvd")
def test_no_mirror_is_one_line_with_each_reason_and_the_way_out(server):
    server.files.clear()
    said = "no source gives its annotations: .*/gone/msvd_data.zip: 404 .*; .*/msvd_data.zip: 404"
    with pytest.raises(InputError, match=said) as caught:
        get(find("msvd", "paper"), None)
    assert str(caught.value).endswith("in a folder and run `xpool get msvd --from FOLDER`")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("msvd")
def test_nothing_is_downloaded_by_a_list(server, capsys):
    main()
    main("msvd", dry_run=True)
    said = capsys.readouterr().out
    assert not server.requests
    lists = [f"{split}_list.txt or msvd_{split}.json" for split in ("train", "val", "test")]
    assert f"missing: {', '.join(lists)} and 1 more" in said
    assert f"or from {server.url('/msvd_data.zip')}" in said
    assert "licence: Research use" in said


@pytest.mark.usefixtures("lsmdc")
def test_lsmdc_asks_for_each_clip_of_the_annotations_and_for_no_other(server, capsys):
    main("lsmdc")
    # 999 test clips: the official code skips one by name
    assert videos("lsmdc") == {clip: clip.encode() * 50 for clip in CLIPS[:2]}
    assert Path("data/paper/raw/lsmdc/videos/3086_UGLY_TRUTH", f"{CLIPS[0]}.avi").is_file()
    said = capsys.readouterr()
    stored = b"".join(p.read_bytes() for p in Path("data").rglob("*") if p.is_file())
    assert "hidden" not in said.out + said.err
    assert b"hidden" not in stored


@pytest.mark.usefixtures("lsmdc")
def test_lsmdc_goes_on_with_the_clips_that_are_missing(server):
    path = next(path for path in server.files if CLIPS[0] in path)
    server.faults[path] = [server.answers(404)]
    with pytest.raises(InputError, match=r"lsmdc: 1 videos did not come, the first: .*: 404 "):
        get(find("lsmdc", "paper"), None)
    assert set(videos("lsmdc")) == {CLIPS[1]}
    before = len(server.requests)
    assert not get(find("lsmdc", "paper"), None)
    assert [path for path, _ in server.requests[before:]] == [path]


@pytest.mark.usefixtures("lsmdc")
def test_a_wrong_password_is_told_and_not_shown(monkeypatch):
    monkeypatch.setenv("LSMDC_PASSWORD", "another hidden word")
    with pytest.raises(InputError, match="401 Unauthorized: user name or password is wrong") as e:
        get(find("lsmdc", "paper"), None)
    assert "hidden" not in str(e.value)
    monkeypatch.delenv("LSMDC_PASSWORD")
    with pytest.raises(InputError, match="set LSMDC_USER and LSMDC_PASSWORD in the environment"):
        get(find("lsmdc", "paper"), None)


@pytest.mark.usefixtures("lsmdc")
def test_a_list_of_more_than_the_disk_holds_is_refused_before_the_first_clip(server, listed):
    items = sources.items()["lsmdc"].model_dump(exclude_none=True)
    items["parts"]["videos"][0]["links"][0]["gb"] = 10.0**9
    listed({"lsmdc": items})
    with pytest.raises(InputError, match=r"lsmdc: 2 videos needs 1000000000\.0 GB"):
        get(find("lsmdc", "paper"), None)
    assert not videos("lsmdc")


def test_from_an_address(server, tmp_path):
    laid(Path("data/paper/raw/msvd"), msvd_annotations())
    server.files["/x/clips.zip"] = zipped(tmp_path / "b.zip", msvd_videos())
    assert not get(find("msvd", "paper"), server.url("/x/clips.zip?key=1"))
    assert set(videos("msvd")) == set(MSVD_IDS.values())


def test_a_checkpoint_is_stored_under_its_own_name(server, listed):
    """Drive's addresses have no name, and its page for large files is HTML."""
    remote = {"name": "msvd.pth", "url": server.url("/download?id=1&confirm=t")}
    listed({"xpool-checkpoints": {"title": "X", "parts": {"msvd": [{"files": [remote]}]}}})
    server.files["/download"] = b"PK" + bytes(999)
    server.faults["/download"] = [server.answers(200, b"<html>", Content_Type="text/html")]
    target = find("xpool-checkpoints", "paper")
    with pytest.raises(InputError, match=r"a web page came.*put them as .*checkpoints/<name>"):
        get(target, None)
    assert not get(target, None)
    assert (target.raw / "msvd.pth").read_bytes() == server.files["/download"]


def test_real_files_never_go_among_the_generated_ones(server, listed):
    file = Path("params.yaml")
    file.write_text(file.read_text().replace("setting: paper", "setting: mini"))
    assert find("msvd", real()).raw == Path("data/paper/raw/msvd")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match=r"there are msrvtt, msvd, lsmdc, clip, xpool-checkpoints"):
        find("vatex2", "paper")


def test_the_sources_that_are_shipped_are_well_formed():
    assert names() == ["msrvtt", "msvd", "lsmdc", "clip", "xpool-checkpoints"]
    items = sources.items()
    for name in ("msrvtt", "msvd", "lsmdc"):
        assert list(items[name].parts) == ["annotations", "videos"]
    assert "LSMDC_PASSWORD" in "\n".join(map(str, items["lsmdc"].login))
    said = "\n".join(listing(find("lsmdc", "paper")))
    assert "Max Planck Institute" in said
    assert "655.0 GB" in said


def test_a_killed_call_is_continued_and_never_leaves_half_a_file(server, tmp_path):
    laid(Path("data/paper/raw/msvd"), msvd_annotations())
    noise = np.random.default_rng(0)
    clips = {name: noise.bytes(2_000_000) for name in msvd_videos()}
    archive = server.files["/YouTubeClips.zip"] = zipped(tmp_path / "b.zip", clips)
    server.faults["/YouTubeClips.zip"] = [server.slowly(0.02, piece=2**16)]
    command = [sys.executable, "-m", "xpool", "get", "msvd", "--from"]
    top = str(Path(fetch.__file__).parents[3])
    process = subprocess.Popen(
        [*command, server.url("/YouTubeClips.zip")], env=os.environ | {"PYTHONPATH": top},
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    part = Path("data/paper/raw/archives/msvd/.YouTubeClips.zip.part")
    until = time.monotonic() + 60
    while not (part.is_file() and part.stat().st_size > 2**20):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    got = part.stat().st_size
    assert 2**20 < got < len(archive)
    assert not videos("msvd")
    assert [p.name for p in part.parent.iterdir() if not p.name.startswith(".")] == []
    done = run("msvd", "--from", server.url("/YouTubeClips.zip"))
    assert done.returncode == 0, done.stderr
    assert server.requests[-1][1]["Range"] == f"bytes={got}-"
    assert videos("msvd") == {Path(name).stem: data for name, data in clips.items()}


FULL = (
    "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); "
    "sys.argv = ['xpool', 'get', 'msvd', '--from', '{url}']; "
    "from xpool.__main__ import main; main()"
)
"""A limit on the size of a file, which fails as a full disk does."""


def test_a_full_disk_is_one_line_and_the_next_call_continues(server, tmp_path):
    laid(Path("data/paper/raw/msvd"), msvd_annotations())
    clips = {name: np.random.default_rng(0).bytes(100_000) for name in msvd_videos()}
    server.files["/YouTubeClips.zip"] = zipped(tmp_path / "b.zip", clips)
    url = server.url("/YouTubeClips.zip")
    top = str(Path(fetch.__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", FULL.format(url=url)], env=os.environ | {"PYTHONPATH": top},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert ".YouTubeClips.zip.part: File too large; free space" in last
    assert not videos("msvd")
    assert not get(find("msvd", "paper"), url)
    assert server.requests[-1][1]["Range"] == "bytes=200000-"
    assert set(videos("msvd")) == set(MSVD_IDS.values())


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="a folder that nobody can write")
def test_a_disk_that_is_not_written_is_one_line(server):
    Path("data/paper").mkdir(parents=True)
    Path("data/paper/raw").symlink_to("/sys/kernel")
    done = run("msvd")
    assert done.returncode == 2
    assert done.stderr.startswith("error: data/paper/raw/archives")
    assert done.stderr.count("\n") == 1
    assert "make it writable" in done.stderr


def test_two_calls_at_once_are_refused(server):
    from xpool.project.workspace import locked

    with locked(find("msvd", "paper").archives / ".lock"):
        done = run("msvd")
    assert done.returncode == os.EX_TEMPFAIL
    assert "already does this work" in done.stderr
