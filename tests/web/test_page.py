"""The page in a real browser, served by a real process; the browser's every request is looked at."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

import fastfcn
from tests.scripts import ROOT, SRC, environment

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("gradio")

CHROME = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None
)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROME is None, reason="no Chromium or Chrome is installed: the page is not tried in a browser"),
]

#: Milliseconds for what the page does, on a busy machine.
PATIENCE = 30_000


class Served(NamedTuple):
    """The running server: its address, its process, the folder that it may write temporary files to, what it says."""

    url: str
    process: subprocess.Popen[bytes]
    temporary: Path
    log: Path


@pytest.fixture(scope="module")
def served(two: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    temporary = tmp_path_factory.mktemp("temporary")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    chosen = (f"checkpoints=[{two[0]},{two[1]}]", f"port={port}", "device=cpu", "upload_mb=1", "seconds=0.05")
    log = temporary.with_name("server.log")
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, str(SRC / "web.py"), *chosen],
            cwd=ROOT,
            env=environment(TMPDIR=str(temporary)),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    ready, end = f"page: http://127.0.0.1:{port}/", time.monotonic() + 4 * PATIENCE / 1000
    while ready not in log.read_text() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.1)
    assert ready in log.read_text(), log.read_text()
    yield Served(f"http://127.0.0.1:{port}/", process, temporary, log)
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROME, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def page(served: Served, browser: Any) -> Iterator[Any]:
    """The page, opened and with its first comparison; in the end, that it has asked no other host for anything."""
    asked: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(PATIENCE)

    def on_its_way(route: Any) -> None:
        asked.append(route.request.url)
        route.continue_() if _own(route.request.url, served) else route.abort()

    context.route("**/*", on_its_way)
    opened = context.new_page()
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    # What the policy has kept back never becomes a request: the browser complains of it instead.
    opened.on("console", lambda told: faults.append(told.text) if "Content Security Policy" in told.text else None)
    opened.on("websocket", lambda socket: asked.append(socket.url))
    opened.goto(served.url)
    opened.locator("#legend button").first.wait_for()
    opened.locator("#slider img").first.wait_for()
    yield opened
    context.close()
    assert len(asked) > 10
    assert [url for url in asked if not _own(url, served)] == []
    assert faults == []


def _own(url: str, served: Served) -> bool:
    return urlsplit(url).netloc == urlsplit(served.url).netloc or url.startswith(("data:", "blob:"))


def sources(page: Any) -> list[str]:
    """The addresses of the two pictures under the slider."""
    return [image.get_attribute("src") for image in page.locator("#slider img").all()]


def until_changed(page: Any, before: list[str]) -> list[str]:
    """The addresses of the two pictures once both are others."""
    end = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < end:
        now = sources(page)
        if len(now) == len(before) and all(new != old for new, old in zip(now, before, strict=True)):
            return now
        page.wait_for_timeout(50)
    raise AssertionError("the pictures have stayed as they were")


def upload(page: Any, path: Path) -> None:
    page.locator("#image input[type=file]").first.set_input_files(path)


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """A JPEG, generated, wider than high."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8))
    path = tmp_path / "my <b>photo.jpg"
    coarse.resize((225, 150), Image.Resampling.BICUBIC).save(path, quality=92)
    return path


def test_an_upload_is_compared_seen_in_other_ways_and_taken_home(page: Any, two: list[Path], photograph: Path) -> None:
    assert "right" in page.locator("#caption").inner_text()  # of an example the truth is known
    before = sources(page)
    assert len(before) == 2
    upload(page, photograph)
    shown = until_changed(page, before)
    assert "my <b>photo.jpg, 225 × 150" in page.locator("#about").inner_text()
    assert page.locator("#about b").count() == 0
    for name in ("plain", "turned"):
        assert name in page.locator("#caption").inner_text()
    for stage in ("backbone", "upsample", "head", "resize", "in all"):
        assert stage in page.locator("#times").inner_text()

    page.locator("#view").get_by_text("Uncertainty", exact=True).click()
    shown = until_changed(page, shown)
    page.locator("#view").get_by_text("Classes", exact=True).click()
    shown = until_changed(page, shown)

    first = page.locator("#legend button").first
    name = first.get_attribute("data-class")
    first.click()
    page.locator(f"#legend button[data-class='{name}'][aria-pressed=true]").wait_for()
    until_changed(page, shown)
    assert f"Only {name} is shown" in page.locator("#legend").inner_text()

    with page.expect_download() as kept:
        page.locator("#mask_left").click()
    assert kept.value.suggested_filename.endswith("left_plain_mask.png")
    found = fastfcn.segment(photograph, model=two[0], device="cpu")
    with Image.open(kept.value.path()) as mask:
        assert mask.mode == "P"
        assert (np.asarray(mask) == found.ids).all()
    shares = found.shares()
    row = page.locator(f"#legend button[data-class='{next(iter(shares))}']").inner_text()
    assert f"{100 * next(iter(shares.values())):.1f} %" in row
    with page.expect_download() as kept:
        page.locator("#overlay_right").click()
    with Image.open(kept.value.path()) as overlay:
        assert (overlay.mode, overlay.size) == ("RGB", (225, 150))


