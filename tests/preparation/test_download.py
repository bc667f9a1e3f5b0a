from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from fastfcn.errors import UserError
from fastfcn.preparation import download
from fastfcn.preparation.download import Source, fetch, state
from tests.data.tiny import is_one_sentence_with
from tests.preparation.server import Server, serve
from tests.scripts import SRC

DATA = np.random.default_rng(0).integers(0, 256, 400_000, dtype=np.uint8).tobytes()
SHA1 = hashlib.sha1(DATA).hexdigest()
NAME = "data.bin"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / NAME).write_bytes(DATA)
    with serve(tmp_path / "served") as running:
        yield running


def source(server: Server, *, sha1: str | None = SHA1) -> Source:
    return Source(file=NAME, url=f"{server.url}/{NAME}", sha1=sha1)


def get(source: Source, folder: Path, **options: Any) -> Path:
    (path,) = fetch([source], folder, **{"pause": 0.01, "timeout": 5.0, **options})
    return path


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock", f".{NAME}.sha1"}


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "downloads"
    assert state(source(server), folder).status == "missing"
    path = get(source(server), folder)
    assert path == folder / NAME
    assert path.read_bytes() == DATA
    assert left(folder) == {NAME}
    assert state(source(server), folder) == (path, "complete", len(DATA))
    assert get(source(server), folder) == path
    assert len(server.requests) == 1


def test_a_broken_transfer_goes_on_where_it_ended(server: Server, tmp_path: Path) -> None:
    server.faults.drop_after, server.faults.drops = 100_000, 3
    assert get(source(server), tmp_path / "d").read_bytes() == DATA
    assert [wanted for _, wanted in server.requests] == [None, "bytes=100000-", "bytes=200000-", "bytes=300000-"]
    assert server.sent[f"/{NAME}"] == len(DATA)  # nothing was sent twice


def test_a_server_without_ranges_or_lengths(server: Server, tmp_path: Path) -> None:
    server.faults.drop_after, server.faults.drops, server.faults.ignore_range = 100_000, 2, True
    assert get(source(server), tmp_path / "d").read_bytes() == DATA
    server.faults.no_length = True
    assert get(source(server), tmp_path / "e").read_bytes() == DATA


@pytest.mark.parametrize("sha1", [SHA1, None])
def test_a_file_that_changes_between_two_tries(server: Server, tmp_path: Path, sha1: str | None) -> None:
    server.faults.drop_after, server.faults.drops, server.faults.tags = 150_000, 1, ['"old"', '"new"']
    assert get(source(server, sha1=sha1), tmp_path / "d").read_bytes() == DATA
    assert server.sent[f"/{NAME}"] == 150_000 + len(DATA)  # the old beginning was not used


def test_a_part_of_unknown_origin_is_checked_in_the_end(server: Server, tmp_path: Path) -> None:
    for begun in (DATA[:1000], b"x" * 1000, DATA, DATA + b"more", b""):
        folder = tmp_path / f"d{len(begun)}{begun[:1]!r}"
        folder.mkdir()
        (folder / f"{NAME}.part").write_bytes(begun)
        assert state(source(server), folder).status == "partial"
        assert get(source(server), folder).read_bytes() == DATA
        assert left(folder) == {NAME}


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(server: Server, tmp_path: Path) -> None:
    server.faults.statuses = [503, 429, 500]
    assert get(source(server), tmp_path / "d").read_bytes() == DATA
    assert len(server.requests) == 4
    server.requests.clear()
    server.faults.statuses = [403, 200]
    with pytest.raises(UserError, match="HTTP 403 Forbidden"):
        get(source(server), tmp_path / "e")
    assert len(server.requests) == 1
    server.faults.statuses = [503] * 20
    with pytest.raises(UserError, match="HTTP 503"):
        get(source(server), tmp_path / "f", retries=3)


def test_redirects_and_mirrors(server: Server, tmp_path: Path) -> None:
    with serve(tmp_path / "served") as second:
        second.faults.redirect = server.url
        assert get(source(second), tmp_path / "d").read_bytes() == DATA
    gone = Source(file=NAME, url=f"{server.url}/gone/{NAME}", sha1=SHA1)
    assert get(gone, tmp_path / "e", mirrors=[f"{server.url}/other", server.url]).read_bytes() == DATA
    assert [path for path, _ in server.requests][-2:] == [f"/other/{NAME}", f"/{NAME}"]
    folder_mirror = tmp_path / "served"
    assert get(gone, tmp_path / "f", mirrors=[str(folder_mirror)]) == folder_mirror / NAME


def test_a_part_from_one_address_is_completed_from_another(server: Server, tmp_path: Path) -> None:
    server.faults.drop_after, server.faults.drops, server.faults.statuses = 100_000, 1, [200, *[503] * 9]
    with pytest.raises(UserError, match="HTTP 503"):
        get(source(server), tmp_path / "d", retries=1)
    with serve(tmp_path / "served") as second:
        assert get(source(second), tmp_path / "d").read_bytes() == DATA
        assert second.requests == [(f"/{NAME}", "bytes=100000-")]


