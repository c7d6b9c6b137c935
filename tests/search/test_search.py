"""Search with the command, over a test split and over one's own videos."""

import io
import re
import shutil
from dataclasses import replace

import av
import numpy as np
import pytest
import searchable
import torch
from numbered_videos import numbers, write_video

from xpool.project.errors import InputError
from xpool.search.answers import Search
from xpool.search.clips import film
from xpool.search.commands import index, search
from xpool.search.index import build, files_of, named, open_index
from xpool.search.library import test_split as split_of
from xpool.search.trained import Trained, cell_of, runs
from xpool.similarity import similarity


def folder_of(method):
    return searchable.paths.training("mini", method, "msvd", 0)


METHODS = ("xpool", "mean_pool", "wti")


def opened(method):
    return Trained.open(folder_of(method))


# --- answers ---


@pytest.mark.parametrize("method", METHODS)
def test_a_test_caption_gets_the_ranks_of_the_evaluation(here, method):
    run = opened(method)
    gallery = run.gallery()
    scores = similarity(run.model.pooling, *gallery.embeddings())
    texts = run.data.texts
    found = Search(run, [split_of(run)])
    for row, caption_id in enumerate(gallery.texts["caption_id"]):
        caption = texts.loc[texts["caption_id"] == caption_id, "caption"].item()
        answers = found(caption, searchable.TEST_VIDEOS)
        order = scores[row].argsort(descending=True, stable=True).tolist()
        assert [answer.video for answer in answers] == order
        assert [answer.score for answer in answers] == pytest.approx(
            scores[row][order].tolist(), abs=1e-5
        )
        right = gallery.texts["video_id"][row]
        assert [answer.video_id for answer in answers if answer.right] == [right]


def test_weights_and_times_are_those_of_the_frames(here):
    run = opened("xpool")
    library = split_of(run)
    answer = Search(run, [library])("a red thing 0", 1)[0]
    assert answer.weights.sum() == pytest.approx(1, abs=1e-6)
    video = int(answer.video_id.removeprefix("test"))
    length = 30 + 17 * video
    edges = np.linspace(0, length, searchable.FRAMES + 1).astype(int)
    middle = (edges[:-1] + edges[1:] - 1) // 2
    np.testing.assert_allclose(answer.times_s, middle / 10)  # 10 frames a second
    assert numbers(library.pictures(answer.video)) == middle.tolist()


def test_other_methods_weigh_frames_by_their_cosine(here):
    run = opened("mean_pool")
    library = split_of(run)
    answer = Search(run, [library])("a red thing 0", 1)[0]
    text, _ = run.text("a red thing 0")
    cosine = torch.cosine_similarity(library.frames[answer.video], text, dim=1)
    np.testing.assert_allclose(answer.weights, (cosine - cosine.min()).detach(), atol=1e-6)


def test_command_prints_ranks_scores_times_and_the_right_video(here, capsys):
    search.main(folder_of("xpool"), "a red thing 0", top=3)
    first, *rest = capsys.readouterr().out.splitlines()
    assert "7 videos" in first
    assert "every video scored" in first
    assert len(rest) == 3
    for number, line in enumerate(rest, 1):
        assert re.fullmatch(
            rf" +{number}  [ -]\d\.\d{{3}}  test\d, best frame at \d+\.\d s \(\d\.\d\d\)"
            r"(  <- the video of this text)?",
            line,
        ), line


def test_shortlist_is_said_and_cuts_what_is_found(here, capsys):
    search.main(folder_of("xpool"), "a red thing 0", top=5, shortlist=2)
    first, *rest = capsys.readouterr().out.splitlines()
    assert "the first 2 by mean pooling" in first
    assert len(rest) == 2


@pytest.mark.parametrize("query", ["", "  \n", "x" * 2001])
def test_a_query_that_is_none_is_one_line(here, query):
    run = opened("mean_pool")
    with pytest.raises(InputError, match="the query"):
        Search(run, [split_of(run)])(query, 5)


def test_ten_thousand_words_or_odd_characters_are_no_harm(here):
    run = opened("wti")
    found = Search(run, [split_of(run)])
    for query in ("cat " * 500, "<script>alert(1)</script>", "日本語 🎉 \x00", "'; drop table"):
        assert len(found(query, 5)) == 5


@pytest.mark.parametrize(
    "folder",
    [
        "results/mini/train/xpool/msvd/1",
        "results",
        "/tmp",
        "nowhere",
        "results/mini/train/gare/msvd/0",
    ],
)
def test_a_folder_that_is_no_run_is_named_with_one_that_is(here, folder):
    with pytest.raises(InputError, match=rf"{folder}.*no trained run.*there are 3, e.g. results"):
        cell_of(searchable.Path(folder))


