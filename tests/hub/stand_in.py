"""The part of the hub's HTTP API that pushing and pulling a model uses, on the loopback, for the client as it is.

Repositories are kept in memory: commits of files, private or public, behind tokens. Large files travel by the LFS batch
API, as `model.safetensors` does on the hub where Xet is switched off.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

#: May write; may read; is known to nobody.
TOKEN, READER, STRANGER = "hf_writerwriterwriter", "hf_readerreaderreader", "hf_strangerstranger"


class Repository:
    """Commits by their hash, each all files by their names."""

    def __init__(self, private: bool) -> None:
        self.private = private
        self.commits: dict[str, dict[str, bytes]] = {}
        self.main: str | None = None

    def commit(self, files: dict[str, bytes]) -> str:
        """Add files to those of the main branch."""
        before = self.commits.get(self.main or "", {})
        number = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits[number] = {**before, **files}
        self.main = number
        return number


class Hub:
    """What the server knows, and what it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.refuse: tuple[int, str] | None = None  # answer everything so


@contextmanager
def stand_in() -> Iterator[Hub]:
    """A running server."""

    class Handler(_Handler):
        hub: Hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Handler.hub = Hub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield Handler.hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._serve(self._get)

    def do_HEAD(self) -> None:
        self._serve(self._get)

    def do_POST(self) -> None:
        self._serve(self._post)

    def do_PUT(self) -> None:
        self._serve(self._put)

    def _serve(self, answer: Any) -> None:
        self.path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {self.path}")
        self.body = self._read_body()
        if self.hub.refuse is not None:
            status, words = self.hub.refuse
            self._send(status, {"error": words}, headers={"X-Error-Message": words})
        elif self._token() not in (None, TOKEN, READER):
            self._send(
                401,
                {"error": "Invalid credentials"},
                headers={"X-Error-Message": "Invalid credentials in Authorization header"},
            )
        else:
            answer()

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _token(self) -> str | None:
        given = self.headers.get("Authorization")
        return None if given is None else given.removeprefix("Bearer ")

    def _send(
        self, status: int, content: Any = None, *, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> None:
        body = json.dumps(content).encode() if body is None else body
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _repository(self, name: str) -> Repository | None:
        """The repository, if it is there and this token may see it; otherwise the hub's answer is sent."""
        found = self.hub.repositories.get(name)
        if found is None or (found.private and self._token() is None):
            self._send(
                401 if self._token() is None else 404,
                {"error": "Repository not found"},
                headers={"X-Error-Code": "RepoNotFound"},
            )
            return None
        return found

    def _get(self) -> None:
        if self.path == "/api/whoami-v2":
            if self._token() is None:
                self._send(401, {"error": "Unauthorized"})
            else:
                self._send(200, {"type": "user", "name": "user", "auth": {"accessToken": {"role": "write"}}})
        elif self.path.startswith("/api/models/"):
            name = "/".join(self.path.split("/")[3:5])
            if (found := self._repository(name)) is not None:
                self._send(200, {"id": name, "private": found.private, "sha": found.main, "siblings": []})
        elif "/resolve/" in self.path:
            name, _, rest = self.path.lstrip("/").partition("/resolve/")
            if (found := self._repository(name)) is not None:
                self._resolve(found, *rest.split("/", 1))
        else:
            self._send(404, {"error": f"the stand-in has no GET {self.path}"})

    def _resolve(self, found: Repository, revision: str, file: str) -> None:
        commit = found.main if revision == "main" else revision
        if commit not in found.commits:
            self._send(404, {"error": "Invalid rev id"}, headers={"X-Error-Code": "RevisionNotFound"})
        elif file not in found.commits[commit]:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
            self._send(404, {"error": "Entry not found"}, headers=headers)
        else:
            body = found.commits[commit][file]
            digest = hashlib.sha256(body).hexdigest()
            headers = {"X-Repo-Commit": commit, "ETag": f'"{digest}"', "X-Linked-Size": str(len(body))}
            self._send(200, body=body, headers=headers)

    def _post(self) -> None:
        parts = self.path.strip("/").split("/")
        if self._token() != TOKEN and self.path != "/api/validate-yaml":
            self._send(403, {"error": "Forbidden"}, headers={"X-Error-Message": "you have no write access"})
        elif self.path == "/api/validate-yaml":
            content = json.loads(self.body)["content"]
            fine = content.startswith("---\n") and "\n---\n" in content
            self._send(
                200 if fine else 400, {"errors": [] if fine else [{"message": "no front matter"}], "warnings": []}
            )
        elif self.path == "/api/repos/create":
            wanted = json.loads(self.body)
            name = f"{wanted.get('organization') or 'user'}/{wanted['name']}"
            there = name in self.hub.repositories
            private = wanted.get("visibility") == "private" or wanted.get("private") is True
            self.hub.repositories.setdefault(name, Repository(private))
            self._send(409 if there else 200, {"url": f"{self.hub.url}/{name}", "id": name})
        elif self.path.endswith(".git/info/lfs/objects/batch"):
            self._send(
                200,
                {"transfer": "basic", "objects": [self._place(wanted) for wanted in json.loads(self.body)["objects"]]},
            )
        elif parts[:2] == ["api", "models"] and parts[4] in ("preupload", "commit"):
            if (found := self._repository("/".join(parts[2:4]))) is not None:
                self._preupload() if parts[4] == "preupload" else self._commit(found, "/".join(parts[2:4]))
        else:
            self._send(404, {"error": f"the stand-in has no POST {self.path}"})

    def _place(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Where a large file is to be put."""
        return {**wanted, "actions": {"upload": {"href": f"{self.hub.url}/large/{wanted['oid']}", "header": {}}}}

    def _preupload(self) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in json.loads(self.body)["files"]
        ]
        self._send(200, {"files": files})

    def _commit(self, found: Repository, name: str) -> None:
        files = {}
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
        number = found.commit(files)
        self._send(
            200, {"commitUrl": f"{self.hub.url}/{name}/commit/{number}", "commitOid": number, "pullRequestUrl": None}
        )

    def _put(self) -> None:
        oid = self.path.rpartition("/")[2]
        fine = hashlib.sha256(self.body).hexdigest() == oid
        if fine:
            self.hub.large[oid] = self.body
        self._send(200 if fine else 400, {})
