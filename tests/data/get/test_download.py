"""A file is whole or not there: downloads against a server that fails in every way."""

import hashlib
import io
import json
import zipfile

import numpy as np
import pytest
import requests
from fault_server import FaultServer

from xpool.data.get import archives
from xpool.data.get import download as module
from xpool.data.get.download import auth_for, download, part_of
from xpool.data.get.sources import Login, Remote, shown
from xpool.data.get.verified import UnavailableError
from xpool.project.errors import InputError

CONTENT = np.random.default_rng(0).bytes(3 * 2**20 + 17)
PAGE = b"<!DOCTYPE html><html><title>Sign in</title></html>"


@pytest.fixture
def fetch(server, tmp_path):
    """Download ``/a.bin``; returns its bytes."""
    server.files["/a.bin"] = CONTENT

    def fetch(name="a.bin", path="/a.bin", **facts):
        with requests.Session() as session:
            remote = Remote(url=server.url(path), name=name, **facts)
            download(session, remote, tmp_path / name, tmp_path / "digests.json", bar=False)
        return (tmp_path / name).read_bytes()

    return fetch


def left(folder):
    """Names of files that have their final name."""
    return {p.name for p in folder.iterdir() if not p.name.startswith(".")} - {"digests.json"}


def asked(server):
    return [headers.get("Range") for _, headers in server.requests]


def test_a_file_is_fetched_once_and_its_digest_recorded(server, fetch, tmp_path):
    assert fetch() == CONTENT
    assert left(tmp_path) == {"a.bin"}
    assert not [p for p in tmp_path.iterdir() if "part" in p.name]
    known = json.loads((tmp_path / "digests.json").read_text())
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert known == {server.url("/a.bin"): {"bytes": len(CONTENT), "sha256": digest}}


@pytest.mark.parametrize("count", [0, 1, 4095, 2**20, 2**20 + 1, len(CONTENT) - 1])
@pytest.mark.parametrize("way", ["reset_after", "cut_after"])
def test_a_connection_that_breaks_at_any_byte_is_continued(server, fetch, count, way):
    server.faults["/a.bin"] = [getattr(server, way)(count)]
    assert fetch() == CONTENT
    first, second = asked(server)
    assert first is None
    # a reset may swallow bytes that were sent before it
    start = int((second or "bytes=0-")[len("bytes=") : -1])
    assert start == count if way == "cut_after" else start <= count


def test_many_breaks_are_no_failure_as_long_as_bytes_come(server, fetch):
    server.faults["/a.bin"] = [server.cut_after(100_000) for _ in range(20)]
    assert fetch() == CONTENT
    assert asked(server)[20] == "bytes=2000000-"


def test_a_server_that_stays_away_leaves_a_part_which_the_next_call_continues(
    server, fetch, tmp_path
):
    dead = server.reset_after(0)
    server.faults["/a.bin"] = [server.cut_after(1_500_000)] + [dead] * (module.TRIES - 1)
    with pytest.raises(InputError, match=r"broke off after 1\.5 MB .*run the same command again"):
        fetch()
    assert left(tmp_path) == set()
    assert part_of(tmp_path / "a.bin").stat().st_size == 1_500_000
    assert fetch() == CONTENT
    assert asked(server)[-1] == "bytes=1500000-"


def test_a_server_that_cannot_continue_sends_the_whole_file(server, fetch):
    server.ranges = False
    server.faults["/a.bin"] = [server.cut_after(1_000_000)]
    assert fetch() == CONTENT


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(server, fetch, tmp_path):
    other = np.random.default_rng(1).bytes(len(CONTENT))
    server.faults["/a.bin"] = [server.cut_after(1_000_000)] + [server.reset_after(0)] * 4
    with pytest.raises(InputError):
        fetch()
    server.files["/a.bin"] = other
    assert fetch() == other