@pytest.mark.parametrize("form", ["{path}", "file://{path}"])
def test_a_local_file_is_used_where_it_lies(tmp_path: Path, form: str) -> None:
    archive = tmp_path / "my archives" / NAME
    archive.parent.mkdir()
    archive.write_bytes(DATA)
    url = form.format(path=str(archive).replace(" ", "%20") if "://" in form else archive)
    local = Source(file=NAME, url=url, sha1=SHA1)
    assert state(local, tmp_path / "d") == (archive, "complete", len(DATA))
    assert get(local, tmp_path / "d") == archive
    assert list(archive.parent.iterdir()) == [archive]
    archive.write_bytes(DATA[:-1])
    with pytest.raises(UserError, match="has the SHA-1"):
        get(local, tmp_path / "d")
    assert archive.read_bytes() == DATA[:-1]


def test_a_wrong_checksum(server: Server, tmp_path: Path) -> None:
    server.faults.content = b"<html>moved</html>"
    with pytest.raises(UserError) as caught:
        get(source(server), tmp_path / "d")
    is_one_sentence_with(caught.value, [NAME, SHA1, "gave a file with the SHA-1"])
    assert left(tmp_path / "d") == set()  # so that the next call begins anew
    (tmp_path / "d" / NAME).write_bytes(b"put here by hand")
    with pytest.raises(UserError) as caught:
        get(source(server), tmp_path / "d")
    is_one_sentence_with(caught.value, [str(tmp_path / "d" / NAME), SHA1, "move it away"])
    assert (tmp_path / "d" / NAME).read_bytes() == b"put here by hand"  # it is the user's


def test_without_a_checksum_it_is_said(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert get(source(server, sha1=None), tmp_path / "d").read_bytes() == DATA
    assert SHA1 in capsys.readouterr().out


def test_a_checksum_is_computed_once_per_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / NAME
    path.write_bytes(DATA)
    assert download.checksum(path) == SHA1
    with monkeypatch.context() as patch:
        patch.setattr(download, "_digest", lambda path: pytest.fail("read again"))
        assert download.checksum(path) == SHA1
    path.write_bytes(DATA[::-1])
    os.utime(path, ns=(1, 1))
    assert download.checksum(path) == hashlib.sha1(DATA[::-1]).hexdigest()


def test_without_a_network_everything_that_is_missing_is_told(tmp_path: Path) -> None:
    with serve(tmp_path) as gone:
        port = gone.server_address[1]
    sources = [
        Source(file=f"{name}.zip", url=f"http://127.0.0.1:{port}/{name}.zip", sha1=SHA1 if name == "one" else None)
        for name in ("one", "two")
    ]
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        fetch(sources, tmp_path / "d", pause=0.01)
    assert time.monotonic() - started < 5
    words = ["These 2 files", "one.zip", "two.zip", sources[0].url, sources[1].url, SHA1, "none published", "refused"]
    is_one_sentence_with(caught.value, [*words, str((tmp_path / "d").absolute()), "run this command again"])


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_room_is_asked_for_before_a_byte_is_written(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(UserError) as caught:
        get(source(server), tmp_path / "d")
    is_one_sentence_with(caught.value, [NAME, str(tmp_path / "d"), "free", "make room"][:4])
    assert not (tmp_path / "d" / NAME).exists()


SCRIPT = """
    import resource, sys
    from pathlib import Path
    sys.path.insert(0, {src!r})
    from fastfcn import cli
    from fastfcn.preparation.download import Source, fetch
    if {limit}:
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
    source = Source(file={name!r}, url={url!r}, sha1={sha1!r})
    cli.run(cli.one_sentence(lambda: print(fetch([source], Path({folder!r})))))
"""


def process(server: Server, folder: Path, *, limit: int = 0) -> subprocess.Popen[str]:
    """The same in a process of its own, whose files must not grow beyond a limit."""
    code = SCRIPT.format(
        src=str(SRC), limit=limit, name=NAME, url=f"{server.url}/{NAME}", sha1=SHA1, folder=str(folder)
    )
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_disk_that_fills_up_keeps_what_is_there(server: Server, tmp_path: Path) -> None:
    running = process(server, tmp_path / "d", limit=300_000)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 2
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1
    assert "the disk is full" in err
    assert not (tmp_path / "d" / NAME).exists()
    begun = (tmp_path / "d" / f"{NAME}.part").stat().st_size
    assert 0 < begun <= 300_000
    assert get(source(server), tmp_path / "d").read_bytes() == DATA
    assert server.requests[-1][1] == f"bytes={begun}-"


def test_a_killed_download_is_resumed(server: Server, tmp_path: Path) -> None:
    server.faults.pause = 0.05
    running = process(server, tmp_path / "d")
    part = tmp_path / "d" / f"{NAME}.part"
    deadline = time.monotonic() + 60
    while not (part.is_file() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.communicate(timeout=60)
    begun = part.stat().st_size
    assert 0 < begun < len(DATA)
    assert not (tmp_path / "d" / NAME).exists()
    server.faults.pause = 0
    assert get(source(server), tmp_path / "d").read_bytes() == DATA
    assert server.requests[-1][1] == f"bytes={begun}-"


def test_two_at_a_time_fetch_once(server: Server, tmp_path: Path) -> None:
    server.faults.pause = 0.03
    both = [process(server, tmp_path / "d") for _ in range(2)]
    out = [running.communicate(timeout=60)[0] for running in both]
    assert [running.returncode for running in both] == [0, 0]
    assert len(server.requests) == 1
    assert sum("waiting for it" in text for text in out) <= 1
    assert (tmp_path / "d" / NAME).read_bytes() == DATA
