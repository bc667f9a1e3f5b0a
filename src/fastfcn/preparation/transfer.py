"""One file over HTTP, into a partial file that a later call takes up where this one ended."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NamedTuple

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from fastfcn.preparation import disk
from fastfcn.preparation.progress import Advance, track

CHUNK = 1 << 18

#: How often no connection at all is tried again: without a network nobody wants to wait for all retries.
CONNECTIONS = 2

#: What a connection raises that breaks, or was never made.
BROKEN = (requests.ConnectionError, requests.Timeout, HTTPError)


class RefusedError(Exception):
    """An address does not give the file; says why."""


class BrokenTransferError(Exception):
    """A transfer ended before the file did, or the server asks for patience; it is worth another try."""


class _Place(NamedTuple):
    """Where a transfer goes on: the bytes that are here, and what their server called this version of the file."""

    start: int
    validator: str | None


def resume(url: str, part: Path, *, name: str, known: bool, retries: int, timeout: float, pause: float) -> None:
    """Fetch a file, or the rest of it.

    Args:
        url: The address.
        part: The partial file; complete when this returns, kept when it raises.
        name: What the file is called.
        known: Its content is checked by the caller, so that a part from one address may be completed from another.
        retries: How often a broken transfer is taken up again without any progress.
        timeout: Seconds without an answer.
        pause: Seconds before the first of them; each further one waits twice as long.

    Raises:
        RefusedError: The address does not give the file.
        UserError: The disk is full.
    """
    failed, reached = 0, False
    while True:
        before = _size(part)
        try:
            _attempt(url, part, name=name, known=known, timeout=timeout)
        except (*BROKEN, BrokenTransferError) as error:
            reached = reached or isinstance(error, BrokenTransferError) or _size(part) > before
            failed = 0 if _size(part) > before else failed + 1
            if failed > (retries if reached else min(retries, CONNECTIONS)):
                raise RefusedError(f"{url}: {_reason(error)}") from error
            time.sleep(pause * 2 ** max(failed - 1, 0))
        except requests.RequestException as error:  # an address that is none, too many redirects
            raise RefusedError(f"{url}: {_reason(error)}") from error
        else:
            _note(part).unlink(missing_ok=True)
            return


def _attempt(url: str, part: Path, *, name: str, known: bool, timeout: float) -> None:
    """Ask for what is missing, and write what comes."""
    place = _place(url, part, known=known)
    headers = {"Accept-Encoding": "identity", "User-Agent": "fastfcn-lightning"}
    if place.start:
        headers["Range"] = f"bytes={place.start}-"
        if place.validator:
            headers["If-Range"] = place.validator
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
        code = response.status_code
        if code == 416 and response.headers.get("Content-Range", "").endswith(f"/{place.start}"):
            return  # all of it is here
        if code == 416:
            part.unlink()
            raise BrokenTransferError("the file has changed on the server")
        if code == 429 or code >= 500:
            raise BrokenTransferError(f"HTTP {code} {response.reason}")
        if code not in (200, 206):
            raise RefusedError(f"{url}: HTTP {code} {response.reason}")
        start = place.start if code == 206 else 0
        if code == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink()
            raise BrokenTransferError("the server sent another range than was asked for")
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        disk.require(part.parent, (total or start) - start, what=f"Fetching {name}")
        if not start:  # first, so that old bytes never lie beside the name of a new version
            with disk.writing(part, kept="nothing was fetched"):
                part.write_bytes(b"")
        _remember(url, part, response)
        with track(name, total=total or 0, done=start, unit="bytes") as advance:
            _write(response, part, start=start, advance=advance)
    if total is not None and (size := _size(part)) != total:
        if size > total:
            part.unlink()
        raise BrokenTransferError(f"{size} of {total} bytes came")


def _write(response: requests.Response, part: Path, *, start: int, advance: Advance) -> None:
    kept = f"what was fetched is kept in {part}"
    with disk.writing(part, kept=kept):
        file = part.open("r+b" if start else "wb")
    with file:
        file.seek(start)
        file.truncate()
        # As it comes: iter_content would lose up to a chunk of what had come before a connection broke.
        while chunk := response.raw.read1(CHUNK):
            with disk.writing(part, kept=kept):
                file.write(chunk)
                file.flush()
            advance(len(chunk))


def _place(url: str, part: Path, *, known: bool) -> _Place:
    """Where to go on. A part of unknown content is only completed from its own address, unless it is checked later."""
    start = _size(part)
    try:
        note = json.loads(_note(part).read_text(encoding="utf-8"))
        same, validator = note["url"] == url, note["validator"]
    except (OSError, ValueError, KeyError, TypeError):
        same, validator = False, None
    if start and (known or (same and validator)):
        return _Place(start, validator if same else None)
    return _Place(0, None)


def _remember(url: str, part: Path, response: requests.Response) -> None:
    """Keep what the server calls this version of the file: a strong ETag, or else its date."""
    tag = response.headers.get("ETag")
    validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
    with disk.writing(part, kept="nothing was fetched"):
        _note(part).write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")


def _note(part: Path) -> Path:
    return part.with_name(f".{part.name}.json")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _reason(error: Exception) -> str:
    """What went wrong, without the names of a library's objects."""
    if isinstance(error, BrokenTransferError):
        return str(error)
    if isinstance(error, requests.Timeout | ReadTimeoutError):
        return "no answer"
    text = str(error)
    for words, reason in {
        "NameResolution": "the host is not found, is there a network?",
        "Name or service": "the host is not found, is there a network?",
        "refused": "the connection was refused",
        "unreachable": "the network cannot be reached",
        "Proxy": "the proxy gives no connection",
        "IncompleteRead": "the connection broke off",
        "Connection broken": "the connection broke off",
        "RemoteDisconnected": "the connection broke off",
        "reset by peer": "the connection broke off",
    }.items():
        if words in text:
            return reason
    return text