def test_another_answer_than_asked_for_is_not_appended(server, fetch):
    """A proxy that sends another range, or one of another file."""
    odd = server.answers(206, b"x" * 10, Content_Range=f"bytes 0-9/{len(CONTENT)}")
    smaller = server.answers(206, b"x" * 10, Content_Range="bytes 1000-1009/1010")
    for fault in (odd, smaller):
        server.faults["/a.bin"] = [server.cut_after(1000), fault]
        assert fetch() == CONTENT


def test_a_part_of_another_address_is_not_continued(server, fetch, tmp_path):
    server.files["/mirror/a.bin"] = CONTENT[::-1]
    server.faults["/a.bin"] = [server.cut_after(1000)] + [server.reset_after(0)] * 4
    with pytest.raises(InputError):
        fetch()
    assert fetch(path="/mirror/a.bin") == CONTENT[::-1]


def test_a_part_that_a_killed_call_had_completed_is_taken(server, fetch, tmp_path):
    """The part has all bytes, and was not renamed."""
    server.faults["/a.bin"] = [server.cut_after(len(CONTENT) - 1)] + [server.reset_after(0)] * 4
    with pytest.raises(InputError):
        fetch()
    with part_of(tmp_path / "a.bin").open("ab") as file:
        file.write(CONTENT[-1:])
    assert fetch() == CONTENT
    assert asked(server)[-1] == f"bytes={len(CONTENT)}-"


def test_a_part_that_is_too_long_is_thrown_away(server, fetch, tmp_path):
    server.faults["/a.bin"] = [server.cut_after(1000)] + [server.reset_after(0)] * 4
    with pytest.raises(InputError):
        fetch()
    part_of(tmp_path / "a.bin").write_bytes(CONTENT + b"more")
    assert fetch() == CONTENT


@pytest.mark.parametrize("status", [404, 410, 403, 401, 500])
def test_a_refusal_is_one_line_with_the_address(server, fetch, tmp_path, status):
    server.faults["/a.bin"] = [server.answers(status) for _ in range(9)]
    with pytest.raises(UnavailableError) as caught:
        fetch(path="/a.bin")
    assert str(caught.value).startswith(f"{server.url('/a.bin')}: {status} ")
    assert left(tmp_path) == set()


def test_a_busy_server_is_asked_again(server, fetch):
    server.faults["/a.bin"] = [server.answers(503), server.answers(429)]
    assert fetch() == CONTENT


def test_a_secret_in_an_address_is_not_stored(server, fetch, tmp_path):
    server.faults["/a.bin"] = [server.cut_after(1000)] + [server.reset_after(0)] * 4
    with pytest.raises(InputError) as caught:
        fetch(path="/a.bin?token=hidden")
    fetch(path="/a.bin?token=hidden")
    stored = b"".join(p.read_bytes() for p in tmp_path.iterdir() if p.name != "a.bin")
    assert b"hidden" not in stored
    assert "hidden" not in str(caught.value)


def test_nobody_at_the_address_is_one_line_without_its_query(fetch, server, tmp_path):
    server.close()
    with pytest.raises(UnavailableError) as caught:
        fetch(path="/a.bin?token=secret")
    assert "refused" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/zip"])
def test_a_login_page_in_place_of_a_file_is_refused(server, fetch, tmp_path, kind):
    server.faults["/a.bin"] = [server.answers(200, b"\n " + PAGE, Content_Type=kind)]
    with pytest.raises(UnavailableError, match="a web page came in place of the file.*--from"):
        fetch()
    assert left(tmp_path) == set()
    assert fetch() == CONTENT


def test_redirects_are_followed_and_a_circle_ends(server, fetch):
    server.files["/there.bin"] = CONTENT
    server.faults["/a.bin"] = [server.answers(302, Location="/there.bin")]
    assert fetch() == CONTENT
    server.faults["/a.bin"] = [server.answers(302, Location="/a.bin") for _ in range(99)]
    with pytest.raises(UnavailableError, match="TooManyRedirects"):
        fetch()


