"""The demo: a page on 127.0.0.1 where one searches with two methods side by side.

It serves its own page, and films and pictures of the videos that it searches. A request names a
video by its place, never by a path. It listens on 127.0.0.1 alone and answers requests to that
host only, so that no other page of the browser can reach it under a name of its own.
"""

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import bottle

from xpool.data.frame_cache import FrameCache, FramesParams
from xpool.data.packing import pack
from xpool.project.command import LOCALHOST, expect_free
from xpool.project.errors import InputError
from xpool.project.params import read, setting
from xpool.report.protocol import METHODS, SYNTHETIC
from xpool.search import answer_page
from xpool.search.answers import Answer, Search
from xpool.search.clips import film, jpeg
from xpool.search.index import embed, library
from xpool.search.library import Library, test_split
from xpool.search.trained import Trained, runs

TOP = 5
OPEN_RUNS = 4
"""The number of runs that stay in memory at once."""
LARGEST_UPLOAD = 512 * 2**20
MOST_UPLOADS = 50
EXAMPLES = 5
NO_RUNS = "There is no trained run yet: run `make repro` or `dvc repro results`, then reload."
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' "
    "'unsafe-inline'; img-src 'self' data:; media-src 'self'; connect-src 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Demo:
    """Answers the requests of the page; one request at a time computes."""

    def __init__(self, folder: Path) -> None:
        """Start without a run in memory.

        Args:
            folder: for uploaded videos.
        """
        self._folder = folder
        self._lock = threading.Lock()
        self._opened = lru_cache(OPEN_RUNS)(Trained.open)
        self._test = lru_cache(OPEN_RUNS)(lambda run: test_split(self._opened(run)))
        self._search = lru_cache(2 * OPEN_RUNS)(self._prepared)
        self._film = lru_cache(256)(film)
        self._uploads: list[tuple[str, Path, FrameCache]] = []
        self._shown: dict[str, Library] = {}
        """The libraries that answers came from, by their part of an address."""

    def start(self) -> dict[str, Any]:
        """Return the runs, where to search, and examples of queries.

        Raises:
            InputError: there is no run.
        """
        there = {run: run.parts[-3:] for run in runs()}
        if not there:
            raise InputError(NO_RUNS)
        first = next((run for run, (method, _, _) in there.items() if method == "xpool"), None)
        first = first or next(iter(there))
        controls = (run for run in there if there[run][1] == there[first][1] and run != first)
        with self._lock:
            captions = list(self._test(first).video_of_caption)
        mark = f" {SYNTHETIC}." if setting() == "mini" else ""
        places = {"test": "The test split of the run's benchmark"}
        if self._uploads:
            places |= {"yours": "Yours alone", "both": "Both"}
        return {
            "about": f"Two methods show what they find for a sentence, and by which frames.{mark}",
            "runs": [
                {"folder": str(run), "name": f"{METHODS.get(method, method)}, {benchmark}, {seed}"}
                for run, (method, benchmark, seed) in there.items()
            ],
            "first": str(first),
            "second": str(next(controls, "")),
            "places": [{"value": value, "name": name} for value, name in places.items()],
            "examples": captions[:: max(1, len(captions) // EXAMPLES)][:EXAMPLES],
        }

    def answer(self, query: str, folders: list[str], where: str) -> dict[str, Any]:
        """Return the answers of each run.

        Raises:
            InputError: the query, a run or the place cannot be searched.
        """
        there = {str(run): run for run in runs()}
        unknown = [folder for folder in folders if folder not in there]
        if unknown or not folders:
            raise InputError(f"no such run: {', '.join(unknown) or 'none is named'}; reload")
        with self._lock:
            return {"columns": [self._column(query, there[run], where) for run in folders]}

    def _column(self, query: str, run: Path, where: str) -> dict[str, Any]:
        search = self._search(run, where, len(self._uploads))
        began = time.perf_counter()
        answers = search(query, TOP)
        taken_ms = 1000 * (time.perf_counter() - began)
        among = sum(map(len, search.libraries))
        note = f"{run.parts[-2]}, seed {run.parts[-1]}; {among:,} videos in {taken_ms:.0f} ms"
        return answer_page.column(search, answers, note, _film_address, _frame_addresses)

    def _prepared(self, run: Path, where: str, uploads: int) -> Search:
        """Return a run's search; cached by the number of uploads."""
        opened, libraries = self._opened(run), []
        if where in {"test", "both"}:
            libraries.append(self._test(run))
            self._shown[_address(self._test(run))] = self._test(run)
        if where in {"yours", "both"}:
            for name, path, cache in self._uploads[:uploads]:
                made = library(name, opened, cache, {name: path}, embed(opened, cache))
                libraries.append(made)
                self._shown[_address(made)] = made
        if not libraries:
            raise InputError("no video of yours is there; add one, or search the test split")
        return Search(opened, libraries)

    def film(self, address: str, video: int) -> bytes:
        """Return the film of a video that was found before."""
        try:
            return self._film(self._found(address, video).files[video])
        except InputError as error:
            raise bottle.HTTPError(404, str(error)) from error

    def frame(self, address: str, video: int, frame: int) -> bytes:
        """Return the picture of a frame of such a video."""
        found = self._found(address, video)
        if not 0 <= frame < found.frames.shape[1]:
            raise bottle.HTTPError(404)
        return jpeg(found.pictures(video)[frame])

    def _found(self, address: str, video: int) -> Library:
        found = self._shown.get(address)
        if found is None or not 0 <= video < len(found):
            raise bottle.HTTPError(404)
        return found

    def add(self, upload: "bottle.FileUpload") -> dict[str, Any]:
        """Decode an uploaded file, which then can be searched.

        Raises:
            InputError: it is no video, or there are too many.
        """
        if len(self._uploads) == MOST_UPLOADS:
            raise InputError(f"{MOST_UPLOADS} videos were added; index more with: xpool index")
        # the name is shown; no path is made of it
        shown = upload.raw_filename.replace("\\", "/").rpartition("/")[2][:80] or "video"
        name = f"{shown} (yours, {len(self._uploads) + 1})"
        work = Path(tempfile.mkdtemp(dir=self._folder))
        upload.save(str(work / "video"))
        params = read("frames", FramesParams)
        try:
            with self._lock:
                cache = FrameCache(pack(work, [(name, "video")], work, params, 1))
        except InputError as error:
            shutil.rmtree(work)
            raise InputError(f"{shown}: cannot be read as a video: {error}") from error
        self._uploads.append((name, work / "video", cache))
        return {"name": name}


def _film_address(library: Library, answer: Answer) -> str:
    return _media("film.webm", library, answer)


def _frame_addresses(library: Library, answer: Answer) -> list[str]:
    return [_media(f"{number}.jpg", library, answer) for number in range(len(answer.weights))]


def _media(name: str, library: Library, answer: Answer) -> str:
    return f"media/{_address(library)}/{answer.video}/{name}"


def _address(library: Library) -> str:
    """Return one part of a path, whatever the title holds."""
    return library.title.encode().hex()


def application(demo: Demo) -> bottle.Bottle:
    """Return the pages and the interface of the demo as a WSGI application."""
    app = bottle.Bottle()

    def as_json(work: Callable[[], dict[str, Any]]) -> str:
        bottle.response.content_type = "application/json"
        try:
            return json.dumps(work())
        except InputError as error:
            bottle.response.status = 400
            return json.dumps({"error": str(error)})

    @app.hook("before_request")  # type: ignore[untyped-decorator]
    def own_host_only() -> None:
        request = bottle.request
        origin = request.get_header("Origin")
        names = [urlsplit(f"//{request.get_header('Host')}").hostname]
        names += [urlsplit(origin).hostname] if origin else []
        if not {LOCALHOST, "localhost"}.issuperset(names):
            raise bottle.HTTPError(403, f"this page is served at {LOCALHOST} only")

    @app.hook("after_request")  # type: ignore[untyped-decorator]
    def headers() -> None:
        bottle.response.headers.update(HEADERS)

    @app.get("/")  # type: ignore[untyped-decorator]
    def served() -> str:
        return answer_page.served()

    @app.get("/<name:re:app\\.(css|js)>")  # type: ignore[untyped-decorator]
    def part(name: str) -> bottle.HTTPResponse:
        return bottle.static_file(name, root=str(answer_page.FILES))

    @app.get("/api/start")  # type: ignore[untyped-decorator]
    def start() -> str:
        return as_json(demo.start)

    @app.get("/api/search")  # type: ignore[untyped-decorator]
    def search() -> str:
        asked = bottle.request.query.decode()
        where = asked.get("where") or "test"
        return as_json(lambda: demo.answer(asked.get("q", ""), asked.getall("run"), where))

    @app.post("/api/upload")  # type: ignore[untyped-decorator]
    def upload() -> str:
        def added() -> dict[str, Any]:
            if bottle.request.content_length > LARGEST_UPLOAD:
                raise InputError(f"larger than {LARGEST_UPLOAD >> 20} MiB; use: xpool index")
            video = bottle.request.files.get("video")
            if video is None:
                raise InputError("the request holds no video")
            return demo.add(video)

        return as_json(added)

    @app.get("/media/<library>/<video:int>/film.webm")  # type: ignore[untyped-decorator]
    def of_video(library: str, video: int) -> bottle.HTTPResponse:
        return _ranged(demo.film(library, video), "video/webm")

    @app.get("/media/<library>/<video:int>/<frame:int>.jpg")  # type: ignore[untyped-decorator]
    def of_frame(library: str, video: int, frame: int) -> bottle.HTTPResponse:
        content = demo.frame(library, video, frame)
        return bottle.HTTPResponse(content, 200, {"Content-Type": "image/jpeg"})

    return app


def _ranged(content: bytes, kind: str) -> bottle.HTTPResponse:
    """Return a part of a file if the browser asks for one, as it does to jump in a film."""
    headers = {"Content-Type": kind, "Accept-Ranges": "bytes"}
    asked = bottle.request.get_header("Range")
    if asked is None:
        return bottle.HTTPResponse(content, 200, headers)
    part = next(bottle.parse_range_header(asked, len(content)), None)
    if part is None:
        raise bottle.HTTPError(416)
    start, end = part
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
    return bottle.HTTPResponse(content[start:end], 206, headers)


class _Server(ThreadingMixIn, WSGIServer):
    """A server with one thread for each request: a browser asks for many pictures at once."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    """A handler that logs nothing, where the standard one logs a line for each request."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def serve(port: int) -> None:
    """Serve the demo until Ctrl-C.

    Raises:
        InputError: the port is taken.
    """
    expect_free(port, "demo")
    with tempfile.TemporaryDirectory(prefix="xpool-demo-") as folder:
        app = application(Demo(Path(folder)))
        with make_server(
            LOCALHOST, port, app, server_class=_Server, handler_class=_Quiet
        ) as server:
            print(
                f"http://{LOCALHOST}:{port}/ searches all trained runs; Ctrl-C ends it", flush=True
            )
            server.serve_forever()
