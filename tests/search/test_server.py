"""The demo's server, asked as a browser asks and as it should not; and the page in Chromium."""

import http.client
import json
import threading
from urllib.parse import urlencode
from wsgiref.simple_server import make_server

import pytest
import searchable
from browser import assert_accessible, chromium, running_dashboard, text_when
from numbered_videos import write_video
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from xpool.project import paths
from xpool.search import server

XPOOL, MEAN = (str(paths.training("mini", name, "msvd", 0)) for name in ("xpool", "mean_pool"))
CAPTION = "a red thing 0"


class Client:
    """Asks the server as a browser would."""

    def __init__(self, port):
        self.port = port

    def ask(self, path, method="GET", body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()

    def json(self, path, **options):
        status, _, content = self.ask(path, **options)
        return status, json.loads(content)

    def search(self, query, *runs, where="test"):
        asked = [("q", query), ("where", where), *(("run", run) for run in runs)]
        return self.json(f"/api/search?{urlencode(asked)}")

    def upload(self, content, name="clip.mp4", **headers):
        body = (
            b'--x\r\nContent-Disposition: form-data; name="video"; filename="'
            + name.encode()
            + b'"\r\nContent-Type: video/mp4\r\n\r\n'
            + content
            + b"\r\n--x--\r\n"
        )
        kind = "multipart/form-data; boundary=x"
        return self.json("/api/upload", method="POST", body=body, Content_Type=kind, **headers)


@pytest.fixture
def client(here, tmp_path):
    app = server.application(server.Demo(tmp_path))
    with make_server(
        server.LOCALHOST, 0, app, server_class=server._Server, handler_class=server._Quiet
    ) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield Client(running.server_port)
        finally:
            running.shutdown()
            thread.join()


def film_of(found):
    return f"/{found['columns'][0]['answers'][0]['film']}"


# --- what it answers ---


def test_start_names_runs_and_test_captions(client):
    _, there = client.json("/api/start")
    assert {run["folder"] for run in there["runs"]} >= {XPOOL, MEAN}
    assert there["first"] == XPOOL
    assert there["second"] == MEAN
    assert CAPTION in there["examples"]
    assert "SYNTHETIC" in there["about"]
    assert [place["value"] for place in there["places"]] == ["test"]


def test_two_methods_answer_side_by_side(client):
    status, found = client.search(CAPTION, XPOOL, MEAN)
    assert status == 200
    assert [column["method"] for column in found["columns"]] == ["X-Pool", "Mean pooling"]
    for column in found["columns"]:
        assert [answer["rank"] for answer in column["answers"]] == [1, 2, 3, 4, 5]
        right = [answer["name"] for answer in column["answers"] if answer["right"]]
        assert right in (["test0"], [])


def test_films_and_pictures_come_whole_and_in_parts(client):
    _, found = client.search(CAPTION, XPOOL)
    status, headers, whole = client.ask(film_of(found))
    assert (status, headers["Content-Type"], whole[:4]) == (200, "video/webm", b"\x1aE\xdf\xa3")
    status, headers, part = client.ask(film_of(found), Range="bytes=10-19")
    assert (status, part) == (206, whole[10:20])
    assert headers["Content-Range"] == f"bytes 10-19/{len(whole)}"
    assert client.ask(film_of(found), Range="bytes=99999999-")[0] == 416
    picture = found["columns"][0]["answers"][0]["frames"][0]["src"]
    status, headers, content = client.ask(f"/{picture}")
    assert (status, headers["Content-Type"], content[:2]) == (200, "image/jpeg", b"\xff\xd8")


def test_an_uploaded_video_is_found_alone_and_beside_the_test_split(client, tmp_path):
    path = write_video(tmp_path / "mine.mp4", 30)
    status, added = client.upload(path.read_bytes(), "../../mine.mp4")
    assert status == 200
    assert added["name"].startswith("mine.mp4 ")
    _, alone = client.search("anything", XPOOL, where="yours")
    assert [answer["name"] for answer in alone["columns"][0]["answers"]] == [added["name"]]
    assert client.ask(film_of(alone))[0] == 200
    _, both = client.search("anything", XPOOL, where="both")
    assert f"{1 + searchable.TEST_VIDEOS} videos" in both["columns"][0]["note"]
    _, there = client.json("/api/start")
    assert [place["value"] for place in there["places"]] == ["test", "yours", "both"]


def test_a_film_whose_file_is_gone_is_not_there(client, tmp_path):
    client.upload(write_video(tmp_path / "mine.mp4", 30).read_bytes())
    _, found = client.search("anything", XPOOL, where="yours")
    for file in tmp_path.glob("*/video"):
        file.unlink()
    assert client.ask(film_of(found))[0] == 404


# --- what it refuses ---


@pytest.mark.parametrize("query", ["", " ", "x" * 3000])
def test_a_query_that_is_none_gets_a_line(client, query):
    status, found = client.search(query, XPOOL)
    assert status == 400
    assert "query" in found["error"]


def test_hostile_queries_are_text(client):
    for query in ("<script>alert(1)</script>", "' OR 1=1", "\0", "../../etc/passwd", "%s%n"):
        assert client.search(query, XPOOL)[0] == 200


@pytest.mark.parametrize("run", ["/etc", "../../..", "results", ""])
def test_a_run_that_is_none_gets_a_line(client, run):
    status, found = client.search(CAPTION, run)
    assert status == 400
    assert "no such run" in found["error"]


def test_yours_without_a_video_gets_a_line(client):
    status, found = client.search(CAPTION, XPOOL, where="yours")
    assert status == 400
    assert "add one" in found["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/params.yaml", "/../params.yaml", "/app.js/../../server.py", "/app.py", "/page.html",
        "/media/00/0/film.webm", f"/media/{b'params.yaml'.hex()}/0/film.webm",
        "/media/..%2f..%2fetc/0/film.webm", "/media/abc/0/film.webm", "/media/ff/0/0.jpg",
    ],
)  # fmt: skip
def test_nothing_else_is_served(client, path):
    assert client.ask(path)[0] == 404