def test_wrong_bytes_are_refused_where_a_digest_is_published(server, fetch, tmp_path):
    good = {"sha256": hashlib.sha256(CONTENT).hexdigest(), "md5": hashlib.md5(CONTENT).hexdigest()}
    for kind, digest in good.items():
        server.files["/a.bin"] = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
        with pytest.raises(UnavailableError, match=f"published is {digest}; the download was del"):
            fetch(**{kind: digest})
        assert left(tmp_path) == set()
        assert not part_of(tmp_path / "a.bin").exists()
        server.files["/a.bin"] = CONTENT
        assert fetch(**{kind: digest}) == CONTENT
        (tmp_path / "a.bin").unlink()
        (tmp_path / "digests.json").unlink()


def test_other_bytes_than_at_the_first_download_are_refused(server, fetch, tmp_path):
    fetch()
    (tmp_path / "a.bin").unlink()
    server.files["/a.bin"] = b"other bytes"
    with pytest.raises(InputError, match=r"the file has changed.*delete its entry in .*digests"):
        fetch()
    assert left(tmp_path) == set()
    (tmp_path / "digests.json").unlink()
    assert fetch() == b"other bytes"


@pytest.mark.parametrize("lost", [1, 22, 400])
def test_an_archive_that_is_cut_at_its_source_is_refused(server, fetch, tmp_path, lost):
    """The server declares the length of what it has: HTTP cannot tell."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for number in range(5):
            archive.writestr(f"video{number}.mp4", CONTENT[:999])
    server.files["/a.zip"] = whole.getvalue()[:-lost]
    with pytest.raises(UnavailableError, match="no whole archive"):
        fetch(name="a.zip", path="/a.zip")
    assert left(tmp_path) == set()
    server.files["/a.zip"] = whole.getvalue()
    assert fetch(name="a.zip", path="/a.zip") == whole.getvalue()


def test_a_disk_without_room_is_told_before_the_first_byte(server, fetch, monkeypatch, tmp_path):
    few = type("Usage", (), {"free": len(CONTENT) - 1})
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: few)
    with pytest.raises(InputError, match=r"a\.bin needs 0\.0 GB, 0\.0 GB are free; free space"):
        fetch()
    assert not part_of(tmp_path / "a.bin").exists()


def test_the_environment_logs_in_to_the_named_hosts_only(monkeypatch):
    login = Login(user="SOME_USER", password="SOME_WORD", hosts=["data.example.org"])
    monkeypatch.delenv("SOME_USER", raising=False)
    url = "http://data.example.org/a"
    with pytest.raises(InputError, match="set SOME_USER and SOME_WORD in the environment"):
        auth_for(login, url)
    monkeypatch.setenv("SOME_USER", "me")
    monkeypatch.setenv("SOME_WORD", "hidden")
    assert auth_for(login, url) == ("me", "hidden")
    for other in ("http://example.org/a", "http://data.example.org.evil.net/a", "http://e/"):
        assert auth_for(login, other) is None
    assert auth_for(None, url) is None


def test_a_shown_address_has_no_secret():
    assert shown("https://me:hidden@h.org:81/a/b.zip?sig=hidden#x") == "https://h.org:81/a/b.zip"


def test_a_login_is_not_told_to_another_host_after_a_redirect(server, tmp_path):
    other = FaultServer()
    other.files["/a.bin"] = CONTENT
    place = f"http://localhost:{other.port}/a.bin"
    server.faults["/a.bin"] = [server.answers(302, Location=place)]
    with requests.Session() as session:
        remote = Remote(url=server.url("/a.bin"))
        download(session, remote, tmp_path / "a.bin", None, ("me", "hidden"), bar=False)
    assert "Authorization" in server.requests[0][1]
    assert "Authorization" not in other.requests[0][1]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    other.close()
