"""What a digest of data depends on: bytes and names, not path or time (property)."""

import hashlib
import os
import shutil

import pytest

from xpool.project.digests import content, sha256
from xpool.project.errors import InputError


def test_digest_of_a_file_is_that_of_its_bytes(tmp_path):
    """Oracle: hashlib over the bytes in memory."""
    (tmp_path / "weights").write_bytes(b"numbers")
    assert sha256(tmp_path / "weights") == hashlib.sha256(b"numbers").hexdigest()
    with pytest.raises(InputError, match=r"nothing: not found; run `dvc repro`"):
        sha256(tmp_path / "nothing")


def data(folder):
    folder.mkdir(parents=True)
    (folder / "index.parquet").write_bytes(b"checksums")
    (folder / "part").mkdir()
    (folder / "part" / "text.npy").write_bytes(b"numbers")
    (folder / "frames-000.bin").write_bytes(b"pixels")
    return folder


def test_content_is_of_bytes_and_not_of_path_or_time(tmp_path):
    one = data(tmp_path / "one" / "msvd")
    other = shutil.copytree(one, tmp_path / "other" / "msvd", copy_function=shutil.copyfile)
    os.utime(other / "index.parquet", (1, 1))
    assert content([one]) == content([other])


@pytest.mark.parametrize("file", ["index.parquet", "part/text.npy"])
def test_content_changes_with_any_file(tmp_path, file):
    folder = data(tmp_path / "data")
    before = content([folder])
    (folder / file).write_bytes(b"Checksums")
    assert content([folder]) != before


def test_content_changes_with_names_and_further_files(tmp_path):
    folder = data(tmp_path / "data")
    seen = [content([folder]), content([folder / "index.parquet"])]
    (folder / "more").touch()
    seen.append(content([folder]))
    (folder / "more").rename(folder / "other")
    seen.append(content([folder]))
    assert len(set(seen)) == 4


def test_content_skips_packed_pixels(tmp_path):
    folder = data(tmp_path / "data")
    before = content([folder])
    (folder / "frames-000.bin").write_bytes(b"others")
    assert content([folder]) == before


def test_content_of_what_is_not_there_says_how_to_make_it(tmp_path):
    with pytest.raises(InputError, match="data/mini: not found; run `dvc repro`"):
        content([tmp_path / "data/mini"])
