"""A web server on localhost that serves files, with ranges and versions, and fails as told."""

import contextlib
import hashlib
import re
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FaultServer:
    """Serves ``files`` by path.

    Attributes:
        files: path to bytes.
        faults: path to what happens at the next requests of it, one each; then it is served well.
            A fault is a function of the handler and the file's bytes.
        requests: (path, headers) of each request so far.
        headers: path to further headers of its answers.
        logins: path prefix to the value of the header ``Authorization`` that it wants.
        ranges: whether a part of a file can be asked for.
    """

    def __init__(self):
        self.files, self.faults, self.requests = {}, {}, []
        self.headers, self.logins = {}, {}
        self.ranges = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer._get(self)

            do_HEAD = do_GET

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                outer._get(self)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def _get(self, handler):
        path = handler.path.partition("?")[0]
        self.requests.append((path, dict(handler.headers)))
        content = self.files.get(path)
        faults = self.faults.get(path, [])
        if faults:
            faults.pop(0)(handler, content)
        elif content is None:
            handler.send_error(404)
        elif self._is_closed(path, handler):
            handler.send_error(401)
        else:
            self.serve(handler, content)

    def _is_closed(self, path, handler):
        wanted = next((w for start, w in self.logins.items() if path.startswith(start)), None)
        return wanted is not None and handler.headers.get("Authorization") != wanted

    def head(self, handler, content, declared=None):
        """Send the head of an answer, and return the bytes that are to follow."""
        version = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        same = handler.headers.get("If-Range", version) == version
        start = int(asked[1]) if asked and same and self.ranges else None
        if start is not None and start >= len(content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return b""
        handler.send_response(200 if start is None else 206)
        if start is not None:
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            handler.send_header("Content-Range", span)
        rest = content[start or 0 :]
        handler.send_header("Content-Length", str(declared or len(rest)))
        handler.send_header("Content-Type", "application/octet-stream")
        handler.send_header("ETag", version)
        for name, value in self.headers.get(handler.path.partition("?")[0], {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        return b"" if handler.command == "HEAD" else rest

    def serve(self, handler, content):
        handler.wfile.write(self.head(handler, content))

    def reset_after(self, count):
        """A fault: so many bytes of the answer, then a reset."""

        def fault(handler, content):
            handler.wfile.write(self.head(handler, content)[:count])
            handler.wfile.flush()
            linger = struct.pack("ii", 1, 0)  # closing sends a reset
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.close_connection = True
            with contextlib.suppress(OSError):
                handler.connection.close()

        return fault

    def cut_after(self, count):
        """A fault: so many bytes of the answer, then an orderly end of the connection."""

        def fault(handler, content):
            handler.wfile.write(self.head(handler, content)[:count])
            handler.close_connection = True

        return fault

    def slowly(self, pause_s, piece=4096):
        """A fault: the file in small pieces, with pauses."""

        def fault(handler, content):
            rest = self.head(handler, content)
            with contextlib.suppress(OSError):
                for start in range(0, len(rest), piece):
                    handler.wfile.write(rest[start : start + piece])
                    handler.wfile.flush()
                    time.sleep(pause_s)

        return fault

    def answers(self, status, body=b"", **headers):
        """A fault: another answer."""

        def fault(handler, _):
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        return fault
