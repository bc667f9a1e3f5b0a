"""What W&B wrote, by W&B's own reader, and servers on the loopback that stand for its."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

#: Neither the user's environment nor the user's files decide what a test sees.
FOREIGN = ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_DIR", "WANDB_SERVICE", "WANDB_SILENT")


def own_place(folder: Path) -> dict[str, str]:
    """Variables by which W&B keeps its files, other than a run's, in a folder."""
    names = {"NETRC": "netrc", "WANDB_CONFIG_DIR": "config", "WANDB_DATA_DIR": "data", "WANDB_CACHE_DIR": "cache"}
    return {name: str(folder / sub) for name, sub in names.items()}


def only_run(run_dir: Path) -> Path:
    """The directory of the one offline run that a training left."""
    (directory,) = (run_dir / "wandb").glob("offline-run-*")
    return directory


def inspect(directory: Path) -> dict[str, Any]:
    """The run's record as W&B's own reader of offline runs prints it."""
    record: dict[str, Any] = json.loads(_read(directory, "--summary"))
    return record


def records(directory: Path, kind: str) -> list[dict[str, Any]]:
    """All records of a kind, in order."""
    lines = [json.loads(line) for line in _read(directory).splitlines()]
    return [line[kind] for line in lines if line["type"] == kind]


def scalars(directory: Path) -> dict[tuple[str, int], float]:
    """Name and step of the training -> value, of every number in the history."""
    found: dict[tuple[str, int], float] = {}
    for record in records(directory, "history"):
        item = record["item"]
        media = [key.removesuffix("_type") for key in item if key.endswith("._type")]  # sizes of pictures and tables
        for name, value in item.items():
            if name.startswith(("_", *media)) or name == "trainer/global_step":
                continue
            if isinstance(value, int | float) or value == "NaN":
                found[name, int(item["trainer/global_step"])] = float(value)
    return found


def _read(directory: Path, *options: str) -> str:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", str(directory), *options, "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, cwd=directory)
    return done.stdout


@contextlib.contextmanager
def closed_port() -> Iterator[str]:
    """The address of a server that does not run."""
    with socket.socket() as taken:  # bound and not listening: a connection is refused, and nobody else gets the port
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """The address of a server that accepts every connection and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(200)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


class Answering(BaseHTTPRequestHandler):
    """As much of W&B's server as a run needs to begin, and to upload its history."""

    received: ClassVar[list[tuple[str, str]]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode(errors="replace")
        type(self).received.append((self.path, body))
        if self.path != "/graphql":
            self._answer({})
            return
        query = json.loads(body)
        name = re.search(r"\b(?:query|mutation)\s+(\w+)", query["query"])
        bucket = {
            "id": "bucket",
            "name": query.get("variables", {}).get("name"),
            "displayName": "shown",
            "project": {"name": "toy", "entity": {"name": "somebody"}},
        }
        answers: dict[str, Any] = {
            "UpsertBucket": {"upsertBucket": {"bucket": bucket, "inserted": True}},
            "RunResumeStatus": {"model": {"bucket": None}},
            "CreateRunFiles": {"createRunFiles": {"runID": "bucket", "uploadHeaders": [], "files": []}},
        }
        self._answer({"data": answers.get(name.group(1) if name else "", {})})

    def do_GET(self) -> None:
        self._answer({})

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _answer(self, content: dict[str, Any]) -> None:
        text = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@contextlib.contextmanager
def answering_server() -> Iterator[tuple[str, type[Answering]]]:
    """A server that takes a run, and what it received."""

    class Own(Answering):
        received: ClassVar[list[tuple[str, str]]] = []

    server = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", Own
    finally:
        server.shutdown()
        server.server_close()


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