def test_places_beyond_a_library_are_not_served(client):
    _, found = client.search(CAPTION, XPOOL)
    top, _, _ = film_of(found).rsplit("/", 2)
    for path in (f"{top}/99/film.webm", f"{top}/-1/film.webm", f"{top}/0/99.jpg"):
        assert client.ask(path)[0] == 404


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Host": ""}]
)
def test_other_pages_are_refused(client, headers):
    for path, method in (("/", "GET"), ("/api/start", "GET"), ("/api/upload", "POST")):
        assert client.ask(path, method, **headers)[0] == 403


def test_what_is_no_video_gets_a_line_and_leaves_nothing(client, tmp_path):
    for content in (b"just text", b"", b"\x00" * 1000):
        status, found = client.upload(content, "text.mp4")
        assert status == 400
        assert found["error"].startswith("text.mp4: cannot be read as a video")
    assert not list(tmp_path.iterdir())
    assert client.json("/api/upload", method="POST", body=b"", Content_Length="0")[0] == 400


def test_too_large_or_too_many_videos_get_a_line(client, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "LARGEST_UPLOAD", 10)
    assert "larger than" in client.upload(b"x" * 100)[1]["error"]
    monkeypatch.undo()
    monkeypatch.chdir(searchable.Path.cwd())
    monkeypatch.setattr(server, "MOST_UPLOADS", 0)
    assert "were added" in client.upload(b"x")[1]["error"]


def test_without_runs_it_says_what_to_run(tmp_path, monkeypatch, here):
    (tmp_path / "params.yaml").write_text((here / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(server.InputError, match="make repro"):
        server.Demo(tmp_path).start()


# --- the page in a browser ---


def test_page_in_a_browser(here, tmp_path):
    clip = write_video(tmp_path / "my clip.mp4", 60, codec="libx264")
    with running_dashboard(here, command="demo") as running, chromium(tmp_path) as driver:
        driver.get(running.url)
        text_when(driver, "What happens in the video?")
        assert_accessible(driver)
        field = driver.find_element(By.ID, "query")
        assert driver.switch_to.active_element == field
        field.send_keys(CAPTION, Keys.ENTER)  # by keyboard alone
        text_when(driver, "Mean pooling")
        columns = WebDriverWait(driver, 60).until(
            lambda d: len(s := d.find_elements(By.TAG_NAME, "section")) == 2 and s
        )
        names = [column.find_element(By.TAG_NAME, "h2").text for column in columns]
        assert names == ["X-Pool", "Mean pooling"]
        for column in columns:
            cards = column.find_elements(By.TAG_NAME, "article")
            assert len(cards) == 5
            for card in cards:
                right = "test0" in card.text
                assert right == ("right" in card.get_attribute("class"))
                assert right == ("the video of this text" in card.text)
                green = card.value_of_css_property("border-top-color")
                assert right == (green == "rgba(26, 127, 55, 1)")
        assert_accessible(driver)

        card = columns[0].find_element(By.TAG_NAME, "article")
        buttons = card.find_elements(By.CSS_SELECTOR, ".frames button")
        assert len(buttons) == searchable.FRAMES
        buttons[3].click()
        video = card.find_element(By.TAG_NAME, "video")
        at = float(buttons[3].get_attribute("title").split(" s")[0])
        WebDriverWait(driver, 60).until(
            lambda d: d.execute_script(
                "const v = arguments[0]; return v.readyState >= 2 && v.currentTime >= arguments[1]",
                video, at - 0.1,
            )
        )  # fmt: skip

        driver.find_element(By.ID, "upload").send_keys(str(clip))
        text_when(driver, "my clip.mp4 (yours, 1) is searched too")
        Select(driver.find_element(By.ID, "where")).select_by_value("yours")
        driver.find_element(By.ID, "go").click()
        WebDriverWait(driver, 60, ignored_exceptions=[StaleElementReferenceException]).until(
            lambda d: (
                [h.text for h in d.find_elements(By.TAG_NAME, "h3")]
                == ["1. my clip.mp4 (yours, 1)"] * 2
            )
        )

        driver.set_window_size(390, 900)
        assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        field = driver.find_element(By.ID, "query")
        field.clear()
        Select(driver.find_element(By.ID, "where")).select_by_value("test")
        field.send_keys("<img src=x onerror=document.title='hacked'>", Keys.ENTER)
        WebDriverWait(driver, 60).until(
            lambda d: len(d.find_elements(By.TAG_NAME, "article")) == 10
        )
        assert driver.title == "Search videos by text"
        assert [line for line in driver.get_log("browser") if line["level"] == "SEVERE"] == []
        assert running.end() in (0, 130)