def test_without_runs_the_message_says_how_to_make_some(tmp_path, here, monkeypatch):
    shutil.copy("params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert runs() == []
    with pytest.raises(InputError, match="dvc repro"):
        cell_of(searchable.Path("x/y/0"))


# --- the page ---


def test_page_needs_no_network_and_its_films_play(here, tmp_path):
    out = tmp_path / "page.html"
    search.main(folder_of("xpool"), "</script><b>a red thing 0", top=2, html=out)
    text = out.read_text()
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    assert "http" not in text.replace("http-equiv", "")
    assert text.count("</script>") == 1
    assert len(text) < 3e6
    assert text.count("data:video/webm;base64") == 2
    assert "SYNTHETIC" in text


def test_film_shows_the_videos_own_frames_in_time(here, tmp_path):
    path = write_video(tmp_path / "a.avi", 60, size=(64, 96), rate=10)
    with av.open(io.BytesIO(film(path))) as made:
        frames = [
            (frame.time, numbers(frame.to_ndarray(format="rgb24")[None])[0])
            for frame in made.decode(video=0)
        ]
    assert len(frames) == 60
    for time, number in frames:
        assert number == round(10 * time)


def test_film_of_a_long_large_video_is_short_small_and_upright(tmp_path):
    path = write_video(tmp_path / "long.mp4", 75, size=(400, 640), rate=1, codec="libx264")
    with av.open(io.BytesIO(film(path))) as made:
        stream = made.streams.video[0]
        assert (stream.height, stream.width) == (180, 288)
        assert sum(1 for _ in made.decode(video=0)) == 61  # a minute, with its first frame


# --- one's own videos ---


@pytest.fixture
def own(tmp_path):
    """Three videos, and one file that only looks like one."""
    for number, folder in enumerate(("", "", "trip")):
        write_video(tmp_path / "own" / folder / f"clip{number % 2}.mp4", 40 + number, rate=10)
    (tmp_path / "own" / "broken.mp4").write_text("no video")
    return tmp_path / "own"


def test_index_embeds_what_the_encoder_gives_and_names_the_unreadable(here, own, tmp_path, capsys):
    out = tmp_path / "my.index"
    index.main([own], folder_of("xpool"), out)
    assert "3 videos" in capsys.readouterr().out
    quarantine = (out / "frames" / "quarantine.csv").read_text()
    assert "broken" in quarantine
    assert "clip" not in quarantine
    for method in METHODS:  # the encoder is frozen, so that all runs can search it
        run = opened(method)
        library = open_index(out, run)
        assert sorted(library.video_ids) == ["clip0", "clip0 (2)", "clip1"]
        for video, path in enumerate(library.files):
            stored = library.pictures(video)
            images = run.encoder.normalise(page_of_levels(stored, run.encoder.size_px).float())
            expected = run.videos(run.encoder.encode_image(images)[None])[0]
            torch.testing.assert_close(library.frames[video], expected, atol=1e-5, rtol=0)
            assert path.is_file()
    search.main(folder_of("xpool"), "anything", index=[out], beside=True, top=10)
    assert len(capsys.readouterr().out.splitlines()) == 1 + 3 + searchable.TEST_VIDEOS


def page_of_levels(frames, size_px):
    from xpool.data.transforms import evaluation

    return evaluation(torch.tensor(frames), size_px, True)


def test_index_of_another_encoder_or_sampling_is_refused(here, own, tmp_path, monkeypatch):
    out = tmp_path / "my.index"
    build([own / "clip0.mp4"], opened("xpool"), out)
    run = opened("xpool")
    monkeypatch.setitem(run.__dict__, "made_by", "another")
    with pytest.raises(InputError, match=r"my.index: made with another encoder.*index the videos"):
        open_index(out, run)
    changed = run.frames.model_copy(update={"short_side_px": 64})
    run = replace(opened("xpool"), frames=changed)
    with pytest.raises(InputError, match="made with another frames"):
        open_index(out, run)


def test_index_replaces_an_index_and_nothing_else(here, own, tmp_path):
    run = opened("xpool")
    out = tmp_path / "out"
    assert build([own / "clip0.mp4"], run, out) == 1
    assert build([own], run, out) == 3
    (tmp_path / "precious").mkdir()
    with pytest.raises(InputError, match="is no index"):
        build([own], run, tmp_path / "precious")


@pytest.mark.parametrize(
    ("given", "message"),
    [("nothing", "no video file"), ("missing", "not found"), ("only_broken", "no.*read|readable")],
)
def test_no_video_is_one_line(here, tmp_path, given, message):
    (tmp_path / "nothing").mkdir()
    (tmp_path / "only_broken").mkdir()
    (tmp_path / "only_broken" / "a.mp4").write_text("no video")
    with pytest.raises(InputError, match=message):
        build([tmp_path / given], opened("xpool"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_are_taken_once_and_named_apart(own):
    found = files_of([own, own / "clip0.mp4", own])
    assert len(found) == 4
    assert len(named(found)) == 4


def test_a_folder_that_is_no_index_is_named(here, tmp_path):
    with pytest.raises(InputError, match="no index; make one with: xpool index"):
        open_index(tmp_path, opened("xpool"))


def test_a_video_that_is_gone_is_named(here, own, tmp_path):
    index.main([own / "clip0.mp4"], folder_of("xpool"), tmp_path / "my.index")
    (own / "clip0.mp4").unlink()
    with pytest.raises(InputError, match=r"clip0\.mp4: there is no such file; .* index again"):
        search.main(folder_of("xpool"), "anything", index=[tmp_path / "my.index"])
    with pytest.raises(InputError, match=r"clip0\.mp4: there is no such file"):
        film(own / "clip0.mp4")


# --- a run that has trained its encoder ---


def test_fine_tuned_run_embeds_with_its_own_encoder(here, own, tmp_path, monkeypatch):
    params = searchable.yaml.safe_load(searchable.Path("params.yaml").read_text())
    params["train"]["reads"] = "frames"
    shutil.copytree(here / "data", tmp_path / "data")
    (tmp_path / "params.yaml").write_text(searchable.yaml.safe_dump(params))
    monkeypatch.chdir(tmp_path)
    searchable.write_runs()
    run = opened("wti")
    found = Search(run, [split_of(run)])("a red thing 0", 7)
    gallery = run.gallery()
    scores = similarity(run.model.pooling, *gallery.embeddings())
    row = gallery.texts["caption_id"].tolist().index("test0#0")
    assert [a.video for a in found] == scores[row].argsort(descending=True, stable=True).tolist()
    build([own / "clip0.mp4"], run, tmp_path / "i")
    assert open_index(tmp_path / "i", run).video_ids == ["clip0"]
    with pytest.raises(InputError, match="another encoder"):
        open_index(tmp_path / "i", opened("xpool"))
