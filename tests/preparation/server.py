"""A web server on the loopback address, with the faults that real ones have."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Request = tuple[str, str | None]


@dataclass
class Faults:
    """What the server does wrong; all of it can be changed while it runs.

    Attributes:
        drop_after: A transfer's connection breaks after so many bytes ...
        drops: ... this many times.
        statuses: Status codes to answer with first, one each.
        ignore_range: Answer 200 with the whole file, whatever range is asked for.
        content: Instead of the files' own bytes.
        tags: ETags to give, one each; the last one stays.
        redirect: Send every request to this address.
        pause: Seconds between pieces of `piece` bytes.
        piece: Bytes.
        no_length: Tell no Content-Length.
    """

    drop_after: int = 0
    drops: int = 0
    statuses: list[int] = field(default_factory=list)
    ignore_range: bool = False
    content: bytes | None = None
    tags: list[str] = field(default_factory=list)
    redirect: str | None = None
    pause: float = 0.0
    piece: int = 1 << 14
    no_length: bool = False


class Server(ThreadingHTTPServer):
    """Serves a folder; `requests` are (path, range) in order, `sent` the bytes of each file's body that were sent."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.faults = Faults()
        self.requests: list[Request] = []
        self.sent: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # as http.server names it
        faults = self.server.faults
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        self.close_connection = True
        if faults.redirect is not None:
            self.send_response(302)
            self.send_header("Location", f"{faults.redirect}{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path = self.server.folder / self.path.lstrip("/")
        status = faults.statuses.pop(0) if faults.statuses else (200 if path.is_file() else 404)
        if status != 200:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._send(path, faults, wanted)

    def _send(self, path: Path, faults: Faults, wanted: str | None) -> None:
        data = path.read_bytes() if faults.content is None else faults.content
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        if faults.tags:
            tag = faults.tags.pop(0) if len(faults.tags) > 1 else faults.tags[0]
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and not faults.ignore_range else 0
        if self.headers.get("If-Range") not in (None, tag):
            start = 0
        if start >= len(data) > 0 and start:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if not faults.no_length:
            self.send_header("Content-Length", str(len(data) - start))
        self.send_header("ETag", tag)
        self.send_header("Connection", "close")
        self.end_headers()
        stop = len(data)
        if faults.drops:
            faults.drops -= 1
            stop = min(start + faults.drop_after, stop)
        try:
            for position in range(start, stop, faults.piece):
                piece = data[position : min(position + faults.piece, stop)]
                self.wfile.write(piece)
                self.server.sent[self.path] += len(piece)
                time.sleep(faults.pause)
        except OSError:
            pass  # the client was killed

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """A server of a folder, on a port of its own."""
    server = Server(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