def test_the_slider_moves_and_models_and_examples_can_be_chosen(page: Any) -> None:
    still = page.locator("#slider").screenshot()
    box = page.locator("#slider").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    assert page.locator("#slider").screenshot() != still

    page.locator("#left input").click()
    page.get_by_role("option", name="turned").click()
    page.wait_for_function("() => !document.querySelector('#caption').innerText.includes('plain')")
    assert "100.0 %" in page.locator("#caption").inner_text()
    before = sources(page)
    page.locator("#examples button").nth(2).click()
    until_changed(page, before)
    page.locator("#view").get_by_text("Errors", exact=True).wait_for()


def test_what_is_no_image_is_told_in_a_sentence_and_the_page_goes_on(
    page: Any, photograph: Path, tmp_path: Path
) -> None:
    broken, large = tmp_path / "broken.jpg", tmp_path / "large.png"
    broken.write_bytes(photograph.read_bytes()[:600])
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    Image.fromarray(noise).save(large)
    assert large.stat().st_size > 2**20
    before = sources(page)
    upload(page, broken)
    notice = page.locator("#notice [role=alert]")
    notice.wait_for()
    assert "broken.jpg cannot be read as an image, or is damaged: choose another file" in notice.inner_text()
    assert sources(page) == before

    upload(page, large)
    page.get_by_text(re.compile("exceed|too large|larger", re.IGNORECASE)).first.wait_for()

    upload(page, photograph)
    until_changed(page, before)
    assert page.locator("#notice [role=alert]").count() == 0


def asked(url: str, **headers: str) -> tuple[int, bytes, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


def test_nothing_of_the_machine_or_of_other_hosts_is_served(served: Served, two: list[Path]) -> None:
    status, body, headers = asked(served.url)
    assert status == 200
    assert "default-src 'self'" in headers["content-security-policy"]
    assert b"googleapis" not in body
    for path in ("/etc/passwd", str(ROOT / "pyproject.toml"), str(two[0]), "../../../etc/passwd"):
        status, body, _ = asked(f"{served.url}gradio_api/file={path}")
        assert status in (403, 404), path
        assert b"root:" not in body
    assert asked(f"{served.url}gradio_api/file=http://127.0.0.1:9/x")[0] == 403
    assert asked(f"{served.url}gradio_api/file/https://127.0.0.1:9/x")[0] == 403
    assert asked(served.url, Host="elsewhere.example")[0] == 400
    port = urlsplit(served.url).port
    with socket.socket() as elsewhere, pytest.raises(OSError, match="refused"):
        elsewhere.connect(("127.0.0.2", port))  # it listens on 127.0.0.1 alone


@pytest.mark.parametrize(
    ("path", "words"),
    [("/etc/passwd", "was not uploaded by a user"), ("http://127.0.0.1:9/x.png", "not its address")],
)
def test_a_path_or_an_address_instead_of_an_upload_is_refused(served: Served, path: str, words: str) -> None:
    """As the page's own script would ask, but for a file that was never uploaded."""
    config = json.loads(asked(f"{served.url}config")[1])
    values = {part["id"]: part["props"].get("value") for part in config["components"]}
    [event] = [one for one in config["dependencies"] if [name for _, name in one["targets"]] == ["upload"]]
    file = {"path": path, "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}
    data = [file, *(values[number] for number in event["inputs"][1:])]
    session = f"by_hand_{len(path)}"
    body = json.dumps({"data": data, "fn_index": event["id"], "session_hash": session}).encode()
    request = urllib.request.Request(f"{served.url}gradio_api/queue/join", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
    with urllib.request.urlopen(f"{served.url}gradio_api/queue/data?session_hash={session}", timeout=10) as events:
        told = next(line.decode() for line in events if b"process_completed" in line)
    assert '"success":false' in told
    assert words in told


def test_it_ends_when_it_is_asked_and_leaves_nothing(served: Served) -> None:
    """The last test of this file: no other finds the server after it."""
    assert any(served.temporary.glob("fastfcn_web_*/cache/*"))
    said = served.log.read_text()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(timeout=30) == 0
    assert "Traceback" not in served.log.read_text().removeprefix(said)
    # torch may have made the folder of its compiler, which is its own affair.
    assert [path.name for path in served.temporary.iterdir() if not path.name.startswith("torchinductor_")] == []
