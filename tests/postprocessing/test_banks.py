"""The files of a bank, and which of its matrices each direction is held against."""

import numpy as np
import pandas as pd
import pytest

from xpool.postprocessing.banks import FILES, Banks, read_banks
from xpool.project.errors import InputError

N_TEXT, N_VIDEO, CAPTIONS, VIDEOS = 7, 5, 4, 3


@pytest.fixture
def banks():
    rng = np.random.default_rng(1)
    shapes = {
        "text_video": (CAPTIONS, N_VIDEO), "video_text": (N_TEXT, VIDEOS),
        "video_video": (VIDEOS, N_VIDEO), "text_text": (CAPTIONS, N_TEXT),
    }  # fmt: skip
    return Banks(
        **{name: rng.random(shape, np.float32) for name, shape in shapes.items()},
        texts=pd.DataFrame({"caption_id": list("abcd"), "video_id": list("xxyz")}),
        videos=pd.DataFrame({"video_id": list("xyz")}),
    )


@pytest.fixture
def folder(banks, tmp_path):
    banks.write(tmp_path)
    return tmp_path


def test_a_bank_is_read_as_it_was_written(banks, folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    found = read_banks(folder, N_TEXT, N_VIDEO, CAPTIONS)
    for name in ("text_video", "video_text", "video_video", "text_text"):
        np.testing.assert_array_equal(getattr(found, name), getattr(banks, name))
    assert found.texts.equals(banks.texts)
    assert found.videos.equals(banks.videos)


def test_each_direction_has_queries_and_gallery_of_its_kinds(banks):
    """(bank query, gallery) and (bank item, gallery)."""
    assert [part.shape for part in banks.of("t2v")] == [(CAPTIONS, N_VIDEO), (VIDEOS, N_VIDEO)]
    assert [part.shape for part in banks.of("v2t")] == [(VIDEOS, N_TEXT), (CAPTIONS, N_TEXT)]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(InputError, match=rf"{name}: not found; run 'dvc repro'"):
        read_banks(folder, N_TEXT, N_VIDEO, CAPTIONS)


@pytest.mark.parametrize(
    ("sizes", "file"),
    [
        ((N_TEXT, N_VIDEO, CAPTIONS + 1), "bank.npy"),
        ((N_TEXT, N_VIDEO + 1, CAPTIONS), "bank.npy"),
        ((N_TEXT + 1, N_VIDEO, CAPTIONS), "bank_videos.npy"),
    ],
)
def test_a_bank_of_another_size_is_refused(folder, sizes, file):
    with pytest.raises(InputError, match=rf"{file}: shape .*, expected .*; run 'dvc repro'"):
        read_banks(folder, *sizes)
